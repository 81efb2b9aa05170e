package experiments

import (
	"strings"
	"testing"

	"clipinspector/configs"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/internal/experimentstest"
)

func TestSweepsOverDetectorsShareModels(t *testing.T) {
	text := experimentstest.TinySuite(experimentstest.TinyCLIP(t)) + "sweep: {detectors.ci.epsilon: [0.02, 0.03]}\n"
	p, err := NewPlan(world.New(), experimentstest.Read(t, suite.Parse, text), "engine")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Models) != 6 || len(p.Detections) != 24 { // two of CI, one of either baseline
		t.Errorf("%d models, %d detections", len(p.Models), len(p.Detections))
	}
}

func TestMiniPlan(t *testing.T) {
	clip := experimentstest.TinyCLIP(t)
	plan := func(sets ...string) *Plan {
		f, err := suite.ParseFS(configs.Suites, configs.MiniPath, configs.Mini, append(sets, "clip="+clip))
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(world.New(), f, "engine")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := plan()
	if len(p.Models) != 50 || len(p.Detections) != 200 || len(p.models) != 50 || len(p.detections) != 200 {
		t.Fatalf("%d models, %d detections", len(p.Models), len(p.Detections))
	}
	targets := map[int]bool{}
	for _, m := range p.Models {
		if (m.Attack.Name == "clean") != (m.target < 0) {
			t.Errorf("%s: target %d", m.Attack.Name, m.target)
		}
		targets[m.target] = true
	}
	if len(targets) < 5 {
		t.Errorf("only %d different targets", len(targets))
	}
	same, again := 0, plan()
	for i, m := range again.Models {
		if m.Cell.Key == p.Models[i].Cell.Key {
			same++
		}
	}
	if same != 50 {
		t.Errorf("%d of 50 keys are stable", same)
	}
	// What moves a key, and what does not: model keys and detection keys that stay.
	for _, c := range []struct {
		set                string
		models, detections int
	}{
		{"detectors.ci.epsilon=0.05", 50, 150},
		{"attacks.badnets.side=0.1", 40, 160},
		{"pool.images=600", 50, 0},
		{"ood.images=100", 0, 0},
		{"seeds=[2]", 0, 0},
		{"seeds=[1, 2]", 50, 200},
		{"tuning.epochs=3", 0, 0},
		{"name=other", 50, 200},
	} {
		q := plan(c.set)
		models, detections := 0, 0
		for key := range q.models {
			if p.models[key] != nil {
				models++
			}
		}
		for key := range q.detections {
			if p.detections[key] != nil {
				detections++
			}
		}
		if models != c.models || detections != c.detections {
			t.Errorf("%s: %d models and %d detections stay, want %d and %d", c.set, models, detections, c.models, c.detections)
		}
	}
}

// Trials that differ in nothing but the verdict are one measurement, of which there are no more
// than asked for.
func TestTrialsOfFewMeasurements(t *testing.T) {
	q := experimentstest.Read(t, suite.ParseSearch, experimentstest.TinySearch("builtin:mini"), "search.trials=7", "search.measurements=2",
		"search.detectors.ci.k=[1, 2, 3, 4, 5, 6]", "search.detectors.neural-cleanse.index=[mad, ratio]", "search.detectors.neural-cleanse.k=[1, 2, 3]")
	p, err := NewPlan(world.New(), q.File, "engine")
	if err != nil {
		t.Fatal(err)
	}
	measured := map[string]bool{}
	for _, d := range p.Detections {
		measured[d.measured] = true
	}
	if len(p.Detections) != 6*2*7 || len(measured) != 6*2*2 {
		t.Errorf("%d detections of %d measurements, want 84 of 24", len(p.Detections), len(measured))
	}
	if _, err := suite.ParseSearch("suite.yaml", []byte(experimentstest.TinySearch("builtin:mini")), []string{"search.measurements=2"}); err == nil ||
		!strings.Contains(err.Error(), "of 2 measurements") {
		t.Errorf("three trials that measure in two ways: %v", err)
	}
}
