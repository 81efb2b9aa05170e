// Package triggertest holds what tests of triggers share.
package triggertest

import (
	"math"
	"math/rand/v2"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine/plain"
)

// CheckGradient compares the gradients of a random weighting of record's result with central
// differences in float64, with respect to each operand at the given place; up to 40 random elements
// of each. Elements beside a kink (a clip, a cell of the sampling grid) have no derivative and are
// left out; it fails when most have.
func CheckGradient(t testing.TB, rng *rand.Rand, record func(v []autodiff.Value) autodiff.Value, at ...*tensor.Dense) {
	t.Helper()
	const h = 1e-6
	g := autodiff.New(plain.New[float64]())
	in := make([]autodiff.Value, len(at))
	for i, x := range at {
		in[i] = g.Const(x.Data().([]float32), x.Shape()...)
	}
	out := record(in)
	weights := make([]float32, out.Size())
	for i := range weights {
		weights[i] = float32(rng.NormFloat64())
	}
	loss := out.Mul(g.Const(weights, out.Shape()...)).Sum()
	grads := autodiff.Grad(loss, autodiff.None, in...)
	for i, d := range grads {
		if !d.Valid() {
			t.Fatalf("operand %d gets no gradient", i)
		}
	}
	p, err := g.Compile(append([]autodiff.Value{loss}, grads...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Free()
	numbers := func(v autodiff.Value) []float64 { return p.Array(v).Buffer.(*plain.Buffer[float64]).Data() }
	value := func() float64 {
		if err := p.Run(); err != nil {
			t.Fatal(err)
		}
		return numbers(loss)[0]
	}
	for i := range in {
		here := value()
		got := append([]float64(nil), numbers(grads[i])...)
		x := numbers(in[i])
		checked, kinks := 0, 0
		for _, j := range rng.Perm(len(x))[:min(40, len(x))] {
			was := x[j]
			x[j] = was + h
			up := value()
			x[j] = was - h
			down := value()
			x[j] = was
			if math.Abs(up-2*here+down) > 1e-3*h {
				kinks++
				continue
			}
			checked++
			// a kink too faint to be left out moves the difference by half of the step in slope
			want, bend := (up-down)/(2*h), math.Abs(up-2*here+down)/(2*h)
			if math.Abs(got[j]-want) > 1e-5*(1+math.Abs(want))+bend {
				t.Errorf("operand %d: the gradient of element %d is %v, differences say %v", i, j, got[j], want)
			}
		}
		if checked <= kinks {
			t.Errorf("operand %d: %d of %d elements lie beside a kink", i, kinks, checked+kinks)
		}
	}
}
