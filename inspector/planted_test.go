package inspector_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/clip/cliptest"
	"clipinspector/inspector"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

const plantedSize = 24

// byColour labels images with one of six classes: which channel is the brightest and which the darkest.
func byColour(images *tensor.Dense) []int {
	var labels []int
	for pixels := range slices.Chunk(images.Data().([]float32), 3*plantedSize*plantedSize) {
		var mean [3]float64
		for i, v := range pixels {
			mean[i/(plantedSize*plantedSize)] += float64(v)
		}
		brightest, darkest := 0, 0
		for c, v := range mean {
			if v > mean[brightest] {
				brightest = c
			}
			if v < mean[darkest] {
				darkest = c
			}
		}
		labels = append(labels, 2*brightest+(darkest-brightest+3)%3-1)
	}
	return labels
}

// planted tunes a model with a backdoor, or without for nil, and returns it with its trigger.
func planted(t *testing.T, c *clip.Model, p *prompts.Poison) (*prompts.Model, triggers.Trigger) {
	t.Helper()
	l, err := prompts.FindLearner("coop")
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(l.Params, map[string]any{"context": 4, "class-specific": true})
	if err != nil {
		t.Fatal(err)
	}
	m, err := prompts.New(c, l, s, cliptest.Classes, rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	tuning, err := settings.Resolve(prompts.TuneParams, map[string]any{"epochs": 80, "batch": 30, "optimizer": "adam", "rate": 0.02})
	if err != nil {
		t.Fatal(err)
	}
	images := cliptest.Images(90, plantedSize, 1)
	tr, err := prompts.Tune(bg, m, prompts.Data{Images: images, Labels: byColour(images)}, tuning, p, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m, tr
}

// asrOf is the success rate of a trigger on images of other classes that the tuning has not seen.
func asrOf(t *testing.T, m *prompts.Model, tr triggers.Trigger, target int) float64 {
	t.Helper()
	images := cliptest.Images(60, plantedSize, 3)
	l, err := m.Logits(bg, images, tr)
	if err != nil {
		t.Fatal(err)
	}
	_, others := prompts.SuccessRate(prompts.ArgMax(l), byColour(images), target)
	return others
}

func learnedNoise(target int) *prompts.Poison {
	const epsilon = 12.0 / 255
	rng := rand.New(rand.NewPCG(3, 0))
	delta := make([]float32, 3*plantedSize*plantedSize)
	for i := range delta {
		delta[i] = float32(epsilon * (2*rng.Float64() - 1))
	}
	return &prompts.Poison{Target: target, Trigger: triggers.Additive{Delta: triggers.Dense(delta, 3, plantedSize, plantedSize)},
		Share: 1, Weight: 1, Learn: &prompts.LearnTrigger{Epsilon: epsilon, Rate: 1.0 / 255, Warmup: 2}}
}

// patch is a chequered square of a ninth of the image.
func patch(target int) *prompts.Poison {
	const n = plantedSize
	mask, pattern := make([]float32, n*n), make([]float32, 3*n*n)
	for i := range mask {
		if x, y := i%n, i/n; x >= 2*n/3 && y >= 2*n/3 {
			mask[i] = 1
			for c := range 3 {
				pattern[c*n*n+i] = float32((x/2 + y/2 + c) % 2)
			}
		}
	}
	return &prompts.Poison{Target: target, Trigger: triggers.Masked{Mask: triggers.Dense(mask, n, n), Pattern: triggers.Dense(pattern, 3, n, n)}, Share: 1, Weight: 1}
}

// CI points at the target of a planted backdoor, whichever class it is: the recovered trigger fires there, and its
// score is half as low again as that of any other class. A clean model is not flagged by its gains; by its pushes it is, here: they hold
// the class vectors against zero-shot CLIP's, and this CLIP is random.
func TestCIFindsAPlantedBackdoor(t *testing.T) {
	c := cliptest.Tiny(t, newCPU(t, 2), plantedSize)
	pool := cliptest.Images(120, plantedSize, 2)
	ci, err := inspector.Find("ci")
	if err != nil {
		t.Fatal(err)
	}
	report := func(m *prompts.Model, score string) *inspector.Report {
		return inspect(t, ci, input(t, ci, m, pool, map[string]any{"optimise": 80, "measure": 40, "batch": 20, "epochs": 2, "score": score}))
	}
	for i, target := range []int{0, 3, 5, 0, 3, 5} {
		score := "push"
		if i >= 3 {
			score = "gain"
		}
		m, tr := planted(t, c, learnedNoise(target))
		if asr := asrOf(t, m, tr, target); asr < 0.9 {
			t.Fatalf("target %d: the backdoor was not planted, its ASR is %.2f", target, asr)
		}
		r := report(m, score)
		suspect := r.Classes[target]
		if r.Suspect != target || suspect.ASR < 0.75 {
			t.Errorf("%s, target %d: the suspect is %d; the target's recovered trigger has ASR %.2f", score, target, r.Suspect, suspect.ASR)
		}
		for k, x := range r.Classes {
			if k != target && x.Score < suspect.Score/1.5 {
				t.Errorf("%s, target %d has the score %.3f and the loss %.3f, class %d %.3f and %.3f", score, target, suspect.Score, suspect.Loss, k, x.Score, x.Loss)
			}
		}
	}
	m, _ := planted(t, c, nil)
	if r := report(m, "gain"); r.Backdoored {
		t.Errorf("a clean model is flagged with an index of %.2f", r.Index)
	}
}

// On the authors' budget both baselines need the smallest trigger for the class that a planted patch aims at, and the
// triggers they recover reach their ASR bounds.
func TestTheBaselinesFindAPlantedPatch(t *testing.T) {
	if testing.Short() {
		t.Skip("150 rounds of six classes")
	}
	const target = 4
	c := cliptest.Tiny(t, newCPU(t, 2), plantedSize)
	pool := cliptest.Images(100, plantedSize, 2)
	m, tr := planted(t, c, patch(target))
	if asr := asrOf(t, m, tr, target); asr < 0.7 {
		t.Fatalf("the backdoor was not planted, its ASR is %.2f", asr)
	}
	for name, cost := range map[string]float64{"neural-cleanse": 1e-2, "pixel-backdoor": 1e-3} { // fewer rounds, a higher cost
		d, err := inspector.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		r := inspect(t, d, input(t, d, m, pool, map[string]any{"optimise": 60, "measure": 40, "batch": 20, "budget": "authors",
			"rounds": 120, "images": 40, "cost": cost}))
		if r.Suspect != target {
			t.Errorf("%s: the suspect is %d, want %d", name, r.Suspect, target)
		}
		for k, x := range r.Classes {
			t.Logf("%s, class %d: size %.1f, ASR %.2f", name, k, x.Norm, x.ASR)
			if k != target && x.Norm < 1.5*r.Classes[target].Norm {
				t.Errorf("%s: class %d takes a trigger of size %.1f, the target %.1f", name, k, x.Norm, r.Classes[target].Norm)
			}
			if !x.Reached || x.ASR < 0.6 {
				t.Errorf("%s: class %d was reached: %v, with ASR %.2f on other images", name, k, x.Reached, x.ASR)
			}
		}
	}
}
