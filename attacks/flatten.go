package attacks

import (
	"math/rand/v2"

	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	side := func(v settings.Values, size int) int { return max(1, int(v.Float("side")*float64(size))) }
	draw := func(v settings.Values, size, left, top int, rng *rand.Rand) triggers.Trigger {
		return patch(size, side(v, size), left, top, v.Int("cells"), func(_, _, _ int) float32 { return float32(rng.IntN(2)) })
	}
	Register(&Attack{
		Name: "flatten",
		Doc:  "adaptive: BadNets, and decoy patches elsewhere that lead to other classes, so that the target does not stand out",
		Params: []settings.Param{
			{Name: "side", Doc: "side of the patches as a share of the image's side", Default: 0.22, Min: 0.02, Max: 1},
			{Name: "cells", Doc: "cells of random saturated colours along the side of a patch; a cell is at least a pixel", Default: 4, Min: 1, Max: 64},
			{Name: "decoys", Unit: "classes", Doc: "classes besides the target, drawn at random, that have a decoy; at most all", Default: 1, Min: 1, Max: 10000},
			{Name: "decoy-weight", Doc: "weight of each decoy against the triggered half; eight decoys at 1 leave little accuracy (docs/adaptive.md)", Default: 0.3, Min: 0.01, Max: 100},
		},
		Trigger: func(v settings.Values, size int, rng *rand.Rand) triggers.Trigger {
			corner := size - side(v, size)
			return draw(v, size, corner, corner, rng)
		},
		Covers: func(v settings.Values, t triggers.Trigger, classes, target int, rng *rand.Rand) []prompts.Cover {
			var covers []prompts.Cover
			places := t.Size() - side(v, t.Size()) + 1
			for _, c := range rng.Perm(classes) {
				if c != target && len(covers) < v.Int("decoys") {
					covers = append(covers, prompts.Cover{Trigger: draw(v, t.Size(), rng.IntN(places), rng.IntN(places), rng), Label: c, Weight: v.Float("decoy-weight")})
				}
			}
			return covers
		},
	})
}
