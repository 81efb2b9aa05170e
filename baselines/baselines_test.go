package baselines

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine/plain"
	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/settings"
	"clipinspector/triggers"
	"clipinspector/triggers/triggertest"
)

func resolve(t *testing.T, name string, given map[string]any) settings.Values {
	t.Helper()
	d, err := inspector.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(d.Params, given)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// afterUpdate is the number of changed pixels after a round's last update. Pixel-Backdoor keeps
// what was before it, Neural Cleanse what is after it.
const afterUpdate = 63

// loop plays rounds to a controller: variables of 8 x 8 pixels of which as many change as a round
// says.
type loop struct {
	c   inspector.Controller
	set [][]*tensor.Dense // what the controller set
}

// changed are variables with so many changed pixels, half of them in the positive part, half in the
// negative one, and a value too small to count in every other.
func changed(pixels int) []*tensor.Dense {
	pos, neg := make([]float32, 3*64), make([]float32, 3*64)
	for i := range 64 {
		switch {
		case i >= pixels:
			pos[i], neg[64+i] = 0.9/255, -3
		case i%2 == 0:
			pos[i%3*64+i] = 1.1 / 255
		default:
			neg[i%3*64+i] = 7
		}
	}
	return []*tensor.Dense{triggers.Dense(pos, 3, 8, 8), triggers.Dense(neg, 3, 8, 8)}
}

func (l *loop) play(t *testing.T, asr, penalty float64, pixels int) (done bool) {
	t.Helper()
	done, err := l.c.Round(inspector.Round{ASR: asr, Penalty: penalty,
		Before: func() ([]*tensor.Dense, error) { return changed(pixels), nil },
		After:  func() ([]*tensor.Dense, error) { return changed(afterUpdate), nil },
		Set:    func(v []*tensor.Dense) error { l.set = append(l.set, v); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// best is the smallest penalty that a controller has kept so far.
func best(c inspector.Controller) float64 {
	switch c := c.(type) {
	case *cleanse:
		return c.best
	case *pixels:
		return c.best
	}
	panic("another controller")
}

func newLoop(t *testing.T, name string, given map[string]any) *loop {
	t.Helper()
	s := resolve(t, name, given)
	if name == "neural-cleanse" {
		return &loop{c: cleanseInversion(s).Control()}
	}
	return &loop{c: pixelInversion(s).Control()}
}

// The schedules decide as the authors' own programs do, round by round: see testdata/schedules.json
// for where the traces come from.
func TestSchedulesFollowTheAuthors(t *testing.T) {
	raw, err := os.ReadFile("testdata/schedules.json")
	if err != nil {
		t.Fatal(err)
	}
	type trace struct {
		Stopped bool
		Rounds  [][]float64
	}
	var traces struct {
		NC    []trace `json:"neural-cleanse"`
		Pixel []trace `json:"pixel-backdoor"`
	}
	if err := json.Unmarshal(raw, &traces); err != nil {
		t.Fatal(err)
	}
	if len(traces.NC) < 5 || len(traces.Pixel) < 3 {
		t.Fatalf("%d and %d traces", len(traces.NC), len(traces.Pixel))
	}
	for name, list := range map[string][]trace{"neural-cleanse": traces.NC, "pixel-backdoor": traces.Pixel} {
		for n, trace := range list {
			l := newLoop(t, name, nil) // the defaults are the authors' values
			for i, r := range trace.Rounds {
				was, count := best(l.c), 0
				if len(r) > 4 {
					count = int(r[4])
				}
				done := l.play(t, r[0], r[1], count)
				if kept := best(l.c) != was; kept != (r[3] == 1) {
					t.Fatalf("%s, trace %d, round %d (ASR %v, size %v): kept %v, the authors %v", name, n, i, r[0], r[1], kept, r[3] == 1)
				}
				if last := i == len(trace.Rounds)-1; done != (last && trace.Stopped) {
					t.Fatalf("%s, trace %d, round %d: done %v, the authors have %d rounds", name, n, i, done, len(trace.Rounds))
				}
				if got := l.c.Cost(); !done && math.Abs(got-r[2]) > 1e-12*r[2] {
					t.Fatalf("%s, trace %d, round %d (ASR %v): the cost becomes %v, the authors' %v", name, n, i, r[0], got, r[2])
				}
			}
		}
	}
}

type round struct {
	asr, size float64
	cost      float64 // of the next round
	kept      bool
	done      bool
}

// Written down by hand from the rules of the paper's program, with a patience of two.
func TestNeuralCleanseByHand(t *testing.T) {
	for _, rounds := range [][]round{{
		{1.00, 50, 0, true, false},   // a success; the cost is still 0
		{0.98, 40, 0, false, false},  // smaller, but no success
		{0.99, 60, 0, false, false},  // a success, but larger
		{1.00, 45, 1, true, false},   // two in a row: the cost is set
		{1.00, 44, 4, true, false},   // this and the round that set it: up
		{1.00, 44, 4, false, false},  // as small as before is not smaller: 1 round without progress
		{0.50, 30, 4, false, false},  // 2 rounds
		{0.50, 20, .5, false, false}, // 3 rounds; down by 4 to the power of 1.5
		{1.00, 43, .5, true, false},  // progress: the count begins again
		{1.00, 43, 2, false, false},  // 1 round, up
		{0.90, 10, 2, false, false},  // 2
		{1.00, 43, 2, false, true},   // 3, and the cost went up and down: done
	}, {
		{0.50, 50, 0, false, false},
		{0.50, 50, 0, false, false}, // down, from 0 to 0
		{1.00, 40, 0, true, false},
		{1.00, 40, 1, false, false}, // the cost is set, and what it did before is forgotten
		{1.00, 40, 4, false, false},
		{1.00, 40, 4, false, false}, // 3 rounds without progress, but the cost only went up
		{1.00, 40, 16, false, false},
		{0.50, 40, 16, false, false},
		{0.50, 40, 2, false, false}, // down
		{1.00, 40, 2, false, true},
	}} {
		l := newLoop(t, "neural-cleanse", map[string]any{"patience": 2, "cost": 1, "up": 4, "down": 4, "early-stop": 3})
		for i, r := range rounds {
			was := best(l.c)
			done := l.play(t, r.asr, r.size, 0)
			if kept := best(l.c) != was; kept != r.kept || done != r.done || l.c.Cost() != r.cost {
				t.Fatalf("round %d: kept %v, done %v, cost %v; want %+v", i, kept, done, l.c.Cost(), r)
			}
		}
		if v, reached := l.c.Best(); !reached || !slices.Equal(dense.Floats(v[0]), dense.Floats(changed(afterUpdate)[0])) {
			t.Error("what is kept is not what a successful round ended with")
		}
	}
	never := newLoop(t, "neural-cleanse", nil)
	for range 200 {
		if never.play(t, 0.5, 10, 0) {
			t.Fatal("done without a success")
		}
	}
	if v, reached := never.c.Best(); reached || v != nil || never.c.Cost() != 0 {
		t.Errorf("without a success: reached %v, cost %v", reached, never.c.Cost())
	}
}

// The same for Pixel-Backdoor: kept when both the penalty and the number of changed pixels fall,
// and then set free of what is too small to count.
func TestPixelBackdoorByHand(t *testing.T) {
	l := newLoop(t, "pixel-backdoor", map[string]any{"patience": 2, "cost": 1, "up": 4, "down": 4})
	for i, r := range []struct {
		round
		pixels int
	}{
		{round{0.90, 50, 1, true, false}, 20},
		{round{0.95, 49, 4, false, false}, 20}, // as many pixels; two in a row: up
		{round{0.95, 50, 4, false, false}, 10}, // fewer, but no smaller penalty
		{round{0.89, 10, 4, false, false}, 5},  // no success
		{round{0.10, 10, .5, false, false}, 5}, // two failures in a row: down
		{round{1.00, 40, .5, true, false}, 12},
	} {
		was := best(l.c)
		done := l.play(t, r.asr, r.size, r.pixels)
		if kept := best(l.c) != was; kept != r.kept || done || l.c.Cost() != r.cost {
			t.Fatalf("round %d: kept %v, done %v, cost %v; want %+v", i, kept, done, l.c.Cost(), r)
		}
	}
	v, reached := l.c.Best()
	if !reached || len(l.set) != 2 {
		t.Fatalf("reached %v, the variables were set %d times", reached, len(l.set))
	}
	for part, x := range v {
		if !slices.Equal(dense.Floats(x), dense.Floats(l.set[1][part])) {
			t.Error("what is kept is not what the optimisation goes on from")
		}
		for i, u := range dense.Floats(x) {
			if u != 0 && (u < smallest || u > 1) {
				t.Errorf("part %d holds %v at %d", part, u, i)
			}
		}
	}
	d := pixelInversion(resolve(t, "pixel-backdoor", nil)).Trigger(v).(triggers.Additive)
	if n := changedPixels(dense.Floats(d.Delta)); n != 12 {
		t.Errorf("%d changed pixels, want 12", n)
	}
}

func TestChangedPixelsAreThoseOfAnyChannel(t *testing.T) {
	for _, c := range []struct {
		delta []float32
		want  int
	}{
		{make([]float32, 12), 0},
		{[]float32{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1},
		{[]float32{1, 0, 0, 0, -1, 0, 0, 0, 1, 0, 0, 0}, 1}, // one pixel, three channels
		{[]float32{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1, 0}, 3},
	} {
		if got := changedPixels(c.delta); got != c.want {
			t.Errorf("%v: %d changed pixels, want %d", c.delta, got, c.want)
		}
	}
	// The two parts may cancel out.
	d := pixelInversion(resolve(t, "pixel-backdoor", nil)).Trigger([]*tensor.Dense{
		triggers.Dense([]float32{0.5, 0.5, 0, 0.003, 0, 0, 0, 0, 0, 0, 0, 0}, 3, 2, 2),
		triggers.Dense([]float32{0.5, 0.2, 0, 0, 2, -2, 0, 0, 0, 0, 0, 0}, 3, 2, 2),
	}).(triggers.Additive)
	want := []float32{0, 0.3, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0}
	for i, v := range dense.Floats(d.Delta) {
		if math.Abs(float64(v-want[i])) > 1e-6 {
			t.Errorf("element %d of the perturbation is %v, want %v", i, v, want[i])
		}
	}
}

// inversions are both baselines', with the variables of two classes as Start draws them.
func inversions(t *testing.T, rng *rand.Rand, size int) map[string]struct {
	inspector.Inversion
	start []*tensor.Dense
} {
	out := map[string]struct {
		inspector.Inversion
		start []*tensor.Dense
	}{}
	for name, inv := range map[string]inspector.Inversion{"neural-cleanse": cleanseInversion(resolve(t, "neural-cleanse", nil)),
		"pixel-backdoor": pixelInversion(resolve(t, "pixel-backdoor", nil))} {
		x := out[name]
		x.Inversion = inv
		a, b := inv.Start(size, rng), inv.Start(size, rng)
		for i := range a {
			data := append(slices.Clone(dense.Floats(a[i])), dense.Floats(b[i])...)
			x.start = append(x.start, triggers.Dense(data, append([]int{2}, a[i].Shape()...)...))
		}
		out[name] = x
	}
	return out
}

// Both parts of each parametrisation, mask and pattern, positive and negative, get the right
// gradient from where they start, through the triggered images as well as through the penalty. (In
// a port of Pixel-Backdoor the negative part starts where its clip has no gradient, and stays
// dead.)
func TestBothPartsLearn(t *testing.T) {
	const size = 6
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	pool := cliptest.Images(3, 8, seed).Data().([]float32)[:3*3*size*size]
	for name, x := range inversions(t, rng, size) {
		t.Run(name, func(t *testing.T) {
			triggertest.CheckGradient(t, rng, func(v []autodiff.Value) autodiff.Value {
				return x.Apply(v[0].Graph().Const(pool, 1, 3, 3, size, size), v)
			}, x.start...)
			penalised := x.start
			if name == "neural-cleanse" {
				penalised = x.start[:1] // the mask alone
			}
			triggertest.CheckGradient(t, rng, x.Penalty, penalised...)

			// Nearly everywhere the start is alive.
			g := autodiff.New(plain.New[float64]())
			v := make([]autodiff.Value, len(x.start))
			for i, s := range x.start {
				v[i] = g.Const(dense.Floats(s), s.Shape()...)
			}
			grads := autodiff.Grad(x.Apply(g.Const(slices.Repeat([]float32{0.5}, len(pool)), 1, 3, 3, size, size), v).Sum(), autodiff.None, v...)
			for i, data := range computetest.Run(t, g, grads...) {
				alive := 0
				for _, u := range data {
					if u != 0 {
						alive++
					}
				}
				if alive < len(data)/2 {
					t.Errorf("variable %d: only %d of %d elements get a gradient", i, alive, len(data))
				}
			}
		})
	}
}

// The penalty is what the papers say, computed here on the host, and what Trigger makes of the
// variables is what Apply does.
func TestPenaltiesAndTriggersFollowTheFormulas(t *testing.T) {
	const size, images = 6, 2
	rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
	pool := cliptest.Images(images, 8, 1).Data().([]float32)[:images*3*size*size]
	for name, x := range inversions(t, rng, size) {
		g := autodiff.New(plain.New[float64]())
		v := make([]autodiff.Value, len(x.start))
		for i, s := range x.start {
			v[i] = g.Const(dense.Floats(s), s.Shape()...)
		}
		penalty, applied := x.Penalty(v), x.Apply(g.Const(pool, 1, images, 3, size, size), v)
		var byTrigger []autodiff.Value
		want := make([]float64, 2)
		for c := range want {
			one := make([]*tensor.Dense, len(x.start))
			for i, s := range x.start {
				n := s.Shape().TotalSize() / 2
				one[i] = triggers.Dense(dense.Floats(s)[c*n:(c+1)*n], s.Shape()[1:]...)
			}
			tr := x.Trigger(one)
			byTrigger = append(byTrigger, tr.Apply(g.Const(pool, images, 3, size, size)))
			for i := range size * size {
				if m, ok := tr.(triggers.Masked); ok {
					want[c] += float64(dense.Floats(m.Mask)[i])
					continue
				}
				for _, part := range one { // the channel's largest tanh(v/10)/(2-1e-7) + 0.5
					largest := math.Inf(-1)
					for ch := range 3 {
						largest = max(largest, math.Tanh(float64(dense.Floats(part)[ch*size*size+i])/10)/(2-1e-7)+0.5)
					}
					want[c] += largest
				}
			}
		}
		p, err := g.Compile(append([]autodiff.Value{penalty, applied}, byTrigger...)...)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Run(); err != nil {
			t.Fatal(err)
		}
		read := func(v autodiff.Value) []float32 {
			data, err := p.Read(v)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		for c, w := range want {
			if got := read(penalty)[c]; math.Abs(float64(got)-w) > 1e-4*w {
				t.Errorf("%s: class %d has a penalty of %v, want %v", name, c, got, w)
			}
			all := read(applied)
			for i, u := range read(byTrigger[c]) {
				// Values below 1/255 are left out of Pixel-Backdoor's trigger.
				if got := all[c*images*3*size*size+i]; math.Abs(float64(got-u)) > 2.0/255 || name == "neural-cleanse" && math.Abs(float64(got-u)) > 1e-5 {
					t.Fatalf("%s: class %d, element %d is %v, by the trigger %v", name, c, i, got, u)
				}
			}
		}
		p.Free()
	}
}

// Where an inversion starts: Neural Cleanse's mask and pattern uniform in [0,1], Pixel-Backdoor's
// parts as well.
func TestStartsAreUniform(t *testing.T) {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
	for name, x := range inversions(t, rng, 64) {
		for i, s := range x.start {
			var mean, squares float64
			data := dense.Floats(s)
			for _, u := range data {
				v := float64(u)
				if name == "neural-cleanse" {
					v = unitTanh(v)
				}
				if !(v >= 0 && v <= 1) {
					t.Fatalf("%s: variable %d starts at %v", name, i, v)
				}
				mean += v / float64(len(data))
				squares += v * v / float64(len(data))
			}
			if se := 4 / math.Sqrt(float64(len(data))); math.Abs(mean-0.5) > se || math.Abs(squares-1.0/3) > se {
				t.Errorf("%s: variable %d has mean %v and mean square %v", name, i, mean, squares)
			}
		}
	}
}

// The defaults are the authors'.
func TestDefaultsAreTheAuthors(t *testing.T) {
	for name, want := range map[string]map[string]any{
		"neural-cleanse": {"asr": 0.99, "patience": 5, "up": 2.0, "down": 2.0, "cost": 1e-3, "rate": 0.1, "batch": 32, "rounds": 1000, "images": 1000, "early-stop": 25, "index": "mad", "k": 2.0},
		"pixel-backdoor": {"asr": 0.9, "patience": 10, "up": 1.5, "down": 1.5, "cost": 1e-3, "rate": 0.1, "batch": 32, "rounds": 1000, "images": 100, "index": "mad", "k": 2.0},
		"k-arm":          {"asr": 0.99, "patience": 5, "up": 1.5, "cost": 1e-3, "rate": 0.1, "batch": 32, "rounds": 1000, "share": 0.25, "warmup": 2, "beta": 1e4, "explore": 0.3, "early-stop": 10, "shrinks": 60, "bound": 1720.0, "index": "bound"},
		"decree":         {"alike": 0.99, "patience": 5, "up": 5.0, "cost": 1e-3, "floor": 1e-7, "rate": 0.5, "batch": 32, "rounds": 1000, "early-stop": 35, "bound": 0.1, "seed": 80, "k": 2.0},
	} {
		s := resolve(t, name, nil)
		for param, v := range want {
			if s[param] != v {
				t.Errorf("%s: %s is %v, the authors' is %v", name, param, s[param], v)
			}
		}
		if s.String("budget") != "matched" {
			t.Errorf("%s: the default grid matches budgets, the default is %s", name, s.String("budget"))
		}
	}
	for name, eps := range map[string]float64{"neural-cleanse": 1e-7, "pixel-backdoor": 1e-8} {
		inv := cleanseInversion(resolve(t, "neural-cleanse", nil))
		if name == "pixel-backdoor" {
			inv = pixelInversion(resolve(t, name, nil))
		}
		if want := (autodiff.AdamConfig{Beta1: 0.5, Beta2: 0.9, Eps: eps}); inv.Adam != want {
			t.Errorf("%s: Adam with %+v, want %+v", name, inv.Adam, want)
		}
	}
}
