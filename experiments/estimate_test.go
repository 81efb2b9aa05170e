package experiments

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/inspector"
	"clipinspector/internal/experimentstest"
	"clipinspector/prompts"
)

// counting counts what runs: images that programs cut into patches, and operations of matrix
// products and attention.
type counting struct {
	engine.Engine
	clip.Work
}

func (e *counting) Compile(p *engine.Program) (engine.Executable, error) {
	x, err := e.Engine.Compile(p)
	var w clip.Work
	for _, ins := range p.Instrs {
		w.FLOP += float64(autodiff.FLOP(ins))
		if ins.Op == engine.Patchify {
			w.Passes += float64(ins.In[0].Shape[0])
		}
	}
	return countingRun{x, e, w}, err
}

type countingRun struct {
	engine.Executable
	e *counting
	w clip.Work
}

func (r countingRun) Run() error {
	r.e.Work.Add(r.w)
	return r.Executable.Run()
}

// The estimate of a dry run is what the cells really take: image passes exactly, operations to a
// few per cent, under every learner, with the covers of adaptive attacks, with candidates, fresh
// crops and several views.
func TestEstimatesAreWhatIsCounted(t *testing.T) {
	device, err := world.OpenEngine("cpu", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	encoder := experimentstest.TinyCLIP(t)
	const ci = `{name: ci, optimise: 16, measure: 8, batch: 8}`
	for _, x := range []struct{ learner, views, attacks, detectors string }{
		{"{name: coop, context: 2}", "1", "[clean, badnets, {name: badclip, warmup: 1}, {name: flatten, decoys: 2}, composite]", ci + `,
			{name: separation, optimise: 16, measure: 8, batch: 8},
			{name: neural-cleanse, optimise: 16, measure: 8, batch: 8},
			{name: pixel-backdoor, optimise: 16, measure: 8, batch: 4, budget: authors, images: 9, rounds: 3},
			{name: decree, optimise: 16, measure: 8, batch: 8}`},
		{"{name: coop, init: a photo of a}", "0", "[{name: badnets, candidates: 3}, {name: badclip, warmup: 1}, flatten]", ci},
		{"{name: coop, context: 2}", "3", "[clean, flatten]", ci},
		{"{name: cocoop, context: 2}", "1", "[clean, badnets, {name: badclip, warmup: 1}, composite]", ci},
		{"{name: vpt, prompts: 3}", "1", "[clean, badnets, {name: badclip, warmup: 1}, composite]", ci},
		{"{name: maple, context: 3}", "1", "[clean, badnets, {name: badclip, warmup: 1}, flatten]", ci},
		{"full", "1", "[clean]", ci},
	} {
		f := experimentstest.Read(t, suite.Parse, fmt.Sprintf(`
name: tiny
clip: %s
seeds: [1]
datasets: [{name: mini-eurosat, classes: 5}]
shots: 2
test-images: 15
learner: %s
tuning: {epochs: 2, batch: 4, views: %s}
attacks: %s
pool: {name: mini, images: 24}
ood: {images: 8}
detectors: [%s]
`, encoder, x.learner, x.views, x.attacks, x.detectors))
		p, err := NewPlan(world.New(), f, "engine")
		if err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		for _, job := range p.Models {
			e := &counting{Engine: device}
			k := newWorker(0, e, world.New(), p, nil, Options{Out: out}, nil, nil)
			made, err := k.runModel(context.Background(), job, nil)
			if err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("%s, views: %s, %s", x.learner, x.views, job.Attack.Name)
			compare(t, what, job.work(), e.Work, 0.05)
			c, err := k.clip(job.Encoder)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range p.Detections {
				if d.Model != job {
					continue
				}
				m, err := prompts.Read(filepath.Join(out, made.Path), c)
				if err != nil {
					t.Fatal(err)
				}
				images, err := k.world.PoolImages(context.Background(), d.Pool)
				if err != nil {
					t.Fatal(err)
				}
				detector, err := inspector.Find(d.Detector.Name)
				if err != nil {
					t.Fatal(err)
				}
				e.Work = clip.Work{}
				r, err := detector.Inspect(context.Background(), inspector.Input{Model: m, Pool: images, Seed: 1, Settings: d.Detector.Settings})
				if err != nil {
					t.Fatal(err)
				}
				e.Passes = float64(r.ImagePasses) // classes share some
				compare(t, fmt.Sprintf("%s: %s", what, d.Detector.Name), d.work(), e.Work, 0.05)
			}
			c.Free()
		}
	}
}

// compare wants the passes that were counted, and the operations within 6 % below and a share
// above.
func compare(t *testing.T, what string, estimate, counted clip.Work, over float64) {
	t.Helper()
	ratio := estimate.FLOP / counted.FLOP
	if estimate.Passes != counted.Passes || !(ratio > 0.94 && ratio < 1+over) {
		t.Errorf("%s: estimated are %v image passes, %v were counted; operations %.3g, %.3g (%.3f)", what, estimate.Passes, counted.Passes,
			estimate.FLOP, counted.FLOP, ratio)
	}
}
