package suite

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"clipinspector/settings"
)

// override applies the i-th --set option, "PATH=VALUE" with VALUE in YAML, to the tree.
func (s *source) override(root *yaml.Node, i int) error {
	path, text, ok := strings.Cut(s.sets[i], "=")
	if !ok || path == "" {
		return fmt.Errorf("--set %s: want PATH=VALUE, such as tuning.epochs=20 or seeds=[1,2]", s.sets[i])
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return fmt.Errorf("--set %s: the value is no YAML: %w", s.sets[i], err)
	}
	value := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	if len(doc.Content) > 0 {
		value = doc.Content[0]
	}
	mark(value, -1-i)
	if err := s.checkTree(value); err != nil {
		return err
	}
	return s.assign(root, path, value)
}

func mark(n *yaml.Node, line int) {
	n.Line = line
	for _, c := range n.Content {
		mark(c, line)
	}
}

// assign puts a value at a dotted path. Steps are keys of settings, or, in a list, the name of an
// element ("attacks.badnets") or its place counted from 0, or "*" for all elements;
// "attacks.*.share" and "detectors.*.batch" mean those that have such a setting. An element that is
// only a name becomes settings. What is not there is made.
func (s *source) assign(root *yaml.Node, path string, value *yaml.Node) error {
	steps := strings.Split(path, ".")
	if len(steps) > 2 && steps[1] == "*" && steps[0] != "sweep" && steps[0] != "search" {
		return s.assignAll(root, steps, value)
	}
	if (steps[0] == "sweep" || steps[0] == "search") && len(steps) > 1 { // their keys are paths themselves
		steps = []string{steps[0], strings.TrimPrefix(path, steps[0]+".")}
	}
	at := root
	for i, step := range steps {
		slot, err := s.step(at, step, value, steps[:i+1])
		if err != nil {
			return err
		}
		if i == len(steps)-1 {
			*slot = value
			return nil
		}
		switch n := *slot; {
		case n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null":
			*slot = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: value.Line}
		case n.Kind == yaml.ScalarNode && (at.Kind == yaml.SequenceNode || step == "learner"):
			*slot = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line,
				Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: "name", Line: n.Line}, n}}
		case n.Kind == yaml.ScalarNode:
			return s.errorf(value, "%q is a single value: there is nothing below it", strings.Join(steps[:i+1], "."))
		}
		at = *slot
	}
	return nil
}

// assignAll assigns to all elements of the list steps[0] that take it.
func (s *source) assignAll(root *yaml.Node, steps []string, value *yaml.Node) error {
	list := child(root, steps[0])
	if list == nil || list.Kind != yaml.SequenceNode {
		return s.errorf(value, "%q: there is no list %q", strings.Join(steps, "."), steps[0])
	}
	some := false
	for i, n := range list.Content {
		if n.Kind == yaml.MappingNode {
			n = child(n, "name")
		}
		if n == nil || !s.takes(steps[0], n.Value, steps[2]) {
			continue
		}
		some = true
		place := append([]string{steps[0], strconv.Itoa(i)}, steps[2:]...)
		if err := s.assign(root, strings.Join(place, "."), clone(value)); err != nil {
			return err
		}
	}
	if !some {
		return s.errorf(value, "%q: none of the %s has a setting %q", strings.Join(steps, "."), steps[0], steps[2])
	}
	return nil
}

// takes tells whether an attack or a detector has a setting; elements of other lists take any, and
// say so where they do not.
func (s *source) takes(list, name, param string) bool {
	var of known // nothing where the name is unknown
	switch list {
	case "attacks":
		of, _ = s.attack(name)
	case "detectors":
		of, _ = s.detector(name)
	default:
		return true
	}
	return slices.ContainsFunc(of.params, func(p settings.Param) bool { return p.Name == param })
}

// step finds the place of one step of a path below n, a mapping or a list.
func (s *source) step(n *yaml.Node, step string, value *yaml.Node, path []string) (**yaml.Node, error) {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return &n.Content[i+1], nil
			}
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: step, Line: value.Line}, nil)
		return &n.Content[len(n.Content)-1], nil
	}
	var found **yaml.Node
	var names []string
	for i := range n.Content {
		name := n.Content[i]
		if name.Kind == yaml.MappingNode {
			name = child(name, "name")
		}
		if name == nil || name.Kind != yaml.ScalarNode {
			continue
		}
		names = append(names, name.Value)
		if name.Value == step {
			if found != nil {
				return nil, s.errorf(value, "%q stands for several elements: name its place instead, counted from 0", strings.Join(path, "."))
			}
			found = &n.Content[i]
		}
	}
	if found != nil {
		return found, nil
	}
	if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
		return &n.Content[i], nil
	}
	return nil, s.errorf(value, "there is no %q; the list has %s", strings.Join(path, "."), strings.Join(names, ", "))
}

// maxVariants bounds the combinations of a sweep.
const maxVariants = 10000

// setting is one value of a swept path.
type setting struct {
	path  string
	value *yaml.Node
}

// combinations returns every combination of the values of a sweep, or of what else has its form,
// the last path varying fastest; one empty combination without a sweep.
func (s *source) combinations(sweep *yaml.Node, what string) ([][]setting, error) {
	out := [][]setting{nil}
	if sweep == nil {
		return out, nil
	}
	if sweep.Kind != yaml.MappingNode {
		return nil, s.errorf(sweep, "%s: want paths with lists of values, such as {tuning.epochs: [10, 20]}, got %s", what, describe(sweep))
	}
	for _, e := range entries(sweep) {
		if first, _, _ := strings.Cut(e.name, "."); first == "name" || first == "sweep" || first == "search" {
			return nil, s.errorf(e.key, "%s: %q cannot be swept", what, e.name)
		}
		values, err := s.list(e.value, what+": "+e.name)
		if err != nil {
			return nil, err
		}
		if len(values) == 0 {
			return nil, s.errorf(e.value, "%s: %s has no values", what, e.name)
		}
		if len(out)*len(values) > maxVariants {
			return nil, s.errorf(e.key, "%s: more than %d combinations", what, maxVariants)
		}
		var next [][]setting
		for _, c := range out {
			for _, v := range values {
				next = append(next, append(c[:len(c):len(c)], setting{e.name, v}))
			}
		}
		out = next
	}
	return out, nil
}

// clone copies a tree, so that one variant of a sweep does not change another.
func clone(n *yaml.Node) *yaml.Node {
	if n == nil {
		return nil
	}
	c := *n
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, x := range n.Content {
		c.Content[i] = clone(x)
	}
	return &c
}
