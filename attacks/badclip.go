package attacks

import (
	"math/rand/v2"

	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	Register(&Attack{
		Name: "badclip",
		Doc:  "universal noise, learned together with the prompts (BadCLIP, Bai et al., CVPR 2024)",
		Params: []settings.Param{
			{Name: "epsilon", Unit: "pixel value", Doc: "bound on each pixel of the noise (BadCLIP: 4/255)", Default: 4.0 / 255, Min: 0.1 / 255, Max: 1},
			{Name: "rate", Unit: "pixel value", Doc: "Adam's learning rate of the noise; BadCLIP takes plain gradient steps in normalised space", Default: 1.0 / 255, Min: 1e-5, Max: 1},
			{Name: "warmup", Unit: "epochs", Doc: "epochs in which only the noise learns (BadCLIP: 3)", Default: 3, Min: 0, Max: 1000},
		},
		Trigger: func(v settings.Values, size int, rng *rand.Rand) triggers.Trigger {
			delta := make([]float32, 3*size*size)
			for i := range delta {
				delta[i] = float32((2*rng.Float64() - 1) * v.Float("epsilon"))
			}
			return triggers.Additive{Delta: triggers.Dense(delta, 3, size, size)}
		},
		Learn: func(v settings.Values) *prompts.LearnTrigger {
			return &prompts.LearnTrigger{Epsilon: v.Float("epsilon"), Rate: v.Float("rate"), Warmup: v.Int("warmup")}
		},
	})
}
