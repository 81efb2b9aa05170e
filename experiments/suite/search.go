package suite

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"clipinspector/attacks"
	"clipinspector/inspector"
	"clipinspector/internal/random"
	"clipinspector/settings"
)

// Search is a calibration suite with the trials that were drawn from its section `search`: the same
// number for every detector, without repetition, the settings that the suite itself gives being the
// first.
type Search struct {
	File *File // its suites are the trials: the t-th holds the t-th settings of every detector
	Seed int   // that decided the draw
}

// search is the section of a suite file: how many trials, and the candidates for each detector's
// settings.
type search struct {
	node         *yaml.Node
	trials, seed int
	measurements int                   // that a detector's trials differ in at most; the other differences are in the verdict alone
	grids        map[string]*yaml.Node // by detector: paths with lists of values, as in a sweep
}

// LoadSearch reads a calibration suite. It is as strict as Load, and refuses a suite with an
// evaluation seed, one without both clean and backdoored models, and one in which a detector has
// fewer different settings than trials.
func LoadSearch(path string, sets []string) (*Search, error) {
	text, err := readOr(path, path, maxSuite)
	if err != nil {
		return nil, fmt.Errorf("reading a suite: %w", err)
	}
	return (&source{name: path, sets: sets, read: beside(path), find: lies(path)}).calibration(text)
}

// ParseSearch is LoadSearch of a text; see Parse.
func ParseSearch(path string, text []byte, sets []string) (*Search, error) {
	return (&source{name: path, sets: sets, read: beside(path)}).calibration(text)
}

func (s *source) calibration(text []byte) (*Search, error) {
	root, err := s.open(text)
	if err != nil {
		return nil, err
	}
	base, err := s.suite(root)
	if err != nil {
		return nil, err
	}
	q, err := s.search(root)
	if err != nil {
		return nil, err
	}
	if q == nil {
		return nil, s.errorf(root, "the suite has no section search: that lists what calibrate may choose from, "+
			"such as {trials: 8, detectors.ci.epsilon: [0.03, 0.06]}")
	}
	if _, err := s.calibrationSeeds(child(root, "seeds")); err != nil {
		return nil, err
	}
	if err := s.bothKinds(child(root, "attacks"), base.Attacks); err != nil {
		return nil, err
	}
	if len(base.Detectors) == 0 {
		return nil, s.errorf(root, "the suite has no detectors to calibrate")
	}
	f := &File{Path: s.name, Text: string(s.text), Extends: s.base, Sets: s.sets, Name: base.Name, Suites: make([]Suite, q.trials)}
	for t := range f.Suites {
		f.Suites[t] = base
		f.Suites[t].Detectors = make([]Choice, len(base.Detectors))
	}
	for i, d := range base.Detectors {
		drawn, err := s.draw(root, q, i, d)
		if err != nil {
			return nil, err
		}
		for t := range f.Suites {
			f.Suites[t].Detectors[i] = drawn[t]
		}
	}
	return &Search{File: f, Seed: q.seed}, nil
}

// search reads the section of that name and checks every candidate by itself; nil when the suite
// has none.
func (s *source) search(root *yaml.Node) (*search, error) {
	n := child(root, "search")
	if n == nil {
		return nil, nil
	}
	if n.Kind != yaml.MappingNode {
		return nil, s.errorf(n, "search: want paths with lists of values, such as {detectors.ci.epsilon: [0.03, 0.06]}, got %s", describe(n))
	}
	for _, other := range []string{"sweep", "calibrated", "repair"} {
		if child(root, other) != nil {
			return nil, s.errorf(n, "search: a suite that settings are chosen on has no %s", other)
		}
	}
	q := &search{node: n, trials: 10, seed: 1, measurements: maxVariants, grids: map[string]*yaml.Node{}}
	r := reader{source: s}
	for _, e := range entries(n) {
		switch e.name {
		case "trials":
			r.integer(e.value, "search: trials", 1, maxVariants, &q.trials)
		case "measurements":
			r.integer(e.value, "search: measurements", 1, maxVariants, &q.measurements)
		case "seed":
			r.integer(e.value, "search: seed", 0, 1<<31-1, &q.seed)
		default:
			r.err = s.candidates(root, q, e)
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	return q, nil
}

// candidates checks one "detectors.NAME.SETTING: [...]" of a search and files it under its
// detector.
func (s *source) candidates(root *yaml.Node, q *search, e entry) error {
	steps := strings.SplitN(e.name, ".", 3)
	if len(steps) != 3 || steps[0] != "detectors" || steps[1] == "*" || steps[2] == "name" || child(root, "detectors") == nil {
		return s.errorf(e.key, "search: %q: want trials, measurements, seed or detectors.NAME.SETTING of a detector of the suite", e.name)
	}
	values, err := s.list(e.value, "search: "+e.name)
	if err != nil {
		return err
	}
	if len(values) == 0 {
		return s.errorf(e.value, "search: %s has no values", e.name)
	}
	for _, v := range values {
		variant := clone(root)
		if err := s.assign(variant, e.name, clone(v)); err != nil {
			return err
		}
		if _, err := s.suite(variant); err != nil {
			return err
		}
	}
	grid := q.grids[steps[1]]
	if grid == nil {
		grid = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: e.key.Line}
		q.grids[steps[1]] = grid
	}
	grid.Content = append(grid.Content, e.key, e.value)
	return nil
}

// draw returns the trials of the i-th detector: its own settings, then others of its grid in random
// order, of which those are passed over that would be one measurement too many. More trials go on
// where fewer ended, so that what those computed serves.
func (s *source) draw(root *yaml.Node, q *search, i int, own Choice) ([]Choice, error) {
	grid := q.grids[own.Name]
	if grid == nil {
		return nil, s.errorf(q.node, "search: nothing to choose from for detector %s: every detector gets the same number of trials", own.Name)
	}
	combinations, err := s.combinations(grid, "search")
	if err != nil {
		return nil, err
	}
	detector, err := inspector.Find(own.Name)
	if err != nil {
		return nil, err
	}
	drawn := []Choice{own}
	measuring := func(c Choice) settings.Values { return c.Settings.Without(detector.Judging(c.Settings)) }
	measured := []settings.Values{measuring(own)}
	for _, j := range random.Stream("search", q.seed, "/", own.Name).Perm(len(combinations)) {
		if len(drawn) == q.trials {
			break
		}
		variant := clone(root)
		for _, set := range combinations[j] {
			if err := s.assign(variant, set.path, clone(set.value)); err != nil {
				return nil, err
			}
		}
		u, err := s.suite(variant)
		if err != nil {
			return nil, err
		}
		c := u.Detectors[i]
		if slices.ContainsFunc(drawn, func(d Choice) bool { return reflect.DeepEqual(c, d) }) {
			continue
		}
		m := measuring(c)
		if !slices.ContainsFunc(measured, func(d settings.Values) bool { return reflect.DeepEqual(m, d) }) {
			if len(measured) == q.measurements {
				continue
			}
			measured = append(measured, m)
		}
		drawn = append(drawn, c)
	}
	if len(drawn) < q.trials {
		return nil, s.errorf(q.node, "search: %d trials, but detector %s has only %d different settings, its own included, of %d measurements",
			q.trials, own.Name, len(drawn), len(measured))
	}
	return drawn, nil
}

// bothKinds refuses attacks without clean or without backdoored models, between which there is no
// AUROC.
func (s *source) bothKinds(n *yaml.Node, list []Choice) error {
	clean, backdoored := false, false
	for _, c := range list {
		a, err := attacks.Find(c.Name)
		if err != nil {
			return err
		}
		clean, backdoored = clean || !a.Backdoors(), backdoored || a.Backdoors()
	}
	if !clean || !backdoored {
		return s.errorf(n, "attacks: settings are chosen by AUROC, which takes clean and backdoored models")
	}
	return nil
}
