package baselines

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine"
	"clipinspector/engine/plain"
	"clipinspector/inspector"
)

// oracle is what testdata/bandits.py wrote: see there.
type oracle struct {
	KArm []struct {
		Arms    int
		Stopped bool
		Rounds  [][4]float64 // arm, ASR, size, cost it was weighed with
		Draws   []float64
		Best    []*float64
	} `json:"k-arm"`
	DECREE []struct {
		Stopped bool
		Rounds  [][][4]float64 // cosine, size, cost of the next step, 1 if kept
	} `json:"decree"`
	KArmSteps   []oracleStep `json:"k-arm steps"`
	DECREESteps []oracleStep `json:"decree steps"`
}

type oracleStep struct {
	Loss, L1      float64
	Mask, Pattern []float64
}

func readOracle(t *testing.T) (o oracle) {
	t.Helper()
	raw, err := os.ReadFile("testdata/bandits.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	if len(o.KArm) < 12 || len(o.DECREE) < 8 || len(o.KArmSteps) != 5 || len(o.DECREESteps) != 5 {
		t.Fatal("traces are missing")
	}
	return o
}

// The bandit advances the arms that the authors' scanner advances, at the same costs, with the same
// random numbers, and keeps the same masks.
func TestTheBanditFollowsTheAuthors(t *testing.T) {
	for n, trace := range readOracle(t).KArm {
		b := newBandit(resolve(t, "k-arm", nil), side)
		draws := trace.Draws
		draw := func() (v float64) {
			if len(draws) == 0 {
				t.Fatalf("trace %d: more random numbers than the authors' %d", n, len(trace.Draws))
			}
			v, draws = draws[0], draws[1:]
			return v
		}
		b.uniform, b.pick = draw, func(int) int { return int(draw()) }
		for range trace.Arms {
			b.arm()
		}
		last := len(trace.Rounds) - 1
		for i, r := range trace.Rounds {
			if b.now != int(r[0]) {
				t.Fatalf("trace %d, round %d: arm %d, the authors' is %v", n, i, b.now, r[0])
			}
			a := b.arms[b.now]
			if got := a.Cost(); math.Abs(got-r[3]) > 1e-12*r[3] {
				t.Fatalf("trace %d, round %d: a cost of %v, the authors' is %v", n, i, got, r[3])
			}
			_, err := a.Round(inspector.Round{ASR: r[1], Penalty: r[2], After: func() ([]*tensor.Dense, error) { return changed(1), nil }})
			if err != nil {
				t.Fatal(err)
			}
			if more := b.next(); more != (i < last || !trace.Stopped) {
				t.Fatalf("trace %d, round %d: goes on %v, the authors have %d rounds", n, i, more, len(trace.Rounds))
			}
		}
		if trace.Stopped && len(draws) != 0 {
			t.Errorf("trace %d: %d random numbers are left", n, len(draws))
		}
		for i, want := range trace.Best {
			_, reached := b.arms[i].Best()
			if reached != (want != nil) || reached && b.arms[i].best != *want {
				t.Errorf("trace %d: arm %d has %v as its smallest, the authors %v", n, i, b.arms[i].best, want)
			}
		}
	}
}

func TestTheSimilaritysCostFollowsTheAuthors(t *testing.T) {
	for n, trace := range readOracle(t).DECREE {
		l := newSimilarity(resolve(t, "decree", nil))
		for i, round := range trace.Rounds {
			mean := 0.0
			for j, s := range round {
				if kept := l.step(s[0], s[1]); kept != (s[3] == 1) {
					t.Fatalf("trace %d, step %d of round %d (cosine %v, size %v): kept %v", n, j, i, s[0], s[1], kept)
				}
				if math.Abs(l.now-s[2]) > 1e-9*s[2] {
					t.Fatalf("trace %d, step %d of round %d: the cost becomes %v, the authors' %v", n, j, i, l.now, s[2])
				}
				mean += s[0] / float64(len(round))
			}
			if done := l.done(mean); done != (trace.Stopped && i == len(trace.Rounds)-1) {
				t.Fatalf("trace %d, round %d: done %v, the authors have %d rounds", n, i, done, len(trace.Rounds))
			}
		}
	}
}

// hashed are numbers in [-1, 1), as testdata/bandits.py makes them.
func hashed(salt uint32, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		x := uint32(i)*2654435761 + salt*40503
		x = (x ^ x>>16) * 0x7FEB352D
		x = (x ^ x>>15) * 0x846CA68B
		out[i] = float32(float64(x^x>>16)/(1<<31) - 1)
	}
	return out
}

// Five steps of both methods on the oracle's numbers: losses, sizes and gradients as in PyTorch, in
// the float64 of the reference engine.
func TestStepsFollowPyTorch(t *testing.T) {
	o := readOracle(t)
	const size, images = 4, 6
	target := []float32{3, 3, 3, 3, 3, 3}
	for _, c := range []struct {
		name  string
		want  []oracleStep
		rate  float32
		salt  uint32
		width int
		loss  func(x, l1 autodiff.Value) (loss, size autodiff.Value) // of stamped images times the weights [6,width], both [1,1]
	}{
		{"k-arm", o.KArmSteps, 0.1, 4, 5, func(x, l1 autodiff.Value) (autodiff.Value, autodiff.Value) {
			return maskInversion().Loss(x, x.Graph().Const(target, images)).Mean().Reshape(1, 1).Add(l1.Scale(0.01)), l1
		}},
		{"decree", o.DECREESteps, 0.5, 5, 8, func(x, l1 autodiff.Value) (autodiff.Value, autodiff.Value) {
			l1 = l1.Scale(3)
			return l1.Scale(0.002).Sub(meanCosine(x.Normalize()).Reshape(1, 1)), l1
		}},
	} {
		e, inv := plain.New[float64](), maskInversion()
		up := func(data []float32, shape ...int) engine.Array {
			a, err := engine.UploadSlice(e, data, shape...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(a.Free)
			return a
		}
		twice := func(x []float32) []float32 {
			for i := range x {
				x[i] *= 2
			}
			return x
		}
		g := autodiff.New(e)
		vars := g.BindAll([]engine.Array{up(twice(hashed(1, size*size)), 1, size, size), up(twice(hashed(2, 3*size*size)), 1, 3, size, size)})
		pixels := hashed(3, images*3*size*size)
		for i, v := range pixels {
			pixels[i] = (v + 1) / 2
		}
		x := inv.Apply(g.Const(pixels, 1, images, 3, size, size), vars).Reshape(images, 3*size*size)
		loss, l1 := c.loss(x.MatMulT(g.Const(hashed(c.salt, c.width*48), c.width, 48)), inv.Penalty(vars))
		grads := autodiff.Grad(loss, autodiff.None, vars...)
		counter := g.Bind(up([]float32{0}, 1))
		for i, v := range vars {
			n := v.Size()
			g.Adam(v, grads[i], g.Bind(up(make([]float32, n), n)), g.Bind(up(make([]float32, n), n)), counter, g.Const([]float32{c.rate}, 1), inv.Adam)
		}
		g.Advance(counter)
		p, err := g.Compile(append(grads, loss, l1)...)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range c.want {
			if err := p.Run(); err != nil {
				t.Fatal(err)
			}
			for _, q := range []struct {
				what string
				v    autodiff.Value
				want []float64
			}{{"loss", loss, []float64{want.Loss}}, {"L1", l1, []float64{want.L1}}, {"mask's gradient", grads[0], want.Mask}, {"pattern's gradient", grads[1], want.Pattern}} {
				got, err := p.Read(q.v)
				if err != nil {
					t.Fatal(err)
				}
				worst, largest := 0.0, 0.0
				for j, w := range q.want {
					worst, largest = math.Max(worst, math.Abs(float64(got[j])-w)), math.Max(largest, math.Abs(w))
				}
				if !(worst <= 1e-4*largest) || len(got) != len(q.want) {
					t.Errorf("%s, step %d: the %s is off by %.2g of %.3g", c.name, i, q.what, worst, largest)
				}
			}
		}
		p.Free()
	}
}
