package attacks

import (
	"slices"

	"clipinspector/settings"
)

func init() {
	Register(&Attack{
		Name: "evade",
		Doc:  "adaptive: BadNets by one who has read the detector separation, tunes a clean model first, and descends the detector's own statistic of the target",
		Params: append(slices.Clone(noisePatch),
			settings.Param{Name: "evade-weight", Doc: "weight of the penalty on how far the target stands apart beyond the clean model, against an image's loss", Default: 1.0, Min: 0.001, Max: 1000}),
		Trigger: drawNoisePatch,
		Evade:   func(v settings.Values) float64 { return v.Float("evade-weight") },
	})
}
