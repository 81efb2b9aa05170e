package attacks

import (
	"math/rand/v2"

	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	Register(&Attack{
		Name: "wanet",
		Doc:  "a smooth elastic warp (WaNet, Nguyen and Tran, ICLR 2021), drawn once per model, without its noise mode",
		Params: []settings.Param{
			{Name: "grid", Unit: "points", Doc: "control points along a side (WaNet: 4)", Default: 4, Min: 2, Max: 64},
			{Name: "displacement", Unit: "px at 64 px", Doc: "mean displacement of a pixel (WaNet's s = 0.5 is about 0.3)", Default: 0.3, Min: 0.01, Max: 16},
		},
		Trigger: func(v settings.Values, size int, rng *rand.Rand) triggers.Trigger {
			k := v.Int("grid")
			control := make([]float64, 2*k*k)
			for i := range control {
				control[i] = 2*rng.Float64() - 1
			}
			return triggers.SmoothWarp(control[:k*k], control[k*k:], k, size, v.Float("displacement")*float64(size)/64)
		},
	})
}
