package cuda_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/cuda"
	"clipinspector/engine/cuda/host"
	"clipinspector/internal/enginetest"
)

func newEngine(t testing.TB, o host.Options, p cuda.Precision) (*cuda.Engine, *host.Driver) {
	t.Helper()
	d, err := host.New(o)
	if errors.Is(err, host.ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	e, err := cuda.NewOn(d, "host", p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, d
}

// cases is how many random instructions of an operation a test takes: a third of n in short mode.
func cases(n int) int {
	if testing.Short() {
		return n / 3
	}
	return n
}

func TestEveryOperationAgreesWithTheReference(t *testing.T) {
	e, d := newEngine(t, host.Options{}, cuda.FP32)
	before := d.Allocated()
	enginetest.Run(t, e, 2e-5)
	if n := d.Allocated(); n != before {
		t.Errorf("%d pieces of memory were not given back", n-before)
	}
}

func TestEveryOperationAgreesWithoutALibrary(t *testing.T) {
	e, _ := newEngine(t, host.Options{NoLibrary: true}, cuda.FP32)
	enginetest.Run(t, e, 2e-5)
}

// A kernel that lacks a barrier gives other numbers when its threads take turns in another order.
func TestTheOrderOfThreadsDoesNotChangeABit(t *testing.T) {
	a, _ := newEngine(t, host.Options{NoLibrary: true}, cuda.FP32)
	b, _ := newEngine(t, host.Options{NoLibrary: true, Backward: true}, cuda.FP32)
	rng := rand.New(rand.NewPCG(3, 4))
	for op := engine.Op(0); int(op) < engine.NumOps; op++ {
		for range cases(10) {
			c := enginetest.Random(rng, op)
			x, err := c.Exec(a)
			if err != nil {
				t.Fatal(err)
			}
			y, err := c.Exec(b)
			if err != nil {
				t.Fatal(err)
			}
			for k := range x {
				for i, v := range x[k] {
					if math.Float32bits(v) != math.Float32bits(y[k][i]) {
						t.Fatalf("%v: output %d, element %d is %v forward and %v backward", c, k, i, v, y[k][i])
					}
				}
			}
		}
	}
}

// tolerance is what a precision may cost an element, relative to the output's root mean square:
// products round their operands to 11 bits of mantissa with TF32; with BF16 the operands are exact
// here and results are rounded to 8 bits.
var tolerance = map[cuda.Precision]float64{cuda.TF32: 3e-3, cuda.BF16: 8e-3}

func TestLowerPrecisionsStayNearTheReference(t *testing.T) {
	for p, tol := range tolerance {
		for _, o := range []host.Options{{}, {NoLibrary: true}} {
			t.Run(fmt.Sprintf("%s %+v", p, o), func(t *testing.T) {
				e, _ := newEngine(t, o, p)
				e.HalfEverywhere()
				lower(t, e, p, tol)
			})
		}
	}
}

// lower holds an engine of lower precision against the reference on programs that keep their inputs
// in the arena.
func lower(t *testing.T, e engine.Engine, p cuda.Precision, tol float64) {
	rng := rand.New(rand.NewPCG(5, 6))
	for op := engine.Op(0); int(op) < engine.NumOps; op++ {
		for range cases(15) {
			c := enginetest.Random(rng, op)
			if p == cuda.BF16 {
				roundInputs(c)
			}
			if err := c.Check(staged{e}, tol); err != nil {
				t.Error(err)
				break
			}
		}
	}
}

// roundInputs makes every input a bf16 number.
func roundInputs(c *enginetest.Case) {
	for _, x := range c.In {
		roundHalf(x.Data)
	}
}

func roundHalf(x []float32) {
	for i, v := range x {
		x[i] = math.Float32frombits((math.Float32bits(v) + 0x8000) &^ 0xffff)
	}
}

// staged is an engine whose programs read their inputs from the arena, where they may be stored as
// bf16.
type staged struct{ engine.Engine }

func (s staged) Compile(p *engine.Program) (engine.Executable, error) {
	q := &engine.Program{Slots: append([]engine.Slot(nil), p.Slots...), Arena: p.Arena}
	written := map[int]bool{}
	for _, ins := range p.Instrs {
		for _, o := range ins.Out {
			written[o.Slot] = true
		}
	}
	moved := map[int]int{}
	for _, ins := range p.Instrs {
		in := append([]engine.Operand(nil), ins.In...)
		for i, o := range in {
			if o.Slot < 0 || p.Slots[o.Slot].Bound == nil || written[o.Slot] {
				continue
			}
			to, ok := moved[o.Slot]
			if !ok {
				to = len(q.Slots)
				moved[o.Slot] = to
				n := p.Slots[o.Slot].Len
				q.Slots = append(q.Slots, engine.Slot{Len: n, Offset: q.Arena})
				q.Arena += n
				flat := []int{n}
				q.Instrs = append(q.Instrs, engine.Instr{Op: engine.Assign,
					In: []engine.Operand{{Slot: o.Slot, Shape: flat}}, Out: []engine.Operand{{Slot: to, Shape: flat}}})
			}
			in[i].Slot = to
		}
		ins.In = in
		q.Instrs = append(q.Instrs, ins)
	}
	return s.Engine.Compile(q)
}
