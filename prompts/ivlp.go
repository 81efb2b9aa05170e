package prompts

import (
	"fmt"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/settings"
)

// The tensors of these learners have the names that they have in their authors' checkpoints: ctx of
// the text tower's first block, image_encoder.VPT of the image tower's, and deepName of the others.
const visualName = "image_encoder.VPT"

// deepName is the name of the prompts of block i > 0 of a tower, image_encoder or text_encoder.
func deepName(tower string, i int) string {
	return fmt.Sprintf("%s.transformer.resblocks.%d.VPT_shallow", tower, i)
}

func init() {
	Register(&Learner{
		Name: "ivlp",
		Doc:  "prompts of either tower, independent of each other (IVLP, Rasheed et al., CVPR 2023; PromptSRC, Khattak et al., ICCV 2023)",
		Params: []settings.Param{
			{Name: "context", Unit: "tokens", Doc: "text prompts of a block", Default: 4, Min: 1, Max: 64},
			{Name: "depth", Unit: "blocks", Doc: "blocks of the text tower that get prompts of their own, at most as many as it has; 1 is shallow", Default: 9, Min: 1, Max: 128},
			{Name: "visual", Unit: "tokens", Doc: "visual prompts of a block", Default: 4, Min: 1, Max: 256},
			{Name: "visual-depth", Unit: "blocks", Doc: "blocks of the image tower that get prompts of their own, at most as many as it has; 0 for none", Default: 9, Min: 0, Max: 128},
			firstTokens,
		},
		Init: func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error) {
			n, t := m.Settings.Int("context"), m.CLIP.Config.Text
			p := m.visualPrompts(rng)
			var err error
			if p["ctx"], err = m.firstContext(rng); err != nil {
				return nil, err
			}
			for i := 1; i < min(m.Settings.Int("depth"), t.Layers); i++ {
				p[deepName("text_encoder", i)] = normal(rng, n, t.Width)
			}
			return p, nil
		},
		Visual: visualRows,
		Image:  inputPrompted,
		Text: func(r *Recording, _ autodiff.Value) autodiff.Value {
			ctx := r.Params["ctx"]
			return r.encode(ctx.Reshape(1, 1, ctx.Dim(0), ctx.Dim(1)), r.deep("text_encoder")...)
		},
	})
	Register(&Learner{
		Name: "vpt-input",
		Doc:  "prompts beside the patches, before ln_pre, under fixed zero-shot texts (VPT as MaPLe's authors have it)",
		Params: []settings.Param{
			{Name: "visual", Unit: "tokens", Doc: "visual prompts of a block", Default: 8, Min: 1, Max: 256},
			{Name: "visual-depth", Unit: "blocks", Doc: "blocks that get prompts of their own, at most as many as the image tower has; 1 is shallow", Default: 12, Min: 1, Max: 128},
			{Name: "init", Doc: "words in front of the class name", Default: "a photo of a"},
		},
		FixedTexts: true,
		Init: func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error) {
			return m.visualPrompts(rng), m.checkFixedText()
		},
		Visual: visualRows,
		Image:  inputPrompted,
		Text:   fixedText,
	})
}

// visualRows is how many visual prompts the settings put beside the patches.
func visualRows(s settings.Values) int {
	if s.Int("visual-depth") == 0 {
		return 0
	}
	return s.Int("visual")
}

// visualPrompts draws the image tower's prompts from N(0, 0.02), by name.
func (m *Model) visualPrompts(rng *rand.Rand) map[string]*tensor.Dense {
	v, p := m.CLIP.Config.Vision, map[string]*tensor.Dense{}
	for i := range min(m.Settings.Int("visual-depth"), v.Layers) {
		name := visualName
		if i > 0 {
			name = deepName("image_encoder", i)
		}
		p[name] = normal(rng, m.Settings.Int("visual"), v.Width)
	}
	return p
}

// deep are the prompts of a tower's blocks from the second on.
func (r *Recording) deep(tower string) (deep []autodiff.Value) {
	for i := 1; ; i++ {
		v, ok := r.Params[deepName(tower, i)]
		if !ok {
			return deep
		}
		deep = append(deep, v)
	}
}

// inputPrompted records the image tower with the prompts in its input, which pass ln_pre, and those
// of later blocks.
func inputPrompted(r *Recording, pixels autodiff.Value) autodiff.Value {
	p := clip.ImagePrompts{Norm: true}
	if v, ok := r.Params[visualName]; ok {
		p.Layers = append([]autodiff.Value{v}, r.deep("image_encoder")...)
	}
	return r.Towers.Image(pixels, p)
}
