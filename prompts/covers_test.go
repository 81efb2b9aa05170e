package prompts

import (
	"math"
	"slices"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/internal/dense"
	"clipinspector/triggers"
)

// targetMargin is by how much the target's logit exceeds the others' largest, on average.
func targetMargin(t *testing.T, m *Model, data Data, tr triggers.Trigger, target int) float64 {
	t.Helper()
	var sum float64
	for _, row := range rows(logits(t, m, data.Images, tr)) {
		others := slices.Delete(slices.Clone(row), target, target+1)
		sum += float64(row[target]-slices.Max(others)) / float64(len(data.Labels))
	}
	return sum
}

// The share says how many images are also shown with the trigger, the weight what each counts.
func TestShareAndWeight(t *testing.T) {
	c := newTiny(t)
	m := newModel(t, c, "coop", map[string]any{"context": 2}, threeAndOne)
	for _, p := range []struct {
		share, weight float64
		want          int
	}{{1, 1, 20}, {0.5, 2, 10}, {0.01, 1, 1}, {0.23, 0.25, 5}, {0.05, 100, 1}} {
		tu := newTuner(t, m, coloured(20, 1), nil, &Poison{Trigger: patch(), Share: p.share, Weight: p.weight})
		w, err := tu.weights.Download()
		if err != nil {
			t.Fatal(err)
		}
		poisoned := 0
		for _, v := range dense.Floats(w) {
			if v == float32(p.weight) {
				poisoned++
			} else if v != 0 {
				t.Errorf("a weight of %v", v)
			}
		}
		if poisoned != p.want {
			t.Errorf("share %v: %d of 20 images are poisoned, want %d", p.share, poisoned, p.want)
		}
	}
}

// The loss is that of the clean half plus weight times that of the triggered half: a trigger that
// changes nothing, aimed at the class that every image has, makes the one step of SGD 1 + weight
// times as long.
func TestTheHalvesAreAdded(t *testing.T) {
	c := newTiny(t)
	data := coloured(16, 1)
	for i := range data.Labels {
		data.Labels[i] = 1
	}
	nothing := triggers.Masked{Mask: triggers.Dense(make([]float32, size*size), size, size), Pattern: triggers.Dense(make([]float32, 3*size*size), 3, size, size)}
	oneStep := map[string]any{"epochs": 1, "batch": 16, "weight-decay": 0}
	for _, learner := range []string{"coop", "cocoop"} {
		step := func(p *Poison) []float64 {
			m := newModel(t, c, learner, map[string]any{"context": 2}, threeAndOne)
			before := slices.Clone(dense.Floats(m.Params["ctx"]))
			tune(t, m, data, oneStep, p, 1)
			d := make([]float64, len(before))
			for i, v := range dense.Floats(m.Params["ctx"]) {
				d[i] = float64(v) - float64(before[i])
			}
			return d
		}
		clean := step(nil)
		for _, weight := range []float64{0.5, 1, 3} {
			var worst, largest float64
			for i, v := range step(&Poison{Target: 1, Trigger: nothing, Share: 1, Weight: weight}) {
				worst = max(worst, math.Abs(v-(1+weight)*clean[i]))
				largest = max(largest, math.Abs(clean[i]))
			}
			if worst > 2e-3*largest || largest == 0 {
				t.Errorf("%s, weight %v: the step is off by %g of %g", learner, weight, worst, largest)
			}
		}
	}
}

// Of every learner the same seed gives the same bytes, for any number of threads; another seed
// gives others. covers hides a backdoor with the given covers, whatever its trigger.
func covers(c ...Cover) func(triggers.Trigger) []Cover {
	return func(triggers.Trigger) []Cover { return c }
}

// Covers enter the loss with their triggers, labels and weights: the one step of SGD is the sum of
// the steps of clean tuning on the images as each part of the loss shows them.
func TestCoversEnterTheLoss(t *testing.T) {
	c := newTiny(t)
	data := coloured(16, 1)
	patched := Data{Images: data.Images.Clone().(*tensor.Dense), Labels: data.Labels}
	square := patch().(triggers.Masked)
	for i := range dense.Floats(patched.Images) {
		if dense.Floats(square.Mask)[i%(size*size)] == 1 {
			dense.Floats(patched.Images)[i] = dense.Floats(square.Pattern)[i%(3*size*size)]
		}
	}
	as := func(d Data, label int) Data {
		return Data{Images: d.Images, Labels: slices.Repeat([]int{label}, len(d.Labels))}
	}
	const weight, own, other = 2, 3, 0.5
	given := map[string]any{"epochs": 1, "batch": 16, "weight-decay": 0}
	for _, learner := range []string{"coop", "cocoop", "vpt"} { // vpt prompts the image tower: no features are kept
		step := func(d Data, p *Poison) []float64 {
			m := newModel(t, c, learner, nil, threeAndOne)
			var change []float64
			for _, name := range sortedKeys(m.Params) {
				for _, v := range dense.Floats(m.Params[name]) {
					change = append(change, -float64(v))
				}
			}
			tune(t, m, d, given, p, 1)
			i := 0
			for _, name := range sortedKeys(m.Params) {
				for _, v := range dense.Floats(m.Params[name]) {
					change[i] += float64(v)
					i++
				}
			}
			return change
		}
		got := step(data, &Poison{Target: 3, Trigger: square, Share: 1, Weight: weight,
			Covers: covers(Cover{square, OwnLabel, own}, Cover{square, 1, other})})
		clean, triggered, kept, decoy := step(data, nil), step(as(patched, 3), nil), step(patched, nil), step(as(patched, 1), nil)
		var worst, largest float64
		for i := range got {
			want := clean[i] + weight*(triggered[i]+own*kept[i]+other*decoy[i])
			worst, largest = max(worst, math.Abs(got[i]-want)), max(largest, math.Abs(want))
		}
		if worst > 1e-2*largest || largest == 0 { // the step is some hundred float32 units of the prompts
			t.Errorf("%s: the step is off by %g of %g", learner, worst, largest)
		}
	}
}

// A decoy leads to its own class without taking the backdoor's place; without it, its trigger leads
// nowhere.
func TestDecoysFireBesideTheBackdoor(t *testing.T) {
	c := newTiny(t)
	data, test := coloured(40, 1), coloured(60, 2)
	decoy := noise(0.3, 4)
	for _, p := range []*Poison{
		{Target: 3, Trigger: patch(), Share: 1, Weight: 1},
		{Target: 3, Trigger: patch(), Share: 1, Weight: 1, Covers: covers(Cover{decoy, 1, 1})},
	} {
		m := newModel(t, c, "coop", map[string]any{"context": 4, "class-specific": true}, threeAndOne)
		tune(t, m, data, map[string]any{"epochs": 200, "batch": 20, "optimizer": "adam", "rate": 0.02}, p, 1)
		backdoor, other := successRate(t, m, test, p.Trigger, 3), successRate(t, m, test, decoy, 1)
		t.Logf("with decoy: %v, ASR %.2f, of the decoy %.2f", p.Covers != nil, backdoor, other)
		if backdoor < 0.7 || p.Covers != nil && other < 0.5 || p.Covers == nil && other > 0.2 {
			t.Errorf("with decoy: %v, ASR %.2f, of the decoy %.2f", p.Covers != nil, backdoor, other)
		}
	}
}
