package autodiff

import (
	"math"
	"slices"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/plain"
)

// fill says how an operand of a case is filled.
type fill struct {
	shape []int
	kind  string // see numbers
	w, h  int    // of the images that a grid samples; w is the number of classes of an index
}

func uni(shape ...int) fill      { return fill{shape: shape, kind: "uniform"} }
func pos(shape ...int) fill      { return fill{shape: shape, kind: "positive"} }
func away(shape ...int) fill     { return fill{shape: shape, kind: "away"} }
func distinct(shape ...int) fill { return fill{shape: shape, kind: "distinct"} }
func index(n int, shape ...int) fill {
	return fill{shape: shape, kind: "index", w: n}
}
func grid(w, h int, shape ...int) fill { return fill{shape: shape, kind: "grid", w: w, h: h} }

// hash24 is splitmix64 of seed and i, cut to 24 bits; testdata/oracle.py has the same.
func hash24(seed, i int) int {
	z := (uint64(seed)<<32 | uint64(i)) + 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return int((z ^ z>>31) >> 40)
}

// uniform is a number of [-1,1) that float32 holds exactly.
func uniform(seed, i int) float64 { return float64(hash24(seed, i))/(1<<23) - 1 }

// numbers are pseudo-random and exact in float32, and keep their distance from kinks:
//
//	uniform   [-1,1)
//	positive  [0.5,2)
//	away      [0.25,1.25) with either sign
//	distinct  at least 0.04 apart and 0.02 from every multiple of 1/16
//	index     whole numbers in 0..w-1
//	grid      (x,y) of points at least a fifth of a pixel from pixel borders, some outside the image
func numbers(f fill, seed int) []float64 {
	x := make([]float64, engine.Size(f.shape))
	rank := make([]int, len(x))
	if f.kind == "distinct" {
		order := make([]int, len(x))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return hash24(seed+500, a) - hash24(seed+500, b) })
		for r, i := range order {
			rank[i] = r
		}
	}
	for i := range x {
		u := uniform(seed, i)
		switch f.kind {
		case "uniform":
			x[i] = u
		case "positive":
			x[i] = 1.25 + 0.75*u
		case "away":
			x[i] = u + math.Copysign(0.25, u)
		case "distinct":
			x[i] = float64(rank[i]-len(x)/2)/16 + 1.0/32 + u/128
		case "index":
			x[i] = float64(hash24(seed, i) % f.w)
		case "grid":
			n := f.w
			if i%2 == 1 {
				n = f.h
			}
			cell := hash24(seed+500, i)%(n+2) - 2 // -2 .. n-1
			x[i] = (float64(cell)+0.5+0.25*u)/float64(n-1)*2 - 1
		}
		x[i] = float64(float32(x[i]))
	}
	return x
}

// opCase is an operation (or a few together) with its operands. Every operand but indices is
// differentiable.
type opCase struct {
	name  string
	in    []fill
	build func(in []Value) []Value
	flat  bool // the operation has no gradient and says so
}

// cropCases are boxes in two images of 9 x 11 pixels, and the size that they are scaled to.
var cropCases = map[string]struct {
	h, w  int
	boxes []float32
}{
	"magnify": {16, 16, []float32{2, 1, 5, 7, 0, 10, 8, 1, 1, 0}},
	"shrink":  {3, 4, []float32{0, 0, 11, 9, 0, 1, 2, 10, 6, 1}},
	"mixed":   {8, 6, []float32{3, 0, 4, 9, 1, 0, 5, 11, 4, 1}},
}

func one(f func(in []Value) Value) func([]Value) []Value {
	return func(in []Value) []Value { return []Value{f(in)} }
}

// opCases has one entry or more for each recorded operation. testdata/oracle.py has them all under
// the same names.
func opCases() []opCase {
	var cs []opCase
	add := func(name string, f func(x []Value) Value, in ...fill) {
		cs = append(cs, opCase{name: name, in: in, build: one(f)})
	}
	multi := func(name string, f func(x []Value) []Value, in ...fill) {
		cs = append(cs, opCase{name: name, in: in, build: f})
	}

	add("affine", func(x []Value) Value { return x[0].Affine(-2.5, 0.75) }, uni(3, 5))
	add("scale", func(x []Value) Value { return x[0].Scale(3) }, uni(7))
	add("clamp", func(x []Value) Value { return x[0].Clamp(-0.5, 0.25) }, distinct(4, 6))
	for _, u := range []struct {
		name string
		f    engine.Func
		in   fill
	}{
		{"quickgelu", engine.QuickGELU, uni(4, 5)},
		{"gelu", engine.GELU, uni(4, 5)},
		{"relu", engine.ReLU, distinct(4, 5)},
		{"tanh", engine.Tanh, uni(4, 5)},
		{"sigmoid", engine.Sigmoid, uni(4, 5)},
		{"exp", engine.Exp, uni(4, 5)},
		{"log", engine.Log, pos(4, 5)},
		{"abs", engine.Abs, distinct(4, 5)},
		{"sign", engine.Sign, distinct(4, 5)},
		{"square", engine.Square, uni(4, 5)},
		{"sqrt", engine.Sqrt, pos(4, 5)},
		{"reciprocal", engine.Reciprocal, away(4, 5)},
	} {
		add("apply-"+u.name, func(x []Value) Value { return x[0].Apply(u.f) }, u.in)
	}
	// Far from zero the activations saturate; a wrong formula shows there first.
	wide := func(f func(Value) Value) func(x []Value) Value {
		return func(x []Value) Value { return f(x[0].Scale(6)) }
	}
	add("method-quickgelu", wide(Value.QuickGELU), uni(24))
	add("method-tanh", wide(Value.Tanh), uni(24))
	add("method-relu", wide(Value.ReLU), distinct(24))
	add("method-exp", wide(Value.Exp), uni(24))
	add("method-square", wide(Value.Square), uni(24))

	for _, b := range []struct {
		name string
		f    func(a, b Value) Value
		den  func(shape ...int) fill
	}{{"add", Value.Add, uni}, {"sub", Value.Sub, uni}, {"mul", Value.Mul, uni}, {"div", Value.Div, away}} {
		f := func(x []Value) Value { return b.f(x[0], x[1]) }
		add(b.name+"-same", f, uni(2, 3, 4), b.den(2, 3, 4))
		add(b.name+"-last", f, uni(2, 3, 4), b.den(4))
		add(b.name+"-first", f, uni(4), b.den(2, 3, 4))
		add(b.name+"-outer", f, uni(3, 1), b.den(1, 5))
		add(b.name+"-middle", f, uni(2, 3, 4), b.den(2, 1, 4))
		add(b.name+"-scalar", f, uni(2, 5), b.den(1))
		add(b.name+"-channel", f, uni(2, 3, 2, 2), b.den(1, 3, 1, 1))
		add(b.name+"-classes", f, uni(1, 2, 3, 2, 3), b.den(3, 1, 1, 2, 3)) // [1,B,3,H,W] with [K,1,1,H,W]
		add(b.name+"-mask", f, uni(2, 2, 3, 2, 2), b.den(2, 1, 1, 2, 2))
		add(b.name+"-rank6", f, uni(2, 1, 2, 1, 3, 1), b.den(1, 2, 2, 2, 1, 3))
		add(b.name+"-self", func(x []Value) Value { return b.f(x[0], x[0]) }, b.den(3, 4))
	}
	add("equal", func(x []Value) Value { return x[0].Mul(x[1].Equal(x[2])) }, uni(2, 6), index(3, 2, 6), index(3, 6))
	add("greater-equal", func(x []Value) Value { return x[0].Mul(x[0].GreaterEqual(x[1])) }, distinct(3, 4), uni(1))

	add("sumto-rows", func(x []Value) Value { return x[0].SumTo(1, 4) }, uni(3, 4))
	add("sumto-columns", func(x []Value) Value { return x[0].SumTo(3, 1) }, uni(3, 4))
	add("sumto-mixed", func(x []Value) Value { return x[0].SumTo(1, 3, 1, 2) }, uni(2, 3, 4, 2))
	add("sumto-all", func(x []Value) Value { return x[0].SumTo(1, 1, 1) }, uni(2, 3, 4))
	add("sumto-none", func(x []Value) Value { return x[0].SumTo(2, 3).Square() }, uni(2, 3))
	add("meanto-space", func(x []Value) Value { return x[0].MeanTo(2, 3, 1, 1) }, uni(2, 3, 4, 2))
	add("meanto-batch", func(x []Value) Value { return x[0].MeanTo(1, 3) }, uni(5, 3))
	add("broadcastto", func(x []Value) Value { return x[0].BroadcastTo(2, 3, 4) }, uni(2, 1, 4))
	add("broadcastto-all", func(x []Value) Value { return x[0].BroadcastTo(3, 4) }, uni(1, 1))
	add("mean", func(x []Value) Value { return x[0].Square().Mean() }, uni(3, 4))
	add("sum", func(x []Value) Value { return x[0].Square().Sum() }, uni(3, 4))
	add("max-channel", func(x []Value) Value { return x[0].Max(1) }, distinct(2, 3, 2, 3))
	add("max-last", func(x []Value) Value { return x[0].Max(-1) }, distinct(4, 5))
	add("max-first", func(x []Value) Value { return x[0].Max(0) }, distinct(4, 5))

	add("slice-first", func(x []Value) Value { return x[0].Slice(0, 1, 2) }, uni(4, 3))
	add("slice-middle", func(x []Value) Value { return x[0].Slice(1, 2, 1) }, uni(2, 4, 3))
	add("slice-last", func(x []Value) Value { return x[0].Slice(-1, 0, 2) }, uni(2, 4, 3))
	add("pad", func(x []Value) Value { return x[0].Pad(1, 1, 5) }, uni(2, 3, 2))
	add("slice-twice", func(x []Value) Value { return x[0].Slice(1, 0, 3).Mul(x[0].Slice(1, 1, 3)) }, uni(3, 4))
	add("slice-transpose", func(x []Value) Value {
		return Grad(x[0].Slice(1, 1, 2), x[1], x[0])[0]
	}, uni(3, 4), uni(3, 2))
	add("concat-first", func(x []Value) Value { return Concat(0, x...) }, uni(2, 3), uni(1, 3), uni(3, 3))
	add("concat-middle", func(x []Value) Value { return Concat(1, x...) }, uni(2, 1, 3), uni(2, 2, 3), uni(2, 1, 3))
	add("concat-last", func(x []Value) Value { return Concat(2, x...) }, uni(2, 2, 3), uni(2, 2, 1))
	add("concat-repeat", func(x []Value) Value { return Concat(1, x[0], x[1], x[0]) }, uni(2, 2), uni(2, 1))
	add("permute-2", func(x []Value) Value { return x[0].Permute(1, 0) }, uni(3, 4))
	add("permute-4", func(x []Value) Value { return x[0].Permute(2, 0, 3, 1) }, uni(2, 3, 4, 2))
	add("permute-5", func(x []Value) Value { return x[0].Permute(4, 1, 0, 3, 2) }, uni(2, 3, 1, 2, 3))
	add("gather", func(x []Value) Value { return x[0].Gather(x[1]) }, uni(4, 3), index(4, 2, 5))
	add("gather-transpose", func(x []Value) Value {
		return Grad(x[0].Gather(x[1]), x[2], x[0])[0]
	}, uni(4, 3), index(4, 6), uni(6, 3))
	add("gather-argmax", func(x []Value) Value { return x[0].Gather(x[1].ArgMax()) }, uni(5, 3), distinct(4, 5))
	cs = append(cs, opCase{name: "argmax", in: []fill{distinct(4, 5)}, build: one(func(x []Value) Value { return x[0].ArgMax() }), flat: true})
	add("reshape", func(x []Value) Value { return x[0].Reshape(2, -1).Square().Reshape(4, 3, 1) }, uni(2, 2, 3))
	add("detach", func(x []Value) Value { return x[0].Mul(x[0].Detach()).Add(x[1].Detach().Square()) }, uni(2, 3), uni(3))

	for _, t := range []struct {
		name   string
		ta, tb bool
	}{{"nn", false, false}, {"nt", false, true}, {"tn", true, false}, {"tt", true, true}} {
		shape := func(t bool, lead []int, r, c int) fill {
			if t {
				r, c = c, r
			}
			return uni(append(slices.Clone(lead), r, c)...)
		}
		f := func(x []Value) Value { return matMul(x[0], x[1], t.ta, t.tb, 0.5) }
		add("matmul-"+t.name, f, shape(t.ta, nil, 3, 4), shape(t.tb, nil, 4, 5))
		add("matmul-"+t.name+"-batch", f, shape(t.ta, []int{2, 2}, 3, 4), shape(t.tb, []int{2, 2}, 4, 5))
		add("matmul-"+t.name+"-shared", f, shape(t.ta, []int{3}, 3, 4), shape(t.tb, nil, 4, 5))
		add("matmul-"+t.name+"-one", f, shape(t.ta, []int{1}, 3, 4), shape(t.tb, []int{1}, 4, 2))
		add("matmul-"+t.name+"-self", func(x []Value) Value { return matMul(x[0], x[0], t.ta, t.tb, 1) }, uni(2, 3, 3))
	}
	add("matmul-method", func(x []Value) Value { return x[0].MatMul(x[1]) }, uni(2, 3, 4), uni(2, 4, 5))
	add("matmult-method", func(x []Value) Value { return x[0].MatMulT(x[1]) }, uni(3, 4), uni(5, 4))
	add("matmul-vector", func(x []Value) Value { return x[0].MatMul(x[1]) }, uni(1, 4), uni(4, 1))
	add("linear", func(x []Value) Value { return x[0].Linear(x[1], x[2]) }, uni(2, 3, 4), uni(5, 4), uni(5))
	add("linear-nobias", func(x []Value) Value { return x[0].Linear(x[1], None) }, uni(3, 4), uni(5, 4))
	add("linear-bias2d", func(x []Value) Value { return x[0].Linear(x[1], x[2]) }, uni(3, 4), uni(2, 4), uni(1, 2))
	add("linear-vector", func(x []Value) Value { return x[0].Linear(x[1], x[2]) }, uni(4), uni(3, 4), uni(3))

	for _, a := range []struct {
		name         string
		heads        int
		causal       bool
		b, s, w, big int
	}{{"attention", 2, false, 2, 5, 6, 3}, {"attention-causal", 2, true, 2, 5, 6, 3}, {"attention-1head", 1, false, 1, 4, 5, 1},
		{"attention-4heads", 4, false, 2, 3, 4, 1}, {"attention-causal-3heads", 3, true, 1, 7, 6, 2}, {"attention-1token", 2, true, 3, 1, 4, 1}} {
		add(a.name, func(x []Value) Value { return x[0].Scale(float64(a.big)).Attention(a.heads, a.causal) }, uni(a.b, a.s, 3*a.w))
	}

	gb := []fill{pos(6), uni(6)}
	add("layernorm", func(x []Value) Value { return x[0].LayerNorm(x[1], x[2]) }, uni(2, 3, 6), gb[0], gb[1])
	add("layernorm-offset", func(x []Value) Value { return x[0].Affine(0.5, 20).LayerNorm(x[1], x[2]) }, uni(4, 6), gb[0], gb[1])
	multi("addlayernorm", func(x []Value) []Value {
		y, h := x[0].AddLayerNorm(x[1], x[2], x[3])
		return []Value{y, h}
	}, uni(2, 3, 6), uni(2, 3, 6), gb[0], gb[1])
	add("addlayernorm-y", func(x []Value) Value {
		y, _ := x[0].AddLayerNorm(x[1], x[2], x[3])
		return y
	}, uni(3, 6), uni(3, 6), gb[0], gb[1])
	add("addlayernorm-h", func(x []Value) Value {
		_, h := x[0].AddLayerNorm(x[1], x[2], x[3])
		return h
	}, uni(3, 6), uni(3, 6), gb[0], gb[1])
	add("addlayernorm-mixed", func(x []Value) Value {
		y, h := x[0].AddLayerNorm(x[1], x[2], x[3])
		return y.Mul(h).Add(h.Square())
	}, uni(3, 6), uni(3, 6), gb[0], gb[1])
	multi("addlayernorm-self", func(x []Value) []Value {
		y, h := x[0].AddLayerNorm(x[0], x[1], x[2])
		return []Value{y, h.Square()}
	}, uni(3, 6), gb[0], gb[1])
	multi("addlayernorm-shapes", func(x []Value) []Value {
		y, h := x[0].AddLayerNorm(x[1], x[2], x[3])
		return []Value{y, h}
	}, uni(2, 3, 6), uni(6, 6), gb[0], gb[1])
	add("addlayernorm-shapes-h", func(x []Value) Value {
		_, h := x[0].AddLayerNorm(x[1], x[2], x[3])
		return h.Square()
	}, uni(2, 3, 6), uni(6, 6), gb[0], gb[1])
	add("addlayernorm-chain", func(x []Value) Value { // two blocks of a residual stream
		y, h := x[0].AddLayerNorm(x[1], x[2], x[3])
		y, h = y.Square().AddLayerNorm(h, x[2], x[3])
		return y.Mul(h)
	}, uni(3, 6), uni(3, 6), gb[0], gb[1])
	add("normalize", func(x []Value) Value { return x[0].Normalize() }, uni(2, 3, 4))
	add("softmax", func(x []Value) Value { return x[0].Scale(4).Softmax() }, uni(2, 3, 5))
	add("crossentropy", func(x []Value) Value { return x[0].Scale(8).CrossEntropy(x[1]) }, uni(4, 6), index(6, 4))
	add("crossentropy-argmax", func(x []Value) Value { return x[0].CrossEntropy(x[0].ArgMax()).Mean() }, distinct(4, 6))
	add("margin", func(x []Value) Value { return x[0].MarginLoss(x[1], 1.0/32) }, distinct(8, 3), index(3, 8))
	add("margin-wide", func(x []Value) Value { return x[0].MarginLoss(x[1], 1+1.0/32) }, distinct(6, 5), index(5, 6))
	add("patchify", func(x []Value) Value { return x[0].Patchify(2) }, uni(2, 3, 4, 6))
	add("patchify-transpose", func(x []Value) Value {
		return Grad(x[0].Patchify(2), x[1], x[0])[0]
	}, uni(1, 2, 4, 2), uni(1, 2, 8))
	add("convolution", func(x []Value) Value { return x[0].Patchify(2).Linear(x[1], None) }, uni(2, 3, 4, 2), uni(5, 12))
	add("gridsample-shared", func(x []Value) Value { return x[0].GridSample(x[1]) }, uni(2, 2, 3, 4), grid(4, 3, 1, 3, 3, 2))
	add("gridsample-batch", func(x []Value) Value { return x[0].GridSample(x[1]) }, uni(2, 3, 4, 5), grid(5, 4, 2, 2, 3, 2))
	for name, s := range cropCases {
		cs = append(cs, opCase{name: "crop-" + name, in: []fill{uni(2, 2, 9, 11)}, flat: true, build: one(func(x []Value) Value {
			return x[0].Crop(x[0].g.Const(s.boxes, 2, 5), s.h, s.w)
		})})
	}

	// Many uses of one value, and a small network.
	add("multiple-uses", func(x []Value) Value {
		a := x[0].Tanh()
		b := a.Mul(a).Add(x[0])
		return b.Mul(a).Sub(x[0].Reshape(4, 3).Permute(1, 0)).Add(a.Slice(0, 1, 1))
	}, uni(3, 4))
	add("perceptron", func(x []Value) Value {
		return x[0].Linear(x[1], x[2]).QuickGELU().Linear(x[3], None).CrossEntropy(x[4]).Mean()
	}, uni(4, 5), uni(6, 5), uni(6), uni(3, 6), index(3, 4))
	return cs
}

// data returns all numbers of a value in the precision of its engine.
func data(t testing.TB, p *Program, v Value) []float64 {
	t.Helper()
	if b, ok := p.Array(v).Buffer.(*plain.Buffer[float64]); ok {
		return slices.Clone(b.Data()[:v.Size()])
	}
	f, err := p.Read(v)
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float64, len(f))
	for i := range f {
		x[i] = float64(f[i])
	}
	return x
}

func float32s(x []float64) []float32 {
	y := make([]float32, len(x))
	for i := range x {
		y[i] = float32(x[i])
	}
	return y
}

// built is a case recorded with the loss sum(weights*outputs) and its gradients.
type built struct {
	p     *Program
	in    []Value
	out   []Value
	loss  Value
	grads []Value
}

// differentiable lists the operands with gradients.
func (c opCase) differentiable() []int {
	var ids []int
	for i, f := range c.in {
		if f.kind != "index" && !c.flat {
			ids = append(ids, i)
		}
	}
	return ids
}

// record builds the case with random operands and gradients with respect to the operands wrt.
func (c opCase) record(t testing.TB, e engine.Engine, seed int, wrt []int) *built {
	t.Helper()
	g := New(e)
	b := &built{}
	for i, f := range c.in {
		b.in = append(b.in, g.Const(float32s(numbers(f, seed+i)), f.shape...))
	}
	b.out = c.build(b.in)
	for i, o := range b.out {
		w := g.Const(float32s(numbers(uni(o.Shape()...), seed+100+i)), o.Shape()...)
		l := o.Mul(w).Sum()
		if i > 0 {
			l = b.loss.Add(l)
		}
		b.loss = l
	}
	outputs := append([]Value{b.loss}, b.out...)
	if len(wrt) > 0 {
		vs := make([]Value, len(wrt))
		for i, k := range wrt {
			vs[i] = b.in[k]
		}
		b.grads = Grad(b.loss, None, vs...)
		for i, d := range b.grads {
			if d.Valid() {
				if !slices.Equal(d.Shape(), vs[i].Shape()) {
					t.Errorf("gradient of operand %d has shape %v, want %v", wrt[i], d.Shape(), vs[i].Shape())
				}
				outputs = append(outputs, d)
			}
		}
	}
	p, err := g.Compile(outputs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Free)
	b.p = p
	b.run(t)
	return b
}

func (b *built) run(t testing.TB) {
	t.Helper()
	if err := b.p.Run(); err != nil {
		t.Fatal(err)
	}
}

// gradient returns the numbers of a gradient, zeros for None.
func (b *built) gradient(t testing.TB, i int, like fill) []float64 {
	t.Helper()
	if !b.grads[i].Valid() {
		return make([]float64, engine.Size(like.shape))
	}
	return data(t, b.p, b.grads[i])
}

func maxAbs(x []float64) float64 {
	m := 0.0
	for _, v := range x {
		m = math.Max(m, math.Abs(v))
	}
	return m
}

// near fails unless got equals want within tol of the largest number, floor being the least that
// counts as large.
func near(t testing.TB, what string, got, want []float64, tol, floor float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d numbers, want %d", what, len(got), len(want))
		return
	}
	limit := tol * math.Max(maxAbs(want), floor)
	for i := range got {
		if !(math.Abs(got[i]-want[i]) <= limit) {
			t.Errorf("%s [%d]: %.12g, want %.12g (within %.3g)", what, i, got[i], want[i], limit)
			return
		}
	}
}
