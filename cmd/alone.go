package cmd

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"clipinspector/experiments/suite"
	"clipinspector/results/stats"
	"clipinspector/results/store"
	"clipinspector/results/web"
)

// alone is the command that makes one model of a suite and what was found of it again, into a
// folder of its own; empty where the suite's file is not known. Of a sweep it keeps the model's own
// values, and all of those that detectors are swept over.
func alone(u store.Suite, m store.ModelRow) string {
	file, err := suiteOf(u)
	if err != nil {
		return ""
	}
	words := []string{"clip-inspector", "run", file.Path}
	set := func(path string, value any) {
		words = append(words, "--set", path+"="+flow(value))
	}
	for _, s := range file.Sets {
		if path, _, _ := strings.Cut(s, "="); !slices.Contains([]string{"datasets", "attacks", "seeds", "sweep"}, path) && !strings.HasPrefix(path, "sweep.") {
			words = append(words, "--set", s)
		}
	}
	if d := datasetOf(file, m); d != nil {
		set("datasets", []any{d})
	}
	set("attacks", []any{m.Cell.Settings["attack"]})
	set("seeds", []int{m.Cell.Seed})
	if swept := sweepOf(u, file); len(swept) > 0 {
		kept := map[string]any{}
		for path, values := range swept {
			if strings.HasPrefix(path, "detectors.") || strings.HasPrefix(path, "pool.") {
				kept[path] = values
			} else if v, ok := stats.Setting(m.Cell.Settings, path); ok {
				kept[path] = []any{v}
			}
		}
		set("sweep", kept)
	}
	words = append(words, "--out", "runs/"+u.Name+"-"+store.ShortKey(m.Cell.Key))
	for i, w := range words {
		words[i] = web.ShellWord(w)
	}
	return strings.Join(words, " ")
}

// datasetOf is a model's dataset as its suite names it; nil where that is not known.
func datasetOf(file *suite.File, m store.ModelRow) map[string]any {
	classes, _ := stats.Setting(m.Cell.Settings, "dataset.classes")
	for _, s := range file.Suites {
		for _, d := range s.Datasets {
			folder := strings.HasPrefix(m.Cell.Dataset, "folder:") && strings.HasPrefix(d.Name, "folder:") && len(s.Datasets) == 1
			switch {
			case d.Name != m.Cell.Dataset && !folder:
			case d.Classes == 0:
				return map[string]any{"name": d.Name}
			case d.Classes == classes:
				return map[string]any{"name": d.Name, "classes": d.Classes}
			}
		}
	}
	return nil
}

// sweepOf is the sweep of a suite's file, after its overrides.
func sweepOf(u store.Suite, file *suite.File) map[string]any {
	var text struct{ Sweep map[string]any }
	if err := yaml.Unmarshal([]byte(u.YAML), &text); err != nil {
		return nil
	}
	out := text.Sweep
	for _, s := range file.Sets {
		path, value, _ := strings.Cut(s, "=")
		if rest, ok := strings.CutPrefix(path, "sweep."); ok {
			var v any
			if yaml.Unmarshal([]byte(value), &v) == nil {
				if out == nil {
					out = map[string]any{}
				}
				out[rest] = v
			}
		}
	}
	return out
}

// flow is a value as YAML on one line.
func flow(v any) string {
	var n yaml.Node
	if err := n.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	var set func(n *yaml.Node)
	set = func(n *yaml.Node) {
		n.Style |= yaml.FlowStyle
		for _, c := range n.Content {
			set(c)
		}
	}
	set(&n)
	text, err := yaml.Marshal(&n)
	if err != nil {
		return fmt.Sprint(v)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}
