package store

import (
	"bytes"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// planRepairs plans a repair for every detection of ci in a planned grid.
func planRepairs(t *testing.T, s *Store, suite string) {
	t.Helper()
	detections, err := s.Detections(suite)
	if err != nil {
		t.Fatal(err)
	}
	var cells []RepairCell
	for _, d := range detections {
		if d.Cell.Detector == "ci" {
			cells = append(cells, RepairCell{DetectionKey: d.Cell.Key, Order: len(cells), Settings: map[string]any{"epochs": 10}})
		}
	}
	if err := s.PlanRepairs(suite, cells); err != nil {
		t.Fatal(err)
	}
}

// fakeRepair keeps a tenth of the success rate, the control half of it.
func fakeRepair(m ModelResult) RepairResult {
	asr, recovered := math.NaN(), 0.5
	if m.Backdoored {
		asr = m.ASR
	}
	return RepairResult{Hash: "repaired", Path: "repairs/x", Seconds: 1, Arms: []Arm{
		{ArmDelivered, 0.9, asr, asr, recovered}, {ArmRepaired, 0.89, asr / 10, asr / 10, 0},
		{ArmControl, 0.91, asr / 2, asr / 2, 0.1}, {ArmRetuned, 0.92, 0 * asr, 0 * asr, math.NaN()}}}
}

// A repair is leased once its detection is finished, keeps what was measured, and is made again
// when its detection is.
func TestRepairCells(t *testing.T) {
	s := openTemp(t)
	planGrid(t, s, "grid", 6)
	planRepairs(t, s, "grid")
	planRepairs(t, s, "grid") // the same again changes nothing
	if _, ok, err := s.LeaseRepair("grid", "w", time.Minute); ok || err != nil {
		t.Fatalf("leased before any detection: %v", err)
	}
	if p, err := s.Progress("grid"); err != nil || p.Repairs.Planned != 6 || p.Done() {
		t.Fatalf("%+v, %v", p, err)
	}
	finishAll := func() (done int) {
		for {
			m, isModel, err := s.LeaseModel("grid", "w", time.Minute)
			if err == nil && isModel {
				err = s.FinishModel(m.Key, "w", fakeModel(m))
			}
			d, isDetection, derr := s.LeaseDetection("grid", "w", time.Minute)
			if derr == nil && isDetection {
				derr = s.FinishDetection(d.Key, "w", fakeDetection(d))
			}
			if err := errors.Join(err, derr); err != nil {
				t.Fatal(err)
			}
			if isModel || isDetection {
				continue
			}
			c, ok, err := s.LeaseRepair("grid", "w", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return done
			}
			det, _, err := s.Detection(c.DetectionKey)
			if err != nil {
				t.Fatal(err)
			}
			model, _, err := s.Model(det.Cell.ModelKey)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.FinishRepair(c.Key, "w", fakeRepair(model.Result)); err != nil {
				t.Fatal(err)
			}
			done++
		}
	}
	if n := finishAll(); n != 6 {
		t.Fatalf("%d repairs, want 6", n)
	}
	p, err := s.Progress("grid")
	if err != nil || p.Repairs.Finished != 6 || !p.Done() {
		t.Errorf("%+v, %v", p, err)
	}
	rows, err := s.Repairs("grid")
	if err != nil || len(rows) != 6 {
		t.Fatal(rows, err)
	}
	for i, r := range rows {
		repaired, ok := r.Result.Arm(ArmRepaired)
		if !ok || r.Cell.Order != i || repaired.ACC != 0.89 || len(r.Result.Arms) != 4 {
			t.Errorf("%+v", r)
		}
		if backdoored := i%2 == 1; backdoored == math.IsNaN(repaired.ASR) {
			t.Errorf("repair %d: ASR %v", i, repaired.ASR)
		}
	}
	first := rows[1].Cell
	again := rows[1].Result
	if err := s.FinishRepair(first.Key, "other", again); err != nil {
		t.Errorf("finishing twice alike: %v", err)
	}
	again.Arms = append([]Arm(nil), again.Arms...)
	again.Arms[1].ACC = 0.5
	if err := s.FinishRepair(first.Key, "other", again); !errors.Is(err, ErrConflict) {
		t.Errorf("finishing twice otherwise: %v", err)
	}
	before := exported(t, s, "grid")
	if n := bytes.Count(before, []byte(`"kind":"repair"`)); n != 6 {
		t.Errorf("%d repairs are exported", n)
	}
	if err := s.Reopen(KindDetection, first.DetectionKey); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Progress("grid"); err != nil || p.Repairs.Pending != 1 {
		t.Errorf("after the detection was reopened: %+v, %v", p.Repairs, err)
	}
	if n := finishAll(); n != 1 {
		t.Errorf("%d repairs were made again, want 1", n)
	}
	if !bytes.Equal(exported(t, s, "grid"), before) {
		t.Error("another export")
	}

	// Failures are counted and retried, and repairs without a detection are refused.
	if err := s.Reopen(KindRepair, first.Key); err != nil {
		t.Fatal(err)
	}
	c, ok, err := s.LeaseRepair("grid", "w", time.Minute)
	if err != nil || !ok || c.Key != first.Key {
		t.Fatal(c, ok, err)
	}
	if err := s.Fail(KindRepair, c.Key, "w", "no room"); err != nil {
		t.Fatal(err)
	}
	if n, err := s.RetryFailed("grid", 3); n != 1 || err != nil {
		t.Errorf("%d retried, %v", n, err)
	}
	if err := s.PlanRepairs("grid", []RepairCell{{DetectionKey: "none"}}); err == nil || !strings.Contains(err.Error(), "not planned") {
		t.Errorf("a repair without a detection: %v", err)
	}
}

// A store of the first schema is brought to the present one with what it holds.
func TestOlderStoresGoOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.db")
	execIn(t, path, migrations[0])
	execIn(t, path, "PRAGMA user_version=1")
	execIn(t, path, "PRAGMA application_id=1129072979")
	execIn(t, path, `INSERT INTO suite VALUES('old', 'name: old', '{}', '{}', '2026-01-01T00:00:00Z')`)
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	planGrid(t, s, "grid", 1)
	planRepairs(t, s, "grid")
	if suites, err := s.Suites(); err != nil || len(suites) != 2 {
		t.Errorf("%v, %v", suites, err)
	}
}
