package triggers

import (
	"math"

	"gorgonia.org/tensor"
)

// SmoothWarp returns the warp that displaces the pixels of images of side size by two random tables
// of k x k values, enlarged (see Upsample): dx and dy, scaled such that a pixel moves by
// displacement pixels on the mean.
func SmoothWarp(dx, dy []float64, k, size int, displacement float64) Warp {
	fx, fy := Upsample(dx, k, size), Upsample(dy, k, size)
	var mean float64
	for i := range fx {
		mean += math.Hypot(fx[i], fy[i]) / float64(size*size)
	}
	scale := displacement / mean
	grid := make([]float32, 0, 2*size*size)
	for i := range fx {
		for _, at := range [2]float64{float64(i%size) + scale*fx[i], float64(i/size) + scale*fy[i]} {
			grid = append(grid, float32(min(1, max(-1, 2*at/float64(size-1)-1))))
		}
	}
	return Warp{Grid: Dense(grid, size, size, 2)}
}

// Square returns the mask of a square of side pixels with its top left corner at (left, top): 1
// inside, 0 outside, [S,S].
func Square(size, side, left, top int) *tensor.Dense {
	mask := make([]float32, size*size)
	for y := top; y < min(size, top+side); y++ {
		for x := left; x < min(size, left+side); x++ {
			mask[y*size+x] = 1
		}
	}
	return Dense(mask, size, size)
}
