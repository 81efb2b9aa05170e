package suite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"clipinspector/settings"
)

// source is a suite file being read; it knows how to say where something stands in it.
type source struct {
	name string                            // file name
	sets []string                          // --set options; their nodes carry line -1-i
	read func(name string) ([]byte, error) // a file that the suite names
	find func(name string) string          // where a plugin that the suite names lies; nil where none is run
	base string                            // the file that it extends; its nodes carry line baseLine+i
	text []byte                            // of the suite, resolved where it extends another
}

// errorf is an error at a node: "FILE:LINE: ..." or "--set PATH=VALUE: ...".
func (s *source) errorf(n *yaml.Node, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if i := -1 - n.Line; i >= 0 && i < len(s.sets) {
		return fmt.Errorf("--set %s: %s", s.sets[i], text)
	}
	if n.Line >= baseLine {
		return fmt.Errorf("%s:%d: %s", s.base, n.Line-baseLine, text)
	}
	return fmt.Errorf("%s:%d: %s", s.name, n.Line, text)
}

var yamlLine = regexp.MustCompile(`^yaml: (line (\d+): )?`)

// parse reads exactly one YAML document whose root is a mapping, and checks what holds everywhere:
// no repeated keys, no anchors.
func (s *source) parse(text []byte) (*yaml.Node, error) {
	s.text = text
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s:1: the file is empty; a suite has at least name, clip, seeds, datasets and attacks", s.name)
		}
		return nil, s.syntax(err)
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, s.errorf(&second, "a second document begins here; a suite is one document")
	case !errors.Is(err, io.EOF):
		return nil, s.syntax(err)
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, s.errorf(root, "want settings such as \"name: mini\", got %s", kindOf(root))
	}
	return root, s.checkTree(root)
}

// syntax puts the file name in front of yaml.v3's own words.
func (s *source) syntax(err error) error {
	text, line := err.Error(), "1"
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		if m[2] != "" {
			line = m[2]
		}
	}
	if strings.Contains(text, "cannot start any token") && bytes.ContainsRune(s.text, '\t') {
		text += " (YAML is indented by spaces: write two of them for each TAB)"
	}
	return fmt.Errorf("%s:%s: no YAML: %s", s.name, line, text)
}

func (s *source) checkTree(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return s.errorf(n, "anchors and aliases are not supported: write the value out")
	}
	if n.Kind == yaml.MappingNode {
		seen := map[string]int{}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.Tag != "!!str" {
				return s.errorf(key, "want a name before the colon, got %s", describe(key))
			}
			if line, ok := seen[key.Value]; ok {
				return s.errorf(key, "%q is already set in line %d", key.Value, line)
			}
			seen[key.Value] = key.Line
		}
	}
	for _, c := range n.Content {
		if err := s.checkTree(c); err != nil {
			return err
		}
	}
	return nil
}

// entry is one "key: value" of a mapping.
type entry struct {
	name       string
	key, value *yaml.Node
}

func entries(n *yaml.Node) []entry {
	out := make([]entry, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		out = append(out, entry{n.Content[i].Value, n.Content[i], n.Content[i+1]})
	}
	return out
}

func child(n *yaml.Node, name string) *yaml.Node {
	for _, e := range entries(n) {
		if e.name == name {
			return e.value
		}
	}
	return nil
}

// fields returns the entries of a mapping and refuses names that are not known.
func (s *source) fields(n *yaml.Node, what string, known ...string) (map[string]*yaml.Node, error) {
	if n.Kind != yaml.MappingNode {
		return nil, s.errorf(n, "%s: want settings, got %s", what, kindOf(n))
	}
	out := map[string]*yaml.Node{}
	for _, e := range entries(n) {
		if !slices.Contains(known, e.name) {
			return nil, s.errorf(e.key, "unknown key %q in %s; known are %s", e.name, what, strings.Join(known, ", "))
		}
		out[e.name] = e.value
	}
	return out, nil
}

func (s *source) list(n *yaml.Node, what string) ([]*yaml.Node, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, s.errorf(n, "%s: want a list such as [a, b], got %s", what, describe(n))
	}
	return n.Content, nil
}

var (
	wholeNumber = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*)$`)
	realNumber  = regexp.MustCompile(`^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
)

// scalar converts a plain value: int, float64, bool or string. Numbers are decimal: 010 and 0x10
// are refused, since readers disagree on what they mean.
func (s *source) scalar(n *yaml.Node, what string) (any, error) {
	if n.Kind != yaml.ScalarNode {
		return nil, s.errorf(n, "%s: want a single value, got %s", what, kindOf(n))
	}
	switch n.Tag {
	case "!!int":
		if !wholeNumber.MatchString(n.Value) {
			return nil, s.errorf(n, "%s: write the number %q in plain decimal digits, without leading zeros", what, n.Value)
		}
		v, err := strconv.Atoi(n.Value)
		if err != nil {
			return nil, s.errorf(n, "%s: the number %s is too large", what, n.Value)
		}
		return v, nil
	case "!!float":
		v, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || !realNumber.MatchString(n.Value) {
			return nil, s.errorf(n, "%s: want a finite decimal number, got %q", what, n.Value)
		}
		return v, nil
	case "!!bool":
		return n.Value == "true" || n.Value == "True" || n.Value == "TRUE", nil
	case "!!str", "!!timestamp":
		return n.Value, nil
	case "!!null":
		return nil, s.errorf(n, "%s has no value", what)
	}
	return nil, s.errorf(n, "%s: values of type %s are not supported", what, n.Tag)
}

func (s *source) integer(n *yaml.Node, what string, low, high int) (int, error) {
	v, err := s.scalar(n, what)
	if err != nil {
		return 0, err
	}
	i, ok := v.(int)
	if !ok && quoted(n) {
		return 0, s.errorf(n, "%s: want a whole number, got the quoted text %q: leave out the quotes", what, n.Value)
	}
	if !ok {
		return 0, s.errorf(n, "%s: want a whole number, got %v", what, n.Value)
	}
	if i < low || i > high {
		return 0, s.errorf(n, "%s: want %d to %d, got %d", what, low, high, i)
	}
	return i, nil
}

func (s *source) word(n *yaml.Node, what string) (string, error) {
	v, err := s.scalar(n, what)
	if err != nil {
		return "", err
	}
	if w, ok := v.(string); ok && w != "" {
		return w, nil
	}
	return "", s.errorf(n, "%s: want a word, got %q", what, n.Value)
}

// quoted tells whether a value is a number in quotes, which makes it a text.
func quoted(n *yaml.Node) bool {
	return n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 && realNumber.MatchString(n.Value)
}

// resolve checks the entries of a mapping, except those in skip, against declared settings and
// fills in defaults. Errors name the line of the setting at fault.
func (s *source) resolve(n *yaml.Node, what string, params []settings.Param, skip ...string) (settings.Values, error) {
	given := map[string]any{}
	if n != nil {
		if n.Kind != yaml.MappingNode {
			return nil, s.errorf(n, "%s: want settings, got %s", what, describe(n))
		}
		for _, e := range entries(n) {
			if slices.Contains(skip, e.name) {
				continue
			}
			v, err := s.scalar(e.value, what+": "+e.name)
			if err != nil {
				return nil, err
			}
			if i := slices.IndexFunc(params, func(p settings.Param) bool { return p.Name == e.name }); i >= 0 {
				if _, text := params[i].Default.(string); !text && quoted(e.value) {
					return nil, s.errorf(e.value, "%s: setting %q: want a number, got the quoted text %q: leave out the quotes", what, e.name, e.value.Value)
				}
				if _, whole := params[i].Default.(int); whole {
					if _, ok := v.(int); !ok {
						return nil, s.errorf(e.value, "%s: setting %q: want a whole number, got %s", what, e.name, e.value.Value)
					}
				}
			}
			if _, err := settings.Resolve(params, map[string]any{e.name: v}); err != nil {
				return nil, s.errorf(e.value, "%s: %v", what, err)
			}
			given[e.name] = v
		}
	}
	return settings.Resolve(params, given)
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "settings"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

func describe(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return strconv.Quote(n.Value)
	}
	return kindOf(n)
}
