package stats

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"clipinspector/results/internal/sample"
)

func TestMcNemarIsTheExactBinomialTest(t *testing.T) {
	for _, x := range []struct {
		a, b int
		want float64
	}{
		{0, 0, 1}, {3, 3, 1}, {1, 5, 14. / 64}, {5, 1, 14. / 64}, {0, 10, 2. / 1024},
		{59, 41, 0.08862608}, // R: binom.test(41, 100)$p.value
	} {
		if got := mcNemar(x.a, x.b); math.Abs(got-x.want) > 1e-8 {
			t.Errorf("McNemar(%d, %d) = %v, want %v", x.a, x.b, got, x.want)
		}
	}
}

// Beside scores that say nothing, whose AUROC is 0.5 in every resample, the paired difference is
// the plain interval moved by a half.
func TestAUROCDifferenceDrawsAsAUROCIntervalDoes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var b []float64
	var labels []bool
	var clusters []string
	for i := range 60 {
		labels, clusters = append(labels, i%3 > 0), append(clusters, string(rune('a'+i%7)))
		b = append(b, rng.NormFloat64()+float64(i%3))
	}
	nothing := make([]float64, len(b))
	d, lo, hi := aurocDifference(nothing, b, labels, clusters, 500, 3)
	wantLo, wantHi, _ := aurocInterval(b, labels, clusters, 500, 3)
	if want := AUROC(b, labels); math.Abs(d+0.5-want) > 1e-12 || math.Abs(lo+0.5-wantLo) > 1e-12 || math.Abs(hi+0.5-wantHi) > 1e-12 {
		t.Errorf("%v [%v, %v], want %v [%v, %v] less 0.5", d, lo, hi, want, wantLo, wantHi)
	}
	if d, lo, hi := aurocDifference(b, b, labels, clusters, 500, 3); d != 0 || lo != 0 || hi != 0 {
		t.Errorf("with itself: %v [%v, %v]", d, lo, hi)
	}
	if _, lo, _ := aurocDifference(nothing, b, labels, make([]string, len(b)), 500, 3); !math.IsNaN(lo) {
		t.Errorf("one cluster has the bound %v", lo)
	}
}

// What a comparison says of each side is what the tables say, and its pairs add up.
func TestComparisonsAgreeWithTheTables(t *testing.T) {
	s := sample.Open(t)
	sample.Fill(t, s)
	rows, err := Read(s, "synthetic")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := rows.Summarise(nil)
	if err != nil {
		t.Fatal(err)
	}
	by, err := rows.CompareBy("detector", "neural-cleanse", "ci")
	if err != nil {
		t.Fatal(err)
	}
	f := by[0].Detectors[0]
	if len(by) != 1 || len(by[0].Detectors) != 1 || f.Pairs != 16 || f.SameModels != 16 || f.Detector != "neural-cleanse and ci" {
		t.Fatalf("%+v", by[0])
	}
	for i, name := range []string{"neural-cleanse", "ci"} {
		for _, d := range sum.Detectors {
			if d.Name == name && (d.Correct != f.Correct[i] || d.AUROC != f.AUROC[i]) {
				t.Errorf("%s: %d right, AUROC %v; the table says %d, %v", name, f.Correct[i], f.AUROC[i], d.Correct, d.AUROC)
			}
		}
	}
	if f.OnlyB-f.OnlyA != f.Correct[1]-f.Correct[0] || f.P != Num(mcNemar(f.OnlyA, f.OnlyB)) || f.Verdicts != len(by[0].Changed) {
		t.Errorf("%+v with %d changed models", f, len(by[0].Changed))
	}
	right := [2]int{}
	for _, c := range by[0].Changed {
		if c.Verdicts[0] == c.Verdicts[1] || c.Right[0] && c.Right[1] { // "cannot tell" and a wrong verdict differ, too
			t.Errorf("%+v is no change", c)
		}
		right[0] += boolInt(c.Right[0])
		right[1] += boolInt(c.Right[1])
	}
	if right != [2]int{f.OnlyA, f.OnlyB} {
		t.Errorf("%v changed models are right, want %d and %d", right, f.OnlyA, f.OnlyB)
	}
	// A setting of the models: other models, so none is the same file; the model that failed has no
	// partner.
	by, err = rows.CompareBy("model.shots")
	if err != nil {
		t.Fatal(err)
	}
	if c := by[0]; c.A != "4" || c.B != "16" || len(c.Detectors) != 2 || c.Detectors[0].Pairs != 8 || c.Detectors[0].SameModels != 0 || c.Unpaired != [2]int{} || len(c.Settings) != 0 {
		t.Errorf("%+v", c)
	}
	// A suite with itself does not differ.
	same, err := Compare(rows, rows, "a", "b")
	if err != nil || len(same.Changed) != 0 || len(same.Settings) != 0 || len(same.Detectors) != 2 || same.Detectors[0].Difference != 0 || same.Detectors[1].Pairs != 16 {
		t.Errorf("%+v, %v", same, err)
	}
	for by, want := range map[string]string{"attack": "another truth", "epsilon": "one value alone", "nothing": "no cell has such a setting"} {
		if _, err := rows.CompareBy(by); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("by %s: %v, want %q", by, err, want)
		}
	}
	if _, err := rows.CompareBy("detector", "ci", "other"); err == nil || !strings.Contains(err.Error(), "there are ci, neural-cleanse") {
		t.Errorf("a value that is not there: %v", err)
	}
}
