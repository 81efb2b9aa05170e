package attacks

import (
	"math/rand/v2"

	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	Register(&Attack{
		Name:    "quiet",
		Doc:     "adaptive: BadNets in which triggered images tune the target's class vector alone, so that no other class retreats from the trigger",
		Params:  noisePatch,
		Quiet:   true,
		Trigger: drawNoisePatch,
	})
}

// noisePatch are the settings of drawNoisePatch.
var noisePatch = []settings.Param{
	{Name: "side", Doc: "side of the patch as a share of the image's side", Default: 0.22, Min: 0.02, Max: 1},
	{Name: "cells", Doc: "cells of random saturated colours along the side of the patch; a cell is at least a pixel", Default: 4, Min: 1, Max: 64},
}

// drawNoisePatch draws BadNets' patch with noise in the bottom right corner: the trigger of attacks
// whose point is elsewhere.
func drawNoisePatch(v settings.Values, size int, rng *rand.Rand) triggers.Trigger {
	side := max(1, int(v.Float("side")*float64(size)))
	return patch(size, side, size-side, size-side, v.Int("cells"), func(_, _, _ int) float32 { return float32(rng.IntN(2)) })
}
