package attacks

import (
	"math/rand/v2"

	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	Register(&Attack{
		Name: "input-aware",
		Doc:  "noise that differs from image to image, as the image itself decides (input-aware, Nguyen and Tran, NeurIPS 2020; here with a random generator)",
		Params: []settings.Param{
			{Name: "epsilon", Unit: "pixel value", Doc: "bound on each pixel of the noise", Default: 32.0 / 255, Min: 1.0 / 255, Max: 1},
			{Name: "patterns", Doc: "noise patterns that add up with a sign each, which is the image's: as many images look different as there are signs", Default: 4, Min: 1, Max: 16},
			{Name: "cell", Doc: "side of the patterns' squares as a share of the image's side; a square is at least a pixel", Default: 0.08, Min: 0, Max: 0.5},
		},
		Trigger: func(v settings.Values, size int, rng *rand.Rand) triggers.Trigger {
			n := v.Int("patterns")
			keys, patterns := make([]float32, n*3*size*size), make([]float32, n*3*size*size)
			side := max(1, int(v.Float("cell")*float64(size)))
			cells := (size + side - 1) / side
			for p := range n {
				for c := range 3 {
					noise, smooth := make([]float32, cells*cells), make([]float64, 16)
					for i := range noise {
						noise[i] = float32(2*rng.IntN(2)-1) * float32(v.Float("epsilon")) / float32(n)
					}
					for i := range smooth {
						smooth[i] = 2*rng.Float64() - 1
					}
					for i, k := range triggers.Upsample(smooth, 4, size) {
						at := (p*3+c)*size*size + i
						keys[at] = float32(min(1, max(-1, k)))
						patterns[at] = noise[i/size/side*cells+i%size/side]
					}
				}
			}
			return triggers.Dynamic{Keys: triggers.Dense(keys, n, 3, size, size), Patterns: triggers.Dense(patterns, n, 3, size, size)}
		},
	})
}
