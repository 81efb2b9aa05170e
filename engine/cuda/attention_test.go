package cuda_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/cuda"
	"clipinspector/engine/cuda/host"
	"clipinspector/engine/plain"
	"clipinspector/internal/enginetest"
)

// attentionShapes are tokens and head widths: of CLIP's towers (ViT-B/32, text, ViT-B/16,
// ViT-L/14), of the mini CLIP's, and ragged ones, of which the last two do not fit tensor cores.
var attentionShapes = [][2]int{{50, 64}, {77, 64}, {197, 64}, {257, 64}, {37, 32}, {24, 32}, {1, 64}, {16, 64}, {17, 60}, {113, 4},
	{300, 20}, {33, 18}, {33, 80}}

// attentionError bounds the root mean square of an output's errors, relative to that of the output.
// Ten times that bounds a single one. TF32 rounds scores, whose error grows with them; the inputs
// for BF16 are exact.
func attentionError(p cuda.Precision, spread int) float64 {
	if p == cuda.TF32 {
		return 1.5e-3 * float64(spread*spread)
	}
	return 5e-3
}

func TestAttentionOnTensorCores(t *testing.T) {
	for p, kinds := range map[cuda.Precision][]string{cuda.TF32: {"", "_tf32"}, cuda.BF16: {"", "_tf32", "_bf16"}} {
		t.Run(string(p), func(t *testing.T) {
			open := func(backward bool) (*cuda.Engine, *recorder) {
				d, err := host.New(host.Options{Backward: backward})
				if errors.Is(err, host.ErrNoCompiler) {
					t.Skip(err)
				}
				if err != nil {
					t.Fatal(err)
				}
				r := &recorder{d, map[string]bool{}}
				e, err := cuda.NewOn(r, "host", p)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { e.Close() })
				e.HalfEverywhere()
				return e, r
			}
			e, r := open(false)
			back, _ := open(true)
			before := r.Allocated()
			eachAttention(t, p, func(t *testing.T, c *enginetest.Case, tol float64) {
				x := agrees(t, staged{e}, c, tol)
				if p == cuda.BF16 && c.In[0].Shape[1] < 100 {
					agrees(t, e, c, tol) // from buffers, which are float32: q, k and v are taken as TF32, outputs are bf16
				}
				y, err := c.Exec(staged{back})
				if err != nil {
					t.Fatal(err)
				}
				for k := range x {
					for i, v := range x[k] {
						if math.Float32bits(v) != math.Float32bits(y[k][i]) {
							t.Fatalf("%v: output %d, element %d is %v, %v when threads take turns backward", c, k, i, v, y[k][i])
						}
					}
				}
			})
			if n := r.Allocated(); n != before {
				t.Errorf("%d pieces of memory were not given back", n-before)
			}
			var want []string
			for _, kernel := range []string{"attention", "attention_grad_kv", "attention_grad_q"} {
				for _, kind := range kinds {
					want = append(want, kernel+kind)
				}
			}
			slices.Sort(want)
			if got := slices.Sorted(maps.Keys(r.kernels)); !slices.Equal(got, want) {
				t.Errorf("ran %v, want %v", got, want)
			}
		})
	}
}

// recorder notes which kernels of attention an emulated device is given.
type recorder struct {
	*host.Driver
	kernels map[string]bool
}

func (r *recorder) Prepare(steps []cuda.Step) (cuda.Graph, error) {
	for _, s := range steps {
		if strings.HasPrefix(s.Kernel, "attention") {
			r.kernels[s.Kernel] = true
		}
	}
	return r.Driver.Prepare(steps)
}

// eachAttention calls f for attention and its gradient at every shape, with scores of standard
// deviation 1 or 9, and with the error that the precision may make.
func eachAttention(t *testing.T, p cuda.Precision, f func(t *testing.T, c *enginetest.Case, tol float64)) {
	rng := rand.New(rand.NewPCG(11, 12))
	random := func(shape ...int) enginetest.Array {
		x := make([]float32, engine.Size(shape))
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return enginetest.Array{Shape: shape, Data: x}
	}
	round := func(x []float32) {
		if p == cuda.BF16 {
			roundHalf(x)
		}
	}
	for n, shape := range attentionShapes {
		for k, causal := range []bool{false, true} {
			s, d, b, h, spread := shape[0], shape[1], 1, 1, 1+(n+k)%2*2
			if s < 100 {
				b, h = 2, 1+rng.IntN(2)
			}
			t.Run(fmt.Sprintf("%d tokens of %d causal=%v spread=%d", s, d, causal, spread), func(t *testing.T) {
				qkv, do, w := random(b, s, 3*h*d), random(b, s, h*d), h*d
				for i := range qkv.Data {
					if i%(3*w) < 2*w {
						qkv.Data[i] *= float32(spread)
					}
				}
				round(qkv.Data)
				round(do.Data)
				c := &enginetest.Case{Op: engine.Attention, Attr: engine.Attr{Heads: h, Causal: causal}, In: []enginetest.Array{qkv},
					Out: []enginetest.Array{{Shape: do.Shape}, {Shape: []int{b, h, s}}}}
				f(t, c, attentionError(p, spread))
				out, err := c.Exec(plain.New[float64]())
				if err != nil {
					t.Fatal(err)
				}
				round(out[0])
				f(t, &enginetest.Case{Op: engine.AttentionGrad, Attr: c.Attr, Out: []enginetest.Array{{Shape: qkv.Shape}},
					In: []enginetest.Array{qkv, {Shape: do.Shape, Data: out[0]}, {Shape: []int{b, h, s}, Data: out[1]}, do}},
					attentionError(p, spread))
			})
		}
	}
}

// agrees holds a case against the reference, the gradients of q, k and v each by itself, and
// returns the outputs.
func agrees(t *testing.T, e engine.Engine, c *enginetest.Case, tol float64) [][]float32 {
	t.Helper()
	got, err := c.Exec(e)
	if err != nil {
		t.Fatal(err)
	}
	want, err := c.Exec(plain.New[float64]())
	if err != nil {
		t.Fatal(err)
	}
	parts := 1
	if c.Op == engine.AttentionGrad {
		parts = 3
	}
	for k := range want {
		width := c.Out[k].Shape[2] / parts
		for part := range parts {
			var square, wrong float64
			each := func(f func(got, want float64)) {
				for i, v := range want[k] {
					if i/width%parts == part {
						f(float64(got[k][i]), float64(v))
					}
				}
			}
			each(func(g, w float64) { square, wrong = square+w*w, wrong+(g-w)*(g-w) })
			n := float64(len(want[k]) / parts)
			scale, rms := math.Sqrt(square/n), math.Sqrt(wrong/n)
			if scale == 0 {
				scale = 1 // a single token's scores have no gradient
			}
			if !(rms <= tol*scale) {
				t.Errorf("%v: output %d, part %d is %.2g off, at most %.2g is allowed", c, k, part, rms/scale, tol)
			}
			each(func(g, w float64) {
				if !(math.Abs(g-w) <= 10*tol*(scale+math.Abs(w))) {
					t.Errorf("%v: output %d, part %d: %v, want %v", c, k, part, g, w)
				}
			})
			t.Logf("%v, output %d, part %d: %.2g off, %.2g is allowed", c.Op, k, part, rms/scale, tol)
		}
	}
	return got
}
