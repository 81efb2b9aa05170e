package inspector

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// Clean models are flagged at the same rate whatever the number of classes, scale and shift.
func TestStudentizedHoldsItsFalsePositiveRate(t *testing.T) {
	const models = 4000
	want := 0.5 * math.Erfc(K/math.Sqrt2) // 0.0228
	se := math.Sqrt(want * (1 - want) / models)
	for _, classes := range []int{5, 8, 10, 20, 50, 100, 200, 400} {
		rng := rand.New(rand.NewPCG(1, uint64(classes)))
		n := models
		if classes > 100 {
			n = models / 4
		}
		byStudent, byMAD := 0, 0
		for range n {
			s := make([]float64, classes)
			for i := range s {
				s[i] = 1e3 + 7*rng.NormFloat64()
			}
			if largest(studentized(s)) > K {
				byStudent++
			}
			if largest(mad(s)) > K {
				byMAD++
			}
		}
		rate := float64(byStudent) / float64(n)
		t.Logf("%3d classes: studentized %.4f (nominal %.4f), MAD index > 2: %.3f", classes, rate, want, float64(byMAD)/float64(n))
		if tol := 4 * se * math.Sqrt(float64(models)/float64(n)); math.Abs(rate-want) > tol {
			t.Errorf("%d classes: %.4f of the clean models flagged, want %.4f ± %.4f", classes, rate, want, tol)
		}
	}
}

// The same for powers that are Gamma distributed with the shape that the rule expects.
func TestRatioHoldsItsFalsePositiveRate(t *testing.T) {
	want := 0.5 * math.Erfc(K/math.Sqrt2)
	for _, shape := range []float64{1, 4} {
		for _, classes := range []int{5, 8, 10, 20, 50, 100, 400} {
			models := 4000
			if classes > 50 {
				models = 2000
			}
			gamma := distuv.Gamma{Alpha: shape, Beta: 1e-3, Src: rand.NewPCG(4, uint64(classes))}
			flagged := 0
			for range models {
				x := make([]float64, classes)
				for i := range x {
					x[i] = gamma.Rand()
				}
				if largest(Ratio(Power{x, shape})) > K {
					flagged++
				}
			}
			rate, se := float64(flagged)/float64(models), math.Sqrt(want*(1-want)/float64(models))
			t.Logf("shape %g, %3d classes: ratio %.4f (nominal %.4f)", shape, classes, rate, want)
			if math.Abs(rate-want) > 4*se {
				t.Errorf("shape %g, %d classes: %.4f of the clean models flagged, want %.4f ± %.4f", shape, classes, rate, want, 4*se)
			}
		}
	}
}

// A second outlier hides the first from a rule that estimates the spread, not from one that knows
// the shape.
func TestRatioSeesTwoOutliers(t *testing.T) {
	x := []float64{1, 0.8, 1.2, 0.9, 1.1, 1, 0.7, 9, 9}
	scores := make([]float64, len(x))
	for i, v := range x {
		scores[i] = -v
	}
	if s := largest(studentized(scores)); s > K {
		t.Errorf("the studentized index of two equal outliers is %.2f: this test no longer shows the difference", s)
	}
	index := Ratio(Power{x, 4})
	for c, v := range index {
		if (v > K) != (x[c] == 9) {
			t.Errorf("class %d with power %g has index %.2f", c, x[c], v)
		}
	}
}

// P(F > 4.46) = 0.05 for 2 and 8 degrees of freedom, from a printed table: with shape 1, five
// classes and a ratio of 4.459.
func TestRatioKnownValue(t *testing.T) {
	index := Ratio(Power{[]float64{4.459, 0.5, 1.5, 1.2, 0.8}, 1})
	want := 1 - math.Pow(0.95, 5)
	if p := 0.5 * math.Erfc(index[0]/math.Sqrt2); math.Abs(p-want) > 1e-4 {
		t.Errorf("index %v stands for p = %v, want %v", index[0], p, want)
	}
	if low := Ratio(Power{[]float64{0.1, 1, 1.1, 0.9, 1}, 4}); low[0] <= -maxIndex || low[0] >= low[1] {
		t.Errorf("a power far below the others has index %v, one of them %v", low[0], low[1])
	}
	if a, b := Ratio(Power{[]float64{4, 1, 2, 3}, 3}), Ratio(Power{[]float64{4e9, 1e9, 2e9, 3e9}, 3}); math.Abs(a[0]-b[0]) > 1e-9 {
		t.Errorf("index %v, scaled %v", a[0], b[0])
	}
	nan, inf := math.NaN(), math.Inf(1)
	for _, x := range [][]float64{{}, {1, 2}, {0, 0, 0, 0}, {nan, inf, -1, 1, 1, 1}, {0, 0, 0, 5}, {1e300, 1, 1}} {
		for i, v := range Ratio(Power{x, 4}) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("index %d of %v is %v", i, x, v)
			}
		}
	}
	if v := Ratio(Power{[]float64{nan, 1, 1.1, 0.9, 1, 50}, 4}); v[0] != 0 || v[5] < K {
		t.Errorf("beside a failed inversion: %v", v)
	}
}

// Two powers are corrected for each other: the rate of false positives is the nominal one when they
// know nothing of each other and about half of it when they say the same, and a class that stands
// out in one of them alone is found.
func TestRatioOfTwoPowers(t *testing.T) {
	const models, classes = 4000, 10
	want := 0.5 * math.Erfc(K/math.Sqrt2)
	rng := rand.NewPCG(5, 5)
	gain, reach := distuv.Gamma{Alpha: 4, Beta: 7, Src: rng}, distuv.Gamma{Alpha: 1.5, Beta: 0.1, Src: rng}
	apart, same := 0, 0
	for range models {
		a, b := make([]float64, classes), make([]float64, classes)
		for c := range a {
			a[c], b[c] = gain.Rand(), reach.Rand()
		}
		if largest(Ratio(Power{a, 4}, Power{b, 1.5})) > K {
			apart++
		}
		if largest(Ratio(Power{a, 4}, Power{a, 4})) > K {
			same++
		}
		if v := Ratio(Power{a, 4}); largest(v) != largest(Ratio(Power{a, 4}, Power{nil, 1})) {
			t.Fatal("a power without values changed the index")
		}
		b[3] = 1e4
		if v := Ratio(Power{a, 4}, Power{b, 1.5}); v[3] <= K {
			t.Fatalf("an outlier in the second power alone has index %.2f", v[3])
		}
	}
	se := math.Sqrt(want * (1 - want) / models)
	for rate, want := range map[float64]float64{float64(apart) / models: want, float64(same) / models: want / 2} {
		t.Logf("%.4f of the clean models flagged (expected %.4f)", rate, want)
		if math.Abs(rate-want) > 4*se {
			t.Errorf("%.4f of the clean models flagged, want %.4f ± %.4f", rate, want, 4*se)
		}
	}
}

func TestStudentizedFindsAnOutlier(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, classes := range []int{8, 20, 100} {
		s := make([]float64, classes)
		for i := range s {
			s[i] = rng.NormFloat64()
		}
		s[3] = -10
		index := studentized(s)
		if index[3] <= K {
			t.Errorf("%d classes: an outlier of 10 standard deviations has index %.2f", classes, index[3])
		}
		for i, v := range index {
			if i != 3 && v > K {
				t.Errorf("%d classes: class %d has index %.2f beside the outlier", classes, i, v)
			}
		}
	}
}

func TestIndicesIgnoreScaleAndShift(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	s := make([]float64, 12)
	u := make([]float64, 12)
	for i := range s {
		s[i] = rng.NormFloat64()
		u[i] = 250*s[i] - 1e4
	}
	for _, rule := range []string{"studentized", "mad"} {
		a, b := Indices(rule, s), Indices(rule, u)
		for i := range a {
			if math.Abs(a[i]-b[i]) > 1e-6 {
				t.Errorf("%s: class %d has index %v, scaled and shifted %v", rule, i, a[i], b[i])
			}
		}
	}
}

// Against values computed by hand: scores 1..4 and 100 with the median 3 and a deviation of 1; and
// a t of known quantile.
func TestIndicesKnownValues(t *testing.T) {
	got := mad([]float64{1, 2, 3, 4, -97})
	for i, want := range []float64{1 / 1.4826, 0, -1 / 1.4826, -2 / 1.4826, 37} { // median 2, deviations 1 0 1 2 99
		if math.Abs(got[i]-want) > 1e-9 {
			t.Errorf("MAD index %d is %v, want %v", i, got[i], want)
		}
	}
	// K = 4, others -1 0 1: mean 0, sd 1, t = 4.302653*sqrt(4/3)/sqrt(4/3) has a one-sided p of
	// 0.025 with 2 degrees of freedom.
	s := []float64{-1, 0, 1, -4.302652729696142 * math.Sqrt(4.0/3)}
	p := 1 - math.Pow(1-0.025, 4)
	if z := studentized(s)[3]; math.Abs(0.5*math.Erfc(z/math.Sqrt2)-p) > 1e-6 {
		t.Errorf("index %v stands for p = %v, want %v", z, 0.5*math.Erfc(z/math.Sqrt2), p)
	}
}

func TestIndicesOfBadScores(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, rule := range []string{"studentized", "mad"} {
		for _, s := range [][]float64{{}, {1}, {1, 2}, {nan, nan, nan}, {1, 1, 1, 1}, {nan, 1, 2, 3, inf}, {0, 0, 0, -1}} {
			for i, v := range Indices(rule, s) {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Errorf("%s: index %d of %v is %v", rule, i, s, v)
				}
			}
		}
	}
	if v := studentized([]float64{nan, 1, 1.1, 0.9, 1, -50}); v[0] != 0 || v[5] < K {
		t.Errorf("beside a failed inversion: %v", v)
	}
}

func largest(x []float64) float64 {
	m := math.Inf(-1)
	for _, v := range x {
		m = math.Max(m, v)
	}
	return m
}
