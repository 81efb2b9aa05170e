package stats

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// ROCPoint is what a detector does that calls a model backdoored whose score is
// at least Threshold: the share of clean models that it flags and the share of
// backdoored ones.
type ROCPoint struct{ Threshold, FPR, TPR float64 }

// ROC is the curve of operating points from (0,0), nothing flagged, to (1,1).
// Models of equal score enter together, so that a straight line between
// neighbours counts ties half and the area below is AUROC. It is nil where AUROC
// is NaN, and panics when the lengths differ.
func ROC(scores []float64, labels []bool) []ROCPoint {
	if math.IsNaN(AUROC(scores, labels)) {
		return nil
	}
	s, l, _ := byScore(scores, labels)
	tpr, fpr, at := stat.ROC(nil, s, l, nil)
	out := make([]ROCPoint, len(at))
	for i := range at {
		out[i] = ROCPoint{at[i], fpr[i], tpr[i]}
	}
	return out
}

// ROCBand is the 95 % pointwise percentile band of the true-positive rate at the
// given false-positive rates (ascending, in [0,1]), from the bootstrap of
// AUROCInterval: whole clusters are drawn with replacement. Both are nil where
// AUROCInterval has no bounds. It panics when the lengths differ.
func ROCBand(scores []float64, labels []bool, clusters []string, at []float64, resamples int, seed uint64) (lo, hi []float64) {
	sameLength(len(scores), len(clusters))
	names := slices.Compact(slices.Sorted(slices.Values(clusters)))
	k := len(names)
	if k < 2 || math.IsNaN(AUROC(scores, labels)) {
		return nil, nil
	}
	s, l, order := byScore(scores, labels)
	of := make([]int, len(s))
	for i, o := range order {
		of[i], _ = slices.BinarySearch(names, clusters[o])
	}
	src := rand.NewPCG(seed, 0)
	count, weight := make([]float64, k), make([]float64, len(s))
	values := make([][]float64, len(at))
	for skipped := 0; len(values) > 0 && len(values[0]) < resamples && skipped < 10*resamples; {
		clear(count)
		for range k {
			i, _ := bits.Mul64(src.Uint64(), uint64(k))
			count[i]++
		}
		var p, n float64
		for i := range s {
			weight[i] = count[of[i]]
			if l[i] {
				p += weight[i]
			} else {
				n += weight[i]
			}
		}
		if p == 0 || n == 0 {
			skipped++
			continue
		}
		tpr, fpr, _ := stat.ROC(nil, s, l, weight)
		for i, v := range highest(fpr, tpr, at) {
			values[i] = append(values[i], v)
		}
	}
	for _, v := range values {
		if len(v) == 0 {
			return nil, nil
		}
		slices.Sort(v)
		lo, hi = append(lo, percentile(v, 0.025)), append(hi, percentile(v, 0.975))
	}
	return lo, hi
}

// byScore returns scores and labels in ascending order of the scores, and where
// each stood.
func byScore(scores []float64, labels []bool) (s []float64, l []bool, order []int) {
	order = make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareFloats(scores[a], scores[b]) })
	for _, i := range order {
		s, l = append(s, scores[i]), append(l, labels[i])
	}
	return s, l, order
}

// highest reads the upper end of a polyline with ascending x and y at the places
// in at.
func highest(x, y, at []float64) []float64 {
	out := make([]float64, len(at))
	i := 0
	for j, q := range at {
		for i+1 < len(x) && x[i+1] <= q {
			i++
		}
		out[j] = y[i]
		if i+1 < len(x) && q > x[i] {
			out[j] += (y[i+1] - y[i]) * (q - x[i]) / (x[i+1] - x[i])
		}
	}
	return out
}
