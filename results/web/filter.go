package web

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// filters are what a suite's page filters by: the parameters of its address.
var filters = []struct{ name, label string }{{"set", "dataset"}, {"attack", "attack"}, {"learner", "learner"}, {"seed", "seed"}, {"detector", "detector"}, {"verdict", "verdict"}}

// filter is the chosen value of each, none for all.
type filter map[string]string

func filterOf(q url.Values) filter {
	f := filter{}
	for _, x := range filters {
		if v := q.Get(x.name); v != "" {
			f[x.name] = v
		}
	}
	return f
}

// params are the filter's as address takes them.
func (f filter) params() (out []string) {
	for _, x := range filters {
		out = append(out, x.name, f[x.name])
	}
	return out
}

// models tells whether a model is among those that figures are of.
func (f filter) models(m store.ModelRow) bool {
	own := ofModel(m)
	for _, name := range []string{"set", "attack", "learner", "seed"} {
		if v := f[name]; v != "" && v != own[name] {
			return false
		}
	}
	return true
}

func ofModel(m store.ModelRow) map[string]string {
	c := m.Cell
	return map[string]string{"set": c.Dataset, "attack": c.Attack, "learner": c.Learner, "seed": strconv.Itoa(c.Seed)}
}

// The words that a verdict may be asked for by.
const (
	saidClean      = "clean"
	saidBackdoored = "backdoored"
	saidUnsure     = "cannot-tell"
	saidFailed     = "failed"
	saidNothing    = "open"
)

var verdictWords = []string{string(right), string(wrong), saidBackdoored, saidClean, saidUnsure, saidFailed, saidNothing}

// verdictOf says in words what became of a detection, and whether that is right.
func verdictOf(m store.ModelRow, d store.DetectionRow) (said string, m2 mark) {
	switch {
	case d.State == store.Failed:
		return saidFailed, ""
	case d.State != store.Finished || m.State != store.Finished:
		return saidNothing, ""
	case d.Result.Unsure != "":
		return saidUnsure, wrong
	}
	said = saidClean
	if d.Result.Backdoored {
		said = saidBackdoored
	}
	if d.Result.Backdoored == m.Result.Backdoored {
		return said, right
	}
	return said, wrong
}

// choice is a choice among values.
type choice struct {
	Name, Label string
	Options     []option
}

type option struct {
	Value, Text string
	Chosen      bool
}

// choices are the filters with the values that a suite has; those of one value alone are left out.
func (f filter) choices(r *stats.Rows) (out []choice) {
	for _, x := range filters {
		var values []string
		switch x.name {
		case "detector":
			values = detectorNames(r)
		case "verdict":
			values = verdictWords
		default:
			for _, m := range r.Models {
				if v := ofModel(m)[x.name]; !slices.Contains(values, v) {
					values = append(values, v)
				}
			}
		}
		if len(values) < 2 && f[x.name] == "" {
			continue
		}
		c := choice{x.name, x.label, []option{{"", "all", f[x.name] == ""}}}
		for _, v := range values {
			c.Options = append(c.Options, option{v, v, f[x.name] == v})
		}
		out = append(out, c)
	}
	return out
}

// detectorNames are the detectors of a suite, in plan order.
func detectorNames(r *stats.Rows) (names []string) {
	for _, d := range r.Detections {
		if !slices.Contains(names, d.Cell.Detector) {
			names = append(names, d.Cell.Detector)
		}
	}
	return names
}

// variant is a detector with the values of those of its settings that vary in the suite.
type variant struct{ detector, label string }

// swept says what varies in a suite.
type swept struct {
	models   []string // settings of models
	variants []variant
	of       map[string]int // which variant each detection is of, by its key
}

// swept finds what varies, once.
func (s *Suite) swept() *swept {
	s.once.Do(func() { s.varies = sweptIn(s.Rows) })
	return s.varies
}

func sweptIn(r *stats.Rows) *swept {
	v := &swept{of: map[string]int{}}
	var paths []string
	v.models, paths = r.Swept()
	at := map[string]int{}
	for _, d := range r.Detections {
		label := d.Cell.Detector
		for _, p := range paths {
			if value, ok := stats.Setting(d.Cell.Settings, p); ok {
				label += fmt.Sprintf(", %s %s", lastStep(p), stats.ValueText(value))
			}
		}
		i, ok := at[label]
		if !ok {
			i = len(v.variants)
			at[label] = i
			v.variants = append(v.variants, variant{d.Cell.Detector, label})
		}
		v.of[d.Cell.Key] = i
	}
	return v
}

// shown are the variants that some rows have, and which of those each detection is of.
func (v *swept) shown(rows *stats.Rows) (some []variant, of map[string]int) {
	at := map[int]int{}
	of = map[string]int{}
	for _, d := range rows.Detections {
		i := v.of[d.Cell.Key]
		if _, ok := at[i]; !ok {
			at[i] = len(some)
			some = append(some, v.variants[i])
		}
		of[d.Cell.Key] = at[i]
	}
	return some, of
}
