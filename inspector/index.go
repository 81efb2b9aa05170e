package inspector

import (
	"fmt"
	"math"
	"sort"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"clipinspector/settings"
)

// IndexRule is the declaration of the anomaly index that detectors share.
func IndexRule(def string) settings.Param {
	return settings.Param{Name: "index", Doc: "how outliers are measured: studentized (K-corrected outlier test) or mad (Neural Cleanse's median absolute deviation)", Default: def, Choices: []string{"studentized", "mad"}}
}

// Indices returns the anomaly index of each class's score by the named rule; lower scores are more
// suspicious.
func Indices(rule string, scores []float64) []float64 {
	switch rule {
	case "studentized":
		return studentized(scores)
	case "mad":
		return mad(scores)
	}
	panic(fmt.Sprintf("inspector: unknown rule %q", rule))
}

// studentized returns for each score how surprising its distance below the others is, in standard
// deviations of a normal distribution, corrected for the number of classes K. It is Grubbs' outlier
// test (Technometrics 1969) on a normal scale:
//
//	t_c = (mean of the others - s_c) / (their standard deviation * sqrt(1 + 1/(K-1)))
//	p_c = P(T > t_c), T Student's with K-2 degrees of freedom: exact for normal scores
//	index_c = z with P(Z > z) = 1 - (1-p_c)^K
//
// The largest index of a model without an outlier exceeds k with a probability of about P(Z > k),
// 2.3 % for k = 2, for any number of classes; scale and shift of the scores do not matter. With
// fewer than three scores, or when the others are all equal and s_c is not below them, an index is
// 0; an infinite or undefined score counts as not suspicious and is left out of the others.
func studentized(scores []float64) []float64 {
	index := make([]float64, len(scores))
	var finite []int
	for i, s := range scores {
		if !math.IsNaN(s) && !math.IsInf(s, 0) {
			finite = append(finite, i)
		}
	}
	n := len(finite)
	if n < 3 {
		return index
	}
	others := make([]float64, 0, n-1)
	student := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(n - 2)}
	for _, c := range finite {
		others = others[:0]
		for _, o := range finite {
			if o != c {
				others = append(others, scores[o])
			}
		}
		mean, sd := stat.MeanStdDev(others, nil)
		gap := mean - scores[c]
		if sd <= 1e-12*math.Abs(mean) { // equal but for rounding
			if gap > 1e-9*math.Abs(mean) {
				index[c] = maxIndex
			}
			continue
		}
		p := student.Survival(gap / (sd * math.Sqrt(1+1/float64(n-1))))
		index[c] = normalQuantile(-math.Expm1(float64(n) * math.Log1p(-p)))
	}
	return index
}

// Power is a magnitude of each class that is larger for more suspicious ones and has a zero, and
// the shape of the Gamma distribution that it follows, at any scale, over the classes of a clean
// model.
type Power struct {
	Values []float64 // by class, at least 0
	Shape  float64   // positive; smaller for heavier tails
}

// Ratio returns for each class how surprising its most surprising power is beside the mean of the
// other classes', in standard deviations of a normal distribution and corrected for the number K of
// classes and m of powers (Bonferroni, the powers of a class being related in no known way). Powers
// of classes without a backdoor are taken to be Gamma distributed with a known shape and any scale,
// whose ratios are Fisher's; with shape 1, exponential powers, it is close to Fisher's test of the
// largest peak of a periodogram (Proc. R. Soc. A 1929):
//
//	r_c = x_c / mean of the others, for each power x
//	p_c = the least P(F > r_c) over the powers, F Fisher's with 2 shape and 2 shape (K-1) degrees of freedom
//	index_c = z with P(Z > z) = 1 - (1-p_c)^(K m)
//
// Unlike Studentized it need not estimate the spread from K-1 classes, which a second outlier would
// widen: the shape is known beforehand. The largest index of a model without an outlier exceeds k
// with a probability of about P(Z > k), at most, for any K and any scale; a power has a zero, so
// shifts mean nothing. A power with fewer than three values, or of which the others are all 0, says
// nothing about a class; a negative, infinite or undefined value counts as not suspicious and is
// left out. A class of which no power says anything has index 0.
func Ratio(powers ...Power) []float64 {
	if len(powers) == 0 {
		return nil
	}
	index := make([]float64, len(powers[0].Values))
	below := make([]float64, len(index)) // P(F < r), of the most surprising power; 0 for none
	above := make([]float64, len(index)) // P(F > r), kept beside it for its digits
	tests := 0
	for _, x := range powers {
		tests += x.tails(below, above)
	}
	for c := range index {
		switch n := float64(tests); {
		case below[c] == 0 && above[c] == 0:
		case below[c] < 0.5:
			index[c] = -normalQuantile(math.Pow(below[c], n))
		default:
			index[c] = normalQuantile(-math.Expm1(n * math.Log1p(-above[c])))
		}
	}
	return index
}

// tails puts into below and above the probabilities of a smaller and a larger ratio than each class
// has, where it is more surprising than what is there, and returns how many classes have a value.
func (x Power) tails(below, above []float64) int {
	sum, n := 0.0, 0
	valid := func(v float64) bool { return v >= 0 && !math.IsInf(v, 0) }
	for _, v := range x.Values {
		if valid(v) {
			sum += v
			n++
		}
	}
	if n < 3 {
		return 0
	}
	for c, v := range x.Values {
		others := (sum - v) / float64(n-1)
		if !valid(v) || others <= 1e-12*sum {
			continue
		}
		// F(d1, d2) by the incomplete beta function, from either side.
		d1, d2 := 2*x.Shape, 2*x.Shape*float64(n-1)
		at := d1 * v / others
		p, q := mathext.RegIncBeta(d1/2, d2/2, at/(d2+at)), mathext.RegIncBeta(d2/2, d1/2, d2/(d2+at))
		if below[c] == 0 && above[c] == 0 || q < above[c] {
			below[c], above[c] = p, q
		}
	}
	return n
}

// BoundIndex is the index of a method that holds a trigger's size against a fixed bound instead of
// against other classes:
//
//	K + log2(bound / size)
//
// within ±37, so that it exceeds K exactly when the size is below the bound, and each halving of
// the size adds one. An infinite or undefined size gets the lowest index.
func BoundIndex(size, bound float64) float64 {
	if math.IsNaN(size) {
		return -maxIndex
	}
	return math.Max(-maxIndex, math.Min(maxIndex, K+math.Log2(bound/size)))
}

// maxIndex bounds the index: beyond it probabilities underflow.
const maxIndex = 37.0

// normalQuantile returns z with P(Z > z) = p for a standard normal Z, within [-maxIndex, maxIndex].
func normalQuantile(p float64) float64 {
	lo, hi := -maxIndex, maxIndex
	for range 80 {
		mid := (lo + hi) / 2
		if 0.5*math.Erfc(mid/math.Sqrt2) > p {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}

// mad returns Neural Cleanse's anomaly index of each score (Wang et al., IEEE S&P 2019): the
// distance below the median in units of 1.4826 times the median absolute deviation, negative above
// the median; medians of an even number are the mean of the middle two. When the deviation is 0 the
// index is 0 at the median and ±37 elsewhere. An infinite or undefined score counts as the largest
// and gets index 0.
func mad(scores []float64) []float64 {
	index := make([]float64, len(scores))
	var finite []float64
	for _, s := range scores {
		if !math.IsNaN(s) && !math.IsInf(s, 0) {
			finite = append(finite, s)
		}
	}
	if len(finite) == 0 {
		return index
	}
	m := median(finite)
	dev := make([]float64, len(finite))
	for i, s := range finite {
		dev[i] = math.Abs(s - m)
	}
	mad := 1.4826 * median(dev)
	for i, s := range scores {
		switch {
		case math.IsNaN(s) || math.IsInf(s, 0) || s == m:
		case mad == 0:
			index[i] = math.Copysign(maxIndex, m-s)
		default:
			index[i] = math.Max(-maxIndex, math.Min(maxIndex, (m-s)/mad))
		}
	}
	return index
}

func median(x []float64) float64 {
	s := append([]float64(nil), x...)
	sort.Float64s(s)
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}
