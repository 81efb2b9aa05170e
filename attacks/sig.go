package attacks

import (
	"math"
	"math/rand/v2"

	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	Register(&Attack{
		Name: "sig",
		Doc:  "a horizontal sinusoid added to the image (SIG, Barni et al., ICIP 2019), here not label-consistent",
		Params: []settings.Param{
			{Name: "amplitude", Unit: "pixel value", Doc: "amplitude of the sinusoid (BackdoorBench: 40/255)", Default: 40.0 / 255, Min: 1.0 / 255, Max: 1},
			{Name: "frequency", Unit: "periods", Doc: "periods across the image (BackdoorBench: 6)", Default: 6.0, Min: 0.5, Max: 64},
		},
		Trigger: func(v settings.Values, size int, _ *rand.Rand) triggers.Trigger {
			delta := make([]float32, 3*size*size)
			for i := range delta {
				phase := 2 * math.Pi * float64(i%size) * v.Float("frequency") / float64(size)
				delta[i] = float32(v.Float("amplitude") * math.Sin(phase))
			}
			return triggers.Additive{Delta: triggers.Dense(delta, 3, size, size)}
		},
	})
}
