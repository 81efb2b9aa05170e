package autodiff

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/plain"
)

// Misuse panics with a message that names every shape involved.
func TestMisuse(t *testing.T) {
	g := New(plain.New[float32]())
	in := g.Input
	step, sched := in(1), in(4)
	for _, c := range []struct {
		name  string
		f     func()
		wants []string
	}{
		{"add", func() { in(2, 3).Add(in(4)) }, []string{"[2 3]", "[1 4]"}},
		{"mul", func() { in(2, 3).Mul(in(3, 3)) }, []string{"[2 3]", "[3 3]"}},
		{"sumto", func() { in(2, 3).SumTo(2, 2) }, []string{"[2 3]", "[2 2]"}},
		{"sumto rank", func() { in(2, 3).SumTo(1) }, []string{"[2 3]", "[1]"}},
		{"meanto", func() { in(2, 3).MeanTo(3, 1) }, []string{"[2 3]", "[3 1]"}},
		{"broadcastto", func() { in(2, 3).BroadcastTo(4, 3) }, []string{"[2 3]", "[4 3]"}},
		{"reshape", func() { in(2, 3).Reshape(4, 2) }, []string{"[2 3]", "[4 2]"}},
		{"reshape remainder", func() { in(2, 3).Reshape(4, -1) }, []string{"[2 3]"}},
		{"reshape two unknown", func() { in(2, 3).Reshape(-1, -1) }, []string{"[2 3]"}},
		{"reshape negative", func() { in(2, 3).Reshape(-2, -3) }, []string{"[2 3]", "[-2 -3]"}},
		{"slice", func() { in(2, 3).Slice(1, 2, 2) }, []string{"[2 3]", "2:4"}},
		{"concat", func() { Concat(0, in(2, 3), in(2, 4)) }, []string{"[2 3]", "[2 4]"}},
		{"concat rank", func() { Concat(0, in(2, 3), in(2)) }, []string{"[2 3]", "[2]"}},
		{"permute", func() { in(2, 3).Permute(0, 0) }, []string{"[2 3]", "[0 0]"}},
		{"permute rank", func() { in(2, 3).Permute(0, 1, 2) }, []string{"[2 3]", "[0 1 2]"}},
		{"gather", func() { in(2, 3, 4).Gather(in(2)) }, []string{"[2 3 4]"}},
		{"matmul", func() { in(2, 3).MatMul(in(4, 5)) }, []string{"[2 3]", "[4 5]"}},
		{"matmul batch", func() { in(2, 3, 4).MatMul(in(3, 4, 5)) }, []string{"[2 3 4]", "[3 4 5]"}},
		{"matmul vector", func() { in(3).MatMul(in(3, 4)) }, []string{"[3]", "[3 4]"}},
		{"matmult", func() { in(2, 3).MatMulT(in(3, 5)) }, []string{"[2 3]", "[3 5]"}},
		{"linear", func() { in(2, 3).Linear(in(5, 4), None) }, []string{"[2 3]", "[5 4]"}},
		{"linear bias", func() { in(2, 3).Linear(in(5, 3), in(3)) }, []string{"[5 3]", "[3]"}},
		{"attention", func() { in(2, 3, 10).Attention(2, false) }, []string{"[2 3 10]", "2 heads"}},
		{"layernorm gamma", func() { in(2, 3).LayerNorm(in(2), in(3)) }, []string{"[2 3]", "[2]", "[3]"}},
		{"layernorm beta", func() { in(2, 3).LayerNorm(in(3), in(4)) }, []string{"[2 3]", "[3]", "[4]"}},
		{"addlayernorm", func() { in(2, 3).AddLayerNorm(in(3, 3), in(3), in(3)) }, []string{"[2 3]", "[3 3]"}},
		{"crossentropy", func() { in(2, 3).CrossEntropy(in(3)) }, []string{"[2 3]", "[3]"}},
		{"margin", func() { in(2, 3).MarginLoss(in(3), 1) }, []string{"[2 3]", "[3]"}},
		{"margin of one class", func() { in(2, 1).MarginLoss(in(2), 1) }, []string{"two classes"}},
		{"patchify", func() { in(1, 3, 4, 5).Patchify(2) }, []string{"[1 3 4 5]", "2"}},
		{"gridsample", func() { in(3, 1, 2, 2).GridSample(in(2, 2, 2, 2)) }, []string{"[3 1 2 2]", "[2 2 2 2]"}},
		{"crop", func() { in(2, 3, 8, 8).Crop(in(3, 5), 4, 4) }, []string{"[3 5]", "[2 3 8 8]"}},
		{"assign", func() { g.Assign(in(2), in(3)) }, []string{"[2]", "[3]"}},
		{"assign to a result", func() { g.Assign(in(2).Tanh(), in(2)) }, []string{"no bound array"}},
		{"sgd", func() { g.SGD(in(2), in(3), None, step, sched, 0, 0) }, []string{"[2]", "[3]"}},
		{"sgd without velocity", func() { g.SGD(in(2), in(2), None, step, sched, 0.9, 0) }, []string{"velocity"}},
		{"sgd without gradient", func() { g.SGD(in(2), None, None, step, sched, 0, 0) }, []string{"[2]", "gradient"}},
		{"sgd of a result", func() { g.SGD(in(2).Tanh(), in(2), None, step, sched, 0, 0) }, []string{"no bound array"}},
		{"adam", func() { g.Adam(in(2), in(2), in(3), in(2), step, sched, DefaultAdam) }, []string{"[2]", "[3]"}},
		{"const", func() { g.Const([]float32{1, 2}, 3) }, []string{"2 numbers", "[3]"}},
		{"input", func() { in(2, 0) }, []string{"[2 0]"}},
		{"bind", func() {
			a, _ := engine.NewArray(g.eng, 3)
			a.Shape = []int{4}
			g.Bind(a)
		}, []string{"3 numbers", "[4]"}},
		{"grad weights", func() { x := in(2, 3); Grad(x.Tanh(), in(6), x) }, []string{"[2 3]", "[6]"}},
		{"grad of argmax", func() { x := in(2, 3); Grad(x.ArgMax(), None, x) }, []string{"argmax"}},
		{"grad of crop", func() { x := in(1, 1, 4, 4); Grad(x.Crop(in(1, 5), 4, 4), None, x) }, []string{"crop has no gradient"}},
		{"grad of maximum", func() { x := in(2, 3); Grad(x.binary(engine.Maximum, in(2, 3)), None, x) }, []string{"Maximum"}},
		{"grad of a gradient operation", func() {
			x := in(2, 3)
			Grad(Grad(x.Tanh(), None, x)[0], None, x)
		}, []string{"unary-grad"}},
		{"another graph", func() { in(2).Add(New(g.eng).Input(2)) }, []string{"another graph"}},
		{"no output", func() { New(g.eng).Compile(None) }, []string{"None"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func() {
				t.Helper()
				switch r := recover().(type) {
				case nil:
					t.Error("no panic")
				case string:
					for _, w := range append(c.wants, "autodiff: ") {
						if !strings.Contains(r, w) {
							t.Errorf("%q does not say %q", r, w)
						}
					}
				default:
					t.Errorf("panic of %T: %v", r, r)
				}
			}()
			c.f()
		})
	}
}

// What is not reached has no gradient, and None stays None.
func TestNoGradient(t *testing.T) {
	g := New(plain.New[float64]())
	y, x, label := g.Input(2, 3), g.Input(2, 3), g.Input(2) // y is value 0, which None must not be taken for
	loss := x.Detach().Mul(y).CrossEntropy(label).Mean()
	for i, d := range Grad(loss, None, x, label, None) {
		if d.Valid() {
			t.Errorf("a gradient for operand %d", i)
		}
	}
	nodes := len(g.nodes)
	if d := Grad(loss, None, None, x); d[0].Valid() || len(g.nodes) != nodes {
		t.Error("gradients of None were recorded")
	}
	if d := Grad(x.Mul(x.Equal(y)), None, y); d[0].Valid() {
		t.Error("a gradient through Equal")
	}
	d := Grad(loss, None, loss, y)
	p, err := g.Compile(d...)
	mustRun(t, p, err)
	wantNumbers(t, "gradient of the loss itself", data(t, p, d[0]), 1)
}

// Gradients with respect to intermediate values and their ancestors at once; the same value twice.
func TestGradientOfIntermediates(t *testing.T) {
	g := New(plain.New[float64]())
	x := g.Const([]float32{3}, 1)
	a := x.Square()      // 9
	b := a.Mul(x)        // 27
	y := b.Add(a).Mul(b) // (b+a)*b
	d := Grad(y, None, a, x, b, a)
	p, err := g.Compile(d...)
	mustRun(t, p, err)
	for i, want := range []float64{
		27 + (2*27+9)*3,       // dy/da = b + (2b+a)*x
		(2*27+9)*3*9 + 27*2*3, // dy/dx = (2b+a)*3x² + b*2x
		2*27 + 9,              // dy/db
		27 + (2*27+9)*3,       // again
	} {
		wantNumbers(t, fmt.Sprint("gradient ", i), data(t, p, d[i]), want)
	}
}

// Negative axes and dimensions count from the end.
func TestNegativeAxes(t *testing.T) {
	g := New(plain.New[float32]())
	x := g.Input(2, 3, 4)
	for i, c := range []struct {
		v    Value
		want []int
	}{
		{x.Slice(-1, 1, 2), []int{2, 3, 2}}, {x.Max(-2), []int{2, 1, 4}}, {Concat(-1, x, x), []int{2, 3, 8}},
		{x.Reshape(-1), []int{24}}, {x.Reshape(6, -1), []int{6, 4}}, {x.Linear(g.Input(5, 4), None), []int{2, 3, 5}},
		{x.ArgMax(), []int{6}}, {x.Sum(), []int{1}}, {g.Input(9, 7).Gather(x), []int{2, 3, 4, 7}},
	} {
		if !slices.Equal(c.v.Shape(), c.want) {
			t.Errorf("case %d: shape %v, want %v", i, c.v.Shape(), c.want)
		}
	}
	if x.Dim(-1) != 4 || x.Dim(0) != 2 || x.Size() != 24 {
		t.Error("Dim or Size")
	}
	// Concat along a negative axis has a gradient.
	d := Grad(Concat(-1, x, x.Slice(2, 0, 1)).Sum(), None, x)[0]
	p, err := g.Compile(d)
	mustRun(t, p, err)
	wantNumbers(t, "gradient", data(t, p, d)[:5], 2, 1, 1, 1, 2)
}
