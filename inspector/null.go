package inspector

import (
	"math"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// A null is what is normal for one statistic of each class, measured on clean references.
//
// Some classes have a large statistic by nature, and have it in the references as well: each class
// is held against its own mean. A model's own level, the median over its classes, is taken out
// first, so that a provider who tunes longer or faster is not suspect for it. Few references say
// little about each class's spread, hence Smyth's moderated t-statistic (Stat. Appl. Genet. Mol.
// Biol. 2004): the variance of class c over n references is shrunk to the mean variance over the
// classes,
//
//	s²_c = (prior·s²_0 + (n-1)·s²_c) / (prior + n-1)
//	t_c  = (x_c - mean_c) / (s_c·sqrt(1 + 1/n)),  Student's with prior + n-1 degrees of freedom.
//
// prior is how many degrees of freedom the common variance stands for: a setting, and of many
// classes the number that their variances themselves speak for, if it is smaller (see freedomOf).
type null struct {
	mean, scale []float64 // by class; of centred statistics
	freedom     float64
	spread      float64 // see tails
}

// newNull measures a null on references' statistics, [n][K] with n >= 2.
func newNull(references [][]float64, prior, spread float64) null {
	n, k := len(references), len(references[0])
	x := make([][]float64, n)
	for i, r := range references {
		x[i] = centred(r)
	}
	u := null{mean: make([]float64, k), scale: make([]float64, k), spread: spread}
	common := 0.0
	column := make([]float64, n)
	for c := range k {
		for i := range x {
			column[i] = x[i][c]
		}
		u.mean[c], u.scale[c] = stat.MeanVariance(column, nil)
		common += u.scale[c] / float64(k)
	}
	prior = min(prior, float64((k-1)*(n-1))) // no more than all of them were measured with
	if k >= severalClasses {
		prior = min(prior, freedomOf(u.scale, float64(n-1)))
	}
	u.freedom = prior + float64(n-1)
	for c, v := range u.scale {
		u.scale[c] = math.Sqrt((prior*common + float64(n-1)*v) / u.freedom * (1 + 1/float64(n)))
	}
	return u
}

// severalClasses is from how many classes on their variances say how alike they are. Of nine, as in
// the mini world's sets, the estimate is mostly noise.
const severalClasses = 30

// freedomOf is how many degrees of freedom the mean of variances stands for, each measured with so
// many degrees of its own: Smyth's estimate from the spread of their logarithms, which is that of
// the measuring alone, trigamma(own/2), if all classes vary alike. At least 1.
func freedomOf(variances []float64, own float64) float64 {
	logs := make([]float64, len(variances))
	for c, v := range variances {
		logs[c] = math.Log(math.Max(v, 1e-18)) // references that do not vary at all
	}
	trigamma := func(x float64) float64 { return mathext.Zeta(2, x) }
	excess := stat.Variance(logs, nil) - trigamma(own/2)
	lo, hi := 0.5, 1e6 // half the degrees; trigamma falls
	if excess <= trigamma(hi) {
		return 2 * hi
	}
	for hi > lo*(1+1e-12) {
		if mid := math.Sqrt(lo * hi); trigamma(mid) > excess {
			lo = mid
		} else {
			hi = mid
		}
	}
	return 2 * lo
}

// tails returns for each class the probability that a clean model's statistic is as large as x's or
// larger.
//
// A model that was tuned on the very images that references are drawn from lies closer to their
// mean than they do themselves, which vary by their draws as well: spread is by how much, as a share
// of what the null expects, and a smaller deviation betrays it.
//
// References may be of another origin than the model, as those are that were tuned on other images:
// then classes of a clean model differ from them by more than they do from each other, and some by
// much more. With foreign the model's own spread counts, the root of the mean t² over its classes
// but the most suspicious, where that is larger than the null's, and the tail is that of K-2
// degrees of freedom at most, since the spread is measured on no more classes.
func (u null) tails(x []float64, foreign bool) []float64 {
	t := make([]float64, len(x))
	sum, largest := 0.0, math.Inf(-1)
	for c, v := range centred(x) {
		t[c] = (v - u.mean[c]) / math.Max(u.scale[c], 1e-9) // references that do not vary at all
		sum += t[c] * t[c]
		largest = math.Max(largest, t[c])
	}
	spread, freedom := u.spread, u.freedom
	if foreign {
		spread = 1
		if len(x) > 2 {
			spread = max(1, math.Sqrt((sum-largest*largest)/float64(len(x)-1)))
			freedom = min(freedom, float64(len(x)-2))
		}
	}
	student := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: freedom}
	for c := range t {
		t[c] = student.Survival(t[c] / spread)
	}
	return t
}

// centred returns statistics less their median.
func centred(x []float64) []float64 {
	m, out := median(x), make([]float64, len(x))
	for i, v := range x {
		out[i] = v - m
	}
	return out
}

// fisher combines tail probabilities that are independent on clean models by Fisher's method: -2 Σ
// ln p is chi-squared with two degrees of freedom for each. Evidence from one side is enough if it
// is strong, and two weak ones add up.
func fisher(p ...float64) float64 {
	sum := 0.0
	for _, v := range p {
		sum -= 2 * math.Log(math.Max(v, 1e-300))
	}
	// The tail of a chi-squared variable with 2m degrees of freedom is that of a Poisson count
	// below m.
	tail, term := 0.0, math.Exp(-sum/2)
	for i := range p {
		if i > 0 {
			term *= sum / 2 / float64(i)
		}
		tail += term
	}
	return math.Min(1, tail)
}

// ofClasses returns the probability that the least of k independent tail probabilities of a clean
// model is p or less: what p is worth as that of the most suspicious of k classes.
func ofClasses(p float64, k int) float64 { return -math.Expm1(float64(k) * math.Log1p(-p)) }
