package stats

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// Resamples and BootstrapSeed are what the tables' AUROC intervals use.
const (
	Resamples     = 2000
	BootstrapSeed = 1
)

// z95 is the 97.5 % quantile of the normal distribution.
const z95 = 1.959963984540054

// AUROC is the probability that a random positive (label true) scores above a
// random negative, ties counting half: the Mann-Whitney statistic over its
// maximum, from exact counts. Infinite scores are ordered as usual. It is NaN
// when one of the two kinds is lacking or a score is NaN, and panics when the
// lengths differ.
func AUROC(scores []float64, labels []bool) float64 {
	sameLength(len(scores), len(labels))
	order := make([]int, len(scores))
	for i := range order {
		if math.IsNaN(scores[i]) {
			return math.NaN()
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return compareFloats(scores[a], scores[b]) })
	var below, pos, twice int64 // negatives seen, positives seen, 2*wins + ties
	for i := 0; i < len(order); {
		j, p, n := i, int64(0), int64(0)
		for ; j < len(order) && scores[order[j]] == scores[order[i]]; j++ {
			if labels[order[j]] {
				p++
			} else {
				n++
			}
		}
		twice += p * (2*below + n)
		below, pos, i = below+n, pos+p, j
	}
	if pos == 0 || below == 0 {
		return math.NaN()
	}
	return float64(twice) / (2 * float64(pos) * float64(below))
}

// AUROCInterval is the 95 % percentile interval of AUROC from a bootstrap that
// draws whole clusters (datasets) with replacement, as models of one dataset
// resemble each other. Resamples that lack one of the two kinds are redrawn, and
// skipped says how many; after ten redraws per resample it makes do with what it
// has. It depends on seed and not on the order of the models. The bounds are NaN
// when AUROC is, and with fewer than two clusters, which say nothing about
// spread. It panics when the lengths differ.
func AUROCInterval(scores []float64, labels []bool, clusters []string, resamples int, seed uint64) (lo, hi float64, skipped int) {
	sameLength(len(scores), len(labels))
	sameLength(len(scores), len(clusters))
	names := slices.Compact(slices.Sorted(slices.Values(clusters)))
	k := len(names)
	if k < 2 || math.IsNaN(AUROC(scores, labels)) {
		return math.NaN(), math.NaN(), 0
	}
	wins, pos, neg := clusterWins(scores, labels, clusters, names)
	return resampled(wins, pos, neg, resamples, seed)
}

// resampled returns the 95 % interval of an AUROC, or of a difference of two, over bootstrap resamples of whole clusters, from what
// clusterWins counts. Resamples without models of either kind are skipped and drawn again.
func resampled(wins, pos, neg []float64, resamples int, seed uint64) (lo, hi float64, skipped int) {
	k := len(pos)
	src := rand.NewPCG(seed, 0)
	count := make([]float64, k)
	values := make([]float64, 0, resamples)
	for len(values) < resamples && skipped < 10*resamples {
		clear(count)
		for range k {
			i, _ := bits.Mul64(src.Uint64(), uint64(k))
			count[i]++
		}
		var p, n, w float64
		for i, ci := range count {
			p += ci * pos[i]
			n += ci * neg[i]
			for j, cj := range count {
				w += ci * cj * wins[i*k+j]
			}
		}
		if p == 0 || n == 0 {
			skipped++
			continue
		}
		values = append(values, w/(2*p*n))
	}
	if len(values) == 0 {
		return math.NaN(), math.NaN(), skipped
	}
	slices.Sort(values)
	return percentile(values, 0.025), percentile(values, 0.975), skipped
}

// clusterWins counts, for every pair of clusters, 2*wins + ties of the one's
// positives over the other's negatives: a resample's AUROC is then a sum over
// pairs of clusters. All counts are whole numbers, exact in float64.
func clusterWins(scores []float64, labels []bool, clusters, names []string) (wins, pos, neg []float64) {
	k := len(names)
	wins, pos, neg = make([]float64, k*k), make([]float64, k), make([]float64, k)
	of := make([]int, len(clusters))
	for i, c := range clusters {
		of[i], _ = slices.BinarySearch(names, c)
	}
	for i, si := range scores {
		if !labels[i] {
			neg[of[i]]++
			continue
		}
		pos[of[i]]++
		for j, sj := range scores {
			switch {
			case labels[j]:
			case si > sj:
				wins[of[i]*k+of[j]] += 2
			case si == sj:
				wins[of[i]*k+of[j]]++
			}
		}
	}
	return wins, pos, neg
}

// percentile interpolates linearly between order statistics (numpy's default).
func percentile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := min(int(at), len(sorted)-1)
	j := min(i+1, len(sorted)-1)
	return sorted[i] + (at-float64(i))*(sorted[j]-sorted[i])
}

// Wilson is the 95 % score interval of a rate of k successes in n trials; NaN
// for n = 0. It panics for k outside [0,n].
func Wilson(k, n int) (lo, hi float64) {
	if k < 0 || k > n {
		panic(fmt.Sprintf("stats: Wilson interval of %d successes in %d trials", k, n))
	}
	if n == 0 {
		return math.NaN(), math.NaN()
	}
	p, m := float64(k)/float64(n), float64(n)
	centre := p + z95*z95/(2*m)
	half := z95 * math.Sqrt(p*(1-p)/m+z95*z95/(4*m*m))
	den := 1 + z95*z95/m
	lo, hi = (centre-half)/den, (centre+half)/den
	if k == 0 {
		lo = 0 // exactly, whatever rounding says
	}
	if k == n {
		hi = 1
	}
	return lo, hi
}

func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func sameLength(a, b int) {
	if a != b {
		panic(fmt.Sprintf("stats: %d scores against %d", a, b))
	}
}
