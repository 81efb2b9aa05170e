package inspector_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/prompts"
)

// scheduled are the detectors that try many classes first, each with settings under which three
// classes are many.
func scheduled(t *testing.T, test func(t *testing.T, d *inspector.Detector, given map[string]any)) {
	n := 0
	forEach(t, func(t *testing.T, d *inspector.Detector) {
		if !declares(d, "many") {
			return
		}
		n++
		given := maps.Clone(short)
		given["many"], given["trial"], given["trial-batch"], given["finalists"] = 3, 16, 4, 2
		given["measure"] = 12 // a batch: the engine sees what fills a last one up
		test(t, d, given)
	})
	if n < 2 {
		t.Errorf("%d detectors try many classes first: ci and separation do", n)
	}
}

// Of many classes the most suspicious ones alone are inverted to the end, to the bit as where all
// are; image passes are what is declared; a report says of the others what they were judged by, and
// that nothing else was measured.
func TestOfManyClassesTheFinalistsAloneAreInvertedToTheEnd(t *testing.T) {
	e := &counting{Engine: computetest.CPU(t, 2)}
	c := cliptest.Tiny(t, e, 16)
	pool := cliptest.Images(50, 16, 1)
	m := untuned(t, c, "coop", cliptest.Classes)
	if _, err := m.ClassVectors(); err != nil {
		t.Fatal(err)
	}
	scheduled(t, func(t *testing.T, d *inspector.Detector, given map[string]any) {
		in := input(t, d, m, pool, given)
		e.images = 0
		r := inspect(t, d, in)
		want := int64(6*16 + 2*(36+12))
		if d.Name == "ci" {
			want += 8 // the second half of the trial's images, without a trigger
		}
		if w := d.Cost(facts(m, in, 50)); r.ImagePasses != want || w.Passes != float64(want) || e.images > want {
			t.Errorf("%d image passes, %v declared, %d seen by the engine; want %d", r.ImagePasses, w.Passes, e.images, want)
		}
		in.Settings["many"] = 0
		in.References = nil
		whole := inspect(t, d, withReferences(t, d, in))
		var indices []float64
		for k, x := range r.Classes {
			indices = append(indices, x.Index)
			if math.IsNaN(x.Score) || math.IsNaN(x.Index) {
				t.Errorf("class %d has no score or index: %+v", k, x)
			}
			if x.Trigger == nil {
				if !math.IsNaN(x.Loss) || !math.IsNaN(x.ASR) || !math.IsNaN(x.Norm) || x.Reached {
					t.Errorf("class %d was not inverted to the end, and has %+v", k, x)
				}
				continue
			}
			if y := whole.Classes[k]; x.Loss != y.Loss || x.ASR != y.ASR || x.Norm != y.Norm || x.Reached != y.Reached || !slices.Equal(delta(x), delta(y)) {
				t.Errorf("finalist %d has %+v, among all classes %+v", k, x, y)
			}
		}
		slices.Sort(indices)
		for k, x := range r.Classes {
			if (x.Trigger != nil) != (x.Index >= indices[4]) {
				t.Errorf("class %d of index %.3f: a trigger %v; the indices are %.3f", k, x.Index, x.Trigger != nil, indices)
			}
		}
		if r.Classes[r.Suspect].Trigger == nil {
			t.Error("the suspect has no trigger")
		}
	})
}

func delta(x inspector.ClassResult) []float32 { return x.Trigger.Tensors()["delta"].Data().([]float32) }

// Where triggers of some classes alone are asked for, they are those of the whole inspection, at
// the price of these classes.
func TestTriggersOfSomeClassesAloneAreThoseOfAll(t *testing.T) {
	c := cliptest.Tiny(t, computetest.CPU(t, 2), 16)
	m := untuned(t, c, "coop", cliptest.Classes)
	scheduled(t, func(t *testing.T, d *inspector.Detector, given map[string]any) {
		given["many"] = 0
		in := input(t, d, m, cliptest.Images(50, 16, 1), given)
		whole := inspect(t, d, in)
		in.Only = []int{4}
		r := inspect(t, d, in)
		f := facts(m, in, 50)
		f.Only = 1
		if w := d.Cost(f); r.ImagePasses != 36+12 || w.Passes != 36+12 {
			t.Errorf("%d image passes, %v declared; want 48", r.ImagePasses, w.Passes)
		}
		for k, x := range r.Classes {
			switch {
			case (x.Trigger != nil) != (k == 4):
				t.Errorf("class %d: a trigger %v", k, x.Trigger != nil)
			case k == 4 && !slices.Equal(delta(x), delta(whole.Classes[k])):
				t.Error("inverted alone, the class has another trigger")
			}
		}
	})
}

// A verdict on trials takes references that had the same trial, and says so where they had not. A
// model of many classes stays one where twins leave few: it is held against references all the
// same.
func TestReferencesOfManyClassesHaveHadTheSameTrial(t *testing.T) {
	d, err := inspector.Find("separation")
	if err != nil {
		t.Fatal(err)
	}
	c := cliptest.Tiny(t, computetest.CPU(t, 2), 16)
	pool := cliptest.Images(50, 16, 1)
	given := maps.Clone(short)
	given["many"], given["trial"], given["finalists"] = 6, 16, 1
	m := untuned(t, c, "coop", cliptest.Classes)
	in := input(t, d, m, pool, given)
	in.Settings["trial"] = 24
	if _, err := d.Inspect(bg, in); err == nil || !strings.Contains(err.Error(), "tried on 16 images, the model's on 24") {
		t.Errorf("references of another trial: %v", err)
	}
	in.Settings["trial"] = 16
	names := slices.Clone(cliptest.Classes)
	names[5] = strings.ToUpper(names[4])
	if in.Model, err = prompts.New(c, m.Learner, m.Settings, names, rand.New(rand.NewPCG(3, 3))); err != nil {
		t.Fatal(err)
	}
	r, err := d.Look(bg, in)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Twins) != 1 || r.Suspect < 0 || r.ImagePasses >= 5*36 {
		t.Errorf("twins %v, suspect %d, %d image passes", r.Twins, r.Suspect, r.ImagePasses)
	}
}

// memory keeps in memory, and stops the inspection after so many classes.
type memory struct {
	saved map[string][]byte
	after int
	stop  func()
}

func (m *memory) Load(name string) ([]byte, error) { return m.saved[name], nil }

func (m *memory) Save(name string, data []byte) error {
	if m.saved[name] = data; len(m.saved) == m.after {
		m.stop()
	}
	return nil
}

// An inspection that was stopped goes on where it was: the report is the same to the bit, image
// passes included, and no class is inverted twice. What was kept and does not fit is done again.
func TestAStoppedInspectionGoesOn(t *testing.T) {
	e := &counting{Engine: computetest.CPU(t, 2)}
	c := cliptest.Tiny(t, e, 16)
	m := untuned(t, c, "coop", cliptest.Classes)
	scheduled(t, func(t *testing.T, d *inspector.Detector, given map[string]any) {
		given["batch"] = 32 // two classes at once
		for _, many := range []int{0, 3} {
			given["many"] = many
			in := input(t, d, m, cliptest.Images(50, 16, 1), given)
			want := inspect(t, d, in)
			ctx, stop := context.WithCancel(bg)
			kept := &memory{saved: map[string][]byte{}, after: 2, stop: stop}
			in.Kept = kept
			if _, err := d.Inspect(ctx, in); !errors.Is(err, context.Canceled) {
				t.Fatalf("stopped after two classes: %v", err)
			}
			for name, data := range kept.saved {
				kept.saved[name] = data[:len(data)/2]
				break
			}
			kept.after = 100
			if got := inspect(t, d, in); bits(got) != bits(want) {
				t.Errorf("many: %d: what went on gives another report", many)
			}
			e.images = 0
			if got := inspect(t, d, in); bits(got) != bits(want) || e.images > int64(in.Settings.Int("measure")) {
				t.Errorf("many: %d: everything was kept, and %d images go through the model", many, e.images)
			}
		}
	})
}
