package plots

import (
	"fmt"
	"image"
	"math"
	"slices"
	"strings"

	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// Data is what the figures of one suite are drawn from.
type Data struct {
	Suite   string
	Summary *stats.Summary
	Sweeps  []stats.Sweep

	models   []store.ModelRow // finished, in plan order
	verdicts []verdict        // finished, in plan order

	explanations []store.ExplanationRow // finished, in plan order
}

// verdict is what a detector said, and of which model.
type verdict struct {
	store.DetectionRow
	model store.ModelRow
}

// score is what ROC curves rank by: the model's index, an undefined one lowest.
func (v verdict) score() float64 {
	if math.IsNaN(v.Result.Index) {
		return math.Inf(-1)
	}
	return v.Result.Index
}

// right tells whether verdict and truth agree.
func (v verdict) right() bool { return v.Result.Backdoored == v.model.Result.Backdoored }

// k is the threshold of the verdict; ok is false for a detector without one.
func (v verdict) k() (k float64, ok bool) {
	own, _ := v.Cell.Settings["detector"].(map[string]any)
	switch x := own["k"].(type) {
	case int:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}

// Read collects the data of a suite from its store.
func Read(s *store.Store, suite string) (*Data, error) {
	rows, err := stats.Read(s, suite)
	if err != nil {
		return nil, err
	}
	return New(rows)
}

// New collects the data of a suite from its cells.
func New(rows *stats.Rows) (*Data, error) {
	d := &Data{Suite: rows.Suite.Name, Sweeps: rows.Sweeps()}
	var err error
	if d.Summary, err = rows.Summarise(nil); err != nil {
		return nil, err
	}
	byKey := map[string]store.ModelRow{}
	for _, m := range rows.Models {
		if m.State == store.Finished {
			d.models = append(d.models, m)
			byKey[m.Cell.Key] = m
		}
	}
	for _, v := range rows.Detections {
		if m, ok := byKey[v.Cell.ModelKey]; ok && v.State == store.Finished {
			d.verdicts = append(d.verdicts, verdict{v, m})
		}
	}
	for _, x := range rows.Explanations {
		if x.State == store.Finished {
			d.explanations = append(d.explanations, x)
		}
	}
	return d, nil
}

// detectors names the detectors with finished verdicts, in plan order.
func (d *Data) detectors() (names []string) {
	for _, v := range d.verdicts {
		if !slices.Contains(names, v.Cell.Detector) {
			names = append(names, v.Cell.Detector)
		}
	}
	return names
}

// of lists the verdicts of a detector.
func (d *Data) of(detector string) (out []verdict) {
	for _, v := range d.verdicts {
		if v.Cell.Detector == detector {
			out = append(out, v)
		}
	}
	return out
}

// attacks names the attacks of the finished models, in plan order.
func (d *Data) attacks() (names []string) {
	for _, m := range d.models {
		if !slices.Contains(names, m.Cell.Attack) {
			names = append(names, m.Cell.Attack)
		}
	}
	return names
}

// datasets names the datasets of the finished models, in plan order.
func (d *Data) datasets() (names []string) {
	seen := map[string]bool{}
	for _, m := range d.models {
		if !seen[m.Cell.Dataset] {
			seen[m.Cell.Dataset] = true
			names = append(names, m.Cell.Dataset)
		}
	}
	return names
}

// Case is a model that is shown class by class.
type Case struct {
	Model   store.ModelRow
	Outcome string   // what the first detector made of it: "found", "flagged for another class", "missed"; "passed", "flagged"
	Classes []string // names; empty shows numbers

	// Pictures of the gallery; nil where there are none.
	Picture, Triggered image.Image // a test picture without and with the trigger
	Trigger            image.Image // the true trigger, amplified
	Recovered          []Recovered
	Explained          []Explained
}

// Explained is a second look at the suspect of a detection on the model: which kind of trigger it
// answers to.
type Explained struct {
	store.ExplanationRow
	Detection store.DetectionRow

	// Says is that in words, Unit what the size counts, Trigger the recovered one, amplified, and
	// Before and After show what it does to a test picture; empty where they are not at hand.
	Says, Unit             string
	Trigger, Before, After image.Image
}

// Recovered is the trigger that a detector recovered for a backdoored model's target class, or for
// the suspect of a clean one.
type Recovered struct {
	Detector string
	Class    int
	Path     string // of the file that holds it, as the store says
	Hash     string // SHA-256 of that file, as the store says; empty where it does not
	Picture  image.Image
	ASR      float64
	Index    float64
}

// Name says which model it is.
func (c Case) Name() string {
	m := c.Model.Cell
	return fmt.Sprintf("%s, %s, seed %d", m.Attack, m.Dataset, m.Seed)
}

// Cases chooses the models to show. Without names they are, per attack, one that the first detector
// judged rightly and one that it judged wrongly, each the one with the median index among its like.
// A name is a model's key or the beginning of one, or DATASET/ATTACK, or DATASET/ATTACK/SEED; one
// that fits no finished model is an error.
func (d *Data) Cases(names []string) ([]Case, error) {
	var out []Case
	detectors := d.detectors()
	if len(detectors) == 0 {
		return nil, nil
	}
	first := d.of(detectors[0])
	if len(names) == 0 {
		for _, attack := range d.attacks() {
			for _, right := range []bool{true, false} {
				var like []verdict
				for _, v := range first {
					if v.model.Cell.Attack == attack && v.right() == right {
						like = append(like, v)
					}
				}
				slices.SortStableFunc(like, func(a, b verdict) int {
					switch x, y := a.score(), b.score(); {
					case x < y:
						return -1
					case x > y:
						return 1
					}
					return 0
				})
				if len(like) > 0 {
					out = append(out, d.newCase(like[len(like)/2].model))
				}
			}
		}
		return out, nil
	}
	for _, name := range names {
		i := slices.IndexFunc(d.models, func(m store.ModelRow) bool {
			c := m.Cell
			short := c.Dataset + "/" + c.Attack
			return name == short || name == fmt.Sprintf("%s/%d", short, c.Seed) || len(name) >= 4 && strings.HasPrefix(c.Key, name)
		})
		if i < 0 {
			var known []string
			for _, m := range d.models[:min(3, len(d.models))] {
				known = append(known, fmt.Sprintf("%s/%s/%d", m.Cell.Dataset, m.Cell.Attack, m.Cell.Seed))
			}
			return nil, fmt.Errorf("suite %s has no finished model %q; name DATASET/ATTACK/SEED or the beginning of a key, such as %s",
				d.Suite, name, strings.Join(known, ", "))
		}
		out = append(out, d.newCase(d.models[i]))
	}
	return out, nil
}

func (d *Data) newCase(m store.ModelRow) Case {
	c := Case{Model: m}
	for i, v := range d.verdictsOn(m) {
		if i == 0 {
			switch {
			case v.Result.Backdoored && v.Result.Suspect == store.NoClass:
				c.Outcome = "flagged"
			case m.Result.Backdoored && v.Result.Backdoored && v.Result.Suspect != m.Result.Target:
				c.Outcome = "flagged for another class"
			case m.Result.Backdoored && v.Result.Backdoored:
				c.Outcome = "found"
			case m.Result.Backdoored:
				c.Outcome = "missed"
			case v.Result.Backdoored:
				c.Outcome = "flagged"
			default:
				c.Outcome = "passed"
			}
		}
		wanted := v.Result.Suspect
		if m.Result.Backdoored {
			wanted = m.Result.Target
		}
		for _, s := range v.Result.Classes {
			if wanted >= 0 && s.Class == wanted {
				c.Recovered = append(c.Recovered, Recovered{Detector: v.Cell.Detector, Class: s.Class, Path: v.Result.Path, Hash: v.Result.Hash, ASR: s.ASR, Index: s.Index})
			}
		}
		for _, x := range d.explanations {
			if x.Cell.DetectionKey == v.Cell.Key {
				c.Explained = append(c.Explained, Explained{ExplanationRow: x, Detection: v.DetectionRow})
			}
		}
	}
	return c
}

// verdictsOn lists the verdicts on a model.
func (d *Data) verdictsOn(m store.ModelRow) (out []verdict) {
	for _, v := range d.verdicts {
		if v.model.Cell.Key == m.Cell.Key {
			out = append(out, v)
		}
	}
	return out
}
