package cpu

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/enginetest"
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
	t.Log(e.Fingerprint(), "|", e.BLAS(), "|", e.Warning())
	enginetest.Run(t, e, 2e-5)
}

func TestEveryOperationAgreesWithoutOpenBLAS(t *testing.T) {
	t.Setenv("CLIPINSPECTOR_BLAS", "none")
	e := newEngine(t, 2)
	if e.Warning() == "" {
		t.Error("no warning without OpenBLAS")
	}
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

// mlp is a program of a product, an activation and another product, of which the first two are fused.
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
