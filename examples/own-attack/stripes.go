package main

import (
	"math/rand/v2"

	"clipinspector/attacks"
	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	attacks.Register(&attacks.Attack{
		Name: "stripes",
		Doc:  "every other row of the image is a little brighter: an example of an attack without chance",
		Params: []settings.Param{
			{Name: "step", Unit: "pixel value", Doc: "by how much", Default: 8.0 / 255, Min: 1.0 / 255, Max: 1},
		},
		Trigger: func(v settings.Values, size int, _ *rand.Rand) triggers.Trigger {
			delta := make([]float32, 3*size*size)
			for i := range delta {
				if i/size%2 == 0 {
					delta[i] = float32(v.Float("step"))
				}
			}
			return triggers.Additive{Delta: triggers.Dense(delta, 3, size, size)}
		},
	})
}
