package inspector

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"

	"clipinspector/settings"
)

// Clean models whose classes have means of their own, and spreads that differ by half, are flagged
// as rarely as k = 2 says, whatever the numbers of classes and references; with many classes more
// rarely, since tails so far out are taken to be heavier than these are.
func TestANullKeepsItsLevel(t *testing.T) {
	const level, closer = 0.0228, 0.9
	for _, classes := range []int{5, 10, 100, 400} {
		for _, references := range []int{3, 6, 8} {
			rng := rand.New(rand.NewPCG(7, uint64(1000*classes+references)))
			draw := func(mean, spread []float64, share float64) []float64 {
				x, own := make([]float64, classes), 3*rng.NormFloat64() // the model's own level
				for c := range x {
					x[c] = own + mean[c] + share*spread[c]*rng.NormFloat64()
				}
				return x
			}
			n := float64(references)
			share := math.Sqrt(closer*closer*(1+1/n) - 1/n) // of the models' deviations; the mean of the references has its own
			models := max(200, 20000/classes)
			rate := 0.0
			for range models {
				mean, spread := make([]float64, classes), make([]float64, classes)
				for c := range mean {
					mean[c], spread[c] = 5*rng.NormFloat64(), 0.75+0.5*rng.Float64()
				}
				var all [][]float64
				for range references {
					all = append(all, draw(mean, spread, 1))
				}
				p := newNull(all, 12, closer).tails(draw(mean, spread, share), false)
				least := 1.0
				for _, v := range p {
					least = math.Min(least, v)
				}
				if normalQuantile(ofClasses(least, classes)) > K {
					rate += 1 / float64(models)
				}
			}
			t.Logf("%3d classes, %d references: %.4f (nominal %.4f)", classes, references, rate, level)
			if rate > 0.05 || classes <= 10 && rate < 0.005 {
				t.Errorf("%d classes, %d references: %.4f of the clean models flagged, nominal %.4f", classes, references, rate, level)
			}
		}
	}
}

// Of many classes some vary much more than others. The variances say so themselves: their degrees
// of freedom are found again, and clean models are still flagged in at most a twentieth of the
// cases. With the setting alone one in three would be.
func TestManyClassesVaryUnalike(t *testing.T) {
	const classes, references, freedom = 100, 6, 4.0
	rng := rand.New(rand.NewPCG(5, 6))
	flagged, constant, models, found := 0, 0, 400, 0.0
	for range models {
		spread := make([]float64, classes)
		for c := range spread {
			spread[c] = math.Sqrt(freedom / distuv.ChiSquared{K: freedom, Src: rng}.Rand())
		}
		draw := func() []float64 {
			x := make([]float64, classes)
			for c := range x {
				x[c] = spread[c] * rng.NormFloat64()
			}
			return x
		}
		var all [][]float64
		for range references {
			all = append(all, draw())
		}
		x, u := draw(), newNull(all, 12, 0.9)
		found += (u.freedom - references + 1) / float64(models)
		if normalQuantile(ofClasses(slices.Min(u.tails(x, false)), classes)) > K {
			flagged++
		}
		for c := range u.scale { // as if the classes varied alike
			u.scale[c] = math.Sqrt(freedom/(freedom-2)) * math.Sqrt(1+1./references)
		}
		u.freedom = 12 + references - 1
		if normalQuantile(ofClasses(slices.Min(u.tails(x, false)), classes)) > K {
			constant++
		}
	}
	t.Logf("of %d clean models %d flagged, %d if all classes varied alike; %.1f degrees of freedom, true %.0f", models, flagged, constant, found, freedom)
	if 20*flagged > models || found < 0.75*freedom || found > 1.5*freedom {
		t.Errorf("%d of %d clean models flagged, %.1f degrees of freedom; want at most a twentieth, and about %.0f", flagged, models, found, freedom)
	}
	if 10*constant < models {
		t.Errorf("%d of %d clean models flagged with one variance for all: the classes are too much alike to test anything", constant, models)
	}
}

// References of another origin sit elsewhere, class by class, and some classes much farther than
// others: clean models held against them are flagged in at most a tenth of the cases, and a class
// that stands far out still is.
func TestForeignReferences(t *testing.T) {
	const models = 2000
	rng := rand.New(rand.NewPCG(3, 4))
	for _, classes := range []int{6, 10, 100} {
		clean, own, found := 0, 0, 0
		for range models {
			x, bias := make([]float64, classes), distuv.StudentsT{Sigma: 1.2, Nu: 6, Src: rng}
			references := make([][]float64, 6)
			for i := range references {
				references[i] = make([]float64, classes)
			}
			for c := range x {
				x[c] = bias.Rand() + rng.NormFloat64()
				for i := range references {
					references[i][c] = rng.NormFloat64()
				}
			}
			u := newNull(references, 12, 0.9)
			flagged := func(foreign bool) int {
				least := 1.0
				for _, p := range u.tails(x, foreign) {
					least = math.Min(least, p)
				}
				if normalQuantile(ofClasses(least, classes)) > K {
					return 1
				}
				return 0
			}
			clean += flagged(true)
			own += flagged(false)
			x[0] += 30
			found += flagged(true)
		}
		t.Logf("%3d classes: %d of %d clean models flagged, %d if the references were taken for their kin; %d found", classes, clean, models, own, found)
		if clean > models/10 || own < 2*clean || found < models*9/10 {
			t.Errorf("%d classes: %d of %d clean models flagged, want at most a tenth and less than half of %d; %d found, want nine tenths",
				classes, clean, models, own, found)
		}
	}
}

// With one spread for all classes and none of the level's noise the moderated t is Student's:
// against its quantile.
func TestTailsAreStudents(t *testing.T) {
	// Two references, a class each way: variances 2, 2 and 2 with mean 0, so that s² = 2 and s²(1 +
	// 1/2) = 3.
	u := newNull([][]float64{{1, -1, 0, 1, -1}, {-1, 1, 0, -1, 1}}, 3, 1)
	if u.freedom != 4 {
		t.Fatalf("%v degrees of freedom, want 4", u.freedom)
	}
	x := []float64{0, 0, 0, 4, -4}
	p := u.tails(x, false)
	for c, v := range x {
		want := distuv.StudentsT{Sigma: 1, Nu: 4}.Survival(v / u.scale[c])
		if math.Abs(p[c]-want) > 1e-12 {
			t.Errorf("class %d: %v, want %v", c, p[c], want)
		}
	}
	// Pooled: the mean of 2, 2, 0, 2, 2 is 1.6; class 2, which never varied, is (3·1.6 + 0)/4.
	if want := math.Sqrt(1.2 * 1.5); math.Abs(u.scale[2]-want) > 1e-12 {
		t.Errorf("the spread of a class that does not vary is %v, want %v", u.scale[2], want)
	}
}

// Fisher's method: one probability stays what it is, two are as in printed tables (-2 ln 0.05 twice
// is 11.98, of which chi-squared with four degrees of freedom has 0.0175 above), and a hopeless
// side does not undo a strong one.
func TestFisherCombines(t *testing.T) {
	for _, x := range []struct {
		p    []float64
		want float64
	}{{[]float64{0.3}, 0.3}, {[]float64{0.05, 0.05}, 0.01748}, {[]float64{1, 1e-6}, 1.48e-5}, {[]float64{1, 1}, 1}, {[]float64{0, 1}, 0}} {
		if got := fisher(x.p...); math.Abs(got-x.want) > 0.005*x.want+1e-12 {
			t.Errorf("%v: %v, want %v", x.p, got, x.want)
		}
	}
}

// cloud draws class vectors around centres, with a level of its own.
func cloud(rng *rand.Rand, centres [][]float64, noise float64) [][]float64 {
	scale := math.Exp(0.2 * rng.NormFloat64())
	w := make([][]float64, len(centres))
	for c := range w {
		w[c] = make([]float64, len(centres[c]))
		for i, v := range centres[c] {
			w[c][i] = scale * (v + noise*rng.NormFloat64())
		}
	}
	return w
}

func centresOf(rng *rand.Rand, classes, dim int) [][]float64 {
	w := make([][]float64, classes)
	for c := range w {
		own := 0.5 + rng.Float64() // some stand out by nature
		w[c] = make([]float64, dim)
		for i := range w[c] {
			w[c][i] = own * rng.NormFloat64() / math.Sqrt(float64(dim))
		}
	}
	return w
}

// A model that is drawn as its references are is flagged as rarely as k = 2 says, although some
// classes stand out by nature and models differ in scale: each reference is judged against the
// others alone. One class moved out by half of its distance is found, and named.
func TestReferencesAndModelsAreExchangeable(t *testing.T) {
	d, err := Find("separation")
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(d.Params, map[string]any{"evidence": "vectors"})
	if err != nil {
		t.Fatal(err)
	}
	const classes, dim, models = 10, 32, 1500
	for _, n := range []int{3, 6} {
		rng := rand.New(rand.NewPCG(8, uint64(n)))
		flagged, found := 0, 0
		for range models {
			centres := centresOf(rng, classes, dim)
			var references []*Evidence
			for range n {
				references = append(references, &Evidence{Accuracy: 1, Vectors: cloud(rng, centres, 0.05), Reach: make([]float64, classes)})
			}
			model := &Evidence{Vectors: cloud(rng, centres, 0.05), Reach: make([]float64, classes)}
			model.Common = make([]float64, dim)
			judged := func() (int, bool) {
				p, _, unsure, err := heldAgainst(model, references, s)
				if err != nil || unsure != "" {
					t.Fatal(err, unsure)
				}
				suspect := 0
				for c := range p {
					if p[c] < p[suspect] {
						suspect = c
					}
				}
				return suspect, normalQuantile(ofClasses(p[suspect], classes)) > K
			}
			if _, yes := judged(); yes {
				flagged++
			}
			target := rng.IntN(classes)
			for i := range model.Vectors[target] {
				model.Vectors[target][i] *= 1.8
			}
			if c, yes := judged(); yes && c == target {
				found++
			}
		}
		rate := float64(flagged) / models
		t.Logf("%d references: %.4f of clean models flagged, %.3f of those with a class moved out found", n, rate, float64(found)/models)
		if rate > 0.05 {
			t.Errorf("%d references: %.4f of the clean models flagged, nominal 0.0228", n, rate)
		}
		if found < models*8/10 {
			t.Errorf("%d references: %d of %d models with a class moved out by 80 %% found", n, found, models)
		}
	}
}

// References are compared with each other by the rule that a model is compared with them by: alike,
// they look as clean models do, and one with a class moved out looks worse than the rest.
func TestReferencesAmongThemselves(t *testing.T) {
	d, err := Find("separation")
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(d.Params, nil)
	if err != nil {
		t.Fatal(err)
	}
	const classes, dim, rounds, n = 10, 32, 100, 6
	rng := rand.New(rand.NewPCG(9, 1))
	q := make([]float64, dim)
	flagged, worst := 0, 0
	for range rounds {
		centres := centresOf(rng, classes, dim)
		var references []*Evidence
		for range n {
			reach := make([]float64, classes)
			for c := range reach {
				reach[c] = rng.NormFloat64()
			}
			references = append(references, &Evidence{Accuracy: 1, Vectors: cloud(rng, centres, 0.05), Reach: reach})
		}
		p, err := among(references, q, s)
		if err != nil || len(p) != n {
			t.Fatal(p, err)
		}
		for _, x := range p {
			if normalQuantile(x) > K {
				flagged++
			}
		}
		references[2].Reach[4] += 20
		if p, err = among(references, q, s); err != nil {
			t.Fatal(err)
		}
		if slices.Min(p) == p[2] && p[2] < 1e-3 {
			worst++
		}
	}
	t.Logf("%d of %d references lie below the level, nominal %.0f; one with a class moved out is the worst in %d of %d", flagged, n*rounds, 0.0228*n*rounds, worst, rounds)
	if flagged > n*rounds*5/100 || worst < rounds*9/10 {
		t.Error("that is not what is normal")
	}
}

// Without references, with too few, or with references that do not tell the classes apart, there is
// no telling, and the report says why.
func TestItSaysWhenItCannotTell(t *testing.T) {
	d, err := Find("separation")
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(d.Params, nil)
	if err != nil {
		t.Fatal(err)
	}
	model := &Evidence{Reach: []float64{1, 2, 3, 4, 5}}
	reference := func(accuracy float64) *Evidence {
		return &Evidence{Accuracy: accuracy, Reach: []float64{1, 2, 3, 4, 5}}
	}
	if _, _, unsure, err := heldAgainst(model, []*Evidence{reference(1), reference(1)}, s); err != nil || unsure == "" {
		t.Errorf("two references: %q, %v", unsure, err)
	}
	few := []*Evidence{reference(0.4), reference(0.45), reference(0.5)}
	if _, _, unsure, err := heldAgainst(model, few, s); err != nil || unsure == "" {
		t.Errorf("references that are right on 45 %%: %q, %v", unsure, err)
	}
	good := []*Evidence{reference(0.9), reference(0.9), reference(0.9)}
	if p, _, unsure, err := heldAgainst(model, good, s); err != nil || unsure != "" || len(p) != 5 {
		t.Errorf("three good references: %v, %q, %v", p, unsure, err)
	}
	alien := &Evidence{Reach: model.Reach, Vectors: [][]float64{{1}, {2}, {3}, {4}, {5}}, Common: []float64{1, 0}}
	if _, _, _, err := heldAgainst(alien, good, s); err == nil {
		t.Error("class vectors of another length than zero-shot CLIP's are taken")
	}
	for name, bad := range map[string]*Evidence{"fewer classes": {Accuracy: 1, Reach: []float64{1}}, "not finite": {Accuracy: 1, Reach: []float64{1, 2, math.NaN(), 4, 5}}} {
		if _, _, _, err := heldAgainst(model, append(good[:2:2], bad), s); err == nil {
			t.Errorf("evidence with %s is taken", name)
		}
	}
}
