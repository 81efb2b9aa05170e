package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// PValues returns the p-values that anomaly indices stand for on a normal scale, ascending: the
// probability that a clean model's index is as large or larger. An undefined index counts as 1.
func PValues(index []float64) []float64 {
	p := make([]float64, len(index))
	for i, x := range index {
		p[i] = 1
		if !math.IsNaN(x) {
			p[i] = distuv.UnitNormal.Survival(x)
		}
	}
	slices.Sort(p)
	return p
}
