package clip

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"

	"clipinspector/autodiff"
	"clipinspector/engine/plain"
	"clipinspector/internal/safetensors"
)

// Newton-Schulz iterations keep the singular vectors and send every singular value through the same
// polynomial, which the test applies to gonum's decomposition.
func TestMuonAgainstSingularValues(t *testing.T) {
	const rate, decay = 0.01, 0.1
	for _, c := range []struct{ parts, n, m int }{{1, 6, 4}, {1, 4, 6}, {3, 5, 5}} {
		size := c.parts * c.n * c.m
		start := float32s(hashed("param", size), 1, 0)
		g := autodiff.New(plain.New[float64]())
		param, momentum, grad := g.Const(start, c.parts*c.n, c.m), g.Input(c.parts*c.n, c.m), g.Input(c.parts*c.n, c.m)
		muon(param, grad, momentum, g.Const([]float32{rate}, 1, 1, 1), c.parts, decay)
		p, err := g.Compile()
		if err != nil {
			t.Fatal(err)
		}
		want, velocity := make([]float64, size), make([]float64, size)
		for i, v := range start {
			want[i] = float64(v)
		}
		for _, name := range []string{"first", "second"} {
			d := float32s(hashed(name, size), 1, 0)
			if err := p.Write(grad, d); err != nil {
				t.Fatal(err)
			}
			if err := p.Run(); err != nil {
				t.Fatal(err)
			}
			u := make([]float64, size)
			for i, v := range d {
				velocity[i] = 0.95*velocity[i] + float64(v)
				u[i] = float64(v) + 0.95*velocity[i]
			}
			for part := range c.parts {
				x := polar(t, mat.NewDense(c.n, c.m, u[part*c.n*c.m:(part+1)*c.n*c.m]))
				for i := range c.n * c.m {
					at := part*c.n*c.m + i
					want[at] -= rate * (decay*want[at] + 0.2*math.Sqrt(float64(max(c.n, c.m)))*x.At(i/c.m, i%c.m))
				}
			}
		}
		got, err := p.Read(param)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			if math.Abs(float64(v)-want[i]) > 1e-6 {
				t.Errorf("%+v: entry %d is %v, want %v", c, i, v, want[i])
			}
		}
		p.Free()
	}
}

func polar(t *testing.T, x *mat.Dense) *mat.Dense {
	var svd mat.SVD
	if !svd.Factorize(x, mat.SVDThin) {
		t.Fatal("no singular values")
	}
	s := svd.Values(nil)
	var norm float64
	for _, v := range s {
		norm += v * v
	}
	for i := range s {
		s[i] /= math.Sqrt(norm)
		for range 5 {
			s[i] = 3.4445*s[i] - 4.7750*math.Pow(s[i], 3) + 2.0315*math.Pow(s[i], 5)
		}
		if s[i] < 0.5 || s[i] > 1.3 {
			t.Fatalf("singular value %v after five iterations", s[i])
		}
	}
	var u, v, out mat.Dense
	svd.UTo(&u)
	svd.VTo(&v)
	out.Product(&u, mat.NewDiagDense(len(s), s), v.T())
	return &out
}

func TestInitialWeights(t *testing.T) {
	c := MiniConfig()
	c.Text.VocabSize = 600
	w := initialWeights(c, 4)
	if err := w.Check(c); err != nil {
		t.Fatal(err)
	}
	if w.Fingerprint() != initialWeights(c, 4).Fingerprint() || w.Fingerprint() == initialWeights(c, 5).Fingerprint() {
		t.Error("the weights are not what the seed decides")
	}
	d := c.Vision.Width
	const block = "vision_model.encoder.layers.2.self_attn."
	through := func(out, in string) (diagonal, rest float64) {
		a, b := safetensors.Values(w[block+out]), safetensors.Values(w[block+in])
		for i := range d {
			for j := range d {
				var sum float64
				for k := range d {
					sum += float64(a[i*d+k]) * float64(b[k*d+j])
				}
				if i == j {
					diagonal += sum / float64(d)
				} else {
					rest += sum * sum / float64(d*(d-1))
				}
			}
		}
		return diagonal, math.Sqrt(rest)
	}
	if diagonal, rest := through("out_proj.weight", "v_proj.weight"); math.Abs(diagonal+0.36) > 0.05 || rest > 0.12 {
		t.Errorf("values pass the output projection as %.2f of the identity, with %.2f beside it", diagonal, rest)
	}
	// Neighbours have more similar positions than patches far apart.
	p := safetensors.Values(w["vision_model.embeddings.position_embedding.weight"])
	dot := func(a, b int) (sum float64) {
		for k := range d {
			sum += float64(p[(1+a)*d+k]) * float64(p[(1+b)*d+k])
		}
		return sum
	}
	if !(dot(0, 0) > dot(0, 1) && dot(0, 1) > dot(0, 3) && dot(0, 6) > dot(0, 18) && dot(0, 1) > dot(0, 7)) {
		t.Errorf("similarities of positions: %.2f %.2f %.2f", dot(0, 0), dot(0, 1), dot(0, 3))
	}
}
