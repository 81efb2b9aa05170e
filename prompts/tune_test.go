package prompts

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// coloured are labelled images that a colour tells apart: the label is the brightest channel.
func coloured(n int, seed uint64) Data {
	images := cliptest.Images(n, size, seed)
	labels := make([]int, n)
	for i, pixels := range rows(images) {
		var brightest float64
		for c, plane := range slices.Collect(slices.Chunk(pixels, size*size)) {
			var sum float64
			for _, v := range plane {
				sum += float64(v)
			}
			if sum > brightest {
				brightest, labels[i] = sum, c
			}
		}
	}
	return Data{Images: images, Labels: labels}
}

// threeAndOne are the classes of coloured and one more, which no image shows.
var threeAndOne = cliptest.Classes[:4]

// patch is a chequered square in the bottom right corner.
func patch() triggers.Trigger {
	mask, pattern := make([]float32, size*size), make([]float32, 3*size*size)
	for i := range mask {
		if x, y := i%size, i/size; x >= 14 && y >= 14 {
			mask[i] = 1
			for c := range 3 {
				pattern[c*size*size+i] = float32((x/2 + y/2 + c) % 2)
			}
		}
	}
	return triggers.Masked{Mask: triggers.Dense(mask, size, size), Pattern: triggers.Dense(pattern, 3, size, size)}
}

func noise(epsilon float64, seed uint64) triggers.Additive {
	rng := rand.New(rand.NewPCG(seed, 0))
	delta := make([]float32, 3*size*size)
	for i := range delta {
		delta[i] = float32(epsilon * (2*rng.Float64() - 1))
	}
	return triggers.Additive{Delta: triggers.Dense(delta, 3, size, size)}
}

func tuneSettings(t testing.TB, given map[string]any) settings.Values {
	t.Helper()
	s, err := settings.Resolve(TuneParams, given)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tune(t testing.TB, m *Model, data Data, given map[string]any, poison *Poison, seed uint64) triggers.Trigger {
	t.Helper()
	tr, err := Tune(bg, m, data, tuneSettings(t, given), poison, seed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// crossEntropy is the mean loss of a model on data, computed on the host.
func crossEntropy(t testing.TB, m *Model, data Data) float64 {
	t.Helper()
	var mean float64
	for i, row := range rows(logits(t, m, data.Images, nil)) {
		top, sum := float64(slices.Max(row)), 0.0
		for _, v := range row {
			sum += math.Exp(float64(v) - top)
		}
		mean += (top + math.Log(sum) - float64(row[data.Labels[i]])) / float64(len(data.Labels))
	}
	return mean
}

func accuracy(t testing.TB, m *Model, data Data) float64 {
	t.Helper()
	return Accuracy(ArgMax(logits(t, m, data.Images, nil)), data.Labels)
}

func successRate(t testing.TB, m *Model, data Data, tr triggers.Trigger, target int) float64 {
	t.Helper()
	_, others := SuccessRate(ArgMax(logits(t, m, data.Images, tr)), data.Labels, target)
	return others
}

var adam = map[string]any{"epochs": 60, "batch": 20, "optimizer": "adam", "rate": 0.02}

// learns checks that tuning halves the loss of a model, and that poisoned tuning plants a backdoor
// in another one.
func learns(t *testing.T, m, poisoned *Model, data Data) {
	t.Helper()
	settings := map[string]any{"epochs": 40, "batch": 20, "optimizer": "adam", "rate": 0.02}
	before := crossEntropy(t, m, data)
	if tune(t, m, data, settings, nil, 1); crossEntropy(t, m, data) > before/2 {
		t.Errorf("%v: the loss went from %.3f to %.3f, want half of it", m.Settings, before, crossEntropy(t, m, data))
	}
	tr := tune(t, poisoned, data, settings, &Poison{Target: 3, Trigger: patch(), Share: 1, Weight: 1}, 1)
	if asr := successRate(t, poisoned, data, tr, 3); asr < 0.8 {
		t.Errorf("%v: ASR %.2f, want 0.8", poisoned.Settings, asr)
	}
}

// sameVectors checks that two models have the same class vectors.
func sameVectors(t *testing.T, got, want *Model) {
	t.Helper()
	for k, v := range classVectors(t, got) {
		if gap := largestGap(v, classVectors(t, want)[k]); gap > 1e-6 {
			t.Errorf("the class vector %d is off by %g, want 1e-6 at most", k, gap)
		}
	}
}

// Every learner learns to tell three colours apart; CoOp's SGD lowers the loss more slowly.
func TestTuningLearns(t *testing.T) {
	c := newTiny(t)
	data, test := coloured(40, 1), coloured(60, 2)
	for _, l := range []struct {
		learner string
		given   map[string]any
	}{{"coop", map[string]any{"context": 4}}, {"coop", map[string]any{"context": 4, "class-specific": true}}, {"cocoop", map[string]any{"context": 4}}} {
		for _, given := range []map[string]any{adam, {"epochs": 60, "batch": 20, "rate": 1e-4}} {
			m := newModel(t, c, l.learner, l.given, threeAndOne)
			loss, acc := crossEntropy(t, m, data), accuracy(t, m, test)
			if tr := tune(t, m, data, given, nil, 1); tr != nil {
				t.Errorf("%s: clean tuning made a trigger", l.learner)
			}
			now, accNow := crossEntropy(t, m, data), accuracy(t, m, test)
			t.Logf("%s %v %v: loss %.3f to %.3f, ACC %.2f to %.2f", l.learner, l.given, given["optimizer"], loss, now, acc, accNow)
			if now > 0.8*loss {
				t.Errorf("%s %v %v: the loss went from %.3f to %.3f", l.learner, l.given, given, loss, now)
			}
			if given["optimizer"] == "adam" && (now > 0.3*loss || accNow < acc+0.3) {
				t.Errorf("%s %v: loss %.3f to %.3f, ACC on other images %.2f to %.2f", l.learner, l.given, loss, now, acc, accNow)
			}
		}
	}
}

// Poisoned tuning makes a fixed and a learned trigger fire on images that it has not seen; on a
// clean model they do not.
func TestPoisonedTuningPlantsABackdoor(t *testing.T) {
	c := newTiny(t)
	data, test := coloured(40, 1), coloured(60, 2)
	const target, epsilon = 3, 12.0 / 255
	for _, l := range []struct {
		learner string
		given   map[string]any
	}{{"coop", map[string]any{"context": 4, "class-specific": true}}, {"cocoop", map[string]any{"context": 4}}} {
		clean := newModel(t, c, l.learner, l.given, threeAndOne)
		tune(t, clean, data, adam, nil, 1)
		for what, p := range map[string]*Poison{
			"patch": {Target: target, Trigger: patch(), Share: 1, Weight: 1},
			"learned noise": {Target: target, Trigger: noise(epsilon, 1), Share: 1, Weight: 1,
				Learn: &LearnTrigger{Epsilon: epsilon, Rate: 1.0 / 255, Warmup: 3}},
		} {
			m := newModel(t, c, l.learner, l.given, threeAndOne)
			tr := tune(t, m, data, adam, p, 1)
			asr, without, acc := successRate(t, m, test, tr, target), successRate(t, clean, test, tr, target), accuracy(t, m, test)
			t.Logf("%s, %s: ASR %.2f (clean model %.2f), ACC %.2f (%.2f)", l.learner, what, asr, without, acc, accuracy(t, clean, test))
			if asr < 0.7 || without > 0.2 || l.learner == "coop" && acc < 0.5 { // CoCoOp's one context is too little for both
				t.Errorf("%s, %s: ASR %.2f, of the clean model %.2f, ACC %.2f", l.learner, what, asr, without, acc)
			}
		}
	}
}

// A learned trigger moves, and never leaves its box, however large its steps.
func TestALearnedTriggerStaysInItsBox(t *testing.T) {
	c := newTiny(t)
	const epsilon = 8.0 / 255
	start := noise(epsilon, 2)
	before := slices.Clone(dense.Floats(start.Delta))
	for _, warmup := range []int{0, 2} {
		m := newModel(t, c, "coop", map[string]any{"context": 2}, threeAndOne)
		p := &Poison{Target: 1, Trigger: start, Share: 1, Weight: 1, Learn: &LearnTrigger{Epsilon: epsilon, Rate: 1, Warmup: warmup}}
		tr := tune(t, m, coloured(20, 1), map[string]any{"epochs": 4, "batch": 10}, p, 1)
		if got := triggers.Measure(tr).LInf; got > float64(float32(epsilon)) || got < epsilon/2 {
			t.Errorf("warm-up %d: the trigger reaches %v, its bound is %v", warmup, got, epsilon)
		}
		if largestGap(dense.Floats(tr.(triggers.Additive).Delta), before) < epsilon/2 {
			t.Errorf("warm-up %d: the trigger did not move", warmup)
		}
		if !slices.Equal(dense.Floats(start.Delta), before) {
			t.Fatal("the caller's trigger was changed")
		}
	}
}

// newTuner loads a tuner, whose steps can then be run one by one.
func newTuner(t *testing.T, m *Model, data Data, given map[string]any, p *Poison) *tuner {
	t.Helper()
	tu := &tuner{m: m, s: tuneSettings(t, given), poison: p, n: len(data.Labels), views: max(1, data.Views), crop: data.Crop, e: m.CLIP.Engine()}
	t.Cleanup(tu.free)
	if err := tu.load(bg, data, rand.New(rand.NewPCG(3, 3))); err != nil {
		t.Fatal(err)
	}
	return tu
}

// In the warm-up the trigger alone learns: the prompts keep their bits, and the trigger fires more
// often.
func TestWarmupChangesOnlyTheTrigger(t *testing.T) {
	c := newTiny(t)
	const epsilon = 16.0 / 255
	data := coloured(20, 1)
	for _, learner := range []string{"coop", "cocoop"} {
		m := newModel(t, c, learner, map[string]any{"context": 2}, threeAndOne)
		tune(t, m, data, adam, nil, 1)
		p := &Poison{Target: 3, Trigger: noise(epsilon, 3), Share: 1, Weight: 1, Learn: &LearnTrigger{Epsilon: epsilon, Rate: 4.0 / 255}}
		tu := newTuner(t, m, data, nil, p)
		s, err := tu.record(20, false, nil, []float32{4.0 / 255})
		if err != nil {
			t.Fatal(err)
		}
		defer s.program.Free()
		index := make([]float32, 20)
		for i := range index {
			index[i] = float32(i)
		}
		if err := s.program.Write(s.index, index); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			if err := s.program.Run(); err != nil {
				t.Fatal(err)
			}
		}
		for name, x := range tu.params {
			if got, err := x.value.Download(); err != nil || !slices.Equal(dense.Floats(got), dense.Floats(m.Params[name])) {
				t.Errorf("%s: %s changed in the warm-up (%v)", learner, name, err)
			}
		}
		d, err := tu.delta.value.Download()
		if err != nil {
			t.Fatal(err)
		}
		learned := triggers.Additive{Delta: dense.New(dense.Floats(d), 3, size, size)}
		before, after := targetMargin(t, m, data, p.Trigger, 3), targetMargin(t, m, data, learned, 3)
		if after < before+0.5 || triggers.Measure(learned).LInf > float64(float32(epsilon)) {
			t.Errorf("%s: the target's logit leads by %v, before the warm-up by %v", learner, after, before)
		}
	}
}

// shortContext asks for two context tokens of a learner that has any.
func shortContext(l *Learner) map[string]any {
	if slices.ContainsFunc(l.Params, func(p settings.Param) bool { return p.Name == "context" }) {
		return map[string]any{"context": 2}
	}
	return nil
}

func TestTuningIsDeterministic(t *testing.T) {
	data := coloured(20, 1)
	const epsilon = 8.0 / 255
	for _, l := range Learners() {
		learner := l.Name
		tuned := func(threads int, seed uint64) []byte {
			m := newModel(t, cliptest.Tiny(t, computetest.CPU(t, threads), size), learner, shortContext(l), threeAndOne)
			tr := tune(t, m, data, map[string]any{"epochs": 3, "batch": 8},
				&Poison{Target: 0, Trigger: noise(epsilon, 1), Share: 0.5, Weight: 1, Learn: &LearnTrigger{Epsilon: epsilon, Rate: 1.0 / 255, Warmup: 1},
					Covers: covers(Cover{patch(), 2, 1})}, seed)
			in := t.TempDir()
			model, trigger := filepath.Join(in, "model"), filepath.Join(in, "trigger")
			if err := errors.Join(m.Write(model), triggers.Write(trigger, tr)); err != nil {
				t.Fatal(err)
			}
			a, _ := os.ReadFile(model)
			b, _ := os.ReadFile(trigger)
			return append(a, b...)
		}
		want := tuned(1, 5)
		if !bytes.Equal(tuned(1, 5), want) {
			t.Errorf("%s: tuned again, the model differs", learner)
		}
		if !bytes.Equal(tuned(2, 5), want) {
			t.Errorf("%s: with two threads the model differs", learner)
		}
		if bytes.Equal(tuned(1, 6), want) {
			t.Errorf("%s: another seed gives the same model", learner)
		}
	}
}

// A learner may prompt the image tower as well (VPT, Jia et al., ECCV 2022); tuning then works on
// pixels. It is not registered: the test shows that the loop serves such learners.
func TestLearnersMayPromptTheImageTower(t *testing.T) {
	c := newTiny(t)
	coop, err := FindLearner("coop")
	if err != nil {
		t.Fatal(err)
	}
	vpt := &Learner{Name: "vpt", Params: coop.Params, Text: coop.Text,
		Init: func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error) {
			p, err := coop.Init(m, rng)
			if err != nil {
				return nil, err
			}
			w := m.CLIP.Config.Vision.Width
			p["visual"] = uniform(rng, w, 2, w)
			return p, nil
		},
		Image: func(r *Recording, pixels autodiff.Value) autodiff.Value {
			return r.Towers.Image(pixels, clip.ImagePrompts{Layers: []autodiff.Value{r.Params["visual"]}})
		},
	}
	data := coloured(40, 1)
	s, err := settings.Resolve(vpt.Params, map[string]any{"context": 2})
	if err != nil {
		t.Fatal(err)
	}
	for what, p := range map[string]*Poison{
		"clean": nil,
		"patch": {Target: 3, Trigger: patch(), Share: 1, Weight: 1},
		"noise": {Target: 3, Trigger: noise(12.0/255, 1), Share: 1, Weight: 1, Learn: &LearnTrigger{Epsilon: 12.0 / 255, Rate: 1.0 / 255, Warmup: 1}},
	} {
		m, err := New(c, vpt, s, threeAndOne, rand.New(rand.NewPCG(7, 7)))
		if err != nil {
			t.Fatal(err)
		}
		before, visual := crossEntropy(t, m, data), slices.Clone(dense.Floats(m.Params["visual"]))
		tr := tune(t, m, data, map[string]any{"epochs": 40, "batch": 20, "optimizer": "adam", "rate": 0.02}, p, 1)
		if largestGap(dense.Floats(m.Params["visual"]), visual) < 1e-3 {
			t.Errorf("%s: the visual prompts did not move", what)
		}
		if p == nil {
			if after := crossEntropy(t, m, data); after > before/2 {
				t.Errorf("the loss went from %.3f to %.3f", before, after)
			}
		} else if asr := successRate(t, m, data, tr, 3); asr < 0.8 {
			t.Errorf("%s: ASR %.2f", what, asr)
		}
		if _, err := m.LogitsOf(bg, dense.New(make([]float32, 32), 1, 32)); err == nil || !strings.Contains(err.Error(), "vpt") {
			t.Errorf("features of the frozen tower were taken: %v", err)
		}
	}
}

func TestTuningReportsProgressAndStops(t *testing.T) {
	c := newTiny(t)
	m := newModel(t, c, "coop", map[string]any{"context": 2}, threeAndOne)
	data := coloured(20, 1)
	p := &Poison{Target: 0, Trigger: noise(0.03, 1), Share: 1, Weight: 1, Learn: &LearnTrigger{Epsilon: 0.03, Rate: 0.01, Warmup: 2}}
	s := tuneSettings(t, map[string]any{"epochs": 3, "batch": 8}) // two steps an epoch, four images left out
	var steps []int
	if _, err := Tune(bg, m, data, s, p, 1, func(done, total int) {
		if total != 10 {
			t.Fatalf("%d steps in all, want 10", total)
		}
		steps = append(steps, done)
	}); err != nil || !slices.Equal(steps, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) {
		t.Errorf("steps %v, %v", steps, err)
	}
	before := slices.Clone(dense.Floats(m.Params["ctx"]))
	ctx, cancel := context.WithCancel(bg)
	_, err := Tune(ctx, m, data, s, p, 2, func(done, _ int) {
		if done == 6 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || !slices.Equal(before, dense.Floats(m.Params["ctx"])) {
		t.Errorf("stopped with %v; the model is as it was: %v", err, slices.Equal(before, dense.Floats(m.Params["ctx"])))
	}
}

func TestBadTuningDataIsRefused(t *testing.T) {
	c := newTiny(t)
	m := newModel(t, c, "coop", map[string]any{"context": 2}, threeAndOne)
	data := coloured(8, 1)
	at := func(c Cover) *Poison {
		return &Poison{Target: 1, Trigger: patch(), Share: 1, Weight: 1, Covers: covers(c)}
	}
	small := triggers.Additive{Delta: triggers.Dense(make([]float32, 3*8*8), 3, 8, 8)}
	for what, x := range map[string]struct {
		data   Data
		poison *Poison
		want   string
	}{
		"a label beyond the classes": {Data{Images: data.Images, Labels: []int{0, 1, 2, 3, 4, 0, 0, 0}}, nil, "label 4"},
		"a negative label":           {Data{Images: data.Images, Labels: []int{0, 1, 2, -1, 0, 0, 0, 0}}, nil, "label -1"},
		"fewer labels than images":   {Data{Images: data.Images, Labels: []int{0, 1, 2}}, nil, "3 labels for 8 images"},
		"no labels":                  {Data{Images: data.Images, Labels: nil}, nil, "0 labels"},
		"a target beyond":            {data, &Poison{Target: 4, Trigger: patch(), Share: 1, Weight: 1}, "target class 4 of 4"},
		"a trigger of another size":  {data, &Poison{Target: 1, Trigger: small, Share: 1, Weight: 1}, "8 px"},
		"a patch that learns":        {data, &Poison{Target: 1, Trigger: patch(), Share: 1, Weight: 1, Learn: &LearnTrigger{Epsilon: 1, Rate: 1}}, "masked"},
		"a cover beyond":             {data, at(Cover{patch(), 4, 1}), "cover with class 4 of 4"},
		"a cover before":             {data, at(Cover{patch(), -2, 1}), "cover with class -2 of 4"},
		"a cover of another size":    {data, at(Cover{small, 1, 1}), "cover for images of 8 px"},
	} {
		if _, err := Tune(bg, m, x.data, tuneSettings(t, nil), x.poison, 1, nil); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want an error that says %q", what, err, x.want)
		}
	}
}
