package inspector_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"clipinspector/attacks"
	"clipinspector/clip"
	"clipinspector/clip/mini"
	"clipinspector/datasets"
	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// explain takes a second look at one class.
func explain(t *testing.T, in inspector.Input, class int, given map[string]any) (inspector.Explanation, int64) {
	t.Helper()
	s, err := settings.Resolve(inspector.ExplainParams, given)
	if err != nil {
		t.Fatal(err)
	}
	x, passes, err := inspector.Explain(bg, in, s, class)
	if err != nil {
		t.Fatal(err)
	}
	return x[0], passes
}

// tunedOnMini tunes a model of the mini world's pets over the small CLIP, poisoned by an attack or
// clean, and returns it with its target.
func tunedOnMini(t *testing.T, c *clip.Model, attack string, given map[string]any) (m *prompts.Model, target int) {
	t.Helper()
	const size, seed = 36, 700
	ds, err := datasets.Open("mini-pets", datasets.Options{Size: size, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	train, _, err := datasets.FewShot(ds, 8, seed)
	if err != nil {
		t.Fatal(err)
	}
	images, labels, err := datasets.LoadSplit(bg, ds, datasets.Train, train, size, nil)
	if err != nil {
		t.Fatal(err)
	}
	m = untuned(t, c, "coop", ds.Classes())
	a, err := attacks.Find(attack)
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(a.Params, given)
	if err != nil {
		t.Fatal(err)
	}
	tuning, err := settings.Resolve(prompts.TuneParams, map[string]any{"epochs": 25, "optimizer": "adam", "rate": 0.01})
	if err != nil {
		t.Fatal(err)
	}
	target = 2
	p, err := a.Poison(bg, s, size, len(m.Classes), target, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := prompts.Tune(bg, m, prompts.Data{Images: images, Labels: labels}, tuning, p, seed, nil); err != nil {
		t.Fatal(err)
	}
	return m, target
}

// What a planted backdoor answers to is named, and no class of a clean model answers to anything.
func TestExplainNamesWhatWasPlanted(t *testing.T) {
	if testing.Short() {
		t.Skip("tunes three models over the small CLIP: ten seconds")
	}
	config, weights, tokenizer, err := mini.Load()
	if err != nil {
		t.Fatal(err)
	}
	c, err := clip.NewModel(computetest.CPU(t, 2), config, weights, tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	pictures, err := datasets.OpenPool("mini", datasets.Options{Size: 36, Seed: 1, PoolLen: 200})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := datasets.LoadPool(bg, pictures, datasets.All(200), 36)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		attack, want string
		given        map[string]any
	}{
		{"badnets", inspector.KindPatch, map[string]any{"side": 0.22, "pattern": "noise"}},
		{"sig", inspector.KindWave, nil},
		{"clean", inspector.KindNone, nil},
	} {
		t.Run(x.attack, func(t *testing.T) {
			m, target := tunedOnMini(t, c, x.attack, x.given)
			got, _ := explain(t, inspector.Input{Model: m, Pool: pool, Seed: 5}, target, nil)
			for _, f := range got.Families {
				t.Logf("%s: lift %.2f, gain %.2f, ASR %.2f", f.Kind, f.Lift, f.Gain, f.ASR)
			}
			if got.Kind != x.want {
				t.Errorf("the target answers to %s; want a %s", got, x.want)
			}
			if got.Kind != inspector.KindNone && got.ASR < 0.8 {
				t.Errorf("%s succeeds on %.2f of the images that it has not seen", got, got.ASR)
			}
		})
	}
}

// The recovered trigger does what the explanation says, the same input gives the same to the bit,
// and the work stays within its estimate.
func TestExplanationsAreWhatTheySay(t *testing.T) {
	c := cliptest.Tiny(t, computetest.CPU(t, 2), plantedSize)
	m, _ := planted(t, c, patch(3))
	given := map[string]any{"draws": 6, "images": 4, "optimise": 32, "measure": 20, "evidence": 0.0}
	in := inspector.Input{Model: m, Pool: cliptest.Images(80, plantedSize, 2), Seed: 5}
	x, passes := explain(t, in, 3, given)
	if y, _ := explain(t, in, 3, given); fmt.Sprint(x) != fmt.Sprint(y) || x.ASR != y.ASR || x.PSNR != y.PSNR {
		t.Errorf("the same look gives %v, then %v", x, y)
	}
	s, err := settings.Resolve(inspector.ExplainParams, given)
	if err != nil {
		t.Fatal(err)
	}
	o := prompts.Outline{Learner: m.Learner, Settings: m.Settings, Config: c.Config, Classes: m.Classes, Tokens: func(string) int { return 1 }}
	if most := inspector.ExplainCost(o, s, 1).Passes; float64(passes) != most {
		t.Errorf("%d image passes; the estimate of a class that is explained is %.0f", passes, most)
	}
	logits, err := m.Logits(bg, in.Pool, x.Trigger)
	if err != nil {
		t.Fatal(err)
	}
	if _, asr := prompts.SuccessRate(prompts.ArgMax(logits), nil, 3); math.Abs(asr-x.ASR) > 0.25 {
		t.Errorf("the recovered trigger succeeds on %.2f of the pool; the explanation says %.2f of a quarter of it", asr, x.ASR)
	}
	with, err := prompts.Triggered(bg, c.Engine(), in.Pool, x.Trigger)
	if err != nil {
		t.Fatal(err)
	}
	if psnr := triggers.PSNR(in.Pool, with); math.Abs(psnr-x.PSNR) > 3 {
		t.Errorf("PSNR %.1f dB over the pool; the explanation says %.1f over a quarter of it", psnr, x.PSNR)
	}
}
