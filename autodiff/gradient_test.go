package autodiff

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/plain"
)

func freshSeed(t *testing.T) int {
	seed := int(rand.Uint32N(1 << 30))
	t.Logf("seed %d", seed)
	return seed
}

// Every gradient agrees with central differences of the loss in float64.
func TestGradientsAgainstFiniteDifferences(t *testing.T) {
	const h = 1e-5
	seed := freshSeed(t)
	for _, c := range opCases() {
		t.Run(c.name, func(t *testing.T) {
			wrt := c.differentiable()
			b := c.record(t, plain.New[float64](), seed, wrt)
			got := make([][]float64, len(wrt))
			for i, k := range wrt {
				got[i] = b.gradient(t, i, c.in[k])
			}
			for i, k := range wrt {
				x := b.p.Array(b.in[k]).Buffer.(*plain.Buffer[float64]).Data()
				want := make([]float64, len(x))
				for j, was := range x {
					x[j] = was + h
					b.run(t)
					up := data(t, b.p, b.loss)[0]
					x[j] = was - h
					b.run(t)
					want[j] = (up - data(t, b.p, b.loss)[0]) / (2 * h)
					x[j] = was
				}
				if c.name == "detach" { // by definition not what differences see
					copy(want, detachGradient(c, k, seed))
				}
				near(t, fmt.Sprintf("gradient of operand %d", k), got[i], want, 1e-6, 0.01)
			}
		})
	}
}

// detachGradient: d(x*const(x))/dx = weight*x, nothing for the other operand.
func detachGradient(c opCase, k, seed int) []float64 {
	d := make([]float64, engine.Size(c.in[k].shape))
	if k == 0 {
		x, w := numbers(c.in[0], seed), numbers(c.in[0], seed+100)
		for i := range d {
			d[i] = x[i] * w[i]
		}
	}
	return d
}

// A gradient does not depend on which others are asked for, nor on whether weights come as a loss
// or as dy, and a second run gives the same bits.
func TestGradientsOneByOne(t *testing.T) {
	e := plain.New[float64]()
	seed := freshSeed(t)
	for _, c := range opCases() {
		t.Run(c.name, func(t *testing.T) {
			wrt := c.differentiable()
			all := c.record(t, e, seed, wrt)
			all.run(t)
			for i, k := range wrt {
				alone := c.record(t, e, seed, []int{k})
				near(t, fmt.Sprintf("gradient of operand %d alone", k), alone.gradient(t, 0, c.in[k]), all.gradient(t, i, c.in[k]), 0, 0)
				if all.p.Stats().Instructions < alone.p.Stats().Instructions {
					t.Errorf("operand %d alone takes %d instructions, all take %d", k, alone.p.Stats().Instructions, all.p.Stats().Instructions)
				}
			}
			if len(all.out) != 1 || c.flat {
				return
			}
			g := New(e)
			in := make([]Value, len(c.in))
			for i, f := range c.in {
				in[i] = g.Const(float32s(numbers(f, seed+i)), f.shape...)
			}
			y := c.build(in)[0]
			dy := g.Const(float32s(numbers(uni(y.Shape()...), seed+100)), y.Shape()...)
			vs := make([]Value, len(wrt))
			for i, k := range wrt {
				vs[i] = in[k]
			}
			grads := Grad(y, dy, vs...)
			var outputs []Value
			for _, d := range grads {
				if d.Valid() {
					outputs = append(outputs, d)
				}
			}
			p, err := g.Compile(outputs...)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Free()
			if err := p.Run(); err != nil {
				t.Fatal(err)
			}
			for i, d := range grads {
				if d.Valid() != all.grads[i].Valid() {
					t.Errorf("operand %d: a gradient by loss %v, by dy %v", wrt[i], all.grads[i].Valid(), d.Valid())
				} else if d.Valid() {
					near(t, fmt.Sprintf("gradient of operand %d by dy", wrt[i]), data(t, p, d), data(t, all.p, all.grads[i]), 1e-14, 1)
				}
			}
		})
	}
}

// Other engines agree with the float64 reference, outputs and gradients.
func TestEnginesAgainstFloat64(t *testing.T) {
	seed := freshSeed(t)
	onEngines(t, func(t *testing.T, e engine.Engine, tol float64) {
		for _, c := range opCases() {
			t.Run(c.name, func(t *testing.T) {
				wrt := c.differentiable()
				want := c.record(t, plain.New[float64](), seed, wrt)
				got := c.record(t, e, seed, wrt)
				for i := range want.out {
					near(t, fmt.Sprintf("output %d", i), data(t, got.p, got.out[i]), data(t, want.p, want.out[i]), tol, 0.01)
				}
				for i, k := range wrt {
					near(t, fmt.Sprintf("gradient of operand %d", k), got.gradient(t, i, c.in[k]), want.gradient(t, i, c.in[k]), tol, 0.01)
				}
				first := data(t, got.p, got.loss)
				got.run(t)
				if !slices.Equal(first, data(t, got.p, got.loss)) {
					t.Error("a second run gives another loss")
				}
			})
		}
	})
}
