package prompts

import (
	"fmt"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/settings"
)

func init() {
	Register(&Learner{
		Name: "maple",
		Doc:  "text prompts in several blocks, projected to visual prompts of the same blocks (MaPLe, Khattak et al., CVPR 2023)",
		Params: []settings.Param{
			{Name: "context", Unit: "tokens", Doc: "prompts of a block, in either tower", Default: 2, Min: 1, Max: 64},
			{Name: "depth", Unit: "blocks", Doc: "blocks that get prompts of their own, at most as many as the shallower tower has; 1 is shallow", Default: 9, Min: 1, Max: 128},
			firstTokens,
		},
		Init: func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error) {
			ctx, err := m.firstContext(rng)
			if err != nil {
				return nil, err
			}
			n, w, visual := m.Settings.Int("context"), m.CLIP.Config.Text.Width, m.CLIP.Config.Vision.Width
			p := map[string]*tensor.Dense{
				"ctx":         ctx,
				"proj.weight": uniform(rng, w, visual, w),
				"proj.bias":   uniform(rng, w, visual),
			}
			// The deeper projections are copies of one layer, as the authors' are, and only then
			// learn.
			weight, bias := uniform(rng, w, visual, w), uniform(rng, w, visual)
			for i := 1; i < min(m.Settings.Int("depth"), m.CLIP.Config.Text.Layers, m.CLIP.Config.Vision.Layers); i++ {
				text, projection := deepNames(i)
				p[text] = normal(rng, n, w)
				p[projection+".weight"], p[projection+".bias"] = weight.Clone().(*tensor.Dense), bias.Clone().(*tensor.Dense)
			}
			return p, nil
		},
		Visual: func(s settings.Values) int { return s.Int("context") },
		Image: func(r *Recording, pixels autodiff.Value) autodiff.Value {
			visual := func(text autodiff.Value, projection string) autodiff.Value {
				return text.Linear(r.Params[projection+".weight"], r.Params[projection+".bias"])
			}
			p := clip.ImagePrompts{Layers: []autodiff.Value{visual(r.Params["ctx"], "proj")}, Norm: true}
			for i, text := range r.deepTexts() {
				_, projection := deepNames(i + 1)
				p.Layers = append(p.Layers, visual(text, projection))
			}
			return r.Towers.Image(pixels, p)
		},
		Text: func(r *Recording, _ autodiff.Value) autodiff.Value {
			ctx := r.Params["ctx"]
			return r.encode(ctx.Reshape(1, 1, ctx.Dim(0), ctx.Dim(1)), r.deepTexts()...)
		},
	})
}

// deepNames are the authors' names of the text prompts of block i > 0 and of the layer that
// projects them to the image tower.
func deepNames(i int) (text, projection string) {
	return fmt.Sprintf("compound_prompts_text.%d", i-1), fmt.Sprintf("compound_prompt_projections.%d", i-1)
}

// deepTexts are the text prompts of MaPLe's blocks from the second on.
func (r *Recording) deepTexts() (deep []autodiff.Value) {
	for i := 1; ; i++ {
		name, _ := deepNames(i)
		v, ok := r.Params[name]
		if !ok {
			return deep
		}
		deep = append(deep, v)
	}
}
