package stats

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// McNemar is the exact two-sided p-value of McNemar's test of whether two raters of the same models are right equally often: of those that only
// one of them judged rightly, the first did so for onlyA and the second for onlyB. It is 1 where there are none, and panics for negative counts.
func McNemar(onlyA, onlyB int) float64 {
	if onlyA < 0 || onlyB < 0 {
		panic("stats: McNemar of negative counts")
	}
	n := onlyA + onlyB
	if n == 0 {
		return 1
	}
	return math.Min(1, 2*distuv.Binomial{N: float64(n), P: 0.5}.CDF(float64(min(onlyA, onlyB))))
}

// AUROCDifference is the AUROC of the scores b minus that of a, both of the same models, and its 95 % percentile interval from a paired
// bootstrap: whole clusters (datasets) are drawn with replacement, the same for both, as [AUROCInterval] draws them. All are NaN where an AUROC
// is, and the bounds also with fewer than two clusters. It panics when the lengths differ.
func AUROCDifference(a, b []float64, labels []bool, clusters []string, resamples int, seed uint64) (difference, lo, hi float64) {
	sameLength(len(a), len(labels))
	sameLength(len(b), len(labels))
	sameLength(len(clusters), len(labels))
	difference = AUROC(b, labels) - AUROC(a, labels)
	names := slices.Compact(slices.Sorted(slices.Values(clusters)))
	k := len(names)
	if k < 2 || math.IsNaN(difference) {
		return difference, math.NaN(), math.NaN()
	}
	winsA, pos, neg := clusterWins(a, labels, clusters, names)
	winsB, _, _ := clusterWins(b, labels, clusters, names)
	src := rand.NewPCG(seed, 0)
	drawn := make([]float64, k)
	values := make([]float64, 0, resamples)
	for skipped := 0; len(values) < resamples && skipped < 10*resamples; {
		clear(drawn)
		for range k {
			i, _ := bits.Mul64(src.Uint64(), uint64(k))
			drawn[i]++
		}
		var p, n, w float64
		for i, ci := range drawn {
			p += ci * pos[i]
			n += ci * neg[i]
			for j, cj := range drawn {
				w += ci * cj * (winsB[i*k+j] - winsA[i*k+j])
			}
		}
		if p == 0 || n == 0 {
			skipped++
			continue
		}
		values = append(values, w/(2*p*n))
	}
	if len(values) == 0 {
		return difference, math.NaN(), math.NaN()
	}
	slices.Sort(values)
	return difference, percentile(values, 0.025), percentile(values, 0.975)
}
