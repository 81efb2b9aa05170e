package plain

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"clipinspector/engine"
)

// arr is an operand with its numbers; an empty one is absent.
type arr struct {
	shape []int
	data  []float64
}

func v(data ...float64) arr              { return arr{[]int{len(data)}, data} }
func a(shape []int, data ...float64) arr { return arr{shape, data} }
func sh(dims ...int) []int               { return dims }
func build[T Float](e *Engine[T], op engine.Op, at engine.Attr, in, out []arr) (*engine.Program, []engine.Buffer) {
	p := &engine.Program{}
	ins := engine.Instr{Op: op, Attr: at}
	var bufs []engine.Buffer
	add := func(x arr) engine.Operand {
		if x.shape == nil {
			bufs = append(bufs, nil)
			return engine.Absent
		}
		b, err := e.NewBuffer(engine.Size(x.shape))
		if err != nil {
			panic(err)
		}
		f := make([]float32, len(x.data))
		for i, d := range x.data {
			f[i] = float32(d)
		}
		b.Write(0, f)
		bufs = append(bufs, b)
		p.Slots = append(p.Slots, engine.Slot{Len: b.Len(), Bound: b})
		return engine.Operand{Slot: len(p.Slots) - 1, Shape: x.shape}
	}
	for _, x := range in {
		ins.In = append(ins.In, add(x))
	}
	for _, x := range out {
		ins.Out = append(ins.Out, add(x))
	}
	p.Instrs = []engine.Instr{ins}
	return p, bufs[len(in):]
}

// check runs one instruction in float64 and float32 and compares the outputs with the expected
// ones.
func check(t *testing.T, op engine.Op, at engine.Attr, in, want []arr) {
	t.Helper()
	checkAs[float64](t, op, at, in, want)
	checkAs[float32](t, op, at, in, want)
}

func checkAs[T Float](t *testing.T, op engine.Op, at engine.Attr, in, want []arr) {
	t.Helper()
	e := New[T]()
	blank := make([]arr, len(want))
	for i, w := range want {
		blank[i] = arr{w.shape, nil}
		for range w.data { // outputs hold rubbish before
			blank[i].data = append(blank[i].data, 77)
		}
	}
	p, out := build(e, op, at, in, blank)
	x, err := e.Compile(p)
	if err != nil {
		t.Fatalf("%v: %v", op, err)
	}
	if err := x.Run(); err != nil {
		t.Fatalf("%v: %v", op, err)
	}
	for k, w := range want {
		if w.shape == nil {
			continue
		}
		for i, d := range out[k].(*Buffer[T]).Data() {
			if math.Abs(float64(d)-w.data[i]) > 2e-6*(1+math.Abs(w.data[i])) {
				t.Errorf("%s %v: output %d is %v, want %v", e.Name(), op, k, out[k].(*Buffer[T]).Data(), w.data)
				break
			}
		}
	}
}

func TestMatMul(t *testing.T) {
	at := engine.Attr{Batch: 1, M: 2, N: 2, K: 3, Alpha: 2}
	x := a(sh(2, 3), 1, 2, 3, 4, 5, 6)
	xt := a(sh(3, 2), 1, 4, 2, 5, 3, 6)
	w := a(sh(3, 2), 1, 0, 0, 1, 1, 1)
	wt := a(sh(2, 3), 1, 0, 1, 0, 1, 1)
	want := []arr{a(sh(2, 2), 18, 30, 30, 42)}
	bias := v(10, 20)
	check(t, engine.MatMul, at, []arr{x, w, bias}, want)
	at.TransB = true
	check(t, engine.MatMul, at, []arr{x, wt, bias}, want)
	at.TransA = true
	check(t, engine.MatMul, at, []arr{xt, wt, bias}, want)
	check(t, engine.MatMul, engine.Attr{Batch: 2, M: 1, N: 1, K: 2, StrideA: 2, Alpha: 1},
		[]arr{a(sh(2, 1, 2), 1, 2, 3, 4), v(5, 6), {}}, []arr{a(sh(2, 1, 1), 17, 39)})
}

func TestAttention(t *testing.T) {
	// Two positions, one head of width 1: scores q_i*k_j.
	qkv := a(sh(1, 2, 3), 1, 0, 2, 1, math.Log(3), 6)
	o := a(sh(1, 2, 1), 5, 5)
	lse := a(sh(1, 1, 2), math.Log(4), math.Log(4))
	check(t, engine.Attention, engine.Attr{Heads: 1}, []arr{qkv}, []arr{o, lse})
	check(t, engine.Attention, engine.Attr{Heads: 1, Causal: true}, []arr{qkv},
		[]arr{a(sh(1, 2, 1), 2, 5), a(sh(1, 1, 2), 0, math.Log(4))})
	// do = (1, 0): dP_0j = v_j, D = 5, dS_0 = (1/4*(2-5), 3/4*(6-5)) = (-3/4, 3/4).
	check(t, engine.AttentionGrad, engine.Attr{Heads: 1}, []arr{qkv, o, lse, a(sh(1, 2, 1), 1, 0)},
		[]arr{a(sh(1, 2, 3), 0.75*math.Log(3), -0.75, 0.25, 0, 0.75, 0.75)})
}

func TestLayerNorm(t *testing.T) {
	at := engine.Attr{Eps: 3}
	x, res := a(sh(1, 2), 1, 2), a(sh(1, 2), 0, 1)
	gamma, beta := v(2, 1), v(1, 0)
	// h = (1, 3): mean 2, variance 1, rstd 1/2.
	check(t, engine.LayerNorm, at, []arr{x, gamma, beta, res}, []arr{a(sh(1, 2), 0, 0.5), a(sh(1, 2), 2, 0.5), a(sh(1, 2), 1, 3)})
	check(t, engine.LayerNorm, at, []arr{a(sh(1, 2), 1, 3), gamma, beta, {}}, []arr{a(sh(1, 2), 0, 0.5), a(sh(1, 2), 2, 0.5), {}})
	// dy = (1, 0): g = (2, 0), n = (-1/2, 1/2): dx = 1/2*(g - 1 - n*(-1/2)).
	h, stats, dy := a(sh(1, 2), 1, 3), a(sh(1, 2), 2, 0.5), a(sh(1, 2), 1, 0)
	check(t, engine.LayerNormGrad, at, []arr{h, gamma, stats, dy, {}}, []arr{a(sh(1, 2), 0.375, -0.375)})
	check(t, engine.LayerNormGrad, at, []arr{h, gamma, stats, dy, res}, []arr{a(sh(1, 2), 0.375, 0.625)})
	check(t, engine.LayerNormParamGrad, at, []arr{h, stats, dy}, []arr{v(-0.5, 0), v(1, 0)})
}

func TestNormalize(t *testing.T) {
	y := a(sh(2, 2), 0.6, 0.8, 0, 0)
	check(t, engine.Normalize, engine.Attr{}, []arr{a(sh(2, 2), 3, 4, 0, 0)}, []arr{y, v(5, 1e-12)})
	check(t, engine.NormalizeGrad, engine.Attr{}, []arr{a(sh(1, 2), 0.6, 0.8), v(5), a(sh(1, 2), 1, 0)},
		[]arr{a(sh(1, 2), 0.128, -0.096)})
}

func TestElementwise(t *testing.T) {
	for _, c := range []struct {
		f        engine.Func
		x, y, dx float64
	}{
		{engine.Affine, 2, 7, 3}, {engine.Clamp, 0.5, 0.5, 1}, {engine.Clamp, 1, 1, 1}, {engine.Clamp, -1, 0, 0}, {engine.Clamp, 2, 1, 0},
		{engine.QuickGELU, 0, 0, 0.5}, {engine.QuickGELU, 1, 0.8457958, 1.0677796}, {engine.GELU, 1, 0.8413447, 1.0833155},
		{engine.ReLU, -2, 0, 0}, {engine.ReLU, 0, 0, 0}, {engine.ReLU, 2, 2, 1},
		{engine.Tanh, 1, 0.7615942, 0.4199743}, {engine.Sigmoid, 0, 0.5, 0.25}, {engine.Exp, 1, math.E, math.E},
		{engine.Log, 2, math.Ln2, 0.5}, {engine.Abs, -3, 3, -1}, {engine.Abs, 0, 0, 0}, {engine.Sign, -3, -1, 0},
		{engine.Square, 3, 9, 6}, {engine.Sqrt, 4, 2, 0.25}, {engine.Reciprocal, 2, 0.5, -0.25},
	} {
		at := engine.Attr{Func: c.f, Alpha: 3, Beta: 1, Lo: 0, Hi: 1}
		check(t, engine.Unary, at, []arr{v(c.x)}, []arr{v(c.y)})
		check(t, engine.UnaryGrad, at, []arr{v(c.x), v(2)}, []arr{v(2 * c.dx)})
	}
	for f, want := range map[engine.Func][]float64{engine.Add: {4, 5, 5, 6}, engine.Sub: {-2, -3, -1, -2}, engine.Mul: {3, 4, 6, 8},
		engine.Div: {1. / 3, 1. / 4, 2. / 3, 0.5}, engine.Maximum: {3, 4, 3, 4}, engine.Minimum: {1, 1, 2, 2},
		engine.Equal: {0, 0, 0, 0}, engine.GreaterEqual: {0, 0, 0, 0}} {
		check(t, engine.Binary, engine.Attr{Func: f}, []arr{a(sh(2, 1), 1, 2), a(sh(1, 2), 3, 4)}, []arr{a(sh(2, 2), want...)})
	}
	check(t, engine.Binary, engine.Attr{Func: engine.GreaterEqual}, []arr{v(1, 2, 3), v(2, 2, 2)}, []arr{v(0, 1, 1)})
	check(t, engine.Binary, engine.Attr{Func: engine.Equal}, []arr{v(1, 2, 3), v(2, 2, 2)}, []arr{v(0, 1, 0)})
}

func TestReduce(t *testing.T) {
	x := a(sh(2, 3), 1, 2, 3, 4, 5, 5)
	check(t, engine.SumTo, engine.Attr{Alpha: 0.5}, []arr{x}, []arr{a(sh(1, 3), 2.5, 3.5, 4)})
	check(t, engine.SumTo, engine.Attr{Alpha: 1}, []arr{x}, []arr{a(sh(2, 1), 6, 14)})
	check(t, engine.BroadcastTo, engine.Attr{}, []arr{a(sh(2, 1), 1, 2)}, []arr{a(sh(2, 2), 1, 1, 2, 2)})
	check(t, engine.MaxAxis, engine.Attr{Axis: 1}, []arr{x}, []arr{a(sh(2, 1), 3, 5), a(sh(2, 1), 2, 1)})
	check(t, engine.MaxAxis, engine.Attr{Axis: 0}, []arr{x}, []arr{a(sh(1, 3), 4, 5, 5), a(sh(1, 3), 1, 1, 1)})
	check(t, engine.MaxAxisGrad, engine.Attr{Axis: 1}, []arr{a(sh(2, 1), 2, 1), a(sh(2, 1), 7, 8)},
		[]arr{a(sh(2, 3), 0, 0, 7, 0, 8, 0)})
	check(t, engine.ArgMax, engine.Attr{}, []arr{x}, []arr{v(2, 1)})
}

func TestShape(t *testing.T) {
	x := a(sh(2, 3), 1, 2, 3, 4, 5, 6)
	check(t, engine.Slice, engine.Attr{Axis: 1, From: 1}, []arr{x}, []arr{a(sh(2, 2), 2, 3, 5, 6)})
	check(t, engine.Pad, engine.Attr{Axis: 1, From: 1}, []arr{a(sh(2, 1), 7, 8)}, []arr{a(sh(2, 3), 0, 7, 0, 0, 8, 0)})
	check(t, engine.Concat, engine.Attr{Axis: 1}, []arr{x, a(sh(2, 1), 7, 8)}, []arr{a(sh(2, 4), 1, 2, 3, 7, 4, 5, 6, 8)})
	check(t, engine.Permute, engine.Attr{Axes: sh(1, 0)}, []arr{x}, []arr{a(sh(3, 2), 1, 4, 2, 5, 3, 6)})
	check(t, engine.Gather, engine.Attr{}, []arr{x, v(1, 0, 1)}, []arr{a(sh(3, 3), 4, 5, 6, 1, 2, 3, 4, 5, 6)})
	check(t, engine.ScatterAdd, engine.Attr{}, []arr{v(1, 1), a(sh(2, 2), 1, 2, 3, 4)}, []arr{a(sh(2, 2), 0, 0, 4, 6)})
	check(t, engine.Assign, engine.Attr{}, []arr{x}, []arr{x})
}

func TestLosses(t *testing.T) {
	l := math.Log(3)
	check(t, engine.Softmax, engine.Attr{}, []arr{a(sh(1, 2), 0, l)}, []arr{a(sh(1, 2), 0.25, 0.75)})
	check(t, engine.SoftmaxGrad, engine.Attr{}, []arr{a(sh(1, 2), 0.25, 0.75), a(sh(1, 2), 1, 2)}, []arr{a(sh(1, 2), -0.1875, 0.1875)})
	check(t, engine.CrossEntropy, engine.Attr{}, []arr{a(sh(2, 2), 0, l, 500, 500+l), v(0, 1)}, []arr{v(math.Log(4), math.Log(4)-l)})
	check(t, engine.CrossEntropyGrad, engine.Attr{}, []arr{a(sh(1, 2), 0, l), v(0), v(2)}, []arr{a(sh(1, 2), -1.5, 1.5)})
	x, label := a(sh(3, 3), 1, 5, 5, 9, 1, 2, 1, 0, 0), v(0, 0, 0)
	check(t, engine.Margin, engine.Attr{Alpha: 0.5}, []arr{x, label}, []arr{v(4.5, 0, 0)})
	check(t, engine.MarginGrad, engine.Attr{Alpha: 0.5}, []arr{x, label, v(2, 2, 2)}, []arr{a(sh(3, 3), -2, 2, 0, 0, 0, 0, 0, 0, 0)})
}

func TestImage(t *testing.T) {
	x := a(sh(1, 1, 2, 4), 1, 2, 3, 4, 5, 6, 7, 8)
	y := a(sh(1, 2, 4), 1, 2, 5, 6, 3, 4, 7, 8)
	check(t, engine.Patchify, engine.Attr{Patch: 2}, []arr{x}, []arr{y})
	check(t, engine.Unpatchify, engine.Attr{Patch: 2}, []arr{y}, []arr{x})

	plane := a(sh(1, 1, 2, 2), 1, 2, 3, 4)
	grid := a(sh(1, 1, 3, 2), 0, 0, 1, 1, -2, -1) // the centre, the last pixel, half a pixel left of the first
	check(t, engine.GridSample, engine.Attr{}, []arr{plane, grid}, []arr{a(sh(1, 1, 1, 3), 2.5, 4, 0.5)})
	dy := a(sh(1, 1, 1, 3), 4, 1, 2)
	check(t, engine.GridSampleGrad, engine.Attr{}, []arr{plane, grid, dy},
		[]arr{a(sh(1, 1, 2, 2), 2, 1, 1, 2), a(sh(1, 1, 3, 2), 2, 4, -2, -2, 1, 1*1)})
}

// A box of the size of the output is copied, mirrored or not; a box of one pixel fills it, and
// constants stay what they are.
func TestCrop(t *testing.T) {
	x := a(sh(1, 1, 2, 4), 1, 2, 3, 4, 5, 6, 7, 8)
	y := sh(1, 1, 2, 2)
	check(t, engine.Crop, engine.Attr{}, []arr{x, a(sh(1, 5), 1, 0, 2, 2, 0)}, []arr{a(y, 2, 3, 6, 7)})
	check(t, engine.Crop, engine.Attr{}, []arr{x, a(sh(1, 5), 1, 0, 2, 2, 1)}, []arr{a(y, 3, 2, 7, 6)})
	check(t, engine.Crop, engine.Attr{}, []arr{x, a(sh(1, 5), 3, 1, 1, 1, 1)}, []arr{a(y, 8, 8, 8, 8)})
	check(t, engine.Crop, engine.Attr{}, []arr{a(sh(1, 1, 1, 5), 3, 3, 3, 3, 3), a(sh(1, 5), 0, 0, 5, 1, 0)}, []arr{a(y, 3, 3, 3, 3)})
	for _, box := range [][]float64{{0, 0, 5, 2}, {-1, 0, 2, 2}, {0, 1, 2, 2}, {0, 0, 0, 1}, {math.NaN(), 0, 1, 1}} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "4 px wide and 2 px high") {
					t.Errorf("box %v: %v", box, r)
				}
			}()
			MustBox(box, 2, 4)
		}()
	}
}

func TestOptimisers(t *testing.T) {
	at := engine.Attr{Momentum: 0.5, WeightDecay: 0.1}
	sched := v(0.1, 0.01)
	check(t, engine.SGD, at, []arr{v(1), v(2), v(99), v(0), sched}, []arr{v(1 - 0.1*2.1), v(2.1)})
	check(t, engine.SGD, at, []arr{v(1), v(2), v(4), v(9), sched}, []arr{v(1 - 0.01*4.1), v(4.1)})
	check(t, engine.SGD, engine.Attr{}, []arr{v(1), v(2), {}, v(0), sched}, []arr{v(0.8), {}})
	ad := engine.Attr{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8}
	check(t, engine.Adam, ad, []arr{v(1), v(2), v(0), v(0), v(0), sched}, []arr{v(0.9), v(0.2), v(0.04)})
	ad.Decoupled, ad.WeightDecay = true, 0.5
	check(t, engine.Adam, ad, []arr{v(1), v(2), v(0), v(0), v(0), sched}, []arr{v(0.85), v(0.2), v(0.04)})
}

func TestCompileRefuses(t *testing.T) {
	e := New[float32]()
	p, _ := build(e, engine.Assign, engine.Attr{}, []arr{v(1, 2)}, []arr{v(0, 0)})
	other, _ := New[float64]().NewBuffer(2)
	p.Slots[1].Bound = other
	if _, err := e.Compile(p); err == nil || !strings.Contains(err.Error(), "another engine") {
		t.Errorf("a foreign buffer: %v", err)
	}
	short, _ := e.NewBuffer(1)
	p.Slots[1].Bound = short
	if _, err := e.Compile(p); err == nil || !strings.Contains(err.Error(), "needs 2 numbers") {
		t.Errorf("a short buffer: %v", err)
	}
	p.Slots[1].Bound = nil
	if _, err := e.Compile(p); err == nil || !strings.Contains(err.Error(), "outside the arena") {
		t.Errorf("a slot outside the arena: %v", err)
	}
}
