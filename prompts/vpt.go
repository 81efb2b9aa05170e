package prompts

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/internal/dense"
	"clipinspector/settings"
)

func init() {
	Register(&Learner{
		Name: "vpt",
		Doc:  "prompts in the image tower under fixed zero-shot texts (VPT, Jia et al., ECCV 2022)",
		Params: []settings.Param{
			{Name: "prompts", Unit: "tokens", Doc: "visual prompts of a layer (VPT: 1 to 200)", Default: 8, Min: 1, Max: 256},
			{Name: "depth", Unit: "blocks", Doc: "blocks that get prompts of their own: 1 is VPT-shallow, 0 stands for all, VPT-deep", Default: 0, Min: 0, Max: 128},
			{Name: "init", Doc: "words in front of the class name", Default: "a photo of a"},
		},
		FixedTexts: true,
		Init: func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error) {
			if err := m.checkFixedText(); err != nil {
				return nil, err
			}
			v := m.CLIP.Config.Vision
			depth := m.Settings.Int("depth")
			if depth > v.Layers {
				return nil, fmt.Errorf("depth: prompts for %d blocks; the image tower has %d", depth, v.Layers)
			}
			if depth == 0 {
				depth = v.Layers
			}
			// VPT draws from U(-a, a), a = sqrt(6 / (3 * patch area + width)).
			bound := math.Sqrt(6 / float64(3*v.PatchSize*v.PatchSize+v.Width))
			n := m.Settings.Int("prompts")
			data := make([]float32, depth*n*v.Width)
			for i := range data {
				data[i] = float32((2*rng.Float64() - 1) * bound)
			}
			return map[string]*tensor.Dense{"visual": dense.New(data, depth, n, v.Width)}, nil
		},
		Visual: func(s settings.Values) int { return s.Int("prompts") },
		Image: func(r *Recording, pixels autodiff.Value) autodiff.Value {
			return r.Towers.Image(pixels, visualPrompts(r.Params["visual"]))
		},
		Text: fixedText,
	})
}

// visualPrompts are prompts [depth,n,W] by layer.
func visualPrompts(v autodiff.Value) (p clip.ImagePrompts) {
	for i := range v.Dim(0) {
		p.Layers = append(p.Layers, v.Slice(0, i, 1).Reshape(v.Dim(1), v.Dim(2)))
	}
	return p
}
