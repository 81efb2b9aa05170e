package autodiff

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/cpu"
	"clipinspector/engine/plain"
)

func init() {
	testEngines = append(testEngines, testEngine{"cpu", 1e-4, openCPU(2)}, testEngine{"cpu-1", 1e-4, openCPU(1)})
}

func openCPU(threads int) func() (engine.Engine, error) {
	return func() (engine.Engine, error) { return cpu.New(cpu.Options{Threads: threads}) }
}

// Replaying a program allocates nothing, forward, backward and optimiser.
func TestRunAllocatesNothing(t *testing.T) {
	e, err := openCPU(2)()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, c := range opCases() {
		b := c.record(t, e, 1, c.differentiable())
		if n := testing.AllocsPerRun(20, func() { b.run(t) }); n != 0 {
			t.Errorf("%s: %v allocations a run", c.name, n)
		}
	}
	g := New(e)
	w := newTower(g)
	d := Grad(w.loss, None, w.pixels, w.bias, w.gamma)
	step, sched := g.Input(1), g.Const([]float32{0.1}, 1)
	g.SGD(w.bias, d[1], g.Input(36), step, sched, 0.9, 5e-4)
	g.Adam(w.gamma, d[2], g.Input(12), g.Input(12), step, sched, DefaultAdam)
	g.Assign(w.pixels, w.pixels.Sub(d[0]).Clamp(0, 1))
	g.Advance(step)
	p, err := g.Compile(w.loss)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Free()
	if n := testing.AllocsPerRun(20, func() {
		if err := p.Run(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a training step: %v allocations a run", n)
	}
}

// trained records a residual network of a size that fills vector registers and threads (an image
// tower, a head, cross entropy, Adam on the pixels and SGD on the weights), runs three steps and
// returns losses, pixels and weights.
func trained(t *testing.T, e engine.Engine, seed int) (losses, pixels, weights []float64) {
	t.Helper()
	const batch, width, heads, classes = 6, 48, 4, 11
	g := New(e)
	k := seed
	random := func(scale float64, shape ...int) Value {
		k++
		x := numbers(uni(shape...), k)
		for i := range x {
			x[i] *= scale
		}
		return g.Const(float32s(x), shape...)
	}
	image := random(1, batch, 3, 20, 20)
	ones := g.Const(slices.Repeat([]float32{1}, width), width)
	shift := random(0.1, width)
	position := random(0.2, 25, width)
	x := image.Clamp(-0.9, 0.9).Patchify(4).Linear(random(0.2, width, 48), None).Add(position)
	y, h := x.LayerNorm(ones, shift), x
	for range 2 {
		a := y.Linear(random(0.2, 3*width, width), random(0.1, 3*width)).Attention(heads, true)
		y, h = a.Linear(random(0.2, width, width), random(0.1, width)).AddLayerNorm(h, ones, shift)
		a = y.Linear(random(0.2, 4*width, width), random(0.1, 4*width)).QuickGELU()
		y, h = a.Linear(random(0.1, width, 4*width), None).AddLayerNorm(h, ones, shift)
	}
	head := random(1, classes, width)
	features := y.Slice(1, 0, 1).Reshape(batch, width).Normalize()
	loss := features.MatMulT(head.Normalize()).Scale(10).CrossEntropy(g.Const(float32s(numbers(index(classes, batch), k)), batch)).Mean()
	d := Grad(loss, None, image, head, shift)
	step, sched := g.Input(1), g.Const([]float32{0.01, 0.005}, 2)
	c := DefaultAdam
	c.Eps = 1e-3 // m/sqrt(v) of a gradient near zero is otherwise its rounding
	g.Adam(image, d[0], g.Input(image.Shape()...), g.Input(image.Shape()...), step, sched, c)
	g.SGD(head, d[1], g.Input(head.Shape()...), step, sched, 0.9, 5e-4)
	g.SGD(shift, d[2], None, step, sched, 0, 0)
	g.Advance(step)
	p, err := g.Compile(loss)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Free()
	checkPlan(t, g.plan())
	for range 3 {
		if err := p.Run(); err != nil {
			t.Fatal(err)
		}
		losses = append(losses, data(t, p, loss)[0])
	}
	return losses, data(t, p, image), append(data(t, p, head), data(t, p, shift)...)
}

// Three training steps agree with float64, and are the same bits for any number of threads.
func TestTrainingStepsOnCPU(t *testing.T) {
	seed := freshSeed(t)
	wantLoss, wantImage, wantWeights := trained(t, plain.New[float64](), seed)
	var first []float64
	for _, threads := range []int{1, 2, 3} {
		e, err := openCPU(threads)()
		if err != nil {
			t.Fatal(err)
		}
		loss, image, weights := trained(t, e, seed)
		e.Close()
		what := fmt.Sprintf("%d threads: ", threads)
		near(t, what+"losses", loss, wantLoss, 1e-4, 0)
		near(t, what+"pixels", image, wantImage, 1e-3, 0)
		near(t, what+"weights", weights, wantWeights, 1e-4, 0)
		all := slices.Concat(loss, image, weights)
		if first == nil {
			first = all
		} else if !slices.Equal(all, first) {
			t.Errorf("%d threads give other bits than one", threads)
		}
	}
}

// Random graphs give the same as float64 on the CPU, whatever the planner shares.
func TestRandomGraphsOnCPU(t *testing.T) {
	e, err := openCPU(2)()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for n := range uint64(100) {
		run := func(e engine.Engine) []float64 {
			g := New(e)
			vs := randomGraph(g, rand.New(rand.NewPCG(seed, n)))
			out := vs[len(vs)-2:]
			p, err := g.Compile(out...)
			mustRun(t, p, err)
			defer p.Free()
			return append(data(t, p, out[0]), data(t, p, out[1])...)
		}
		near(t, fmt.Sprintf("graph %d", n), run(e), run(plain.New[float64]()), 1e-3, 0.1)
	}
}
