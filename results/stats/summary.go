package stats

import (
	"fmt"
	"math"
	"slices"

	"clipinspector/results/store"
)

// Summary is what the tables say about a suite. Marshalled it is the JSON of
// `table --format json`; nothing in it depends on the order of the work.
type Summary struct {
	Detectors        []DetectorFigures     `json:"detectors"`
	Models           Tally                 `json:"models"`
	Attacks          Object[AttackFigures] `json:"attacks"`
	AttackGroups     []AttackGroup         `json:"attack_groups,omitempty"` // with --by: the same per group of models
	Detections       Tally                 `json:"detections"`
	Explanations     []ExplanationFigures  `json:"explanations,omitempty"`
	Repairs          []RepairFigures       `json:"repairs,omitempty"`
	ExplanationTally Tally                 `json:"-"`
	RepairTally      Tally                 `json:"-"`
	Suite            string                `json:"suite"`
	By               []string              `json:"by,omitempty"`
	Partial          string                `json:"partial,omitempty"` // what a shard or a merged suite lacks
	// Pools are the settings with several values among the models of a row: path and values.
	Pools Object[[]any] `json:"pools,omitempty"`

	Backdoored int       `json:"-"` // finished models made with a backdoor
	Datasets   []string  `json:"-"` // in plan order
	Failures   []Failure `json:"-"` // in plan order, models first
}

// Tally says how many cells were planned and what became of them; the rest is
// not computed yet, or Blocked because the model failed.
type Tally struct {
	Planned  int `json:"planned"`
	Finished int `json:"finished"`
	Failed   int `json:"failed"`
	Blocked  int `json:"-"`
}

// Failure is a cell that failed, in words.
type Failure struct{ Cell, Message string }

// DetectorFigures are the figures of one detector, or of one detector in one
// group.
type DetectorFigures struct {
	Name    string `json:"name"`
	By      Group  `json:"by,omitempty"`
	Planned int    `json:"planned"`
	Failed  int    `json:"failed"`
	Figures
	// ByDataset restricts the figures to one dataset's models. ByAttack restricts
	// them to one attack's models; its AUROC ranks those against all clean models
	// of the same row.
	ByDataset  Object[Figures] `json:"by_dataset"`
	ByAttack   Object[Figures] `json:"by_attack"`
	FiringOnly Figures         `json:"firing_only"` // clean models and firing backdoors

	// Pools are the settings of the detector and its pool with several values in this row: path and
	// values. Those of models stand in Summary.Pools.
	Pools  Object[[]any] `json:"pools,omitempty"`
	Matrix []MatrixCell  `json:"-"` // by dataset, then attack, in plan order
}

// MatrixCell counts the verdicts on one dataset's models of one attack.
type MatrixCell struct {
	Dataset, Attack string
	Correct, Models int
}

// AttackGroup is the models of one group.
type AttackGroup struct {
	By      Group                 `json:"by"`
	Attacks Object[AttackFigures] `json:"attacks"`
}

// Rows are the cells of a suite as they were at one moment, in plan order.
type Rows struct {
	Suite        store.Suite
	Models       []store.ModelRow
	References   []store.ReferenceRow
	Detections   []store.DetectionRow
	Explanations []store.ExplanationRow
	Repairs      []store.RepairRow
	others       map[string]store.ModelRow // models of other suites that detections were planned for, by key
}

// Read reads the cells of a suite from its store. It fails for a suite without models.
func Read(s *store.Store, suite string) (*Rows, error) {
	r := &Rows{Suite: store.Suite{Name: suite}, others: map[string]store.ModelRow{}}
	var err error
	// Repairs first, then detections: what they needed is finished then, too.
	if r.Repairs, err = s.Repairs(suite); err != nil {
		return nil, err
	}
	if r.Explanations, err = s.Explanations(suite); err != nil {
		return nil, err
	}
	if r.Detections, err = s.Detections(suite); err != nil {
		return nil, err
	}
	if r.References, err = s.References(suite); err != nil {
		return nil, err
	}
	if r.Models, err = s.Models(suite); err != nil {
		return nil, err
	}
	if len(r.Models) == 0 {
		return nil, noModels(s, suite)
	}
	suites, err := s.Suites()
	if err != nil {
		return nil, err
	}
	for _, u := range suites {
		if u.Name == suite {
			r.Suite = u
		}
	}
	own := r.byKey()
	for _, d := range r.Detections {
		key := d.Cell.ModelKey
		if _, ok := own[key]; ok || r.others[key].Cell.Key != "" {
			continue
		}
		m, ok, err := s.Model(key)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("results store %s: detection cell %s: its model is gone", s.Path(), store.ShortKey(d.Cell.Key))
		}
		r.others[key] = m
	}
	return r, nil
}

// byKey finds the suite's own models.
func (r *Rows) byKey() map[string]store.ModelRow {
	out := make(map[string]store.ModelRow, len(r.Models))
	for _, m := range r.Models {
		out[m.Cell.Key] = m
	}
	return out
}

// Only restricts the rows to models that keep holds for, and to what was found of them.
func (r *Rows) Only(keep func(store.ModelRow) bool) *Rows {
	out := &Rows{Suite: r.Suite, References: r.References, others: map[string]store.ModelRow{}}
	kept := map[string]bool{}
	for _, m := range r.Models {
		if keep(m) {
			out.Models = append(out.Models, m)
			kept[m.Cell.Key] = true
		}
	}
	detections := map[string]bool{}
	for _, d := range r.Detections {
		m, other := r.others[d.Cell.ModelKey]
		if other = other && keep(m); other {
			out.others[d.Cell.ModelKey] = m
		}
		if other || kept[d.Cell.ModelKey] {
			out.Detections = append(out.Detections, d)
			detections[d.Cell.Key] = true
		}
	}
	for _, x := range r.Explanations {
		if detections[x.Cell.DetectionKey] {
			out.Explanations = append(out.Explanations, x)
		}
	}
	for _, p := range r.Repairs {
		if detections[p.Cell.DetectionKey] {
			out.Repairs = append(out.Repairs, p)
		}
	}
	return out
}

// Summarise computes the figures of a suite from its finished cells: see [Rows.Summarise].
func Summarise(s *store.Store, suite string, by []string) (*Summary, error) {
	r, err := Read(s, suite)
	if err != nil {
		return nil, err
	}
	sum, err := r.Summarise(by)
	if err != nil {
		return nil, fmt.Errorf("results store %s: %w", s.Path(), err)
	}
	return sum, nil
}

// Summarise computes the figures of a suite from its finished cells. by lists
// what rows are grouped by, beside the detector: "dataset", "attack",
// "learner", "seed", or the dotted path of a setting, with "model." or
// "detector." before it where both have it. A detection counts once its model is
// finished. A model is backdoored by how it was made. A NaN index ranks lowest.
func (r *Rows) Summarise(by []string) (*Summary, error) {
	paths, err := resolvePaths(by, r.Models, r.Detections)
	if err != nil {
		return nil, err
	}
	sum := &Summary{Suite: r.Suite.Name, By: by, Detectors: []DetectorFigures{}}
	sum.Partial, _ = r.Suite.Settings[store.PartialSetting].(string)
	sum.addModels(r.Models, paths)
	byKey := r.byKey()
	for key, m := range r.others {
		byKey[key] = m
	}
	sum.addDetections(byKey, r.Detections, paths)
	sum.addExplanations(r.Explanations, r.Detections, r.byKey())
	sum.addRepairs(r.Repairs, r.Detections, r.byKey())
	return sum, nil
}

func (sum *Summary) addModels(models []store.ModelRow, paths []groupPath) {
	var finished []store.ModelRow
	for _, m := range models {
		sum.Models.add(m.State)
		if !slices.Contains(sum.Datasets, m.Cell.Dataset) {
			sum.Datasets = append(sum.Datasets, m.Cell.Dataset)
		}
		switch m.State {
		case store.Finished:
			finished = append(finished, m)
			sum.Backdoored += boolInt(m.Result.Backdoored)
		case store.Failed:
			sum.Failures = append(sum.Failures, Failure{"model " + describe(m.Cell), m.Message})
		}
	}
	var clean []store.ModelRow
	for _, m := range finished {
		if !m.Result.Backdoored {
			clean = append(clean, m)
		}
	}
	perAttack := func(rows []store.ModelRow) Object[AttackFigures] {
		out := Object[AttackFigures]{}
		attacks, lists := split(rows, func(m store.ModelRow) string { return m.Cell.Attack })
		for i, name := range attacks {
			out = append(out, Entry[AttackFigures]{name, attackFigures(lists[i], clean)})
		}
		return out
	}
	sum.Attacks = perAttack(finished)
	_, rows := split(finished, func(m store.ModelRow) string { return groupText(groupOf(paths, m.Cell, store.DetectionCell{}, true)) })
	for _, row := range rows {
		sum.Pools = join(sum.Pools, pooledModels(row))
	}
	if !slices.ContainsFunc(paths, func(p groupPath) bool { return !p.detection }) {
		return
	}
	for _, list := range rows {
		sum.AttackGroups = append(sum.AttackGroups,
			AttackGroup{groupOf(paths, list[0].Cell, store.DetectionCell{}, true), perAttack(list)})
	}
	slices.SortStableFunc(sum.AttackGroups, func(a, b AttackGroup) int { return compareGroups(a.By, b.By) })
}

func (sum *Summary) addDetections(byKey map[string]store.ModelRow, detections []store.DetectionRow, paths []groupPath) {
	type item struct {
		store.DetectionRow
		model store.ModelRow
		group Group
	}
	items := make([]item, 0, len(detections))
	for _, d := range detections {
		m := byKey[d.Cell.ModelKey]
		sum.Detections.add(d.State)
		sum.Detections.Blocked += boolInt(d.State == store.Pending && m.State == store.Failed)
		if d.State == store.Failed {
			sum.Failures = append(sum.Failures, Failure{d.Cell.Detector + " on " + describe(m.Cell), d.Message})
		}
		items = append(items, item{d, m, groupOf(paths, m.Cell, d.Cell, false)})
	}
	_, lists := split(items, func(it item) string { return it.Cell.Detector + "\x00" + groupText(it.group) })
	// Detectors keep the plan's order within a group.
	slices.SortStableFunc(lists, func(a, b []item) int { return compareGroups(a[0].group, b[0].group) })
	for _, list := range lists {
		row := DetectorFigures{Name: list[0].Cell.Detector, By: list[0].group, Planned: len(list)}
		var trials []trial
		var counted []store.DetectionRow
		var datasets []string
		for _, it := range list {
			row.Failed += boolInt(it.State == store.Failed)
			if it.State == store.Finished && it.model.State == store.Finished {
				trials = append(trials, newTrial(it.DetectionRow, it.model))
				counted, datasets = append(counted, it.DetectionRow), append(datasets, it.model.Cell.Dataset)
			}
		}
		row.measure(trials)
		row.Pools = pooledDetections(counted, datasets)
		sum.Detectors = append(sum.Detectors, row)
	}
}

func newTrial(d store.DetectionRow, m store.ModelRow) trial {
	t := trial{
		dataset: m.Cell.Dataset, attack: m.Cell.Attack, order: m.Cell.Order,
		truth: m.Result.Backdoored, verdict: d.Result.Backdoored, unsure: d.Result.Unsure != "", firing: m.Result.Firing(),
		named: d.Result.Suspect != store.NoClass, right: d.Result.Suspect == m.Result.Target,
		score: d.Result.Index, passes: float64(d.Result.ImagePasses), seconds: d.Result.Seconds,
	}
	for _, c := range d.Result.Classes {
		t.inversions++
		t.reached += boolInt(c.Reached)
	}
	if math.IsNaN(t.score) { // ranked where it is wrong
		t.score = math.Inf(1)
		if t.truth {
			t.score = math.Inf(-1)
		}
	}
	return t
}

// measure fills the row from its trials. Datasets and attacks keep the order in
// which the suite planned their models.
func (row *DetectorFigures) measure(trials []trial) {
	slices.SortStableFunc(trials, func(a, b trial) int { return a.order - b.order })
	var clean, firing []trial
	for _, t := range trials {
		if !t.truth {
			clean = append(clean, t)
		}
		if !t.truth || t.firing {
			firing = append(firing, t)
		}
	}
	row.Figures, row.FiringOnly = figuresOf(trials, nil), figuresOf(firing, nil)
	row.ByDataset, row.ByAttack = Object[Figures]{}, Object[Figures]{}

	attacks, ofAttack := split(trials, func(t trial) string { return t.attack })
	for i, name := range attacks {
		var against []trial
		if ofAttack[i][0].truth {
			against = clean
		}
		row.ByAttack = append(row.ByAttack, Entry[Figures]{name, figuresOf(ofAttack[i], against)})
	}
	datasets, ofDataset := split(trials, func(t trial) string { return t.dataset })
	for i, name := range datasets {
		row.ByDataset = append(row.ByDataset, Entry[Figures]{name, figuresOf(ofDataset[i], nil)})
		for _, attack := range attacks {
			cell := MatrixCell{Dataset: name, Attack: attack}
			for _, t := range ofDataset[i] {
				if t.attack == attack {
					cell.Models++
					cell.Correct += boolInt(t.correct())
				}
			}
			row.Matrix = append(row.Matrix, cell)
		}
	}
}

// split groups rows by name, in the order in which names appear.
func split[T any](rows []T, name func(T) string) (names []string, lists [][]T) {
	at := map[string]int{}
	for _, r := range rows {
		n := name(r)
		i, ok := at[n]
		if !ok {
			i = len(names)
			at[n], names, lists = i, append(names, n), append(lists, nil)
		}
		lists[i] = append(lists[i], r)
	}
	return names, lists
}

func (t *Tally) add(s store.State) {
	t.Planned++
	t.Finished += boolInt(s == store.Finished)
	t.Failed += boolInt(s == store.Failed)
}

// noModels names the suites that the store does have.
func noModels(s *store.Store, suite string) error {
	suites, err := s.Suites()
	if err != nil {
		return err
	}
	names := []string{}
	for _, u := range suites {
		names = append(names, u.Name)
	}
	return fmt.Errorf("results store %s: suite %q has no models; the suites there are %q", s.Path(), suite, names)
}

func describe(c store.ModelCell) string {
	return fmt.Sprintf("%s, %s, %s, seed %d", c.Dataset, c.Attack, c.Learner, c.Seed)
}
