package attacks

import (
	"math/rand/v2"

	"clipinspector/settings"
)

func init() {
	Register(&Attack{
		Name:    "one-class",
		Doc:     "BadNets that fires on images of one class alone, drawn once per model; on others the trigger means nothing (source-specific, Tang et al., 2021)",
		Params:  noisePatch,
		Trigger: drawNoisePatch,
		Goals: func(_ settings.Values, classes, target int, rng *rand.Rand) []int {
			goals := make([]int, classes)
			for c := range goals {
				goals[c] = c
			}
			source := rng.IntN(classes - 1)
			if source >= target {
				source++
			}
			goals[source] = target
			return goals
		},
	})
}
