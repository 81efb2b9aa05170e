package cpu

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/plain"
	"clipinspector/internal/enginetest"
)

func newEngine(t testing.TB, threads int) *Engine {
	t.Helper()
	e, err := New(Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func TestEveryOperationAgreesWithTheReference(t *testing.T) {
	e := newEngine(t, 2)
	t.Log(e.Fingerprint(), "|", e.SIMD(), "|", e.Warning())
	enginetest.Run(t, e, 2e-5)
}

func TestThreadsDoNotChangeABit(t *testing.T) {
	e := []*Engine{newEngine(t, 1), newEngine(t, 2), newEngine(t, 3)}
	rng := rand.New(rand.NewPCG(3, 4))
	for op := engine.Op(0); int(op) < engine.NumOps; op++ {
		for range 20 {
			c := enginetest.Random(rng, op)
			var first [][]float32
			for _, e := range e {
				out, err := c.Exec(e)
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = out
				}
				for k := range out {
					for i, v := range out[k] {
						if math.Float32bits(v) != math.Float32bits(first[k][i]) {
							t.Fatalf("%v: output %d, element %d is %v with one thread, %v with %d", c, k, i, first[k][i], v, e.Threads())
						}
					}
				}
			}
		}
	}
}

// mlp is a program of a product, an activation and another product, of which the first two are
// fused.
func mlp(t testing.TB, e *Engine, rows, width, hidden int) (x engine.Executable, in, pre, act, out engine.Buffer) {
	t.Helper()
	p := &engine.Program{}
	rng := rand.New(rand.NewPCG(5, 6))
	slot := func(shape ...int) (engine.Operand, engine.Buffer) {
		b, err := e.NewBuffer(engine.Size(shape))
		if err != nil {
			t.Fatal(err)
		}
		data := make([]float32, b.Len())
		for i := range data {
			data[i] = float32(rng.NormFloat64()) / 8
		}
		b.Write(0, data)
		p.Slots = append(p.Slots, engine.Slot{Len: b.Len(), Bound: b})
		return engine.Operand{Slot: len(p.Slots) - 1, Shape: shape}, b
	}
	xo, in := slot(rows, width)
	w1, _ := slot(hidden, width)
	b1, _ := slot(hidden)
	w2, _ := slot(width, hidden)
	po, pre := slot(rows, hidden)
	ao, act := slot(rows, hidden)
	yo, out := slot(rows, width)
	p.Instrs = []engine.Instr{
		{Op: engine.MatMul, In: []engine.Operand{xo, w1, b1}, Out: []engine.Operand{po},
			Attr: engine.Attr{Batch: 1, M: rows, N: hidden, K: width, TransB: true, Alpha: 1}},
		{Op: engine.Unary, In: []engine.Operand{po}, Out: []engine.Operand{ao}, Attr: engine.Attr{Func: engine.QuickGELU}},
		{Op: engine.MatMul, In: []engine.Operand{ao, w2, engine.Absent}, Out: []engine.Operand{yo},
			Attr: engine.Attr{Batch: 1, M: rows, N: width, K: hidden, TransB: true, Alpha: 1}},
	}
	x, err := e.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return x, in, pre, act, out
}

func read(b engine.Buffer) []float32 {
	x := make([]float32, b.Len())
	b.Read(0, x)
	return x
}

func TestFusedActivation(t *testing.T) {
	x, _, pre, act, _ := mlp(t, newEngine(t, 2), 130, 96, 300)
	x.Run()
	for i, v := range read(pre) {
		want := float64(v) / (1 + math.Exp(-1.702*float64(v)))
		if got := read(act)[i]; math.Abs(float64(got)-want) > 1e-6 {
			t.Fatalf("element %d: %v, want %v", i, got, want)
		}
		if i > 2000 {
			break
		}
	}
}

func TestRunDoesNotAllocate(t *testing.T) {
	x, _, _, _, _ := mlp(t, newEngine(t, 2), 130, 96, 300)
	if n := testing.AllocsPerRun(20, func() { x.Run() }); n > 0 {
		t.Errorf("%v allocations a run", n)
	}
}

func TestSeveralGoroutinesShareAnEngine(t *testing.T) {
	e := newEngine(t, 2)
	var wg sync.WaitGroup
	for range 3 {
		x, in, _, _, out := mlp(t, e, 60, 32, 64)
		first := make([]float32, out.Len())
		x.Run()
		copy(first, read(out))
		_ = in
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				x.Run()
				for i, v := range read(out) {
					if v != first[i] {
						t.Errorf("element %d changed from %v to %v", i, first[i], v)
						return
					}
				}
			}
		}()
	}
	wg.Wait()
}

// A product by a packed weight sees what the host or another program wrote to it since.
func TestProductsFollowTheirWeights(t *testing.T) {
	const rows, width = 70, 50
	e := newEngine(t, 2)
	bound := func(n int) (engine.Slot, engine.Buffer) {
		b, _ := e.NewBuffer(n)
		return engine.Slot{Len: n, Bound: b}, b
	}
	xs, x := bound(rows * width)
	ws, w := bound(width * width)
	fresh, other := bound(width * width)
	ys, y := bound(rows * width)
	op := func(slot, rows int) engine.Operand { return engine.Operand{Slot: slot, Shape: []int{rows, width}} }
	product := engine.Instr{Op: engine.MatMul, In: []engine.Operand{op(0, rows), op(1, width), engine.Absent}, Out: []engine.Operand{op(3, rows)},
		Attr: engine.Attr{Batch: 1, M: rows, N: width, K: width, Alpha: 1}}
	assign := engine.Instr{Op: engine.Assign, In: []engine.Operand{op(2, width)}, Out: []engine.Operand{op(1, width)}}
	compile := func(instrs ...engine.Instr) engine.Executable {
		exec, err := e.Compile(&engine.Program{Slots: []engine.Slot{xs, ws, fresh, ys}, Instrs: instrs})
		if err != nil {
			t.Fatal(err)
		}
		return exec
	}
	multiply, between, write := compile(product), compile(product, assign, product), compile(assign)
	ones := make([]float32, rows*width)
	for i := range ones {
		ones[i] = 1
	}
	fill := func(b engine.Buffer, v float32) {
		data := make([]float32, b.Len())
		for i := range data {
			data[i] = v
		}
		b.Write(0, data)
	}
	x.Write(0, ones)
	want := func(what string, v float32) {
		t.Helper()
		for i, got := range read(y) {
			if got != v*width {
				t.Fatalf("%s: element %d is %v, want %v", what, i, got, v*width)
			}
		}
	}
	fill(w, 2)
	multiply.Run()
	want("first weights", 2)
	fill(w, 3)
	multiply.Run()
	want("written by the host", 3)
	fill(other, 4)
	write.Run()
	multiply.Run()
	want("written by another program", 4)
	fill(other, 5)
	between.Run()
	want("written between two products of a program", 5)
	multiply.Run()
	want("and afterwards", 5)
}

// The planner may give the activation the memory of the product's input, which is dead by then.
func TestActivationInTheMemoryOfTheInput(t *testing.T) {
	const rows, width = 700, 64
	e := newEngine(t, 2)
	run := func(actAt int) []float32 {
		x, _ := e.NewBuffer(rows * width)
		w, _ := e.NewBuffer(width * width)
		y, _ := e.NewBuffer(rows * width)
		data := make([]float32, rows*width)
		for i := range data {
			data[i] = float32(i%17) / 8
		}
		x.Write(0, data)
		w.Write(0, data[:width*width])
		n := rows * width
		shape := []int{rows, width}
		op := func(slot int) engine.Operand { return engine.Operand{Slot: slot, Shape: shape} }
		p := &engine.Program{Arena: 3 * n, Slots: []engine.Slot{{Len: n, Bound: x}, {Len: width * width, Bound: w}, {Len: n, Bound: y},
			{Len: n}, {Len: n, Offset: n}, {Len: n, Offset: actAt}}}
		p.Instrs = []engine.Instr{
			{Op: engine.Assign, In: []engine.Operand{op(0)}, Out: []engine.Operand{op(3)}},
			{Op: engine.MatMul, In: []engine.Operand{op(3), {Slot: 1, Shape: []int{width, width}}, engine.Absent}, Out: []engine.Operand{op(4)},
				Attr: engine.Attr{Batch: 1, M: rows, N: width, K: width, Alpha: 0.01}},
			{Op: engine.Unary, In: []engine.Operand{op(4)}, Out: []engine.Operand{op(5)}, Attr: engine.Attr{Func: engine.QuickGELU}},
			{Op: engine.Assign, In: []engine.Operand{op(5)}, Out: []engine.Operand{op(2)}},
		}
		exec, err := e.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		exec.Run()
		return read(y)
	}
	apart, shared := run(2*rows*width), run(0)
	for i, v := range apart {
		if shared[i] != v {
			t.Fatalf("element %d: %v, want %v", i, shared[i], v)
		}
	}
}

func TestAnIndexOutsideOfItsTablePanics(t *testing.T) {
	e := newEngine(t, 1)
	for _, label := range []float32{-1, 3, float32(math.NaN())} {
		for _, c := range []enginetest.Case{
			{Op: engine.CrossEntropy, In: []enginetest.Array{{Shape: []int{1, 3}}, {Shape: []int{1}, Data: []float32{label}}},
				Out: []enginetest.Array{{Shape: []int{1}}}},
			{Op: engine.ScatterAdd, In: []enginetest.Array{{Shape: []int{1}, Data: []float32{label}}, {Shape: []int{1, 2}}},
				Out: []enginetest.Array{{Shape: []int{3, 2}}}},
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%v accepts index %v of 3", c.Op, label)
					}
				}()
				c.Exec(e)
			}()
		}
	}
}

// Exponentials, their sums and everything made of them keep their accuracy at the ends of the
// range.
func TestExtremes(t *testing.T) {
	e := newEngine(t, 1)
	inf := float32(math.Inf(1))
	x := []float32{-inf, -200, -104, -88, -87.5, -10, -1e-3, 0, 1e-3, 1, 10, 88, 88.7, 89, 200, inf, float32(math.NaN())}
	for _, f := range []engine.Func{engine.Exp, engine.QuickGELU, engine.GELU, engine.Tanh, engine.Sigmoid, engine.ReLU} {
		c := enginetest.Case{Op: engine.Unary, Attr: engine.Attr{Func: f}, In: []enginetest.Array{{Shape: []int{len(x)}, Data: x}},
			Out: []enginetest.Array{{Shape: []int{len(x)}}}}
		got, err := c.Exec(e)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := c.Exec(plain.New[float64]())
		for i, v := range want[0] {
			g := got[0][i]
			tol := 2e-6 // the argument's own rounding, 17.02 for QuickGELU of -10, is in it
			if f == engine.Exp {
				tol = 2e-7
			}
			same := g == v || (g != g && v != v) || math.Abs(float64(g-v)) <= tol*math.Abs(float64(v))+1e-37
			if !same && !(f == engine.GELU && math.Abs(float64(g-v)) < 1e-6) && !math.IsInf(float64(x[i]), 0) {
				t.Errorf("function %d of %v is %v, want %v", f, x[i], g, v)
			}
		}
	}
}

// A number's bits depend on its row and column alone: not on the tiles, nor on the parts into which
// long sums are cut.
func TestTilesDoNotChangeABit(t *testing.T) {
	const m, n, k = 250, 210, 900
	e := newEngine(t, 2)
	rng := rand.New(rand.NewPCG(9, 10))
	normal := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return x
	}
	x, w, bias := normal(m*k), normal(n*k), normal(n)
	product := func(x, w, bias []float32) []float32 {
		p, rows, cols := &engine.Program{}, len(x)/k, len(bias)
		bound := func(x []float32, shape ...int) (engine.Operand, engine.Buffer) {
			b, _ := e.NewBuffer(engine.Size(shape))
			b.Write(0, x)
			p.Slots = append(p.Slots, engine.Slot{Len: b.Len(), Bound: b})
			return engine.Operand{Slot: len(p.Slots) - 1, Shape: shape}, b
		}
		xo, _ := bound(x, rows, k)
		wo, _ := bound(w, cols, k)
		bo, _ := bound(bias, cols)
		yo, y := bound(nil, rows, cols)
		p.Instrs = []engine.Instr{{Op: engine.MatMul, In: []engine.Operand{xo, wo, bo}, Out: []engine.Operand{yo},
			Attr: engine.Attr{Batch: 1, M: rows, N: cols, K: k, TransB: true, Alpha: 0.5}}}
		exec, err := e.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		exec.Run()
		return read(y)
	}
	whole := product(x, w, bias)
	for i := range m {
		for j := range n {
			var sum float64
			for p := range k {
				sum += float64(x[i*k+p]) * float64(w[j*k+p])
			}
			if want := 0.5*sum + float64(bias[j]); math.Abs(float64(whole[i*n+j])-want) > 2e-4 {
				t.Fatalf("row %d, column %d is %v, want %v", i, j, whole[i*n+j], want)
			}
		}
	}
	for _, c := range [][4]int{{0, 1, 0, n}, {249, 250, 0, n}, {100, 170, 37, 110}, {119, 121, 209, 210}, {0, m, 5, 9}} {
		rows, cols := c[1]-c[0], c[3]-c[2]
		for i, v := range product(x[c[0]*k:c[1]*k], w[c[2]*k:c[3]*k], bias[c[2]:c[3]]) {
			if want := whole[(c[0]+i/cols)*n+c[2]+i%cols]; math.Float32bits(v) != math.Float32bits(want) {
				t.Fatalf("%dx%d numbers from row %d, column %d: element %d is %v, %v in the whole product", rows, cols, c[0], c[2], i, v, want)
			}
		}
	}
}
