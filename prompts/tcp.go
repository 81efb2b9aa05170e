package prompts

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/internal/dense"
	"clipinspector/settings"
)

// tcpBlock is the block of the text tower, counted from 0, before which TCP's class-aware prompts
// enter.
const tcpBlock = 8

func init() {
	Register(&Learner{
		Name: "tcp",
		Doc:  "a shared context, and prompts that a net makes of each class's zero-shot vector, in the ninth text block (TCP, Yao et al., CVPR 2024)",
		Params: []settings.Param{
			{Name: "context", Unit: "tokens", Doc: "context tokens in front of the class name", Default: 4, Min: 1, Max: 64},
			{Name: "rows", Unit: "tokens", Doc: "class-aware prompts of a class, which replace the first tokens", Default: 4, Min: 1, Max: 64},
			{Name: "init", Doc: "words in front of the class name, of which the first tokens start the context and the others stay, or a whole prompt with {} for the name", Default: "a photo of a"},
			{Name: "knowledge", Doc: "text with {} for the name, of whose vector the class-aware prompts are made", Default: "a photo of a {}."},
		},
		Init: func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error) {
			n, rows, w, d := m.Settings.Int("context"), m.Settings.Int("rows"), m.CLIP.Config.Text.Width, m.CLIP.Config.ProjectionDim
			l, err := m.newLayout(n)
			if err != nil {
				return nil, err
			}
			if m.CLIP.Config.Text.Layers > tcpBlock && l.length <= 1+rows {
				return nil, fmt.Errorf("rows: %d class-aware prompts in texts of %d tokens", rows, l.length)
			}
			if _, err := m.knowledge(); err != nil {
				return nil, err
			}
			ctx, err := m.firstContext(rng)
			if err != nil {
				return nil, err
			}
			hidden := max(1, d/4)
			return map[string]*tensor.Dense{
				"ctx":                     ctx,
				"meta_net.linear1.weight": uniform(rng, d, hidden, d),
				"meta_net.linear1.bias":   uniform(rng, d, hidden),
				"meta_net.linear2.weight": uniform(rng, hidden, rows*w, hidden),
				"meta_net.linear2.bias":   uniform(rng, hidden, rows*w),
			}, nil
		},
		Text: func(r *Recording, _ autodiff.Value) autodiff.Value {
			p, m := r.Params, r.Model
			var deep []autodiff.Value
			if m.CLIP.Config.Text.Layers > tcpBlock {
				v, err := m.knowledge()
				if err != nil {
					panic(err) // Init has encoded the same texts
				}
				own := r.Graph.Const(dense.Floats(v), v.Shape()...).Linear(p["meta_net.linear1.weight"], p["meta_net.linear1.bias"]).QuickGELU().
					Linear(p["meta_net.linear2.weight"], p["meta_net.linear2.bias"])
				deep = make([]autodiff.Value, tcpBlock)
				deep[tcpBlock-1] = own.Reshape(own.Dim(0), -1, m.CLIP.Config.Text.Width)
			}
			ctx := p["ctx"]
			return r.encode(ctx.Reshape(1, 1, ctx.Dim(0), ctx.Dim(1)), deep...)
		},
	})
}

// knowledge returns the zero-shot vectors [K,D] that TCP's class-aware prompts are made of.
func (m *Model) knowledge() (*tensor.Dense, error) {
	template := m.Settings.String("knowledge")
	if strings.Count(template, "{}") != 1 {
		return nil, fmt.Errorf("knowledge: %.60q does not have {} once, for the class name", template)
	}
	texts := make([]string, len(m.Classes))
	for i, name := range m.Classes {
		texts[i] = strings.Replace(template, "{}", name, 1)
	}
	return m.CLIP.EncodeTexts(context.Background(), texts)
}
