package stats

import (
	"path/filepath"
	"reflect"
	"testing"

	"clipinspector/results/internal/sample"
	"clipinspector/results/store"
)

func TestSweepsAreTheTablesGroups(t *testing.T) {
	s := sample.Open(t)
	sample.Fill(t, s)
	rows, err := Read(s, "synthetic")
	if err != nil {
		t.Fatal(err)
	}
	sweeps := rows.Sweeps()
	if len(sweeps) != 1 || sweeps[0].Path != "shots" || !reflect.DeepEqual(sweeps[0].Values, []any{4, 16}) {
		t.Fatalf("%+v", sweeps)
	}
	sum, err := Summarise(s, "synthetic", []string{"model.shots"})
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, row := range sum.Detectors {
		l, _ := sweeps[0].Detectors.Get(row.Name)
		for j, v := range sweeps[0].Values {
			if row.By[0].Value == v {
				compared++
				if l[j].AUROC != row.AUROC || l[j].AccuracyInterval != row.AccuracyInterval || l[j].Models != row.Models {
					t.Errorf("%s at %v: %+v, table %+v", row.Name, v, l[j], row.Figures)
				}
			}
		}
	}
	if compared != 4 || len(sweeps[0].Attacks) != 3 {
		t.Errorf("%d rows compared, %d attacks", compared, len(sweeps[0].Attacks))
	}
	if _, err := Read(s, "nothing"); err == nil {
		t.Error("a suite that is not there")
	}
}

// A detector's setting sweeps no model; a baseline with one variant counts at each value; an
// attack's setting shows that attack and the clean models; what follows from a name is no sweep of
// its own.
func TestWhatCountsAtAValue(t *testing.T) {
	s, err := store.Open(filepath.Join(t.TempDir(), "s.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var models []store.ModelCell
	var detections []store.DetectionCell
	add := func(attack map[string]any, learner map[string]any) {
		m := store.ModelCell{Dataset: "d", Attack: attack["name"].(string), Learner: "l", Seed: 1, Order: len(models),
			Settings: map[string]any{"attack": attack, "learner": learner, "version": len(models)}}
		m.Key, _ = m.Identity()
		models = append(models, m)
		for _, d := range []map[string]any{{"name": "ci", "epsilon": 0.1}, {"name": "ci", "epsilon": 0.2}, {"name": "nc", "epsilon": 0.3}} {
			c := store.DetectionCell{ModelKey: m.Key, Detector: d["name"].(string), Order: len(detections), Settings: map[string]any{"detector": d}}
			c.Key, _ = c.Identity()
			detections = append(detections, c)
		}
	}
	for _, learner := range []map[string]any{{"name": "coop", "own": true}, {"name": "cocoop"}} {
		add(map[string]any{"name": "clean"}, learner)
		add(map[string]any{"name": "sig", "amplitude": 0.1}, learner)
		add(map[string]any{"name": "sig", "amplitude": 0.2}, learner)
		add(map[string]any{"name": "wanet"}, learner)
	}
	if err := s.Plan(store.Suite{Name: "s"}, models, detections); err != nil {
		t.Fatal(err)
	}
	for _, m := range models {
		if err := s.FinishModel(m.Key, "w", store.ModelResult{Backdoored: m.Attack != "clean", Classes: 3, ASR: 1, ACC: 1}); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range detections {
		if err := s.FinishDetection(d.Key, "w", store.DetectionResult{Index: 1}); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := Read(s, "s")
	if err != nil {
		t.Fatal(err)
	}
	sweeps := rows.Sweeps()
	var paths []string
	for _, w := range sweeps {
		paths = append(paths, w.Path)
	}
	if !reflect.DeepEqual(paths, []string{"attack.amplitude", "learner.name", "detector.epsilon"}) {
		t.Fatalf("%q", paths)
	}
	// Verdicts at the first value: the swept detector, the other one.
	for i, want := range [][2]int{{8, 4}, {8, 4}, {8, 8}} {
		ci, _ := sweeps[i].Detectors.Get("ci")
		nc, _ := sweeps[i].Detectors.Get("nc")
		if got := [2]int{ci[0].Models, nc[0].Models}; got != want {
			t.Errorf("%s: %v verdicts, want %v", paths[i], got, want)
		}
	}
	if a, _ := sweeps[0].Attacks.Get("wanet"); a != nil || len(sweeps[2].Attacks) != 0 {
		t.Error("an attack without the setting, or models for a detector's setting")
	}
}
