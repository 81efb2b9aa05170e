// Package enginetest compares engines with the reference: random instructions of every operation,
// over shapes that include odd sizes, empty reductions' neighbours and absent operands.
package enginetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/plain"
)

// Case is one instruction with its operands' numbers. Out holds what the outputs contain before,
// which matters to the optimisers alone. A nil shape is an absent operand.
type Case struct {
	Op      engine.Op
	Attr    engine.Attr
	In, Out []Array
	InPlace map[int]int // outputs that are the same memory as an input
}

// Array is a shape with its numbers.
type Array struct {
	Shape []int
	Data  []float32
}

func (c *Case) String() string {
	s := c.Op.String()
	for _, x := range c.In {
		s += fmt.Sprint(" ", x.Shape)
	}
	return fmt.Sprintf("%s -> %v %+v", s, c.Out[0].Shape, c.Attr)
}

var oracle = plain.New[float64]()

// Run holds an engine against the float64 reference on random instructions of every operation. An
// element may differ by tol, relative to the larger of 1 and the output's root mean square.
func Run(t *testing.T, e engine.Engine, tol float64) {
	rng := rand.New(rand.NewPCG(1, 2))

	for op := engine.Op(0); int(op) < engine.NumOps; op++ {
		t.Run(op.String(), func(t *testing.T) {
			n := 60
			if testing.Short() {
				n = 15
			}
			for range n {
				if err := Random(rng, op).Check(e, tol); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Check executes the instruction on an engine and on the float64 reference and reports the element
// that differs by more than tol, relative as in Run.
func (c *Case) Check(e engine.Engine, tol float64) error {
	got, err := c.Exec(e)
	if err != nil {
		return fmt.Errorf("%v: %w", c, err)
	}
	want, err := c.Exec(oracle)
	if err != nil {
		return fmt.Errorf("%v: %w", c, err)
	}
	for k := range want {
		if i, d := worst(got[k], want[k]); d > tol {
			return fmt.Errorf("%v: output %d, element %d is %v, want %v (%.2g off)", c, k, i, got[k][i], want[k][i], d)
		}
	}
	return nil
}

// worst returns the element that differs most and by how much.
func worst(got, want []float32) (at int, d float64) {
	var square float64
	for _, v := range want {
		square += float64(v) * float64(v)
	}
	scale := max(1, math.Sqrt(square/float64(max(1, len(want)))))
	for i, v := range want {
		e := math.Abs(float64(got[i])-float64(v)) / (scale + math.Abs(float64(v)))
		if e > d || e != e {
			at, d = i, e
			if e != e {
				return at, math.Inf(1)
			}
		}
	}
	return at, d
}

// Exec executes the instruction on an engine, twice where that may be repeated, and returns its
// outputs; nil for an absent one. Inputs lie in buffers, outputs behind one another in the arena,
// from where they are assigned to buffers.
func (c *Case) Exec(e engine.Engine) ([][]float32, error) {
	p := &engine.Program{}
	bound := func(x Array) (engine.Operand, engine.Buffer, error) {
		if x.Shape == nil {
			return engine.Absent, nil, nil
		}
		n := engine.Size(x.Shape)
		b, err := e.NewBuffer(n)
		if err != nil {
			return engine.Absent, nil, err
		}
		if x.Data != nil {
			err = b.Write(0, x.Data)
		}
		p.Slots = append(p.Slots, engine.Slot{Len: n, Bound: b})
		return engine.Operand{Slot: len(p.Slots) - 1, Shape: x.Shape}, b, err
	}
	ins := engine.Instr{Op: c.Op, Attr: c.Attr}
	var buffers []engine.Buffer
	defer func() {
		for _, b := range buffers {
			if b != nil {
				b.Free()
			}
		}
	}()
	for _, x := range c.In {
		o, b, err := bound(x)
		if err != nil {
			return nil, err
		}
		ins.In, buffers = append(ins.In, o), append(buffers, b)
	}
	p.Instrs = append(p.Instrs, ins)
	var outs []engine.Buffer
	for k, x := range c.Out {
		if i, ok := c.InPlace[k]; ok {
			p.Instrs[0].Out, outs = append(p.Instrs[0].Out, ins.In[i]), append(outs, buffers[i])
			continue
		}
		dst, b, err := bound(x)
		if err != nil {
			return nil, err
		}
		outs, buffers = append(outs, b), append(buffers, b)
		if b == nil {
			p.Instrs[0].Out = append(p.Instrs[0].Out, engine.Absent)
			continue
		}
		n := engine.Size(x.Shape)
		p.Slots = append(p.Slots, engine.Slot{Len: n, Offset: p.Arena})
		p.Arena += n
		src := engine.Operand{Slot: len(p.Slots) - 1, Shape: x.Shape}
		p.Instrs[0].Out = append(p.Instrs[0].Out, src)
		p.Instrs = append(p.Instrs, engine.Instr{Op: engine.Assign, In: []engine.Operand{src}, Out: []engine.Operand{dst}})
	}
	x, err := e.Compile(p)
	if err != nil {
		return nil, err
	}
	defer x.Free()
	runs := 2
	if c.InPlace != nil {
		runs = 1
	}
	for range runs {
		if err := x.Run(); err != nil {
			return nil, err
		}
	}
	r := make([][]float32, len(outs))
	for i, b := range outs {
		if b != nil {
			r[i] = make([]float32, b.Len())
			if err := b.Read(0, r[i]); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}
