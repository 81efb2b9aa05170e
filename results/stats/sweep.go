package stats

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"clipinspector/results/store"
)

// Sweep is what becomes of a suite's figures as one setting varies.
type Sweep struct {
	Path      string                  // dotted path of the setting, as Summarise takes it
	Values    []any                   // ascending, numbers before texts; nil for cells that lack the setting
	Others    []string                // further settings that vary, whose values are pooled
	Detectors Object[[]Figures]       // detector -> one for each value
	Attacks   Object[[]AttackFigures] // attack -> one for each value; empty for a setting of detections
}

// Swept names the settings that vary among models of the same dataset, attack and seed, and those
// that vary among detections by the same detector on the same model, as Summarise takes them.
func (r *Rows) Swept() (ofModels, ofDetections []string) {
	var models, detections []variant
	for _, m := range r.Models {
		models = append(models, modelVariant(m.Cell))
	}
	for _, d := range r.Detections {
		detections = append(detections, detectionVariant(d.Cell))
	}
	for _, x := range findSwept(models) {
		ofModels = append(ofModels, x.path)
	}
	for _, x := range findSwept(detections) {
		ofDetections = append(ofDetections, x.path)
	}
	return ofModels, ofDetections
}

// Sweeps finds the settings that vary among models of the same dataset, attack
// and seed, or among detections by the same detector on the same model, and
// measures the suite at each of their values.
//
// At a value count the cells that have it, and the cells of which there is only
// one variant, such as a baseline beside a detector whose bound is swept. For a
// setting of attacks only clean models count beside those that have the value.
// Settings that follow from a swept name ("learner.context" where each learner
// has its own) are no sweeps of their own, nor are fingerprints and versions.
func (r *Rows) Sweeps() []Sweep {
	models, detections := r.Models, r.Detections
	byKey := map[string]store.ModelRow{}
	var ofModels, ofDetections []variant
	for _, m := range models {
		byKey[m.Cell.Key] = m
		ofModels = append(ofModels, modelVariant(m.Cell))
	}
	for _, d := range detections {
		ofDetections = append(ofDetections, detectionVariant(d.Cell))
	}
	var out []Sweep
	add := func(x swept, of func(store.DetectionRow) variant, withModels bool) {
		w := Sweep{Path: x.path, Values: x.values}
		for j, v := range x.values {
			var kept []store.ModelRow
			for _, m := range models {
				if withModels && m.State == store.Finished && x.counts(modelVariant(m.Cell), v, m.Result.Backdoored) {
					kept = append(kept, m)
				}
			}
			var trials []namedTrial
			for _, d := range detections {
				m, ok := byKey[d.Cell.ModelKey]
				if ok && d.State == store.Finished && m.State == store.Finished && x.counts(of(d), v, m.Result.Backdoored) {
					trials = append(trials, namedTrial{d.Cell.Detector, newTrial(d, m)})
				}
			}
			w.measure(j, kept, trials)
		}
		out = append(out, w)
	}
	for _, x := range findSwept(ofModels) {
		add(x, func(d store.DetectionRow) variant { return modelVariant(byKey[d.Cell.ModelKey].Cell) }, true)
	}
	for _, x := range findSwept(ofDetections) {
		add(x, func(d store.DetectionRow) variant { return detectionVariant(d.Cell) }, false)
	}
	for i := range out {
		for j := range out {
			if i != j {
				out[i].Others = append(out[i].Others, out[j].Path)
			}
		}
	}
	return out
}

type namedTrial struct {
	detector string
	trial
}

// measure fills in the figures at the j-th value.
func (w *Sweep) measure(j int, models []store.ModelRow, trials []namedTrial) {
	var clean []store.ModelRow
	for _, m := range models {
		if !m.Result.Backdoored {
			clean = append(clean, m)
		}
	}
	attacks, rows := split(models, func(m store.ModelRow) string { return m.Cell.Attack })
	for i, name := range attacks {
		list(&w.Attacks, name, len(w.Values), attackFigures(nil, nil))[j] = attackFigures(rows[i], clean)
	}
	detectors, lists := split(trials, func(t namedTrial) string { return t.detector })
	for i, name := range detectors {
		own := make([]trial, len(lists[i]))
		for k, t := range lists[i] {
			own[k] = t.trial
		}
		list(&w.Detectors, name, len(w.Values), figuresOf(nil, nil))[j] = figuresOf(own, nil)
	}
}

// list finds the list of a name; a new one holds n times empty.
func list[T any](o *Object[[]T], name string, n int, empty T) []T {
	if l, ok := o.Get(name); ok {
		return l
	}
	*o = append(*o, Entry[[]T]{Name: name, Value: slices.Repeat([]T{empty}, n)})
	return (*o)[len(*o)-1].Value
}

// variant is a cell's settings, and what it is a variant of.
type variant struct {
	group    string
	settings map[string]any
}

func modelVariant(c store.ModelCell) variant {
	return variant{ValueText([]any{c.Dataset, c.Attack, c.Seed}), c.Settings}
}

func detectionVariant(c store.DetectionCell) variant {
	return variant{c.ModelKey + " " + c.Detector, c.Settings}
}

// swept is a setting with several values within some groups.
type swept struct {
	path   string
	values []any           // those of the groups that vary, ascending
	vary   map[string]bool // by group
}

// counts tells whether a cell counts at a value.
func (x swept) counts(c variant, value any, backdoored bool) bool {
	if !x.vary[c.group] {
		return !backdoored || !strings.HasPrefix(x.path, "attack.")
	}
	own, _ := lookup(c.settings, x.path)
	return ValueText(own) == ValueText(value)
}

// distinct leaves out what has the group and, being shared, the settings of one before it.
func distinct(cells []variant) (out []variant) {
	type sort struct {
		group    string
		settings uintptr
	}
	seen := map[sort]bool{}
	for _, c := range cells {
		s := sort{c.group, reflect.ValueOf(c.settings).Pointer()}
		if !seen[s] {
			seen[s] = true
			out = append(out, c)
		}
	}
	return out
}

// findSwept returns the settings that vary within groups, by path.
func findSwept(cells []variant) []swept {
	cells = distinct(cells)
	leaves := make([]map[string]string, len(cells))
	paths := map[string]bool{}
	flat := map[uintptr]map[string]string{}
	for i, c := range cells {
		settings := reflect.ValueOf(c.settings).Pointer()
		if leaves[i] = flat[settings]; leaves[i] != nil {
			continue
		}
		leaves[i] = Flatten(c.settings)
		flat[settings] = leaves[i]
		for p := range leaves[i] {
			last := p[strings.LastIndexByte(p, '.')+1:]
			if last != "fingerprint" && last != "version" && last != "engine" {
				paths[p] = true
			}
		}
	}
	var out []swept
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		x := swept{path: p, vary: map[string]bool{}}
		first := map[string]int{}
		for i, c := range cells {
			if j, ok := first[c.group]; !ok {
				first[c.group] = i
			} else if leaves[i][p] != leaves[j][p] {
				x.vary[c.group] = true
			}
		}
		seen := map[string]bool{}
		for i, c := range cells {
			if text := leaves[i][p]; x.vary[c.group] && !seen[text] {
				seen[text] = true
				v, _ := lookup(c.settings, p)
				x.values = append(x.values, v)
			}
		}
		if len(x.values) > 1 && !follows(p, leaves) {
			slices.SortFunc(x.values, compareValues)
			out = append(out, x)
		}
	}
	return out
}

// follows tells whether a setting follows from the name beside it, which varies
// itself.
func follows(path string, leaves []map[string]string) bool {
	dot := strings.LastIndexByte(path, '.')
	if dot < 0 || path[dot:] == ".name" {
		return false
	}
	name := path[:dot] + ".name"
	of := map[string]string{}
	for _, l := range leaves {
		v, ok := of[l[name]]
		if ok && v != l[path] {
			return false
		}
		of[l[name]] = l[path]
	}
	return len(of) > 1
}
