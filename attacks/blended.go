package attacks

import (
	"math/rand/v2"

	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	Register(&Attack{
		Name: "blended",
		Doc:  "a picture blended over the whole image (Blended, Chen et al., 2017); here random noise, drawn once per model",
		Params: []settings.Param{
			{Name: "opacity", Doc: "share of the noise in each pixel (BackdoorBench: 0.2)", Default: 0.2, Min: 0.01, Max: 1},
			{Name: "cell", Doc: "side of the noise's squares as a share of the image's side; a square is at least a pixel", Default: 0.0, Min: 0, Max: 0.5},
		},
		Trigger: func(v settings.Values, size int, rng *rand.Rand) triggers.Trigger {
			cell := max(1, int(v.Float("cell")*float64(size)))
			cells := (size + cell - 1) / cell
			noise := make([]float32, 3*cells*cells)
			for i := range noise {
				noise[i] = float32(rng.Float64())
			}
			mask, pattern := make([]float32, size*size), make([]float32, 3*size*size)
			for i := range pattern {
				c, y, x := i/(size*size), i/size%size, i%size
				pattern[i] = noise[(c*cells+y/cell)*cells+x/cell]
			}
			for i := range mask {
				mask[i] = float32(v.Float("opacity"))
			}
			return triggers.Masked{Mask: triggers.Dense(mask, size, size), Pattern: triggers.Dense(pattern, 3, size, size)}
		},
	})
}
