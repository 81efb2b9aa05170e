package attacks

import (
	"math"
	"math/rand/v2"

	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	register(&Attack{
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
			field := make([]float64, 2*size*size) // (x,y) displacement of each pixel, bicubic between the control points
			var mean float64
			for i := range size * size {
				for c := range 2 {
					field[2*i+c] = bicubic(control[c*k*k:(c+1)*k*k], k, float64(i%size)*float64(k-1)/float64(size-1), float64(i/size)*float64(k-1)/float64(size-1))
				}
				mean += math.Hypot(field[2*i], field[2*i+1]) / float64(size*size)
			}
			scale := v.Float("displacement") * float64(size) / 64 / mean // pixels
			grid := make([]float32, 2*size*size)
			for i := range grid {
				pixel := float64(i / 2 % size)
				if i%2 == 1 {
					pixel = float64(i / 2 / size)
				}
				grid[i] = float32(min(1, max(-1, 2*(pixel+scale*field[i])/float64(size-1)-1)))
			}
			return triggers.Warp{Grid: triggers.Dense(grid, size, size, 2)}
		},
	})
}

// bicubic interpolates a k x k table at (x,y) with Keys' kernel, a = -0.75 as in PyTorch; the border is repeated.
func bicubic(table []float64, k int, x, y float64) float64 {
	weight := func(t float64) float64 {
		const a = -0.75
		switch t = math.Abs(t); {
		case t < 1:
			return ((a+2)*t-(a+3))*t*t + 1
		case t < 2:
			return ((a*t-5*a)*t+8*a)*t - 4*a
		}
		return 0
	}
	at := func(i int) int { return min(k-1, max(0, i)) }
	x0, y0 := int(math.Floor(x)), int(math.Floor(y))
	var sum float64
	for j := y0 - 1; j <= y0+2; j++ {
		for i := x0 - 1; i <= x0+2; i++ {
			sum += weight(y-float64(j)) * weight(x-float64(i)) * table[at(j)*k+at(i)]
		}
	}
	return sum
}
