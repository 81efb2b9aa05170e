package stats

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"clipinspector/results/store"
)

// Group is the values that the rows of a group share: path and value, in the
// order of the paths asked for. A setting that a cell lacks is nil.
type Group = Object[any]

// groupPath reads one --by path from a model cell or a detection cell.
type groupPath struct {
	name      string
	ofModel   func(store.ModelCell) (any, bool)
	ofDetect  func(store.DetectionCell) (any, bool)
	detection bool
}

// Paths that name a cell's own fields and not a setting.
var modelFields = map[string]func(store.ModelCell) (any, bool){
	"dataset": func(c store.ModelCell) (any, bool) { return c.Dataset, true },
	"attack":  func(c store.ModelCell) (any, bool) { return c.Attack, true },
	"learner": func(c store.ModelCell) (any, bool) { return c.Learner, true },
	"seed":    func(c store.ModelCell) (any, bool) { return c.Seed, true },
}

// resolvePaths finds out for every path whether it names something of the
// models or of the detections. "model." and "detector." before a path choose the
// side; without them a setting of the models comes first.
func resolvePaths(by []string, models []store.ModelRow, detections []store.DetectionRow) ([]groupPath, error) {
	var out []groupPath
	for _, name := range by {
		p, ok := resolvePath(name, models, detections)
		if !ok {
			return nil, fmt.Errorf("group by %q: no cell has such a setting; there are: %s",
				name, strings.Join(knownPaths(models, detections), ", "))
		}
		out = append(out, p)
	}
	return out, nil
}

func resolvePath(name string, models []store.ModelRow, detections []store.DetectionRow) (groupPath, bool) {
	if f, ok := modelFields[name]; ok {
		return groupPath{name: name, ofModel: f}, true
	}
	if name == "detector" {
		return groupPath{name: name, detection: true,
			ofDetect: func(c store.DetectionCell) (any, bool) { return c.Detector, true }}, true
	}
	ofModel := func(path string) (groupPath, bool) {
		get := func(c store.ModelCell) (any, bool) { return lookup(c.Settings, path) }
		return groupPath{name: name, ofModel: get},
			slices.ContainsFunc(models, func(r store.ModelRow) bool { _, ok := get(r.Cell); return ok })
	}
	ofDetect := func(path string) (groupPath, bool) {
		get := func(c store.DetectionCell) (any, bool) { return lookup(c.Settings, path) }
		return groupPath{name: name, ofDetect: get, detection: true},
			slices.ContainsFunc(detections, func(r store.DetectionRow) bool { _, ok := get(r.Cell); return ok })
	}
	if p, ok := ofModel(name); ok {
		return p, true
	}
	if p, ok := ofDetect(name); ok {
		return p, true
	}
	if rest, ok := strings.CutPrefix(name, "model."); ok {
		if f, ok := modelFields[rest]; ok {
			return groupPath{name: name, ofModel: f}, true
		}
		return ofModel(rest)
	}
	if rest, ok := strings.CutPrefix(name, "detector."); ok {
		return ofDetect(rest)
	}
	return groupPath{}, false
}

// lookup finds a dotted path in nested settings; keys may hold dots themselves.
func lookup(settings map[string]any, path string) (any, bool) {
	if v, ok := settings[path]; ok {
		return v, true
	}
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		if sub, ok := settings[path[:i]].(map[string]any); ok {
			if v, ok := lookup(sub, path[i+1:]); ok {
				return v, true
			}
		}
	}
	return nil, false
}

// Setting is the value at a dotted path of a cell's settings; ok is false where there is none.
func Setting(settings map[string]any, path string) (v any, ok bool) { return lookup(settings, path) }

// Flatten lists the leaves of nested settings: dotted path and value as a person writes it.
func Flatten(settings map[string]any) map[string]string {
	out := map[string]string{}
	var walk func(prefix string, m map[string]any)
	walk = func(prefix string, m map[string]any) {
		for k, v := range m {
			if sub, ok := v.(map[string]any); ok {
				walk(prefix+k+".", sub)
				continue
			}
			out[prefix+k] = ValueText(v)
		}
	}
	walk("", settings)
	return out
}

func knownPaths(models []store.ModelRow, detections []store.DetectionRow) []string {
	seen := map[string]bool{"dataset": true, "attack": true, "learner": true, "seed": true, "detector": true}
	for _, m := range models {
		for p := range Flatten(m.Cell.Settings) {
			seen[p] = true
		}
	}
	for _, d := range detections {
		for p := range Flatten(d.Cell.Settings) {
			seen["detector."+p] = true
		}
	}
	out := make([]string, 0, len(seen))
	for p := range seen {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

// groupOf reads the values of the paths; paths of the other side are left out
// when modelsOnly.
func groupOf(paths []groupPath, m store.ModelCell, d store.DetectionCell, modelsOnly bool) Group {
	var g Group
	for _, p := range paths {
		var v any
		switch {
		case !p.detection:
			v, _ = p.ofModel(m)
		case modelsOnly:
			continue
		default:
			v, _ = p.ofDetect(d)
		}
		g = append(g, Entry[any]{p.name, v})
	}
	return g
}

// groupText is equal for equal groups.
func groupText(g Group) string {
	raw, err := json.Marshal(g)
	if err != nil { // settings came from JSON
		panic(fmt.Sprintf("stats: group %v: %v", g, err))
	}
	return string(raw)
}

// compareGroups orders numbers by size, before texts by alphabet, before none.
func compareGroups(a, b Group) int {
	for i := range min(len(a), len(b)) {
		if c := compareValues(a[i].Value, b[i].Value); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func compareValues(a, b any) int {
	x, xNum := number(a)
	y, yNum := number(b)
	switch {
	case xNum && yNum:
		return compareFloats(x, y)
	case xNum != yNum:
		if xNum {
			return -1
		}
		return 1
	case a == nil || b == nil:
		return cmp.Compare(boolInt(a == nil), boolInt(b == nil))
	}
	return cmp.Compare(ValueText(a), ValueText(b))
}

func number(v any) (float64, bool) {
	switch x := v.(type) {
	case int:
		return float64(x), true
	case float64:
		return x, true
	case json.Number:
		f, err := x.Float64()
		return f, err == nil
	}
	return 0, false
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ValueText is a setting as a person writes it.
func ValueText(v any) string {
	switch x := v.(type) {
	case nil:
		return "–"
	case string:
		return x
	}
	raw, err := store.CanonicalJSON(v)
	if err != nil { // settings came from JSON
		panic(fmt.Sprintf("stats: setting %v: %v", v, err))
	}
	return string(raw)
}
