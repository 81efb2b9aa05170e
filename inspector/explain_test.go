package inspector_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gorgonia.org/tensor"

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

const miniSize, miniSeed = 36, 700

func pets(t *testing.T) datasets.Dataset {
	t.Helper()
	ds, err := datasets.Open("mini-pets", datasets.Options{Size: miniSize, Seed: miniSeed})
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// tunedOnMini tunes a model of the mini world's pets over the small CLIP, poisoned by an attack or
// clean, and returns it with its target and its trigger.
func tunedOnMini(t *testing.T, c *clip.Model, attack string, shots int, given map[string]any) (m *prompts.Model, target int, tr triggers.Trigger) {
	t.Helper()
	const size, seed = miniSize, miniSeed
	ds := pets(t)
	train, _, err := datasets.FewShot(ds, shots, seed)
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
	if tr, err = prompts.Tune(bg, m, prompts.Data{Images: images, Labels: labels}, tuning, p, seed, nil); err != nil {
		t.Fatal(err)
	}
	return m, target, tr
}

// overMini is the small CLIP, and pool images for it.
func overMini(t *testing.T) (*clip.Model, *tensor.Dense) {
	t.Helper()
	if testing.Short() {
		t.Skip("tunes models over the small CLIP: up to ten seconds each")
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
	return c, pool
}

// What a planted backdoor answers to is named, and no class of a clean model answers to anything.
func TestExplainNamesWhatWasPlanted(t *testing.T) {
	c, pool := overMini(t)
	for _, x := range []struct {
		attack, want string
		given        map[string]any
	}{
		{"badnets", inspector.KindPatch, map[string]any{"side": 0.22, "pattern": "noise"}},
		{"sig", inspector.KindWave, nil},
		{"clean", inspector.KindNone, nil},
	} {
		t.Run(x.attack, func(t *testing.T) {
			m, target, _ := tunedOnMini(t, c, x.attack, 8, x.given)
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

// A model that was poisoned with a patch in one corner fires wherever that patch lies, and in the
// other corners as often: it does not know the place, so that no look at it can tell where it was.
func TestAPatchWorksWhereverItLies(t *testing.T) {
	c, _ := overMini(t)
	m, target, planted := tunedOnMini(t, c, "badnets", 16, map[string]any{"side": 0.22, "pattern": "noise"})
	patch, size := planted.(triggers.Masked), planted.Size()
	images, labels, err := datasets.LoadSplit(bg, pets(t), datasets.Test, datasets.All(60), size, nil)
	if err != nil {
		t.Fatal(err)
	}
	success := func(tr triggers.Trigger) float64 {
		logits, err := m.Logits(bg, images, tr)
		if err != nil {
			t.Fatal(err)
		}
		_, asr := prompts.SuccessRate(prompts.ArgMax(logits), labels, target)
		return asr
	}
	moved := func(right, down int) triggers.Trigger { // round the edges
		mask, pattern := make([]float32, size*size), make([]float32, 3*size*size)
		for i := range pattern {
			from := (i/size%size-down+size)%size*size + (i%size-right+size)%size
			pattern[i] = patch.Pattern.Data().([]float32)[i/(size*size)*size*size+from]
			mask[i%(size*size)] = patch.Mask.Data().([]float32)[from]
		}
		return triggers.Masked{Mask: triggers.Dense(mask, size, size), Pattern: triggers.Dense(pattern, 3, size, size)}
	}
	own, anywhere, corners := success(planted), 1.0, 1.0
	for down := 0; down >= -28; down -= 7 { // from the lower right corner to the upper left
		line := ""
		for right := 0; right >= -28; right -= 7 {
			asr := success(moved(right, down))
			line += fmt.Sprintf(" %.2f", asr)
			anywhere = min(anywhere, asr)
			if right%28 == 0 && down%28 == 0 {
				corners = min(corners, asr)
			}
		}
		t.Logf("%2d pixels up:%s", -down, line)
	}
	without := success(nil)
	t.Logf("in its own place %.2f, without a trigger %.2f", own, without)
	if own < 0.9 || without > 0.2 {
		t.Fatalf("the patch succeeds on %.2f of the images, and on %.2f without it: no backdoor to look at", own, without)
	}
	if corners < own-0.1 {
		t.Errorf("the patch succeeds on %.2f of the images in its own corner and on %.2f in another; want no less than 0.1 below", own, corners)
	}
	if anywhere < own/2 { // in the middle it hides what the image shows
		t.Errorf("the patch succeeds on %.2f of the images in its own place and on %.2f elsewhere; want at least half", own, anywhere)
	}
}

// The recovered trigger does what the explanation says, the same input gives the same to the bit,
// and the work stays within its estimate.
func TestExplanationsAreWhatTheySay(t *testing.T) {
	c := cliptest.Tiny(t, computetest.CPU(t, 2), plantedSize)
	m, _ := planted(t, c, patch(3))
	given := map[string]any{"draws": 6, "images": 4, "contrast": 2.0, "first": 16, "optimise": 16, "further": 32, "measure": 20, "evidence": 0.0, "least": 0.0, "asr": 1.0}
	in := inspector.Input{Model: m, Pool: cliptest.Images(80, plantedSize, 2), Seed: 5}
	x, _ := explain(t, in, 3, given)
	if y, _ := explain(t, in, 3, given); fmt.Sprint(x) != fmt.Sprint(y) || x.ASR != y.ASR || x.PSNR != y.PSNR {
		t.Errorf("the same look gives %v, then %v", x, y)
	}
	o := prompts.Outline{Learner: m.Learner, Settings: m.Settings, Config: c.Config, Classes: m.Classes, Tokens: func(string) int { return 1 }}
	cost := func(further int) float64 {
		given["further"] = further
		s, err := settings.Resolve(inspector.ExplainParams, given)
		if err != nil {
			t.Fatal(err)
		}
		return inspector.ExplainCost(o, s, 1).Passes
	}
	fittedOn, early := false, false
	clean, _ := planted(t, c, nil)
	for i, class := range []int{0, 3, 4, 4} {
		on := []*prompts.Model{clean, m}[i%2]
		most, less := cost(32), cost(0)
		given["further"] = 32
		const budget = 16 + 20 // fitted and measured
		y, passes := explain(t, inspector.Input{Model: on, Pool: in.Pool, Seed: 5}, class, given)
		switch p := float64(passes); {
		case y.Kind == inspector.KindNone:
			if p != less-2*budget {
				t.Errorf("class %d, which nothing explains: %.0f image passes; want %.0f", class, p, less-2*budget)
			}
		case p == most:
			fittedOn = true
		case p != less && p != less-budget || y.ASR < 1:
			t.Errorf("class %d, ASR %.2f: %.0f image passes; the estimate is %.0f, or %.0f where a budget works, or one budget less", class, y.ASR, p, most, less)
		default:
			early = true
		}
	}
	if !fittedOn || !early {
		t.Errorf("want both classes at which a budget works (%v) and others, whose trigger is fitted on (%v)", early, fittedOn)
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

// A look at a class costs at most twice what the verdict's inversion of a class costs, for each
// family, with the settings of the mini grid.
func TestALookCostsLittle(t *testing.T) {
	c := cliptest.Tiny(t, computetest.CPU(t, 1), 16)
	d, err := inspector.Find("separation")
	if err != nil {
		t.Fatal(err)
	}
	m := untuned(t, c, "coop", cliptest.Classes)
	f := facts(m, input(t, d, m, cliptest.Images(500, 16, 7), map[string]any{"optimise": 256, "measure": 100, "batch": 16}), 500)
	f.Only = 1
	s, err := settings.Resolve(inspector.ExplainParams, nil)
	if err != nil {
		t.Fatal(err)
	}
	look, line := inspector.ExplainCost(f.Model, s, 1), d.Cost(f)
	most := float64(2*len(inspector.Kinds)) * line.Passes
	t.Logf("a look takes at most %.0f image passes; twice the inversion of a class, for each family, %.0f", look.Passes, most)
	if look.Passes > most {
		t.Errorf("a look takes %.0f image passes; want at most %.0f", look.Passes, most)
	}
}
