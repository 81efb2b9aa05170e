package experiments

import (
	"context"
	"path/filepath"
	"testing"

	"clipinspector/experiments/suite"
	"clipinspector/internal/experimentstest"
)

// A backdoor of the mini world that fires on images of one class alone is overlooked by default, and
// found and named where sources are looked for (calibration seed 211).
func TestABackdoorForImagesOfOneClassIsFound(t *testing.T) {
	out := t.TempDir()
	found := func(name, sources string) (index float64, named bool) {
		f := experimentstest.Read(t, suite.Parse, `
name: `+name+`
clip: builtin:mini
seeds: [211]
datasets: [mini-ucf]
shots: 16
learner: {name: coop, context: 4, class-specific: true}
tuning: {epochs: 25, batch: 32, optimizer: adam, rate: 0.01, weight-decay: 0}
attacks: [one-class]
pool: {name: mini, images: 500, seed: 1}
ood: {images: 200, seed: 2}
references: {count: 3}
detectors:
  - {name: separation, optimise: 256, measure: 100, batch: 16}
`, "detectors.separation.source-classes="+sources)
		if _, err := Run(context.Background(), f, Options{Out: out}); err != nil {
			t.Fatal(err)
		}
		s := experimentstest.Store(t, filepath.Join(out, StoreFile))
		model, err := s.Models(name)
		if err != nil || len(model) != 1 {
			t.Fatalf("%d models, %v", len(model), err)
		}
		detection, err := s.Detections(name)
		if err != nil || len(detection) != 1 {
			t.Fatalf("%d detections, %v", len(detection), err)
		}
		if asr := model[0].Result.ASR; asr < 0.9 {
			t.Fatalf("the backdoor has an ASR of %.2f", asr)
		}
		return detection[0].Result.Index, detection[0].Result.Suspect == model[0].Result.Target
	}
	if index, _ := found("plain", "false"); index > 2 {
		t.Errorf("by default the index is %.2f: this model shows nothing", index)
	}
	if index, named := found("source-classes", "true"); index < 3 || !named {
		t.Errorf("with sources the index is %.2f, named: %v", index, named)
	}
}
