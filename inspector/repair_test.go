package inspector_test

import (
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// repairInput prepares the repair of a planted model after CI's report; given sets settings beside
// the defaults.
func repairInput(t *testing.T, m *prompts.Model, r *inspector.Finding, pool *tensor.Dense, given map[string]any) inspector.RepairInput {
	t.Helper()
	s, err := settings.Resolve(inspector.RepairParams, given)
	if err != nil {
		t.Fatal(err)
	}
	ci, err := inspector.Find("ci")
	if err != nil {
		t.Fatal(err)
	}
	shots := cliptest.Images(90, plantedSize, 1)
	in := inspector.RepairInput{Model: m, Shots: prompts.Data{Images: shots, Labels: byColour(shots)}, Suspect: r.Suspect, Detector: ci,
		Options: input(t, ci, m, pool, map[string]any{"optimise": 80, "measure": 40, "batch": 20, "epochs": 2}).Settings, Pool: pool, Seed: 5, Settings: s}
	for _, c := range r.Classes {
		in.Triggers = append(in.Triggers, c.Trigger)
	}
	return in
}

func accuracyOf(t *testing.T, m *prompts.Model) float64 {
	t.Helper()
	images := cliptest.Images(60, plantedSize, 3)
	l, err := m.Logits(bg, images, nil)
	if err != nil {
		t.Fatal(err)
	}
	return prompts.Accuracy(prompts.ArgMax(l), byColour(images))
}

func repairOf(t *testing.T, in inspector.RepairInput) *prompts.Model {
	t.Helper()
	m, err := inspector.Repair(bg, in)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// With the trigger that CI recovered, the true trigger of a planted backdoor stops working, further
// than the same number of steps on clean images get it, and accuracy suffers no more than from
// those. The delivered model stays as it is.
func TestRepairRemovesAPlantedBackdoor(t *testing.T) {
	const target = 3
	c := cliptest.Tiny(t, computetest.CPU(t, 2), plantedSize)
	pool := cliptest.Images(120, plantedSize, 2)
	m, tr := planted(t, c, learnedNoise(target))
	ci, err := inspector.Find("ci")
	if err != nil {
		t.Fatal(err)
	}
	report := inspect(t, ci, input(t, ci, m, pool, map[string]any{"optimise": 80, "measure": 40, "batch": 20, "epochs": 2}))
	if report.Suspect != target {
		t.Fatalf("the suspect is %d", report.Suspect)
	}
	before, acc, delivered := asrOf(t, m, tr, target), accuracyOf(t, m), slices.Clone(m.Params["ctx"].Data().([]float32))
	for _, given := range []map[string]any{{"rounds": 0}, {"rounds": 2}, {"rounds": 0, "triggers": "all"}} {
		given["batch"] = 30
		in := repairInput(t, m, report, pool, given)
		var last, total int
		in.Progress = func(done, of int) {
			if done <= last || done > of {
				t.Errorf("%v: progress %d of %d after %d", given, done, of, last)
			}
			last, total = done, of
		}
		repaired := repairOf(t, in)
		if last != total || total == 0 {
			t.Errorf("%v: progress ended at %d of %d", given, last, total)
		}
		in.Control, in.Progress = true, nil
		control := repairOf(t, in)
		after, ofControl := asrOf(t, repaired, tr, target), asrOf(t, control, tr, target)
		t.Logf("%v: ACC %.2f, ASR %.2f; repaired %.2f, %.2f; control %.2f, %.2f", given, acc, before, accuracyOf(t, repaired), after,
			accuracyOf(t, control), ofControl)
		if after > 0.35*before || after >= ofControl {
			t.Errorf("%v: ASR %.2f before, %.2f repaired, %.2f of the control", given, before, after, ofControl)
		}
		if got := accuracyOf(t, repaired); got < min(acc, accuracyOf(t, control))-0.1 { // six test images
			t.Errorf("%v: accuracy fell from %.2f to %.2f", given, acc, got)
		}
	}
	if !slices.Equal(m.Params["ctx"].Data().([]float32), delivered) {
		t.Error("the delivered model has changed")
	}
}

func TestRepairIsDeterministicAndRefusesNonsense(t *testing.T) {
	c := cliptest.Tiny(t, computetest.CPU(t, 2), plantedSize)
	pool := cliptest.Images(120, plantedSize, 2)
	m, _ := planted(t, c, nil)
	zero := triggers.Additive{Delta: triggers.Dense(make([]float32, 3*plantedSize*plantedSize), 3, plantedSize, plantedSize)}
	report := &inspector.Finding{Classes: make([]inspector.ClassResult, len(cliptest.Classes)), Suspect: 1}
	report.Classes[1].Trigger = zero
	in := repairInput(t, m, report, pool, map[string]any{"rounds": 0, "epochs": 2, "share": 0.5, "batch": 30})
	ctx := func(m *prompts.Model) []float32 { return m.Params["ctx"].Data().([]float32) }
	first := repairOf(t, in)
	if !slices.Equal(ctx(first), ctx(repairOf(t, in))) {
		t.Error("the same repair gave another model")
	}
	// A trigger that changes nothing is the control.
	in.Control = true
	if !slices.Equal(ctx(first), ctx(repairOf(t, in))) {
		t.Error("the control differs from a repair with a trigger that does nothing")
	}
	in.Control = false
	for want, change := range map[string]func(in *inspector.RepairInput){
		"suspect is class 9":    func(in *inspector.RepairInput) { in.Suspect = 9 },
		"suspect is class -1":   func(in *inspector.RepairInput) { in.Suspect = -1 },
		"recovered for class 0": func(in *inspector.RepairInput) { in.Suspect = 0 },
		"labels for 90 images":  func(in *inspector.RepairInput) { in.Shots.Labels = in.Shots.Labels[:7] },
		"model has 6 classes":   func(in *inspector.RepairInput) { in.Shots.Labels = append(slices.Clone(in.Shots.Labels[:89]), 6) },
		"3 rounds of 2 epochs":  func(in *inspector.RepairInput) { in.Settings["rounds"] = 3 },
		"a trigger for images of": func(in *inspector.RepairInput) {
			in.Triggers[1] = triggers.Additive{Delta: triggers.Dense(make([]float32, 3*16), 3, 4, 4)}
		},
	} {
		bad := repairInput(t, m, report, pool, map[string]any{"rounds": 0, "epochs": 2, "batch": 30})
		change(&bad)
		if _, err := inspector.Repair(bg, bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
}

// Against the kind that an explanation names, a planted patch stops working too, further than the
// same number of steps on clean images get it. It takes the image passes that it is estimated at,
// more than those steps, and the explanation has to be that of the suspect.
func TestRepairAgainstAKind(t *testing.T) {
	const target = 3
	e := &counting{Engine: computetest.CPU(t, 2)}
	c := cliptest.Tiny(t, e, plantedSize)
	m, tr := planted(t, c, patch(target))
	before, acc := asrOf(t, m, tr, target), accuracyOf(t, m)
	in := repairInput(t, m, &inspector.Finding{Classes: make([]inspector.ClassResult, len(cliptest.Classes)), Suspect: target},
		cliptest.Images(120, plantedSize, 2), map[string]any{"batch": 30, "fitted": 4, "optimise": 64})
	s, err := settings.Resolve(inspector.ExplainParams, nil)
	if err != nil {
		t.Fatal(err)
	}
	in.Detector, in.Explaining, in.Explanation = nil, s, &inspector.Explanation{Class: target, Kind: inspector.KindNone, Strongest: inspector.KindPatch}
	images := e.images
	repaired := repairOf(t, in)
	withFits := e.images - images
	in.Control = true
	control := repairOf(t, in)
	fits := withFits - (e.images - images - withFits)
	o := prompts.Outline{Learner: m.Learner, Settings: m.Settings, Config: c.Config, Classes: m.Classes, Tokens: func(string) int { return 1 }}
	want := inspector.RepairCost(o, 90, in.Settings, s, clip.Work{}).Passes
	in.Settings["rounds"] = 0
	if want -= inspector.RepairCost(o, 90, in.Settings, s, clip.Work{}).Passes; float64(fits) != want || want != 3*4*64 {
		t.Errorf("the fits of three rounds took %d image passes; the estimate is %.0f", fits, want)
	}
	in.Settings["rounds"] = 3
	after, ofControl := asrOf(t, repaired, tr, target), asrOf(t, control, tr, target)
	t.Logf("ACC %.2f, ASR %.2f; repaired %.2f, %.2f; control %.2f", acc, before, accuracyOf(t, repaired), after, ofControl)
	if after > 0.35*before || after > ofControl {
		t.Errorf("ASR %.2f before, %.2f repaired, %.2f of the control", before, after, ofControl)
	}
	if got := accuracyOf(t, repaired); got < acc-0.1 { // six test images
		t.Errorf("accuracy fell from %.2f to %.2f", acc, got)
	}
	in.Control, in.Explanation = false, &inspector.Explanation{Class: 1, Strongest: inspector.KindPatch}
	if _, err := inspector.Repair(bg, in); err == nil || !strings.Contains(err.Error(), "class 1 was explained") {
		t.Errorf("%v, want an error that says which class was explained", err)
	}
}
