package stats

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"clipinspector/results/internal/sample"
	"clipinspector/results/store"
)

func TestFiguresByHand(t *testing.T) {
	s := sample.Open(t)
	sample.Fill(t, s)
	sum, err := Summarise(s, "synthetic", nil)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Models != (Tally{18, 16, 1, 0}) || sum.Detections != (Tally{36, 32, 0, 2}) {
		t.Fatalf("%+v %+v", sum.Models, sum.Detections)
	}
	ci := sum.Detectors[slices.IndexFunc(sum.Detectors, func(d DetectorFigures) bool { return d.Name == "ci" })]
	// 16 models, 10 of them backdoored; one is missed and ranks lowest. Of one of the six clean
	// ones it cannot tell, which is wrong and ranks highest: the other nine are above five of six.
	if ci.Models != 16 || ci.Correct != 14 || ci.Unsure != 1 || ci.Backdoored != 10 || ci.AUROC != 0.75 || ci.TPR != 0.9 || ci.FPR != 0 {
		t.Errorf("ci: %+v", ci.Figures)
	}
	if ci.TargetsRight != 8 || ci.TruePositives != 9 {
		t.Errorf("ci found %d of %d targets", ci.TargetsRight, ci.TruePositives)
	}
	// ASR is 1-order/100: those planned after place ten do not fire.
	if ci.FiringOnly.Backdoored != 7 || ci.FiringOnly.Models != 13 {
		t.Errorf("firing: %+v", ci.FiringOnly)
	}
	nc := sum.Detectors[0]
	if nc.Name != "neural-cleanse" || nc.AUROC != 0.5 || nc.TPR != 1 || nc.FPR != 1 || nc.Correct != 10 {
		t.Errorf("always backdoored: %+v", nc.Figures)
	}
	if f, _ := ci.ByAttack.Get("badnets"); f.Models != 6 || f.AUROC != 25./36 || f.FPR.Defined() {
		t.Errorf("badnets: %+v", f)
	}
	if f, _ := ci.ByAttack.Get("clean"); f.Models != 6 || f.AUROC.Defined() || f.FPR != 0 {
		t.Errorf("clean: %+v", f)
	}
	if f, _ := ci.ByDataset.Get("mini-pets"); f.AUROCInterval.Defined() || !f.AUROC.Defined() {
		t.Errorf("one dataset has no spread between datasets: %+v", f)
	}
	correct := 0
	for _, c := range ci.Matrix {
		correct += c.Correct
	}
	if correct != ci.Correct {
		t.Errorf("the matrix has %d right verdicts, the row %d", correct, ci.Correct)
	}
	// The clean model with the same shots has its order two places before.
	if f, _ := sum.Attacks.Get("badnets"); math.Abs(float64(f.ACCDropMean)-2./200) > 1e-12 || f.Firing != 4 {
		t.Errorf("badnets models: %+v", f)
	}
}

func TestGroupPaths(t *testing.T) {
	s := sample.Open(t)
	sample.Fill(t, s)
	for by, groups := range map[string]int{
		"dataset": 3, "model.dataset": 3, "seed": 1, "detector": 2, "shots": 2, "detector.shots": 1, "attack.name": 3, "epsilon": 1,
	} {
		sum, err := Summarise(s, "synthetic", []string{by})
		if err != nil {
			t.Errorf("%s: %v", by, err)
			continue
		}
		seen := map[string]bool{}
		for _, d := range sum.Detectors {
			seen[groupText(d.By)] = true
		}
		if len(seen) != groups {
			t.Errorf("%s: %d groups: %v", by, len(seen), seen)
		}
	}
	_, err := Summarise(s, "synthetic", []string{"model.shoots"})
	if err == nil || !strings.Contains(err.Error(), "attack.name, dataset, detector") {
		t.Errorf("unknown setting: %v", err)
	}
	if _, err := Summarise(s, "other", nil); err == nil || !strings.Contains(err.Error(), "synthetic") {
		t.Errorf("an unknown suite: %v", err)
	}
}

func TestGroupsOrderNumbersBySize(t *testing.T) {
	values := []any{nil, "b", 16, "a", 4, 0.5}
	slices.SortFunc(values, compareValues)
	if got := fmt.Sprint(values); got != "[0.5 4 16 a b <nil>]" {
		t.Error(got)
	}
}

// Settings that differ within a row are named with their values, whether one dataset has several of
// them or each its own; what comes with a dataset and its pools is none, nor are seeds, nor a
// setting that rows are grouped by.
func TestPooledSettingsAreNamed(t *testing.T) {
	type cell struct {
		dataset, learner    string
		seed, shots, images int
		epsilon             float64
	}
	for name, c := range map[string]struct {
		cells    []cell
		by       []string
		models   Object[[]any]
		detector Object[[]any]
	}{
		"nothing":         {cells: []cell{{"a", "coop", 1, 8, 40, 0.1}, {"b", "coop", 2, 8, 50, 0.1}}},
		"shots":           {[]cell{{"a", "coop", 1, 16, 40, 0.1}, {"a", "coop", 1, 8, 40, 0.1}}, nil, Object[[]any]{{"shots", []any{8, 16}}}, nil},
		"shots of two":    {[]cell{{"a", "coop", 1, 16, 40, 0.1}, {"b", "coop", 1, 8, 50, 0.1}}, nil, Object[[]any]{{"shots", []any{8, 16}}}, nil},
		"grouped":         {cells: []cell{{"a", "coop", 1, 16, 40, 0.1}, {"b", "coop", 1, 8, 50, 0.1}}, by: []string{"shots"}},
		"learners":        {[]cell{{"a", "coop", 1, 8, 40, 0.1}, {"a", "maple", 2, 8, 40, 0.1}}, nil, Object[[]any]{{"learner.name", []any{"coop", "maple"}}}, nil},
		"bounds":          {[]cell{{"a", "coop", 1, 8, 40, 0.2}, {"b", "coop", 1, 8, 40, 0.1}}, nil, nil, Object[[]any]{{"detector.epsilon", []any{0.1, 0.2}}}},
		"pools of one":    {[]cell{{"a", "coop", 1, 8, 40, 0.1}, {"a", "coop", 2, 8, 50, 0.1}}, nil, Object[[]any]{{"ood.images", []any{40, 50}}}, Object[[]any]{{"pool.images", []any{40, 50}}}},
		"bounds, grouped": {cells: []cell{{"a", "coop", 1, 8, 40, 0.2}, {"b", "coop", 1, 8, 40, 0.1}}, by: []string{"detector.epsilon"}},
	} {
		s := sample.Open(t)
		var models []store.ModelCell
		var detections []store.DetectionCell
		for i, x := range c.cells {
			key := fmt.Sprint(i)
			models = append(models, store.ModelCell{Key: key, Dataset: x.dataset, Attack: "clean", Learner: x.learner, Seed: x.seed, Order: i, Settings: map[string]any{
				"dataset": map[string]any{"name": x.dataset, "classes": len(x.dataset)}, "shots": x.shots, "seed": x.seed,
				"learner": map[string]any{"name": x.learner}, "ood": map[string]any{"images": x.images}, "version": i}})
			detections = append(detections, store.DetectionCell{Key: "d" + key, ModelKey: key, Detector: "ci", Order: i, Settings: map[string]any{
				"detector": map[string]any{"name": "ci", "epsilon": x.epsilon}, "pool": map[string]any{"images": x.images}}})
		}
		if err := s.Plan(store.Suite{Name: "s", Settings: map[string]any{store.PartialSetting: "partial: much"}}, models, detections); err != nil {
			t.Fatal(err)
		}
		for i := range models {
			if err := errors.Join(s.FinishModel(models[i].Key, "w", store.ModelResult{Classes: 3}), s.FinishDetection(detections[i].Key, "w", store.DetectionResult{})); err != nil {
				t.Fatal(err)
			}
		}
		sum, err := Summarise(s, "s", c.by)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(sum.Pools) != fmt.Sprint(c.models) || fmt.Sprint(sum.Detectors[0].Pools) != fmt.Sprint(c.detector) || sum.Partial != "partial: much" {
			t.Errorf("%s: models %v, detections %v, %q; want %v, %v", name, sum.Pools, sum.Detectors[0].Pools, sum.Partial, c.models, c.detector)
		}
	}
}
