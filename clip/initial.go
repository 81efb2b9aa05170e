package clip

import (
	"fmt"
	"math"
	"math/rand/v2"

	"clipinspector/internal/safetensors"
)

// initialWeights draws the weights that pretraining starts from: those of RandomWeights, except
// that the image tower begins with an idea of neighbourhood, which small transformers otherwise
// spend most of a short training on.
//
// Positions are the two-dimensional sines and cosines of MoCo v3 (Chen et al. 2021). Attention
// starts as in "Mimetic initialization of self-attention layers" (Trockman and Kolter 2023): within
// a head queries and keys are the same random projection, so that a patch looks at patches like it
// and near it, and values through the output projection are minus a part of the identity. They use
// singular values to make products near the identity; orthogonal rows do it without.
func initialWeights(c Config, seed uint64) Weights {
	w := RandomWeights(c, seed)
	v := c.Vision
	values := func(name string) []float32 { return safetensors.Values(w["vision_model."+name]) }
	sines(values("embeddings.position_embedding.weight"), v.ImageSize/v.PatchSize, v.Width)
	d := v.Width
	for layer := range v.Layers {
		name := fmt.Sprintf("encoder.layers.%d.self_attn.", layer)
		rng := rand.New(rand.NewPCG(seed, uint64(layer)))
		alike := orthogonal(rng, d)
		q, k := values(name+"q_proj.weight"), values(name+"k_proj.weight")
		for i, x := range alike {
			q[i] += float32(initialAlike * x)
			k[i] += float32(initialAlike * x)
		}
		through := orthogonal(rng, d)
		value, out := values(name+"v_proj.weight"), values(name+"out_proj.weight")
		for i := range d {
			for j := range d {
				value[i*d+j] += float32(initialThrough * through[i*d+j])
				out[j*d+i] -= float32(initialThrough * through[i*d+j])
			}
		}
	}
	return w
}

const (
	initialAlike    = 0.7 // scale of the shared projection of queries and keys
	initialThrough  = 0.6 // scale of values and of the output projection
	initialPosition = 0.5 // amplitude of the sines
)

// sines fills the positions [1+side*side, width] of patches with sines and cosines of their column
// and row, a quarter of the width each; the class token's stays random.
func sines(p []float32, side, width int) {
	quarter := width / 4
	for i := range side * side {
		row := p[(1+i)*width : (2+i)*width]
		for k := range quarter {
			f := math.Pow(100, -float64(k)/float64(quarter))
			x, y := f*float64(i%side), f*float64(i/side)
			for part, s := range [4]float64{math.Sin(x), math.Cos(x), math.Sin(y), math.Cos(y)} {
				row[part*quarter+k] = float32(initialPosition * s)
			}
		}
	}
}

// orthogonal returns a random orthogonal matrix [d,d], by Gram and Schmidt.
func orthogonal(rng *rand.Rand, d int) []float64 {
	m := make([]float64, d*d)
	for i := range d {
		row := m[i*d : (i+1)*d]
		for j := range row {
			row[j] = rng.NormFloat64()
		}
		for range 2 { // the second time for precision
			for k := range i {
				other := m[k*d : (k+1)*d]
				var dot float64
				for j, x := range other {
					dot += x * row[j]
				}
				for j, x := range other {
					row[j] -= dot * x
				}
			}
		}
		var norm float64
		for _, x := range row {
			norm += x * x
		}
		for j := range row {
			row[j] /= math.Sqrt(norm)
		}
	}
	return m
}
