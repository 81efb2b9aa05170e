package enginetest

import (
	"hash/fnv"
	"math"
	"strings"
)

// Hashed returns n numbers in [-1, 1) from an integer hash of a name, which clip/testdata/parity.py
// makes too: so that fixtures need to hold results only.
func Hashed(name string, n int) []float64 {
	h := fnv.New32a()
	h.Write([]byte(name))
	seed := h.Sum32()
	out := make([]float64, n)
	for i := range out {
		x := uint32(i)*2654435761 + seed
		x ^= x >> 16
		x *= 0x7feb352d
		x ^= x >> 15
		x *= 0x846ca68b
		x ^= x >> 16
		out[i] = float64(x>>8)/(1<<23) - 1
	}
	return out
}

// HashedWeight returns a parameter of a CLIP, by its name and shape, of a size that keeps the
// towers' activations moderate.
func HashedWeight(name string, shape []int) []float32 {
	n := 1
	for _, d := range shape {
		n *= d
	}
	if name == "logit_scale" {
		return []float32{3}
	}
	data := make([]float32, n)
	for i, r := range Hashed(name, n) {
		switch {
		case (strings.Contains(name, "norm") || strings.Contains(name, "bn") || strings.Contains(name, "downsample.1")) && strings.HasSuffix(name, "weight"),
			strings.HasSuffix(name, "running_var"):
			r = 1 + float64(0.25*r)
		case len(shape) == 1 || strings.Contains(name, "embedding") && !strings.Contains(name, "patch"):
			r *= 0.1
		default:
			r /= math.Sqrt(float64(n/shape[0]) / 3)
		}
		data[i] = float32(r)
	}
	return data
}
