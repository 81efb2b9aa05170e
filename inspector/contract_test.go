package inspector_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/engine/plain"
	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/settings/settingstest"
	"clipinspector/triggers"

	_ "clipinspector/baselines"
)

var bg = context.Background()

// forEach runs a test over every registered detector.
func forEach(t *testing.T, test func(t *testing.T, d *inspector.Detector)) {
	if len(inspector.All()) == 0 {
		t.Error("no detector is registered")
	}
	for _, d := range inspector.All() {
		t.Run(d.Name, func(t *testing.T) { test(t, d) })
	}
}

// untuned is a model as the learner draws it: its classes differ, none is planted.
func untuned(t testing.TB, c *clip.Model, learner string, classes []string) *prompts.Model {
	t.Helper()
	l, err := prompts.FindLearner(learner)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]any{}
	if slices.ContainsFunc(l.Params, func(p settings.Param) bool { return p.Name == "context" }) {
		given["context"] = 2
	}
	s, err := settings.Resolve(l.Params, given)
	if err != nil {
		t.Fatal(err)
	}
	m, err := prompts.New(c, l, s, classes, rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func declares(d *inspector.Detector, param string) bool {
	return slices.ContainsFunc(d.Params, func(p settings.Param) bool { return p.Name == param })
}

// input asks for an inspection with the given settings, as far as the detector has them.
func input(t testing.TB, d *inspector.Detector, m *prompts.Model, pool *tensor.Dense, given map[string]any) inspector.Input {
	t.Helper()
	return withReferences(t, d, inspector.Input{Model: m, Pool: pool, Seed: 1, Settings: resolved(t, d, given)})
}

// resolved are the detector's settings with those of the given ones that it has.
func resolved(t testing.TB, d *inspector.Detector, given map[string]any) settings.Values {
	t.Helper()
	known := map[string]any{}
	for _, p := range d.Params {
		if v, ok := given[p.Name]; ok {
			known[p.Name] = v
		}
	}
	s, err := settings.Resolve(d.Params, known)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// withReferences gives a detector that holds models against clean ones three of them, untuned as m
// is, from other draws.
func withReferences(t testing.TB, d *inspector.Detector, in inspector.Input) inspector.Input {
	t.Helper()
	if d.Evidence == nil || in.Settings.Int("optimise")+in.Settings.Int("measure") > in.Pool.Shape()[0] {
		return in
	}
	for i := range uint64(inspector.FewestReferences) {
		clean := in
		var err error
		if clean.Model, err = prompts.New(in.Model.CLIP, in.Model.Learner, in.Model.Settings, in.Model.Classes, rand.New(rand.NewPCG(9, i))); err != nil {
			t.Fatal(err)
		}
		e, _, err := d.Evidence(bg, clean)
		if err != nil {
			t.Fatal(err)
		}
		e.Accuracy = 1
		in.References = append(in.References, e)
	}
	return in
}

func inspect(t testing.TB, d *inspector.Detector, in inspector.Input) *inspector.Finding {
	t.Helper()
	r, err := d.Inspect(bg, in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// short is a quick inspection: three steps of twelve images, seven images to measure on. K-Arm
// takes every class it may.
var short = map[string]any{"optimise": 36, "measure": 7, "batch": 12, "arms": 100}

// found lists what a report says of the classes that were inverted, by class, or of the model as a
// whole under -1.
func found(t testing.TB, r *inspector.Finding) map[int]inspector.ClassResult {
	t.Helper()
	out := map[int]inspector.ClassResult{}
	for k, x := range r.Classes {
		if x.Trigger != nil {
			out[k] = x
			continue
		}
		if !math.IsNaN(x.Loss) || !math.IsNaN(x.ASR) || !math.IsNaN(x.Norm) || !math.IsNaN(x.Score) || x.Index > -30 || x.Reached {
			t.Errorf("class %d, without a trigger: %+v", k, x)
		}
	}
	if r.Whole != nil {
		if len(r.Classes) != 0 || r.Suspect != -1 || r.Whole.Trigger == nil {
			t.Errorf("a report on the model as a whole with %d classes, suspect %d, trigger %v", len(r.Classes), r.Suspect, r.Whole.Trigger)
		}
		out[-1] = *r.Whole
	}
	return out
}

// bits writes a report down to the last bit.
func bits(r *inspector.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%x %d %v %d", r.Index, r.Suspect, r.Backdoored, r.ImagePasses)
	results := r.Classes
	if r.Whole != nil {
		results = []inspector.ClassResult{*r.Whole}
	}
	for _, c := range results {
		fmt.Fprintf(&b, "\n%x %x %x %x %x %v", c.Loss, c.ASR, c.Norm, c.Score, c.Index, c.Reached)
		if c.Trigger == nil {
			continue
		}
		fmt.Fprintf(&b, " %s", c.Trigger.Kind())
		for _, name := range []string{"mask", "pattern", "delta", "grid"} {
			if x := c.Trigger.Tensors()[name]; x != nil {
				fmt.Fprintf(&b, " %s %x", name, x.Data())
			}
		}
	}
	return b.String()
}

// The same input gives the same report to the bit, with any number of threads; another seed gives
// another one.
func TestReportsAreDeterministic(t *testing.T) {
	pool := cliptest.Images(50, 16, 1)
	forEach(t, func(t *testing.T, d *inspector.Detector) {
		report := func(threads int, seed uint64) string {
			m := untuned(t, cliptest.Tiny(t, computetest.CPU(t, threads), 16), "coop", cliptest.Classes)
			in := input(t, d, m, pool, short)
			in.Seed = seed
			if declares(d, "seed") { // in place of the input's
				in.Settings["seed"] = int(seed)
			}
			return bits(inspect(t, d, in))
		}
		want := report(1, 1)
		if report(1, 1) != want {
			t.Error("inspected again, the report differs")
		}
		if report(2, 1) != want {
			t.Error("with two threads the report differs")
		}
		if report(1, 2) == want {
			t.Error("another seed gives the same report")
		}
	})
}

// Classes have no order: permuting the model's permutes the results and nothing else. Rounding
// differs with the place of a class in a product, and optimising amplifies it, so the reference
// engine in float64 computes here.
func TestPermutingTheClassesPermutesTheScores(t *testing.T) {
	const size = 16
	c := cliptest.Tiny(t, plain.New[float64](), size)
	pool := cliptest.Images(40, size, 2)
	settings := map[string]any{"optimise": 32, "measure": 6, "batch": 16, "arms": 100} // four classes at once, then the fifth
	order := []int{3, 0, 4, 1, 2}
	classes := cliptest.Classes[:5]
	permuted := make([]string, len(order))
	for i, k := range order {
		permuted[i] = classes[k]
	}
	near := func(a, b float64) bool {
		return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-3*max(math.Abs(a), math.Abs(b))+1e-9
	}
	forEach(t, func(t *testing.T, d *inspector.Detector) {
		for _, learner := range []string{"coop", "cocoop", "maple"} {
			if learner != "coop" && (testing.Short() || d.Classless) {
				continue
			}
			want := inspect(t, d, input(t, d, untuned(t, c, learner, classes), pool, settings))
			got := inspect(t, d, input(t, d, untuned(t, c, learner, permuted), pool, settings))
			distinct := map[float64]bool{}
			if got.Whole != nil && !near(got.Whole.Score, want.Whole.Score) {
				t.Errorf("%s: a score of %v, before %v", learner, got.Whole.Score, want.Whole.Score)
			}
			for i, k := range order[:len(got.Classes)] {
				a, b := got.Classes[i], want.Classes[k]
				distinct[b.Loss] = true
				if !near(a.Score, b.Score) || !near(a.Loss, b.Loss) || !near(a.ASR, b.ASR) || !near(a.Norm, b.Norm) || !near(a.Index, b.Index) || a.Reached != b.Reached {
					t.Errorf("%s: class %d has %+v, as class %d it had %+v", learner, i, a, k, b)
				}
			}
			if !near(got.Index, want.Index) || got.Backdoored != want.Backdoored || got.ImagePasses != want.ImagePasses {
				t.Errorf("%s: the model's index went from %v to %v", learner, want.Index, got.Index)
			}
			if len(distinct) != len(got.Classes) {
				t.Errorf("%s: only %d of %d classes differ: the test shows nothing", learner, len(distinct), len(order))
			}
		}
	})
}

// A report is complete: a result for every class, finite, the suspect the one of the largest index,
// the flag by k.
func TestReportsAreComplete(t *testing.T) {
	c := cliptest.Tiny(t, computetest.CPU(t, 2), 16)
	pool := cliptest.Images(50, 16, 3)
	forEach(t, func(t *testing.T, d *inspector.Detector) {
		m := untuned(t, c, "coop", cliptest.Classes)
		in := input(t, d, m, pool, short)
		var progress []int
		last := 0
		in.Progress = func(done, total int) {
			if last != 0 && total != last || !d.Shared && total != len(m.Classes) {
				t.Errorf("progress towards %d, after %d", total, last)
			}
			progress, last = append(progress, done), total
		}
		r := inspect(t, d, in)
		if d.Classless != (r.Whole != nil) || !d.Classless && len(r.Classes) != len(m.Classes) {
			t.Fatalf("%d results for %d classes, of the whole %v", len(r.Classes), len(m.Classes), r.Whole)
		}
		all := found(t, r)
		if len(all) == 0 {
			t.Error("nothing was inverted")
		}
		for k, x := range all {
			if k < 0 {
				if !math.IsNaN(x.ASR) {
					t.Errorf("ASR of no class: %v", x.ASR)
				}
				x.ASR = 0
			}
			for _, v := range []float64{x.Loss, x.ASR, x.Norm, x.Score, x.Index} {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Errorf("class %d: %+v", k, x)
				}
			}
			if x.ASR < 0 || x.ASR > 1 || x.Loss < 0 || x.Norm < 0 || x.Index > r.Index {
				t.Errorf("class %d: %+v under a model index of %v", k, x, r.Index)
			}
		}
		if all[r.Suspect].Index != r.Index || r.Backdoored != (r.Index > in.Settings.Float("k")) {
			t.Errorf("suspect %d, index %v, backdoored %v", r.Suspect, r.Index, r.Backdoored)
		}
		if !slices.IsSorted(progress) || len(progress) == 0 || progress[len(progress)-1] != last {
			t.Errorf("progress %v", progress)
		}
		if in = input(t, d, m, pool, short); inspectK(t, d, in, 0).Backdoored != (r.Index > 0) || inspectK(t, d, in, 100).Backdoored {
			t.Error("k does not decide")
		}
	})
}

// zeroShot is the model that CI's contrast refers to.
func zeroShot(t testing.TB, c *clip.Model, classes []string) *prompts.Model {
	t.Helper()
	l, err := prompts.FindLearner("coop")
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(l.Params, map[string]any{"init": "a photo of a"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := prompts.New(c, l, s, classes, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func inspectK(t *testing.T, d *inspector.Detector, in inspector.Input, k float64) *inspector.Finding {
	in.Settings["k"] = k
	return inspect(t, d, in)
}

// What a report says of a recovered trigger is true of it: loss and ASR on the measuring images,
// its size, its bounds.
func TestRecoveredTriggersDoWhatTheReportSays(t *testing.T) {
	const size = 16
	c := cliptest.Tiny(t, computetest.CPU(t, 2), size)
	pool := cliptest.Images(60, size, 4)
	forEach(t, func(t *testing.T, d *inspector.Detector) {
		for _, learner := range []string{"coop", "cocoop", "maple"} {
			m, zero := untuned(t, c, learner, cliptest.Classes[:4]), zeroShot(t, c, cliptest.Classes[:4])
			in := input(t, d, m, pool, map[string]any{"optimise": 36, "measure": 20, "batch": 12, "arms": 100})
			if declares(d, "epsilon") {
				in.Settings["rate"] = 1.0 // steps as long as the bound
			}
			r := inspect(t, d, in)
			_, measure, err := inspector.SplitPool(in)
			if err != nil {
				t.Fatal(err)
			}
			var images []float32
			for _, i := range measure {
				images = append(images, pool.Data().([]float32)[i*3*size*size:(i+1)*3*size*size]...)
			}
			for k, x := range found(t, r) {
				checkBounds(t, in.Settings, x)
				if k < 0 {
					continue // its loss is the encoder's; see the baselines' tests
				}
				l, err := m.Logits(bg, triggers.Dense(images, len(measure), 3, size, size), x.Trigger)
				if err != nil {
					t.Fatal(err)
				}
				asr, _ := prompts.SuccessRate(prompts.ArgMax(l), nil, k)
				if asr != x.ASR { // hits are counted and divided once
					t.Errorf("%s, class %d: the trigger's ASR is %v, the report says %v", learner, k, asr, x.ASR)
				}
				z, err := zero.Logits(bg, triggers.Dense(images, len(measure), 3, size, size), x.Trigger)
				if err != nil {
					t.Fatal(err)
				}
				if d.Objective == nil {
					continue
				}
				loss, n := 0.0, len(m.Classes)
				for i := range measure {
					loss += d.Objective(in.Settings, l.Data().([]float32)[i*n:(i+1)*n], z.Data().([]float32)[i*n:(i+1)*n], k) / float64(len(measure))
				}
				if math.Abs(loss-x.Loss) > 1e-2*(1+loss) {
					t.Errorf("%s, class %d: the trigger's loss is %v, the report says %v", learner, k, loss, x.Loss)
				}
			}
		}
	})
}

func checkBounds(t *testing.T, s settings.Values, x inspector.ClassResult) {
	t.Helper()
	if _, err := triggers.FromTensors(x.Trigger.Kind(), x.Trigger.Tensors()); err != nil {
		t.Errorf("the recovered trigger is none: %v", err)
	}
	strength := triggers.Measure(x.Trigger)
	switch tr := x.Trigger.(type) {
	case triggers.Additive:
		if epsilon, bounded := s["epsilon"].(float64); bounded && strength.LInf > float64(float32(epsilon)) {
			t.Errorf("a perturbation of %v, the bound is %v", strength.LInf, epsilon)
		}
		if strength.LInf > 1 || strength.LInf == 0 {
			t.Errorf("a perturbation of %v", strength.LInf)
		}
	case triggers.Masked:
		var l1 float64
		for _, v := range tr.Mask.Data().([]float32) {
			l1 += float64(v)
		}
		if math.Abs(x.Norm-l1) > 1e-6*l1 {
			t.Errorf("a mask of L1 norm %v, the report says %v", l1, x.Norm)
		}
	}
}

func TestDetectorsAreDeclaredAndFound(t *testing.T) {
	forEach(t, func(t *testing.T, d *inspector.Detector) {
		settingstest.Check(t, d.Params)
		if got, err := inspector.Find(d.Name); err != nil || got != d || len(d.Doc) < 10 || strings.Contains(d.Doc, "\n") {
			t.Errorf("%v, documented as %q", err, d.Doc)
		}
	})
	if _, err := inspector.Find("k-legs"); err == nil || !strings.Contains(err.Error(), inspector.All()[0].Name+", ") {
		t.Errorf("an unknown detector: %v", err)
	}
}

func TestAPoolThatIsTooSmallIsRefused(t *testing.T) {
	c := cliptest.Tiny(t, computetest.CPU(t, 1), 16)
	forEach(t, func(t *testing.T, d *inspector.Detector) {
		m := untuned(t, c, "coop", cliptest.Classes[:2])
		in := input(t, d, m, cliptest.Images(42, 16, 5), short)
		if _, err := d.Inspect(bg, in); err == nil || !strings.Contains(err.Error(), "pool holds 42") || !strings.Contains(err.Error(), "43") {
			t.Errorf("42 images where 36 and 7 are asked for: %v", err)
		}
		if err := d.Check(facts(m, in, 42)); err == nil || !strings.Contains(err.Error(), "pool holds 42") {
			t.Errorf("42 images, when the suite is planned: %v", err)
		}
		if err := d.Check(facts(m, in, 43)); err != nil {
			t.Errorf("43 images, when the suite is planned: %v", err)
		}
		in.Pool = cliptest.Images(43, 16, 5)
		inspect(t, d, in)
	})
}

func TestInspectionsCanBeStopped(t *testing.T) {
	c := cliptest.Tiny(t, computetest.CPU(t, 1), 16)
	forEach(t, func(t *testing.T, d *inspector.Detector) {
		ctx, cancel := context.WithCancel(bg)
		in := input(t, d, untuned(t, c, "coop", cliptest.Classes), cliptest.Images(43, 16, 5), short)
		in.Settings["batch"] = 32 // two classes at once
		in.Progress = func(int, int) { cancel() }
		if _, err := d.Inspect(ctx, in); !errors.Is(err, context.Canceled) {
			t.Errorf("stopped after some classes: %v", err)
		}
	})
}
