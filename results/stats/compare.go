package stats

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"clipinspector/results/store"
)

// Comparison is how the verdicts on the same models differ between two suites, or between two
// values of a setting.
type Comparison struct {
	A         string           `json:"a"`
	B         string           `json:"b"`
	By        string           `json:"by,omitempty"` // the setting whose values A and B are; empty for two suites
	Settings  []Difference     `json:"settings"`     // that differ, beside By
	Detectors []PairedFigures  `json:"detectors"`
	Unpaired  [2]int           `json:"unpaired"` // verdicts without a partner
	Changed   []ChangedVerdict `json:"changed"`  // the models whose verdict differs, in A's order
}

// Difference is a setting with other values on one side than on the other.
type Difference struct {
	Path   string      `json:"path"` // as Summarise takes it
	Values [2][]string `json:"values"`
}

// PairedFigures compare one detector's verdicts, or two detectors'. What is a pair comes first from
// A, then from B.
type PairedFigures struct {
	Detector   string   `json:"detector"`
	Pairs      int      `json:"pairs"`       // models that both judged
	SameModels int      `json:"same_models"` // pairs whose models are the same file
	Correct    [2]int   `json:"correct"`
	OnlyA      int      `json:"only_a_right"`
	OnlyB      int      `json:"only_b_right"`
	P          Num      `json:"mcnemar_p"` // exact, two-sided: see McNemar
	AUROC      [2]Num   `json:"auroc"`
	Difference Num      `json:"auroc_difference"` // of B less that of A
	Interval   Interval `json:"auroc_difference_interval"`

	Score    float64  `json:"-"` // largest difference of a class's score; infinite where one of two does not exist
	Index    float64  `json:"-"` // largest difference of a model's index
	Verdicts int      `json:"verdicts_changed"`
	Doubtful int      `json:"-"`                // of those, with an index within Doubt of k on either side
	Suspects int      `json:"suspects_changed"` // of models that both call backdoored
	Passes   [2]int64 `json:"image_passes"`
}

// Doubt is how near to the threshold an index may lie for its verdict to depend on rounding.
const Doubt = 0.05

// ChangedVerdict is a model whose verdict differs.
type ChangedVerdict struct {
	Detector   string    `json:"detector"`
	Model      string    `json:"model"`
	Keys       [2]string `json:"keys"` // of the models
	Backdoored bool      `json:"backdoored"`
	Verdicts   [2]string `json:"verdicts"` // "clean", "backdoored" or "cannot tell"
	Right      [2]bool   `json:"right"`
	Index      [2]Num    `json:"index"`
}

// judged is a finished detection with its model.
type judged struct {
	model  store.ModelRow
	found  store.DetectionRow
	leaves map[string]string // of the settings of both
	made   map[string]string // of those of the model alone
	pair   string            // equal for the two of a pair
}

// Compare compares two suites. Verdicts make a pair that are about the same dataset, attack,
// learner, seed and detector and, where a side has several of those, the same values of the
// settings that tell them apart there. It fails where there is no pair.
func Compare(a, b *Rows, nameA, nameB string) (*Comparison, error) {
	c := &Comparison{A: nameA, B: nameB}
	c.measure(a.judged(), b.judged(), "")
	if len(c.Detectors) == 0 {
		return nil, fmt.Errorf("%s and %s have no finished detection of the same dataset, attack, learner, seed and detector in common", nameA, nameB)
	}
	return c, nil
}

// CompareBy compares the verdicts at each value of a setting with those at the first one, all else
// being equal. With values given it compares those alone, and with one value given all others with
// it. by is "learner", "seed", "detector" or the dotted path of a setting, as Summarise takes it;
// of "detector" the short name of a setting will do.
func (r *Rows) CompareBy(by string, values ...string) ([]*Comparison, error) {
	name, names, sides, err := r.sides(by)
	if err != nil {
		return nil, err
	}
	switch len(values) {
	case 0:
		values = names
	case 1:
		values = append(slices.Clone(values), slices.DeleteFunc(slices.Clone(names), func(v string) bool { return v == values[0] })...)
	}
	for _, v := range values {
		if sides[v] == nil {
			return nil, fmt.Errorf("compare by %q: no finished detection has the value %q; there are %s", by, v, strings.Join(names, ", "))
		}
	}
	if len(values) < 2 {
		return nil, fmt.Errorf("compare by %q: there is one value alone, %s: name a setting that the suite sweeps", by, strings.Join(values, ", "))
	}
	var out []*Comparison
	for _, v := range values[1:] {
		c := &Comparison{A: values[0], B: v, By: name}
		c.measure(sides[values[0]], sides[v], name)
		if len(c.Detectors) > 0 {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("compare by %q: no model was judged at two of its values", by)
	}
	return out, nil
}

// ValuesOf are the values of a setting that were judged, as CompareBy takes them, in order.
func (r *Rows) ValuesOf(by string) ([]string, error) {
	_, names, _, err := r.sides(by)
	return names, err
}

// sides lists the verdicts at each value of a setting, and its values in order. name is the
// setting's full path.
func (r *Rows) sides(by string) (name string, values []string, sides map[string][]judged, err error) {
	if by == "dataset" || by == "attack" || by == "model.dataset" || by == "model.attack" {
		return "", nil, nil, fmt.Errorf("compare by %q: its values are other models with another truth; name learner, seed, detector or a setting", by)
	}
	path, ok := resolvePath(by, r.Models, r.Detections)
	if !ok {
		if path, ok = resolvePath("detector."+by, r.Models, r.Detections); !ok {
			_, err := resolvePaths([]string{by}, r.Models, r.Detections)
			return "", nil, nil, err
		}
	}
	sides = map[string][]judged{}
	var known []any
	for _, j := range r.judged() {
		var v any
		var has bool
		if path.detection {
			v, has = path.ofDetect(j.found.Cell)
		} else {
			v, has = path.ofModel(j.model.Cell)
		}
		if !has {
			continue
		}
		text := ValueText(v)
		if sides[text] == nil {
			known = append(known, v)
		}
		sides[text] = append(sides[text], j)
	}
	slices.SortStableFunc(known, compareValues)
	for _, v := range known {
		values = append(values, ValueText(v))
	}
	return path.name, values, sides, nil
}

// judged lists the finished detections of finished models, in the models' order.
func (r *Rows) judged() (out []judged) {
	byKey := r.byKey()
	maps.Copy(byKey, r.others)
	for _, d := range r.Detections {
		m, ok := byKey[d.Cell.ModelKey]
		if !ok || m.State != store.Finished || d.State != store.Finished {
			continue
		}
		j := judged{model: m, found: d}
		j.made = Flatten(m.Cell.Settings)
		j.leaves = maps.Clone(j.made)
		for path, v := range Flatten(d.Cell.Settings) {
			if _, both := j.leaves[path]; both {
				path = "detector." + path
			}
			j.leaves[path] = v
		}
		out = append(out, j)
	}
	slices.SortStableFunc(out, func(a, b judged) int { return a.model.Cell.Order - b.model.Cell.Order })
	return out
}

// group is what a verdict is about, without what is compared.
func (j judged) group(by string) string {
	c := j.model.Cell
	parts := []any{c.Dataset, c.Attack, c.Learner, c.Seed, j.found.Cell.Detector}
	switch strings.TrimPrefix(by, "model.") {
	case "learner", "learner.name":
		parts[2] = nil
	case "seed":
		parts[3] = nil
	case "detector", "detector.name":
		parts[4] = nil
	}
	return ValueText(parts)
}

// pairUp gives the verdicts of both sides what tells pairs apart: their group and the settings that
// vary within a group of one side.
func pairUp(sides [2][]judged, by string) {
	vary := map[string]bool{}
	for _, side := range sides {
		first := map[string]judged{}
		for _, j := range side {
			g := j.group(by)
			f, ok := first[g]
			if !ok {
				first[g] = j
				continue
			}
			for path, v := range j.leaves {
				vary[path] = vary[path] || f.leaves[path] != v
			}
			for path := range f.leaves {
				_, ok := j.leaves[path]
				vary[path] = vary[path] || !ok
			}
		}
	}
	var paths []string
	for _, p := range slices.Sorted(maps.Keys(vary)) {
		if vary[p] && !same(p, by) {
			paths = append(paths, p)
		}
	}
	for _, side := range sides {
		for i, j := range side {
			side[i].pair = j.group(by)
			for _, p := range paths {
				side[i].pair += "\x00" + j.leaves[p]
			}
		}
	}
}

// same tells whether two paths name the same setting.
func same(path, by string) bool {
	return path == by || path == strings.TrimPrefix(by, "model.") || path == strings.TrimPrefix(by, "detector.") || by == "learner" && strings.HasPrefix(path, "learner.")
}

// measure compares two lists of verdicts.
func (c *Comparison) measure(a, b []judged, by string) {
	pairUp([2][]judged{a, b}, by)
	partner := map[string][]judged{}
	for _, j := range b {
		partner[j.pair] = append(partner[j.pair], j)
	}
	count := map[string]int{}
	for _, j := range a {
		count[j.pair]++
	}
	values := map[string][2][]string{}
	figures := map[string]*paired{}
	var order []string
	pairs := 0
	for _, x := range a {
		if len(partner[x.pair]) != 1 || count[x.pair] != 1 {
			continue
		}
		y := partner[x.pair][0]
		pairs++
		name := x.found.Cell.Detector
		if other := y.found.Cell.Detector; other != name {
			name += " and " + other
		}
		p := figures[name]
		if p == nil {
			p = &paired{PairedFigures: PairedFigures{Detector: name}}
			figures[name], order = p, append(order, name)
		}
		if changed, ok := p.add(x, y); ok {
			changed.Detector = name
			c.Changed = append(c.Changed, changed)
		}
		for i, j := range []judged{x, y} {
			leaves := j.leaves
			if by == "detector" { // which have settings of their own
				leaves = j.made
			}
			for path, v := range leaves {
				if list := values[path]; !slices.Contains(list[i], v) {
					list[i] = append(list[i], v)
					values[path] = list
				}
			}
		}
	}
	c.Unpaired = [2]int{len(a) - pairs, len(b) - pairs}
	for _, path := range slices.Sorted(maps.Keys(values)) {
		v := values[path]
		slices.Sort(v[0])
		slices.Sort(v[1])
		last := path[strings.LastIndexByte(path, '.')+1:]
		if !slices.Equal(v[0], v[1]) && last != "fingerprint" && !same(path, by) {
			c.Settings = append(c.Settings, Difference{path, v})
		}
	}
	for _, name := range order {
		c.Detectors = append(c.Detectors, figures[name].finish())
	}
}

// paired gathers the verdicts of one detector.
type paired struct {
	PairedFigures
	scores   [2][]float64
	labels   []bool
	clusters []string
}

func (p *paired) add(x, y judged) (changed ChangedVerdict, differs bool) {
	t := [2]trial{newTrial(x.found, x.model), newTrial(y.found, y.model)}
	p.Pairs++
	p.SameModels += boolInt(x.model.Result.Hash == y.model.Result.Hash)
	right := [2]bool{}
	for i := range t {
		right[i] = t[i].correct()
		p.Correct[i] += boolInt(right[i])
		p.scores[i] = append(p.scores[i], t[i].score)
	}
	p.OnlyA += boolInt(right[0] && !right[1])
	p.OnlyB += boolInt(right[1] && !right[0])
	p.labels, p.clusters = append(p.labels, t[0].truth), append(p.clusters, t[0].dataset)
	r, s := x.found.Result, y.found.Result
	p.Index = math.Max(p.Index, apart(r.Index, s.Index))
	for i := range min(len(r.Classes), len(s.Classes)) {
		p.Score = math.Max(p.Score, apart(r.Classes[i].Score, s.Classes[i].Score))
	}
	p.Passes[0], p.Passes[1] = p.Passes[0]+r.ImagePasses, p.Passes[1]+s.ImagePasses
	said := [2]string{saidBy(r), saidBy(s)}
	if said[0] == said[1] {
		p.Suspects += boolInt(r.Backdoored && r.Suspect != s.Suspect)
		return changed, false
	}
	p.Verdicts++
	for i, d := range []store.DetectionRow{x.found, y.found} {
		if k, ok := number(first(lookup(d.Cell.Settings, "detector.k"))); ok && apart([]float64{r.Index, s.Index}[i], k) <= Doubt {
			p.Doubtful++
			break
		}
	}
	return ChangedVerdict{Model: describe(x.model.Cell), Keys: [2]string{x.model.Cell.Key, y.model.Cell.Key}, Backdoored: t[0].truth, Verdicts: said,
		Right: right, Index: [2]Num{Num(r.Index), Num(s.Index)}}, true
}

func (p *paired) finish() PairedFigures {
	f := p.PairedFigures
	f.P = Num(mcNemar(f.OnlyA, f.OnlyB))
	for i := range f.AUROC {
		f.AUROC[i] = Num(AUROC(p.scores[i], p.labels))
	}
	d, lo, hi := aurocDifference(p.scores[0], p.scores[1], p.labels, p.clusters, Resamples, BootstrapSeed)
	f.Difference, f.Interval = Num(d), Interval{Num(lo), Num(hi)}
	return f
}

func saidBy(r store.DetectionResult) string {
	switch {
	case r.Unsure != "":
		return "cannot tell"
	case r.Backdoored:
		return "backdoored"
	}
	return "clean"
}

func first[A, B any](a A, _ B) A { return a }

// apart returns how far two figures lie apart: infinitely where only one of them exists.
func apart(x, y float64) float64 {
	switch {
	case x == y || math.IsNaN(x) && math.IsNaN(y):
		return 0
	case math.IsNaN(x) || math.IsNaN(y):
		return math.Inf(1)
	}
	return math.Abs(x - y)
}
