package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The area below the curve, by trapezoids, is AUROC, which counts pairs; ties included.
func TestAreaBelowROCIsAUROC(t *testing.T) {
	for range 200 {
		n := 2 + rand.IntN(40)
		scores, labels := make([]float64, n), make([]bool, n)
		for i := range n {
			scores[i], labels[i] = float64(rand.IntN(10)), i == 0 || i > 1 && rand.IntN(2) == 0
		}
		if rand.IntN(3) == 0 {
			scores[rand.IntN(n)] = math.Inf(-1)
		}
		curve := ROC(scores, labels)
		if first, last := curve[0], curve[len(curve)-1]; first.FPR != 0 || first.TPR != 0 || last.FPR != 1 || last.TPR != 1 {
			t.Fatalf("the curve goes from %v to %v", first, last)
		}
		area := 0.0
		for i, p := range curve[1:] {
			area += (p.FPR - curve[i].FPR) * (p.TPR + curve[i].TPR) / 2
		}
		if want := AUROC(scores, labels); math.Abs(area-want) > 1e-12 {
			t.Fatalf("area %v, AUROC %v: %v %v", area, want, scores, labels)
		}
		// A point is what flagging from its threshold on does.
		p := curve[rand.IntN(len(curve))]
		var tp, pos float64
		for i, s := range scores {
			if labels[i] {
				pos++
				if s >= p.Threshold {
					tp++
				}
			}
		}
		if math.Abs(p.TPR-tp/pos) > 1e-12 {
			t.Fatalf("at %v: TPR %v, counted %v", p.Threshold, p.TPR, tp/pos)
		}
	}
	if ROC([]float64{1, 2}, []bool{true, true}) != nil {
		t.Error("a curve without clean models")
	}
}

func TestROCBand(t *testing.T) {
	at := []float64{0, 0.5, 1}
	// Two datasets that agree: no spread.
	scores, labels := []float64{3, 1, 3, 1}, []bool{true, false, true, false}
	lo, hi := ROCBand(scores, labels, []string{"a", "a", "b", "b"}, at, 200, 1)
	for i := range at {
		if lo[i] != 1 || hi[i] != 1 {
			t.Errorf("at %v: [%v, %v], want 1", at[i], lo[i], hi[i])
		}
	}
	// Two that do not, one perfect and one reversed.
	lo, hi = ROCBand([]float64{3, 1, 1, 3}, labels, []string{"a", "a", "b", "b"}, at, 2000, 1)
	if lo[0] != 0 || hi[0] != 1 || lo[1] != 0 || hi[1] != 1 || lo[2] != 1 || hi[2] != 1 {
		t.Errorf("[%v, %v]", lo, hi)
	}
	if lo, hi := ROCBand(scores, labels, []string{"a", "a", "a", "a"}, at, 200, 1); lo != nil || hi != nil {
		t.Error("one dataset has no spread between datasets")
	}
}
