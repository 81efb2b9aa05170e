package stats

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"clipinspector/results/internal/sample"
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
	// 16 models, 10 of them backdoored; one is missed and ranks lowest: the other
	// nine are above all six clean ones.
	if ci.Models != 16 || ci.Correct != 15 || ci.Backdoored != 10 || ci.AUROC != 0.9 || ci.TPR != 0.9 || ci.FPR != 0 {
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
	if f, _ := ci.ByAttack.Get("badnets"); f.Models != 6 || f.AUROC != 5./6 || f.FPR.Defined() {
		t.Errorf("badnets: %+v", f)
	}
	if f, _ := ci.ByAttack.Get("clean"); f.Models != 6 || f.AUROC.Defined() || f.FPR != 0 {
		t.Errorf("clean: %+v", f)
	}
	if f, _ := ci.ByDataset.Get("mini-pets"); f.AUROCInterval.Defined() || !f.AUROC.Defined() {
		t.Errorf("one dataset has no spread between datasets: %+v", f)
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
