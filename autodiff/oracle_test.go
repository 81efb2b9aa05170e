package autodiff

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/plain"
)

// digest stands for a tensor of testdata/oracle.json: every k-th number and two weighted sums over
// all.
type digest struct {
	N     int
	Every []float64
	Sums  []float64
}

type oracle struct {
	Cases      map[string]struct{ Out, Grads []digest }
	Optimisers map[string][][]float64
	Schedules  map[string][]float64
}

// readOracle returns what testdata/oracle.py wrote about PyTorch.
func readOracle(t *testing.T) oracle {
	t.Helper()
	f, err := os.ReadFile("testdata/oracle.json")
	if err != nil {
		t.Fatal(err)
	}
	var o oracle
	if err := json.Unmarshal(f, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// holds fails unless got is the tensor of the digest within tol of its largest number.
func (d digest) holds(t *testing.T, what string, got []float64, tol float64) {
	t.Helper()
	if len(got) != d.N {
		t.Errorf("%s: %d numbers, PyTorch has %d", what, len(got), d.N)
		return
	}
	step := (d.N + 15) / 16
	var every []float64
	for i := 0; i < len(got); i += step {
		every = append(every, got[i])
	}
	scale := math.Max(maxAbs(got), 0.01) // small where the digest is, if got is right
	near(t, what+", every k-th", every, d.Every, tol, scale)
	sums := make([]float64, 2)
	for k := range sums {
		for i, x := range got {
			sums[k] += x * uniform(7000+k, i)
		}
	}
	near(t, what+", weighted sums", sums, d.Sums, tol, scale*math.Sqrt(float64(d.N)))
}

type testEngine struct {
	name string
	tol  float64
	open func() (engine.Engine, error)
}

// testEngines are the engines under test; cpu_test.go adds its own.
var testEngines = []testEngine{
	{"plain64", 1e-6, func() (engine.Engine, error) { return plain.New[float64](), nil }},
	{"plain", 1e-4, func() (engine.Engine, error) { return plain.New[float32](), nil }},
}

func onEngines(t *testing.T, f func(t *testing.T, e engine.Engine, tol float64)) {
	for _, te := range testEngines {
		t.Run(te.name, func(t *testing.T) {
			e, err := te.open()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { e.Close() })
			f(t, e, te.tol)
		})
	}
}

// Outputs and gradients of every case are PyTorch's.
func TestAgainstPyTorch(t *testing.T) {
	o := readOracle(t)
	onEngines(t, func(t *testing.T, e engine.Engine, tol float64) {
		seen := 0
		for _, c := range opCases() {
			want, ok := o.Cases[c.name]
			if !ok {
				t.Errorf("PyTorch was not asked about %s", c.name)
				continue
			}
			seen++
			t.Run(c.name, func(t *testing.T) {
				wrt := c.differentiable()
				b := c.record(t, e, 1, wrt)
				if len(b.out) != len(want.Out) || (len(wrt) != len(want.Grads) && !c.flat) {
					t.Fatalf("%d outputs and %d gradients, PyTorch has %d and %d", len(b.out), len(wrt), len(want.Out), len(want.Grads))
				}
				for i, d := range want.Out {
					d.holds(t, fmt.Sprintf("output %d", i), data(t, b.p, b.out[i]), tol)
				}
				for i, d := range want.Grads {
					d.holds(t, fmt.Sprintf("gradient of operand %d", wrt[i]), b.gradient(t, i, c.in[wrt[i]]), tol)
				}
			})
		}
		if seen != len(o.Cases) {
			t.Errorf("%d of %d cases of PyTorch", seen, len(o.Cases))
		}
	})
}

// Twenty steps of each optimiser end where PyTorch's do, over a schedule shorter than the run.
func TestOptimisersAgainstPyTorch(t *testing.T) {
	sgd := func(momentum, decay float64) func(g *Graph, p, d, m, v, step, sched Value) {
		return func(g *Graph, p, d, m, v, step, sched Value) { g.SGD(p, d, m, step, sched, momentum, decay) }
	}
	adam := func(c AdamConfig) func(g *Graph, p, d, m, v, step, sched Value) {
		return func(g *Graph, p, d, m, v, step, sched Value) { g.Adam(p, d, m, v, step, sched, c) }
	}
	w := DefaultAdam
	w.Decoupled = true
	optimisers := map[string]func(g *Graph, p, d, m, v, step, sched Value){
		"sgd":                sgd(0, 0),
		"sgd-decay":          sgd(0, 0.1),
		"sgd-momentum":       sgd(0.9, 0),
		"sgd-momentum-decay": sgd(0.9, 5e-4),
		"adam":               adam(DefaultAdam),
		"adam-decay":         adam(AdamConfig{Beta1: 0.8, Beta2: 0.95, Eps: 1e-3, WeightDecay: 0.1}),
		"adamw":              adam(w),
		"adamw-decay":        adam(AdamConfig{Beta1: 0.5, Beta2: 0.9, Eps: 1e-6, WeightDecay: 0.2, Decoupled: true}),
	}
	o := readOracle(t)
	if len(o.Optimisers) != len(optimisers) {
		t.Errorf("%d optimisers, PyTorch ran %d", len(optimisers), len(o.Optimisers))
	}
	onEngines(t, func(t *testing.T, e engine.Engine, tol float64) {
		for name, path := range o.Optimisers {
			t.Run(name, func(t *testing.T) {
				g := New(e)
				p := g.Const(float32s(numbers(uni(12), 40)), 12)
				a := g.Const(float32s(numbers(uni(12), 41)), 12)
				weight := g.Const(float32s(numbers(pos(12), 42)), 12)
				m, v, step := g.Input(12), g.Input(12), g.Input(1)
				sched := g.Const([]float32{0.05, 0.04, 0.03, 0.02, 0.01}, 5)
				loss := p.Square().Sub(a).Square().Mul(weight).Sum()
				d := Grad(loss, None, p)[0]
				optimisers[name](g, p, d, m, v, step, sched)
				g.Advance(step)
				prog, err := g.Compile()
				if err != nil {
					t.Fatal(err)
				}
				defer prog.Free()
				for i := range 20 {
					if err := prog.Run(); err != nil {
						t.Fatal(err)
					}
					if s := data(t, prog, step)[0]; s != float64(i+1) {
						t.Fatalf("step %v after %d runs", s, i+1)
					}
					for k, at := range []int{0, 1, 2, 19} {
						if i == at {
							near(t, fmt.Sprintf("parameter after step %d", i+1), data(t, prog, p), path[k], tol, 0)
						}
					}
				}
			})
		}
	})
}

func TestSchedulesAgainstPyTorch(t *testing.T) {
	o := readOracle(t)
	for name, want := range o.Schedules {
		var rate float64
		var steps, warmup int
		got := []float32(nil)
		if n, _ := fmt.Sscanf(name, "cosine %g %d %d", &rate, &steps, &warmup); n >= 2 {
			got = Cosine(rate, steps, warmup)
		} else if n, _ := fmt.Sscanf(name, "coop %g %d", &rate, &steps); n == 2 {
			got = CoOpSchedule(rate, steps)
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d rates, want %d", name, len(got), len(want))
			continue
		}
		for i := range got {
			if math.Abs(float64(got[i])-want[i]) > 1e-6*want[i] {
				t.Errorf("%s: rate %d is %g, want %g", name, i, got[i], want[i])
			}
		}
	}
}

// The first and last rates of CoOp's own schedule.
func TestCoOpSchedule(t *testing.T) {
	for _, c := range []struct {
		epochs, at int
		want, tol  float64
	}{{50, 0, 1e-5, 0}, {50, 1, 2e-3, 1e-9}, {50, 2, 1.998027e-3, 1e-9}, {50, 3, 1.992115e-3, 1e-9}, {50, 49, 7.885e-6, 1e-9},
		{10, 9, 1.9098e-4, 1e-8}, {200, 199, 4.93e-7, 1e-9}, {1, 0, 1e-5, 0}} {
		s := CoOpSchedule(0.002, c.epochs)
		if len(s) != c.epochs || math.Abs(float64(s[c.at])-c.want) > c.tol+1e-12 {
			t.Errorf("%d epochs, epoch %d: %g, want %g", len(s), c.at, s[c.at], c.want)
		}
	}
	if len(CoOpSchedule(0.002, 0)) != 0 || len(Cosine(1, 0, 0)) != 0 {
		t.Error("a schedule of no epochs is not empty")
	}
}
