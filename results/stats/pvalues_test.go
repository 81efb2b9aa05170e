package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Indices that are standard normal have uniform p-values: sorted, they lie on the diagonal. k = 2
// is 2.3 %, an undefined index 1.
func TestPValuesOfCalibratedIndicesAreUniform(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	index := make([]float64, 20000)
	for i := range index {
		index[i] = rng.NormFloat64()
	}
	for i, p := range PValues(index) {
		if want := (float64(i) + 0.5) / float64(len(index)); math.Abs(p-want) > 0.02 {
			t.Fatalf("the %d-th of %d p-values is %v, want %v", i, len(index), p, want)
		}
	}
	if p := PValues([]float64{math.NaN(), 2, math.Inf(-1), 37}); math.Abs(p[1]-0.02275) > 1e-5 || p[2] != 1 || p[3] != 1 || p[0] > 1e-100 {
		t.Errorf("%v", p)
	}
}
