package store

import (
	"math"
	"path/filepath"
	"testing"
	"time"
)

// openTemp opens a fresh store that the test closes.
func openTemp(t *testing.T) *Store {
	t.Helper()
	return reopen(t, filepath.Join(t.TempDir(), "results with space.db"))
}

func reopen(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func modelCell(suite, dataset, attack string, seed, order int) ModelCell {
	return ModelCell{Suite: suite, Dataset: dataset, Attack: attack, Learner: "coop", Seed: seed, Order: order,
		Settings: map[string]any{"dataset": dataset, "attack": attack, "learner": "coop", "seed": seed, "shots": 16}}
}

func TestFinishedCellsStayFinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	s := reopen(t, path)
	cells := []ModelCell{modelCell("mini", "pets", "clean", 1, 0), modelCell("mini", "pets", "badnets", 1, 1)}
	if err := s.Plan(Suite{Name: "mini", YAML: "a: 1"}, cells, nil); err != nil {
		t.Fatal(err)
	}
	c, ok, err := s.LeaseModel("mini", "w1", time.Minute)
	if err != nil || !ok || c.Attack != "clean" {
		t.Fatalf("leased %+v %v %v", c, ok, err)
	}
	want := ModelResult{Target: -1, Classes: 9, ACC: 0.9, ASR: math.NaN(), ASRAll: math.NaN(), ASROOD: math.NaN(),
		PSNR: math.Inf(1), SSIM: math.NaN(), Path: "m/x", Hash: "h", Seconds: 2, Versions: map[string]string{"go": "1"}}
	if err := s.FinishModel(c.Key, "w1", want); err != nil {
		t.Fatal(err)
	}

	again := reopen(t, path)
	for _, u := range []Suite{{Name: "mini", YAML: "a: 1"}, {Name: "mini", YAML: "a: 2", Settings: map[string]any{"a": 2}}} {
		if err := again.Plan(u, cells, nil); err != nil {
			t.Fatal(err)
		}
	}
	suites, err := again.Suites()
	if err != nil || len(suites) != 1 || suites[0].YAML != "a: 2" || suites[0].Settings["a"] != 2 ||
		time.Since(suites[0].Created) > time.Minute {
		t.Fatalf("%+v %v", suites, err)
	}
	row, ok, err := again.Model(c.Key)
	if err != nil || !ok || row.State != Finished {
		t.Fatalf("%+v %v %v", row, ok, err)
	}
	if got := row.Result; got.ACC != 0.9 || !math.IsNaN(got.ASR) || !math.IsInf(got.PSNR, 1) || got.Target != -1 ||
		got.Versions["go"] != "1" || got.Path != "m/x" || row.Cell.Settings["shots"] != 16 {
		t.Fatalf("read back %+v", row)
	}
	c, ok, err = again.LeaseModel("mini", "w2", time.Minute)
	if err != nil || !ok || c.Attack != "badnets" {
		t.Fatalf("resumed with %+v %v %v", c, ok, err)
	}
}
