package experiments

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"gopkg.in/yaml.v3"

	"clipinspector/attacks"
	"clipinspector/clip/safetensors"
	"clipinspector/inspector"
	"clipinspector/internal/regular"
	"clipinspector/results"
	"clipinspector/settings"
)

// What Calibrate leaves below its output folder, beside what Run does.
const (
	CalibrationFile    = "calibration.yaml"
	CalibrationLogFile = "calibration-log.jsonl"
)

// Search is a calibration suite with the trials that were drawn from its section `search`: the same number for every
// detector, without repetition, the settings that the suite itself gives being the first.
type Search struct {
	File *File // its suites are the trials: the t-th holds the t-th settings of every detector
	Seed int   // that decided the draw
}

// search is the section of a suite file: how many trials, and the candidates for each detector's settings.
type search struct {
	node         *yaml.Node
	trials, seed int
	measurements int                   // that a detector's trials differ in at most; the other differences are in the verdict alone
	grids        map[string]*yaml.Node // by detector: paths with lists of values, as in a sweep
}

// LoadSearch reads a calibration suite. It is as strict as Load, and refuses a suite with an evaluation seed, one without
// both clean and backdoored models, and one in which a detector has fewer different settings than trials.
func LoadSearch(path string, sets []string) (*Search, error) {
	text, err := regular.Read(path, maxSuite)
	if err != nil {
		return nil, fmt.Errorf("reading a suite: %w", err)
	}
	return ParseSearch(path, text, sets)
}

// ParseSearch is LoadSearch of a text; see Parse.
func ParseSearch(path string, text []byte, sets []string) (*Search, error) {
	s := &source{name: path, sets: sets, read: beside(path)}
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
	f := &File{Path: path, Text: string(text), Sets: sets, Name: base.Name, Suites: make([]Suite, q.trials)}
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

// search reads the section of that name and checks every candidate by itself; nil when the suite has none.
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

// candidates checks one "detectors.NAME.SETTING: [...]" of a search and files it under its detector.
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

// draw returns the trials of the i-th detector: its own settings, then others of its grid in random order, of which those are
// passed over that would be one measurement too many. More trials go on where fewer ended, so that what those computed serves.
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
	measuring := func(c Choice) settings.Values { return without(c.Settings, detector.Judging(c.Settings)) }
	measured := []settings.Values{measuring(own)}
	for _, j := range source64("search", q.seed, "/", own.Name).Perm(len(combinations)) {
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

// bothKinds refuses attacks without clean or without backdoored models, between which there is no AUROC.
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

// Trial is one choice of a detector's settings and how it did on the calibration models: a line of the search log.
type Trial struct {
	Detector string          `json:"detector"`
	Trial    int             `json:"trial"` // from 1
	Chosen   bool            `json:"chosen"`
	Settings settings.Values `json:"settings"`
	results.Figures
}

// Calibrate runs the trials of a search like Run (resumable, in any number of processes; the models are made once) and
// chooses each detector's settings: highest AUROC, of equal ones the highest accuracy of its verdicts, then the earliest
// trial. It writes the choice (a Calibration, CalibrationFile) and every trial (CalibrationLogFile) below o.Out, and returns the
// trials, detector by detector. Nothing is chosen when cells failed.
func Calibrate(ctx context.Context, q *Search, o Options) ([]Trial, error) {
	if o.Out == "" {
		o.Out = DefaultOut(q.File.Name)
	}
	if _, err := Run(ctx, q.File, o); err != nil {
		return nil, err
	}
	store, err := results.OpenExisting(filepath.Join(o.Out, StoreFile))
	if err != nil {
		return nil, err
	}
	defer store.Close()
	c, trials, err := q.choose(store)
	if err != nil {
		return nil, fmt.Errorf("calibrating %s: %w", q.File.Name, err)
	}
	var log, file bytes.Buffer
	lines := json.NewEncoder(&log)
	lines.SetEscapeHTML(false)
	for _, t := range trials {
		if err := lines.Encode(t); err != nil {
			return nil, err
		}
	}
	file.WriteString("# Settings that `clip-inspector calibrate` chose on calibration seeds, the same number of trials for every detector.\n" +
		"# A suite takes those that it does not give itself with  calibrated: PATH OF THIS FILE\n")
	enc := yaml.NewEncoder(&file)
	enc.SetIndent(2)
	if err := enc.Encode(c); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		text io.WriterTo
	}{{CalibrationLogFile, &log}, {CalibrationFile, &file}} {
		if err := safetensors.WriteAtomic(filepath.Join(o.Out, f.name), func(w io.Writer) error {
			_, err := f.text.WriteTo(w)
			return err
		}); err != nil {
			return nil, err
		}
	}
	return trials, nil
}

// choose judges every trial by what the store holds.
func (q *Search) choose(store *results.Store) (*Calibration, []Trial, error) {
	f := q.File
	models, err := store.Models(f.Name)
	if err != nil {
		return nil, nil, err
	}
	detections, err := store.Detections(f.Name)
	if err != nil {
		return nil, nil, err
	}
	bySettings := map[string][]results.DetectionRow{}
	for _, d := range detections {
		id, err := results.Key(d.Cell.Settings["detector"])
		if err != nil {
			return nil, nil, err
		}
		bySettings[id] = append(bySettings[id], d)
	}
	sum := sha256.Sum256([]byte(f.Text))
	c := &Calibration{Suite: f.Name, SHA256: hex.EncodeToString(sum[:]), Sets: f.Sets, Seeds: f.Suites[0].Seeds, Trials: len(f.Suites),
		SearchSeed: q.Seed, Models: len(models), Detectors: map[string]Chosen{}}
	suites, err := store.Suites()
	if err != nil {
		return nil, nil, err
	}
	for _, u := range suites {
		if u.Name == f.Name {
			c.Versions = u.Versions
		}
	}
	var trials []Trial
	for i, d := range f.Suites[0].Detectors {
		first, best := len(trials), len(trials)
		for t, u := range f.Suites {
			id, err := results.Key(named(u.Detectors[i]))
			if err != nil {
				return nil, nil, err
			}
			trial := Trial{Detector: d.Name, Trial: t + 1, Settings: u.Detectors[i].Settings, Figures: results.Judge(models, bySettings[id])}
			if trial.Models != len(models) || !trial.AUROC.Defined() {
				return nil, nil, fmt.Errorf("%s, trial %d: %d of %d models were looked at; is another process planning this suite anew? Run again",
					d.Name, trial.Trial, trial.Models, len(models))
			}
			trials = append(trials, trial)
			if b := trials[best]; trial.AUROC > b.AUROC || trial.AUROC == b.AUROC && trial.Correct > b.Correct {
				best = first + t
			}
		}
		b := &trials[best]
		b.Chosen = true
		chosen := Chosen{Settings: b.Settings, Trial: b.Trial, AUROC: float64(b.AUROC), Accuracy: float64(b.Accuracy)}
		if in := b.AUROCInterval; in.Defined() {
			chosen.Interval = []float64{float64(in[0]), float64(in[1])}
		}
		c.Detectors[d.Name] = chosen
	}
	return c, trials, nil
}

// PrintTrials writes a line for each detector: AUROC of the first trial, which are the suite's own settings, beside that
// of the chosen one, and what the choice changes.
func PrintTrials(w io.Writer, trials []Trial) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "detector\tAUROC before\tAUROC chosen\taccuracy\ttrial\tchanges\n")
	own := map[string]Trial{}
	for _, r := range trials {
		if r.Trial == 1 {
			own[r.Detector] = r
		}
	}
	for _, r := range trials {
		if !r.Chosen {
			continue
		}
		var changes []string
		for name, v := range r.Settings {
			if v != own[r.Detector].Settings[name] {
				changes = append(changes, fmt.Sprintf("%s %v", name, v))
			}
		}
		slices.Sort(changes)
		fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%.3f\t%d\t%s\n", r.Detector, own[r.Detector].AUROC, r.AUROC, r.Accuracy, r.Trial,
			cmp.Or(strings.Join(changes, ", "), "none"))
	}
	return t.Flush()
}
