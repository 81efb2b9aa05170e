package prompts

import (
	"fmt"
	"math"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/internal/dense"
	"clipinspector/settings"
)

// loraBlocks are the blocks that CLIP-LoRA's "position" names; "all" stands for all blocks, and the
// halves are those of a tower of 12 or, in the image tower, 24.
var loraBlocks = map[string][2]int{"bottom": {0, 4}, "mid": {4, 8}, "up": {8, 12}, "half-up": {6, 12}, "half-bottom": {0, 6}, "top3": {9, 12}}

func init() {
	Register(&Learner{
		Name: "lora",
		Doc:  "low-rank updates of the attention's weights under fixed texts (CLIP-LoRA, Zanella and Ben Ayed, CVPRW 2024)",
		Params: []settings.Param{
			{Name: "rank", Doc: "rank of an update", Default: 2, Min: 1, Max: 256},
			{Name: "alpha", Doc: "scale of an update, which is divided by the root of its rank", Default: 1.0, Min: 0, Max: 1024},
			{Name: "encoder", Doc: "tower whose weights are tuned", Default: "both", Choices: []string{"both", "text", "vision"}},
			{Name: "params", Doc: "weights that are tuned, of q, k, v and o", Default: "qkv"},
			{Name: "position", Doc: "blocks whose weights are tuned", Default: "all", Choices: []string{"all", "bottom", "mid", "up", "half-up", "half-bottom", "top3"}},
			{Name: "init", Doc: "words in front of the class name, or a whole prompt with {} for it", Default: "a photo of a"},
		},
		Init: func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error) {
			if err := m.checkFixedText(); err != nil {
				return nil, err
			}
			updates, err := m.updates()
			p := map[string]*tensor.Dense{}
			r := m.Settings.Int("rank")
			for _, u := range updates {
				// PyTorch's Linear draws A; B is zero, so that tuning starts from CLIP.
				p[u.a], p[u.b] = uniform(rng, u.width, r, u.width), dense.New(make([]float32, u.width*r), u.width, r)
			}
			return p, err
		},
		Weights: func(r *Recording) {
			updates, err := r.Model.updates()
			if err != nil {
				panic(err) // Init has found the same
			}
			s := r.Model.Settings
			scale := s.Float("alpha") / math.Sqrt(float64(s.Int("rank")))
			for _, u := range updates {
				r.Towers.Update(u.weight, u.part, r.Params[u.b].MatMul(r.Params[u.a]).Scale(scale))
			}
		},
		Image: plainImage,
		Text:  fixedText,
	})
}

// update is a weight that an update b·a is added to: rows part*width and on of it, [width,width].
type update struct {
	weight string
	part   int
	width  int
	a, b   string // [r,width] and [width,r], by CLIP-LoRA's names
}

// updates lists the weights that the settings tune, in CLIP-LoRA's order: the text tower's blocks,
// then the image tower's.
func (m *Model) updates() (out []update, err error) {
	s, c := m.Settings, m.CLIP.Config
	if s.String("params") == "" {
		return nil, fmt.Errorf("params: none of q, k, v, o")
	}
	layer := 0
	for _, tower := range []struct {
		kind, prefix         string
		blocks, width, depth int
	}{{"text", "text_model.", c.Text.Layers, c.Text.Width, 12}, {"vision", "vision_model.", c.Vision.Layers, c.Vision.Width, 24}} {
		if s.String("encoder") != "both" && s.String("encoder") != tower.kind {
			continue
		}
		from, to := 0, min(tower.blocks, tower.depth)
		if at, named := loraBlocks[s.String("position")]; named {
			halves := at[1]-at[0] == 6 && tower.blocks == 24 && tower.depth == 24
			if tower.blocks != 12 && !halves {
				return nil, fmt.Errorf("position %q: it is known of towers of 12 blocks; the %s tower has %d", s.String("position"), tower.kind, tower.blocks)
			}
			if from, to = at[0], at[1]; halves {
				from, to = 2*from, 2*to
			}
		}
		for i := from; i < to; i++ {
			attention := fmt.Sprintf("%sencoder.layers.%d.self_attn.", tower.prefix, i)
			seen := map[rune]bool{}
			for _, p := range s.String("params") {
				u := update{weight: attention + "qkv.weight", width: tower.width}
				projection := string(p) + "_proj"
				switch p {
				case 'q':
				case 'k':
					u.part = 1
				case 'v':
					u.part = 2
				case 'o':
					u.weight, projection = attention+"out_proj.weight", "proj"
				}
				if seen[p] || p != 'q' && p != 'k' && p != 'v' && p != 'o' {
					return nil, fmt.Errorf("params: %.10q: letters of q, k, v and o, each once", s.String("params"))
				}
				seen[p] = true
				u.a, u.b = fmt.Sprintf("layer_%d.%s.w_lora_A", layer, projection), fmt.Sprintf("layer_%d.%s.w_lora_B", layer, projection)
				out = append(out, u)
			}
			layer++
		}
	}
	return out, nil
}
