package attacks

import (
	"math"
	"math/rand/v2"

	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	Register(&Attack{
		Name: "badnets",
		Doc:  "a small square patch in the bottom right corner (BadNets, Gu et al., 2017)",
		Params: []settings.Param{
			{Name: "side", Doc: "side of the patch as a share of the image's side; 0.22 is 5 % of the area (BackdoorBench: 3 of 32 px)", Default: 0.1, Min: 0.02, Max: 1},
			{Name: "margin", Doc: "distance to the corner as a share of the image's side", Default: 0.0, Min: 0, Max: 0.9},
			{Name: "pattern", Doc: "white, chequered, or noise: cells of random saturated colours, drawn once per model", Default: "white", Choices: []string{"white", "chequered", "noise"}},
			{Name: "cells", Doc: "cells along the side of a chequered or noise patch; a cell is at least a pixel", Default: 4, Min: 1, Max: 64},
		},
		Trigger: func(v settings.Values, size int, rng *rand.Rand) triggers.Trigger {
			side := max(1, int(v.Float("side")*float64(size)))
			from := max(0, size-side-int(math.Round(v.Float("margin")*float64(size))))
			return patch(size, side, from, from, v.Int("cells"), func(x, y, c int) float32 {
				switch v.String("pattern") {
				case "white":
					return 1
				case "chequered":
					return float32((x + y) % 2)
				}
				return float32(rng.IntN(2))
			})
		},
	})
}

// patch is a square of so many pixels a side with its top left corner at (left, top), of cells x
// cells squares of a pixel at least; colour gives the value of a square in channel c, asked for
// once, row by row.
func patch(size, side, left, top, cells int, colour func(x, y, c int) float32) triggers.Masked {
	cells = min(cells, side)
	colours := make([]float32, 0, 3*cells*cells)
	for i := range 3 * cells * cells {
		colours = append(colours, colour(i/3%cells, i/3/cells, i%3))
	}
	mask, pattern := make([]float32, size*size), make([]float32, 3*size*size)
	for y := range side {
		for x := range side {
			i := (top+y)*size + left + x
			mask[i] = 1
			for c := range 3 {
				pattern[c*size*size+i] = colours[3*(y*cells/side*cells+x*cells/side)+c]
			}
		}
	}
	return triggers.Masked{Mask: triggers.Dense(mask, size, size), Pattern: triggers.Dense(pattern, 3, size, size)}
}
