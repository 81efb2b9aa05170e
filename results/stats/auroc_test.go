package stats

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// metricsReference is what testdata/metrics.py wrote.
type metricsReference struct {
	AUROC []struct {
		Scores []float64
		Labels []bool
		Value  float64
	}
	Wilson []struct {
		K, N   int
		Lo, Hi float64
	}
	Bootstrap []struct {
		Scores   []float64
		Labels   []bool
		Clusters []string
		Lo, Hi   float64
	}
}

func reference(t *testing.T) metricsReference {
	t.Helper()
	raw, err := os.ReadFile("testdata/metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	var ref metricsReference
	if err := json.Unmarshal(raw, &ref); err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestMetricsAgainstScipy(t *testing.T) {
	ref := reference(t)
	for i, c := range ref.AUROC {
		if got := AUROC(c.Scores, c.Labels); math.Abs(got-c.Value) > 1e-14 {
			t.Errorf("AUROC %d: %v, scipy says %v", i, got, c.Value)
		}
	}
	for _, c := range ref.Wilson {
		lo, hi := Wilson(c.K, c.N)
		if math.Abs(lo-c.Lo) > 1e-12 || math.Abs(hi-c.Hi) > 1e-12 {
			t.Errorf("Wilson(%d, %d) = %v, %v, scipy says %v, %v", c.K, c.N, lo, hi, c.Lo, c.Hi)
		}
	}
	for i, c := range ref.Bootstrap {
		lo, hi, skipped := aurocInterval(c.Scores, c.Labels, c.Clusters, 200_000, 3)
		// 200,000 resamples against numpy's 100,000: the ends wander by sampling.
		if math.Abs(lo-c.Lo) > 0.004 || math.Abs(hi-c.Hi) > 0.004 || skipped != 0 {
			t.Errorf("bootstrap %d: [%v, %v] skipped %d, numpy says [%v, %v]", i, lo, hi, skipped, c.Lo, c.Hi)
		}
	}
}

func TestAUROCByHand(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		scores []float64
		labels []bool
		want   float64
	}{
		{[]float64{1, 2, 3, 4}, []bool{false, false, true, true}, 1},
		{[]float64{4, 3, 2, 1}, []bool{false, false, true, true}, 0},
		{[]float64{1, 1, 1}, []bool{false, true, true}, 0.5},
		{[]float64{1, 2, 2, 3}, []bool{false, true, false, true}, 0.875}, // 3 wins, 1 tie of 4
		{[]float64{-inf, 0, inf, inf}, []bool{false, false, true, false}, 5. / 6},
		{[]float64{1, 2}, []bool{true, true}, nan},
		{nil, nil, nan},
		{[]float64{1, nan}, []bool{true, false}, nan},
	} {
		got := AUROC(c.scores, c.labels)
		if got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("AUROC(%v, %v) = %v, want %v", c.scores, c.labels, got, c.want)
		}
	}
}

func TestAUROCIntervalIgnoresTheOrderOfModels(t *testing.T) {
	c := reference(t).Bootstrap[0]
	lo, hi, _ := aurocInterval(c.Scores, c.Labels, c.Clusters, Resamples, BootstrapSeed)
	rand.Shuffle(len(c.Scores), func(i, j int) {
		c.Scores[i], c.Scores[j] = c.Scores[j], c.Scores[i]
		c.Labels[i], c.Labels[j] = c.Labels[j], c.Labels[i]
		c.Clusters[i], c.Clusters[j] = c.Clusters[j], c.Clusters[i]
	})
	lo2, hi2, _ := aurocInterval(c.Scores, c.Labels, c.Clusters, Resamples, BootstrapSeed)
	if lo != lo2 || hi != hi2 {
		t.Fatalf("[%v, %v] became [%v, %v]", lo, hi, lo2, hi2)
	}
}

func TestAUROCIntervalRedrawsAndGivesUp(t *testing.T) {
	// One cluster is all positive, the other all negative: half of the resamples
	// lack one kind, the others are perfect.
	lo, hi, skipped := aurocInterval([]float64{2, 1}, []bool{true, false}, []string{"a", "b"}, 1000, 1)
	if lo != 1 || hi != 1 || skipped < 800 || skipped > 1200 {
		t.Errorf("got [%v, %v], skipped %d", lo, hi, skipped)
	}
	lo, hi, _ = aurocInterval([]float64{2, 1}, []bool{true, false}, []string{"a", "a"}, 1000, 1)
	if !math.IsNaN(lo) || !math.IsNaN(hi) {
		t.Errorf("one cluster gave [%v, %v]", lo, hi)
	}
}

func TestWilsonCovers(t *testing.T) {
	// The interval's two claims that hold exactly: it contains k/n and mirrors.
	for n := 1; n <= 60; n++ {
		for k := 0; k <= n; k++ {
			lo, hi := Wilson(k, n)
			lo2, hi2 := Wilson(n-k, n)
			p := float64(k) / float64(n)
			if lo < 0 || lo > p || hi < p || hi > 1 || math.Abs(lo-(1-hi2)) > 1e-12 || math.Abs(hi-(1-lo2)) > 1e-12 {
				t.Fatalf("Wilson(%d, %d) = %v, %v", k, n, lo, hi)
			}
		}
	}
}
