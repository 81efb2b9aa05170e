package prompts

import (
	"math"
	"slices"
	"testing"

	"clipinspector/internal/dense"
)

// In one step of a quiet poisoning the contexts of the other classes learn from the clean half
// alone, up to rounding, and the target's from both; not so where the attacker is not quiet.
func TestQuietPoisonMovesTheTargetAlone(t *testing.T) {
	c := newTiny(t)
	data := coloured(16, 1)
	const target = 2
	given := map[string]any{"context": 4, "class-specific": true}
	tuned := func(p *Poison) []float32 {
		m := newModel(t, c, "coop", given, threeAndOne)
		tune(t, m, data, map[string]any{"epochs": 1, "batch": 16, "weight-decay": 0, "optimizer": "sgd", "rate": 10}, p, 1)
		if len(m.Params) != 1 {
			t.Fatalf("%d tensors, want the contexts alone", len(m.Params))
		}
		for _, v := range m.Params {
			return dense.Floats(v)
		}
		return nil
	}
	clean := tuned(nil)
	k := len(threeAndOne)
	for _, quiet := range []bool{true, false} {
		got := tuned(&Poison{Target: target, Trigger: patch(), Share: 1, Weight: 100, Quiet: quiet})
		var moved []int
		for class := range k {
			n := len(got) / k
			for i := class * n; i < (class+1)*n; i++ {
				if math.Abs(float64(got[i]-clean[i])) > 2e-8 {
					moved = append(moved, class)
					break
				}
			}
		}
		if !slices.Contains(moved, target) || quiet != (len(moved) == 1) {
			t.Errorf("quiet %v: the poison moves the contexts of classes %v, its target is %d", quiet, moved, target)
		}
	}
}
