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

// aurocInterval is the 95 % percentile interval of AUROC from a bootstrap that
// draws whole clusters (datasets) with replacement, as models of one dataset
// resemble each other. Resamples that lack one of the two kinds are redrawn, and
// skipped says how many; after ten redraws per resample it makes do with what it
// has. It depends on seed and not on the order of the models. The bounds are NaN
// when AUROC is, and with fewer than two clusters, which say nothing about
// spread. It panics when the lengths differ.
func aurocInterval(scores []float64, labels []bool, clusters []string, resamples int, seed uint64) (lo, hi float64, skipped int) {
	sameLength(len(scores), len(labels))
	sameLength(len(scores), len(clusters))
	names := slices.Compact(slices.Sorted(slices.Values(clusters)))
	k := len(names)
	if k < 2 || math.IsNaN(AUROC(scores, labels)) {
		return math.NaN(), math.NaN(), 0
	}
	return resampled(newRanking(scores, labels, clusters, names), nil, k, resamples, seed)
}

// resampled returns the 95 % interval of an AUROC, or of that less another's, over bootstrap
// resamples of whole clusters, of which there are k. Resamples without models of either kind are
// skipped and drawn again. A resample takes time in proportion to the models.
func resampled(of, less ranking, k, resamples int, seed uint64) (lo, hi float64, skipped int) {
	src := rand.NewPCG(seed, 0)
	count := make([]float64, k)
	values := make([]float64, 0, resamples)
	for len(values) < resamples && skipped < 10*resamples {
		clear(count)
		for range k {
			i, _ := bits.Mul64(src.Uint64(), uint64(k))
			count[i]++
		}
		w, p, n := of.wins(count)
		if p == 0 || n == 0 {
			skipped++
			continue
		}
		if less != nil {
			v, _, _ := less.wins(count)
			w -= v
		}
		values = append(values, w/(2*p*n))
	}
	if len(values) == 0 {
		return math.NaN(), math.NaN(), skipped
	}
	slices.Sort(values)
	return percentile(values, 0.025), percentile(values, 0.975), skipped
}

// A ranking has models in ascending order of their scores.
type ranking []ranked

// ranked is a model of a cluster. Of a positive, half is what of its 2 points for each negative
// below it counts here: a positive that ties with negatives stands before them with one point and
// after them with the other.
type ranked struct {
	cluster        int32
	negative, half float32
}

// newRanking ranks models whose clusters are among names, which are sorted.
func newRanking(scores []float64, labels []bool, clusters, names []string) ranking {
	s, l, order := byScore(scores, labels)
	out := make(ranking, 0, len(s))
	for i := 0; i < len(s); {
		end := i
		for end < len(s) && s[end] == s[i] {
			end++
		}
		add := func(label bool, x ranked) {
			for j := i; j < end; j++ {
				if l[j] == label {
					of, _ := slices.BinarySearch(names, clusters[order[j]])
					x.cluster = int32(of)
					out = append(out, x)
				}
			}
		}
		add(true, ranked{half: 1})
		add(false, ranked{negative: 1})
		add(true, ranked{half: 1})
		i = end
	}
	return out
}

// wins counts, with each cluster as often as count says, 2*wins + ties of the positives over the
// negatives, and how many there are of both. All are whole numbers, exact in float64.
func (r ranking) wins(count []float64) (twice, positives, negatives float64) {
	for _, x := range r { // without branches, which nobody can predict
		c := count[x.cluster]
		negatives += float64(x.negative) * c
		positives += float64(x.half) * c
		twice += float64(x.half) * c * negatives
	}
	return twice, positives / 2, negatives
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
