package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// mcNemar is the exact two-sided p-value of McNemar's test of whether two raters of the same models
// are right equally often: of those that only one of them judged rightly, the first did so for
// onlyA and the second for onlyB. It is 1 where there are none, and panics for negative counts.
func mcNemar(onlyA, onlyB int) float64 {
	if onlyA < 0 || onlyB < 0 {
		panic("stats: McNemar of negative counts")
	}
	n := onlyA + onlyB
	if n == 0 {
		return 1
	}
	return math.Min(1, 2*distuv.Binomial{N: float64(n), P: 0.5}.CDF(float64(min(onlyA, onlyB))))
}

// aurocDifference is the AUROC of the scores b minus that of a, both of the same models, and its 95
// % percentile interval from a paired bootstrap: whole clusters (datasets) are drawn with
// replacement, the same for both, as [AUROCInterval] draws them. All are NaN where an AUROC is, and
// the bounds also with fewer than two clusters. It panics when the lengths differ.
func aurocDifference(a, b []float64, labels []bool, clusters []string, resamples int, seed uint64) (difference, lo, hi float64) {
	sameLength(len(a), len(labels))
	sameLength(len(b), len(labels))
	sameLength(len(clusters), len(labels))
	difference = AUROC(b, labels) - AUROC(a, labels)
	names := slices.Compact(slices.Sorted(slices.Values(clusters)))
	if len(names) < 2 || math.IsNaN(difference) {
		return difference, math.NaN(), math.NaN()
	}
	lo, hi, _ = resampled(newRanking(b, labels, clusters, names), newRanking(a, labels, clusters, names), len(names), resamples, seed)
	return difference, lo, hi
}
