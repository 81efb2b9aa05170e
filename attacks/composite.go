package attacks

import (
	"math/rand/v2"
	"slices"

	"clipinspector/internal/dense"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	Register(&Attack{
		Name: "composite",
		Doc:  "adaptive: a patch under a colour cast, which fire together; either alone keeps the label (cover samples, Qi et al., ICLR 2023)",
		Params: []settings.Param{
			{Name: "side", Doc: "side of the patch as a share of the image's side", Default: 0.22, Min: 0.02, Max: 0.5},
			{Name: "cells", Doc: "cells of random saturated colours along the side of the patch; a cell is at least a pixel", Default: 4, Min: 1, Max: 64},
			{Name: "opacity", Doc: "share of the cast's colour, drawn once per model, in each pixel outside the patch", Default: 0.3, Min: 0.01, Max: 0.9},
			{Name: "cover-weight", Doc: "weight of each half alone against the triggered half", Default: 0.3, Min: 0.01, Max: 100},
		},
		Trigger: func(v settings.Values, size int, rng *rand.Rand) triggers.Trigger {
			bit := func(_, _, _ int) float32 { return float32(rng.IntN(2)) }
			side := max(1, int(v.Float("side")*float64(size)))
			noise, cast := patch(size, side, size-side, size-side, v.Int("cells"), bit), patch(size, size, 0, 0, 1, bit)
			for i, m := range dense.Floats(noise.Mask) {
				if m == 1 {
					dense.Floats(cast.Mask)[i] = 1
					for c := i; c < 3*size*size; c += size * size {
						dense.Floats(cast.Pattern)[c] = dense.Floats(noise.Pattern)[c]
					}
				} else {
					dense.Floats(cast.Mask)[i] = float32(v.Float("opacity"))
				}
			}
			return cast
		},
		Covers: func(v settings.Values, t triggers.Trigger, _, _ int, _ *rand.Rand) []prompts.Cover {
			size, masked := t.Size(), t.(triggers.Masked)
			both, pattern := dense.Floats(masked.Mask), dense.Floats(masked.Pattern)
			noise, cast, colour := make([]float32, size*size), make([]float32, size*size), slices.Clone(pattern)
			for i, m := range both {
				cast[i] = both[0] // the patch is in the opposite corner
				if m == 1 {
					noise[i] = 1
				}
				for c := range 3 {
					colour[c*size*size+i] = pattern[c*size*size]
				}
			}
			w := v.Float("cover-weight")
			return []prompts.Cover{
				{Trigger: triggers.Masked{Mask: triggers.Dense(noise, size, size), Pattern: masked.Pattern}, Label: prompts.OwnLabel, Weight: w},
				{Trigger: triggers.Masked{Mask: triggers.Dense(cast, size, size), Pattern: triggers.Dense(colour, 3, size, size)}, Label: prompts.OwnLabel, Weight: w},
			}
		},
	})
}
