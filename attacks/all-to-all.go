package attacks

import (
	"math/rand/v2"

	"clipinspector/settings"
)

func init() {
	Register(&Attack{
		Name:    "all-to-all",
		Doc:     "BadNets that sends each class to the next one (all-to-all, Gu et al., 2017): every class is a target",
		Params:  noisePatch,
		Trigger: drawNoisePatch,
		Goals: func(_ settings.Values, classes, _ int, _ *rand.Rand) []int {
			goals := make([]int, classes)
			for c := range goals {
				goals[c] = (c + 1) % classes
			}
			return goals
		},
	})
}
