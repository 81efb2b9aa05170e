package triggers

import "math"

// Upsample enlarges a k x k table to size x size values, row by row, with the corners aligned:
// bicubic with Keys' kernel, a = -0.75, and the border repeated, which is
// torch.nn.functional.interpolate(mode="bicubic", align_corners=True). Smooth fields, such as
// WaNet's, are random tables enlarged.
func Upsample(table []float64, k, size int) []float64 {
	out := make([]float64, size*size)
	step := float64(k - 1)
	for i := range out {
		out[i] = bicubic(table, k, float64(i%size)*step/float64(max(1, size-1)), float64(i/size)*step/float64(max(1, size-1)))
	}
	return out
}

// bicubic interpolates a k x k table at (x,y).
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
