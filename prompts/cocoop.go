package prompts

import (
	"math"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/internal/dense"
)

func init() {
	Register(&Learner{
		Name:        "cocoop",
		Doc:         "a shared context shifted for each image by a meta-net on its feature (CoCoOp, Zhou et al., CVPR 2022)",
		Params:      contextParams,
		Conditional: true,
		Init: func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error) {
			ctx, err := m.initialContext(1, rng)
			if err != nil {
				return nil, err
			}
			d, w := m.CLIP.Config.ProjectionDim, m.CLIP.Config.Text.Width
			hidden := max(1, d/16)
			return map[string]*tensor.Dense{
				"ctx":                     ctx,
				"meta_net.linear1.weight": uniform(rng, d, hidden, d),
				"meta_net.linear1.bias":   uniform(rng, d, hidden),
				"meta_net.linear2.weight": uniform(rng, hidden, w, hidden),
				"meta_net.linear2.bias":   uniform(rng, hidden, w),
			}, nil
		},
		Text: func(r *Recording, features autodiff.Value) autodiff.Value {
			p := r.Params
			bias := features.Linear(p["meta_net.linear1.weight"], p["meta_net.linear1.bias"]).ReLU().
				Linear(p["meta_net.linear2.weight"], p["meta_net.linear2.bias"]) // [B,W]
			b, w := bias.Dim(0), bias.Dim(1)
			n := p["ctx"].Dim(0)
			ctx := p["ctx"].Reshape(1, n, w).Add(bias.Reshape(b, 1, w))
			v := r.encode(ctx.Reshape(b, 1, n, w))
			return v.Reshape(b, len(r.Model.Classes), v.Dim(1))
		},
	})
}

// uniform draws a tensor as torch.nn.Linear draws its weights and biases: U(-1,1)/sqrt(fan in).
func uniform(rng *rand.Rand, fanIn int, shape ...int) *tensor.Dense {
	n := 1
	for _, s := range shape {
		n *= s
	}
	data := make([]float32, n)
	bound := 1 / math.Sqrt(float64(fanIn))
	for i := range data {
		data[i] = float32((2*rng.Float64() - 1) * bound)
	}
	return dense.New(data, shape...)
}
