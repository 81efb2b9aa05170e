package inspector_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine/plain"
	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/triggers"
	"clipinspector/triggers/triggertest"
)

// The gradient that CI follows, of the margin through the whole model to the perturbations of all
// classes, is right.
func TestCIFollowsItsGradient(t *testing.T) {
	const size, images, classes = 8, 2, 2
	for _, learner := range []string{"coop", "cocoop", "maple"} {
		m := untuned(t, cliptest.Tiny(t, plain.New[float64](), size), learner, cliptest.Classes[:classes])
		seed := rand.Uint64()
		t.Logf("%s: seed %d", learner, seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		pool := cliptest.Images(images, size, seed)
		delta := make([]float32, classes*3*size*size)
		for i := range delta {
			delta[i] = float32(0.1 * (rng.Float64() - 0.5))
		}
		triggertest.CheckGradient(t, rng, func(v []autodiff.Value) autodiff.Value {
			g := v[0].Graph()
			r, err := m.Record(g)
			if err != nil {
				t.Fatal(err)
			}
			pixels := g.Const(pool.Data().([]float32), 1, images, 3, size, size)
			x := triggers.ApplyAdditive(pixels, v[0].Reshape(classes, 1, 3, size, size)).Reshape(classes*images, 3, size, size)
			target := make([]float32, 0, classes*images)
			for i := range cap(target) {
				target = append(target, float32(i/images))
			}
			return r.Logits(r.Features(x)).MarginLoss(g.Const(target, len(target)), 500) // a margin that no image has: no kink
		}, triggers.Dense(delta, classes, 3, size, size))
	}
}

// watch records what a controller is told, and steers as it is told to.
type watch struct {
	cost   float64
	rounds []inspector.Round
	before [][]*tensor.Dense
	after  [][]*tensor.Dense
	round  func(w *watch, r inspector.Round) (bool, error)
	best   []*tensor.Dense
}

func (w *watch) Cost() float64 { return w.cost }

func (w *watch) Round(r inspector.Round) (bool, error) {
	b, err := r.Before()
	if err != nil {
		return false, err
	}
	a, err := r.After()
	if err != nil {
		return false, err
	}
	w.rounds, w.before, w.after = append(w.rounds, r), append(w.before, b), append(w.after, a)
	if w.round != nil {
		return w.round(w, r)
	}
	return false, nil
}

func (w *watch) Best() ([]*tensor.Dense, bool) { return w.best, w.best != nil }

// additive is CI's inversion with one controller a class, kept in *controllers.
func additive(epsilon float64, batch, rounds int, controllers *[]*watch, newWatch func(class int) *watch) inspector.Inversion {
	return inspector.Inversion{
		Start: func(size int, _ *rand.Rand) []*tensor.Dense {
			return []*tensor.Dense{triggers.Dense(make([]float32, 3*size*size), 3, size, size)}
		},
		Apply: func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value {
			d := v[0].Shape()
			return triggers.ApplyAdditive(pixels, v[0].Reshape(d[0], 1, d[1], d[2], d[3]))
		},
		Loss: func(logits, target autodiff.Value) autodiff.Value { return logits.MarginLoss(target, 5) },
		Project: func(v []autodiff.Value) []autodiff.Value {
			return []autodiff.Value{v[0].Clamp(-epsilon, epsilon)}
		},
		Trigger: func(v []*tensor.Dense) triggers.Trigger { return triggers.Additive{Delta: v[0]} },
		Adam:    autodiff.DefaultAdam,
		Rates:   []float32{float32(epsilon) / 4},
		Batch:   batch, Steps: 1, Rounds: rounds,
		Control: func() inspector.Controller {
			w := newWatch(len(*controllers))
			*controllers = append(*controllers, w)
			return w
		},
	}
}

func indices(from, to int) []int {
	var out []int
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

// On the same images again and again the loss of every class falls, inside the box, and stays down
// on other images.
func TestTheLossFalls(t *testing.T) {
	const size, epsilon = 16, 16.0 / 255
	m := untuned(t, cliptest.Tiny(t, computetest.CPU(t, 2), size), "coop", cliptest.Classes)
	pool := cliptest.Images(40, size, 7)
	var w []*watch
	inv := additive(epsilon, 20, 15, &w, func(int) *watch { return &watch{} })
	outcomes, _, err := inv.Run(bg, inspector.Input{Model: m, Pool: pool, Seed: 1}, indices(0, 20), indices(20, 40))
	if err != nil {
		t.Fatal(err)
	}
	l, err := m.Logits(bg, pool, nil)
	if err != nil {
		t.Fatal(err)
	}
	ci, err := inspector.Find("ci")
	if err != nil {
		t.Fatal(err)
	}
	clean := func(from, to, class int) float64 {
		k := len(m.Classes)
		s, loss := ciSettings(t), 0.0
		s["contrast"] = 0.0
		for row := range slices.Chunk(l.Data().([]float32)[from*k:to*k], k) {
			loss += ci.Objective(s, row, nil, class) / float64(to-from)
		}
		return loss
	}
	for k, c := range w {
		first, last := c.rounds[0].Loss, c.rounds[14].Loss
		if math.Abs(first-clean(0, 20, k)) > 1e-3*(1+first) {
			t.Errorf("class %d: the loss before the first step is %v, want that of clean images, %v", k, first, clean(0, 20, k))
		}
		if last > 0.9*first && first > 0 {
			t.Errorf("class %d: the loss went from %v to %v", k, first, last)
		}
		if was := clean(20, 40, k); outcomes[k].Loss > 0.95*was && was > 0 {
			t.Errorf("class %d: on other images the loss went from %v to %v", k, was, outcomes[k].Loss)
		}
		if got := triggers.Measure(inv.Trigger(outcomes[k].Variables)).LInf; got > float64(float32(epsilon)) {
			t.Errorf("class %d: a perturbation of %v", k, got)
		}
	}
}

func ciSettings(t *testing.T) map[string]any {
	t.Helper()
	ci, err := inspector.Find("ci")
	if err != nil {
		t.Fatal(err)
	}
	return input(t, ci, nil, nil, nil).Settings
}

// Before and After enclose an update: After of a round is Before of the next, and the controller's
// averages are of the state before.
func TestControllersSeeEveryUpdate(t *testing.T) {
	const size = 8
	m := untuned(t, cliptest.Tiny(t, computetest.CPU(t, 1), size), "coop", cliptest.Classes[:3])
	var w []*watch
	inv := additive(0.1, 4, 5, &w, func(int) *watch { return &watch{} })
	if _, _, err := inv.Run(bg, inspector.Input{Model: m, Pool: cliptest.Images(8, size, 8), Seed: 1}, indices(0, 4), indices(4, 8)); err != nil {
		t.Fatal(err)
	}
	for k, c := range w {
		for _, v := range c.before[0][0].Data().([]float32) {
			if v != 0 {
				t.Fatalf("class %d does not start from Start's draw", k)
			}
		}
		for i := range c.rounds {
			if i > 0 && !equal(c.after[i-1], c.before[i]) {
				t.Errorf("class %d: round %d does not begin where the one before ended", k, i)
			}
			if equal(c.before[i], c.after[i]) && c.rounds[i].Loss > 0 {
				t.Errorf("class %d: round %d changed nothing", k, i)
			}
		}
	}
}

func equal(a, b []*tensor.Dense) bool {
	return slices.EqualFunc(a, b, func(x, y *tensor.Dense) bool {
		return slices.Equal(x.Data().([]float32), y.Data().([]float32))
	})
}

// A class that is done keeps its variables while the others go on, and what a controller sets or
// keeps is what counts.
func TestControllersSteerTheirClass(t *testing.T) {
	const size, rounds = 8, 6
	m := untuned(t, cliptest.Tiny(t, computetest.CPU(t, 1), size), "coop", cliptest.Classes[:4])
	pool := cliptest.Images(8, size, 9)
	chosen := []*tensor.Dense{triggers.Dense(slices.Repeat([]float32{0.03}, 3*size*size), 3, size, size)}
	run := func(newWatch func(class int) *watch) ([]inspector.Outcome, []*watch, int64) {
		var w []*watch
		inv := additive(0.1, 4, rounds, &w, newWatch)
		o, passes, err := inv.Run(bg, inspector.Input{Model: m, Pool: pool, Seed: 1}, indices(0, 4), indices(4, 8))
		if err != nil {
			t.Fatal(err)
		}
		return o, w, passes
	}
	free, _, full := run(func(int) *watch { return &watch{} })
	got, w, _ := run(func(class int) *watch {
		switch class {
		case 0: // done after two rounds
			return &watch{round: func(w *watch, _ inspector.Round) (bool, error) { return len(w.rounds) == 2, nil }}
		case 1: // set once
			return &watch{round: func(w *watch, r inspector.Round) (bool, error) {
				if len(w.rounds) == 3 {
					return false, r.Set(chosen)
				}
				return false, nil
			}}
		case 2: // keeps what it likes
			return &watch{best: chosen}
		}
		return &watch{}
	})
	if len(w[0].rounds) != 2 || got[0].Rounds != 2 || !equal(got[0].Variables, w[0].after[1]) {
		t.Errorf("a class that was done after 2 rounds saw %d and reports %d", len(w[0].rounds), got[0].Rounds)
	}
	if !equal(w[1].before[3], chosen) || got[1].Rounds != rounds {
		t.Error("a class does not go on from what its controller set")
	}
	if !equal(got[2].Variables, chosen) || !got[2].Reached || got[3].Reached {
		t.Error("what a controller keeps is not the outcome")
	}
	if !equal(got[3].Variables, free[3].Variables) || got[3].Loss != free[3].Loss {
		t.Error("a class's outcome depends on the controllers of the others")
	}
	// When all classes are done the inversion ends early.
	_, w, passes := run(func(int) *watch {
		return &watch{round: func(w *watch, _ inspector.Round) (bool, error) { return len(w.rounds) == 3, nil }}
	})
	if len(w[0].rounds) != 3 || full != 4*(rounds*4+4) || passes != 4*(3*4+4) {
		t.Errorf("%d rounds took %d passes, all rounds %d", len(w[0].rounds), passes, full)
	}
	// An error of a controller ends it, too.
	var c []*watch
	inv := additive(0.1, 4, rounds, &c, func(int) *watch {
		return &watch{round: func(*watch, inspector.Round) (bool, error) { return false, fmt.Errorf("enough") }}
	})
	if _, _, err := inv.Run(bg, inspector.Input{Model: m, Pool: pool, Seed: 1}, indices(0, 4), indices(4, 8)); err == nil || err.Error() != "enough" {
		t.Errorf("the controller's error became %v", err)
	}
}

// A penalty is weighed by each class's own cost.
func TestCostsWeighThePenalty(t *testing.T) {
	const size = 8
	m := untuned(t, cliptest.Tiny(t, computetest.CPU(t, 1), size), "coop", cliptest.Classes[:3])
	costs := []float64{0, 1e-3, 1e3}
	var w []*watch
	inv := additive(0.1, 4, 30, &w, func(class int) *watch { return &watch{cost: costs[class]} })
	inv.Start = func(size int, _ *rand.Rand) []*tensor.Dense {
		return []*tensor.Dense{triggers.Dense(slices.Repeat([]float32{0.08}, 3*size*size), 3, size, size)}
	}
	inv.Penalty = func(v []autodiff.Value) autodiff.Value {
		c := v[0].Dim(0)
		return v[0].Mul(v[0]).Reshape(c, v[0].Size()/c).SumTo(c, 1)
	}
	if _, _, err := inv.Run(bg, inspector.Input{Model: m, Pool: cliptest.Images(8, size, 10), Seed: 1}, indices(0, 4), indices(4, 8)); err != nil {
		t.Fatal(err)
	}
	for k, c := range w {
		if want := 3 * size * size * 0.08 * 0.08; math.Abs(c.rounds[0].Penalty-want) > 1e-4*want {
			t.Errorf("class %d: the penalty is %v, want %v", k, c.rounds[0].Penalty, want)
		}
	}
	inv.Control = nil
	if _, _, err := inv.Run(bg, inspector.Input{Model: m, Pool: cliptest.Images(8, size, 10), Seed: 1}, indices(0, 4), indices(4, 8)); err == nil || !strings.Contains(err.Error(), "no Control") {
		t.Errorf("a penalty that nothing weighs: got %v, want an error", err)
	}
	if free, held := w[0].rounds[29].Penalty, w[2].rounds[29].Penalty; held > 0.05*free {
		t.Errorf("a cost of 1000 leaves a penalty of %v, none %v", held, free)
	}
}

// The pool is split without overlap, by the seed, into as many images as asked for.
func TestThePoolIsSplitWithoutOverlap(t *testing.T) {
	ci, err := inspector.Find("ci")
	if err != nil {
		t.Fatal(err)
	}
	split := func(seed uint64) (a, b []int) {
		in := input(t, ci, nil, cliptest.Images(30, 8, 1), map[string]any{"optimise": 17, "measure": 9})
		in.Seed = seed
		a, b, err := inspector.SplitPool(in)
		if err != nil {
			t.Fatal(err)
		}
		return a, b
	}
	a, b := split(1)
	all := slices.Sorted(slices.Values(append(slices.Clone(a), b...)))
	if len(a) != 17 || len(b) != 9 || len(slices.Compact(all)) != 26 || all[0] < 0 || all[25] >= 30 {
		t.Errorf("%v and %v", a, b)
	}
	if again, _ := split(1); !slices.Equal(again, a) {
		t.Error("the same seed splits otherwise")
	}
	if other, _ := split(2); slices.Equal(other, a) {
		t.Error("another seed splits the same way")
	}
}

func TestInversionsThatCannotRunAreRefused(t *testing.T) {
	m := untuned(t, cliptest.Tiny(t, computetest.CPU(t, 1), 8), "coop", cliptest.Classes[:2])
	in := inspector.Input{Model: m, Pool: cliptest.Images(8, 8, 1), Seed: 1}
	var w []*watch
	inv := additive(0.1, 4, 2, &w, func(int) *watch { return &watch{} })
	if _, _, err := inv.Run(bg, in, indices(0, 3), indices(4, 8)); err == nil || !strings.Contains(err.Error(), "batch of 4") {
		t.Errorf("three images for a batch of four: %v", err)
	}
	if _, _, err := inv.Run(bg, in, indices(0, 4), nil); err == nil || !strings.Contains(err.Error(), "measure") {
		t.Errorf("nothing to measure on: %v", err)
	}
}
