package inspector

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	vec "gonum.org/v1/gonum/floats"

	"clipinspector/settings"
)

// What a source and a target explain alone is no interaction: a table of sums has none, whatever
// lies on its diagonal. Those of a source cancel out. One pair that stands out is the largest.
func TestInteractionsAreWhatSourceAndTargetDoNotExplain(t *testing.T) {
	const k = 7
	rng := rand.New(rand.NewPCG(1, 1))
	sums, table := make([][]float64, k), make([][]float64, k)
	source, target := make([]float64, k), make([]float64, k)
	for i := range k {
		source[i], target[i] = rng.NormFloat64(), rng.NormFloat64()
	}
	for s := range k {
		sums[s], table[s] = make([]float64, k), make([]float64, k)
		for c := range k {
			sums[s][c], table[s][c] = 3*target[c], rng.NormFloat64()
		}
		sums[s][s] = 100
	}
	for _, e := range interactions(sums) {
		if math.Abs(e) > 1e-12 {
			t.Fatalf("a table in which targets differ alone has an interaction of %v", e)
		}
	}
	e := interactions(table)
	if len(e) != k*(k-1) {
		t.Fatalf("%d interactions of %d classes", len(e), k)
	}
	for s := range k {
		if sum := vec.Sum(e[s*(k-1) : (s+1)*(k-1)]); math.Abs(sum) > 1e-12 {
			t.Errorf("those of source %d have the sum %v", s, sum)
		}
	}
	table[2][5] += 9
	if after := interactions(table); vec.MaxIdx(after) != 2*(k-1)+4 {
		t.Errorf("class 5 was brought nearer from class 2 alone, and interaction %d is the largest", vec.MaxIdx(after))
	}
}

// A class that images of one other class alone reach more nearly than in the references is found,
// with that class, whatever the kind of evidence; clean models are flagged as rarely as k = 2 says,
// and permuting the classes permutes what is found.
func TestATriggerForImagesOfOneClassIsFound(t *testing.T) {
	d, err := Find("separation")
	if err != nil {
		t.Fatal(err)
	}
	const classes, dim, models, n = 9, 24, 400, 6
	for _, kind := range []string{"both", "reach"} {
		s, err := settings.Resolve(d.Params, map[string]any{"evidence": kind, "source-classes": true})
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(8, 3))
		flagged, found := 0, 0
		for range models {
			centres := centresOf(rng, classes, dim)
			normal := make([][]float64, classes)
			for i := range normal {
				normal[i] = make([]float64, classes)
				for j := range normal[i] {
					normal[i][j] = -5 + 2*rng.NormFloat64()
				}
			}
			drawn := func() *Evidence {
				e := &Evidence{Accuracy: 1, Vectors: cloud(rng, centres, 0.05), Common: make([]float64, dim), Reach: make([]float64, classes)}
				for i := range normal {
					e.Reach[i] = rng.NormFloat64()
					e.From = append(e.From, slices.Clone(normal[i]))
					for j := range e.From[i] {
						e.From[i][j] += rng.NormFloat64()
					}
				}
				return e
			}
			var references []*Evidence
			for range n {
				references = append(references, drawn())
			}
			model := drawn()
			judged := func(model *Evidence, references []*Evidence) (suspect, source int, backdoored bool) {
				p, sources, unsure, err := heldAgainst(model, references, s)
				if err != nil || unsure != "" || len(sources) != classes {
					t.Fatal(err, unsure, sources)
				}
				c := vec.MinIdx(p)
				return c, sources[c], normalQuantile(ofClasses(p[c], classes)) > K
			}
			if _, _, b := judged(model, references); b {
				flagged++
			}
			model.From[3][7] += 8
			suspect, source, b := judged(model, references)
			if b && suspect == 7 && source == 3 {
				found++
			}
			order := rng.Perm(classes)
			moved := restricted(append([]*Evidence{model}, references...), order)
			if c, from, again := judged(moved[0], moved[1:]); again != b || order[c] != suspect || (from < 0) != (source < 0) || from >= 0 && order[from] != source {
				t.Errorf("%s: class %d from %d, and permuted %d from %d", kind, suspect, source, order[c], from)
			}
		}
		if rate := float64(flagged) / models; rate > 0.05 {
			t.Errorf("%s: %.3f of the clean models are flagged", kind, rate)
		}
		if found < models*9/10 {
			t.Errorf("%s: %d of %d found and named with their source", kind, found, models)
		}
		t.Logf("%s: %d of %d clean models flagged, %d of %d found", kind, flagged, models, found, models)
	}
}
