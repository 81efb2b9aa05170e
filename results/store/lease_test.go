package store

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// planGrid plans n models with two detections each.
func planGrid(t testing.TB, s *Store, suite string, n int) {
	t.Helper()
	var models []ModelCell
	var detections []DetectionCell
	for i := range n {
		m := modelCell(suite, fmt.Sprintf("d%d", i%3), []string{"clean", "badnets"}[i%2], i, i)
		key, err := m.Identity()
		if err != nil {
			t.Fatal(err)
		}
		models = append(models, m)
		for j, name := range []string{"ci", "neural-cleanse"} {
			detections = append(detections, DetectionCell{ModelKey: key, Detector: name, Order: 2*i + j,
				Settings: map[string]any{"epsilon": 0.03}})
		}
	}
	if err := s.Plan(Suite{Name: suite, YAML: "grid"}, models, detections); err != nil {
		t.Fatal(err)
	}
}

// work leases and finishes cells until the suite is done, and counts them. The
// results depend on the cell alone.
func work(s *Store, suite, worker string) (int, error) {
	done := 0
	for {
		m, ok, err := s.LeaseModel(suite, worker, time.Minute)
		if err != nil {
			return done, err
		}
		if ok {
			if err := s.FinishModel(m.Key, worker, fakeModel(m)); err != nil {
				return done, err
			}
			done++
		}
		d, ok2, err := s.LeaseDetection(suite, worker, time.Minute)
		if err != nil {
			return done, err
		}
		if ok2 {
			if err := s.FinishDetection(d.Key, worker, fakeDetection(d)); err != nil {
				return done, err
			}
			done++
		}
		if ok || ok2 {
			continue
		}
		p, err := s.Progress(suite)
		if err != nil || p.Done() {
			return done, err
		}
		time.Sleep(time.Millisecond)
	}
}

func fakeModel(c ModelCell) ModelResult {
	r := ModelResult{Target: -1, Classes: 10, ACC: 0.9, Hash: "hash of " + c.Key, Path: "models/" + c.Key, Seconds: 1}
	if c.Attack != "clean" {
		r.Backdoored, r.Target, r.ASR = true, c.Seed%10, 0.95
	}
	return r
}

func fakeDetection(c DetectionCell) DetectionResult {
	r := DetectionResult{Index: float64(c.Order), Backdoored: c.Order%3 == 0, Suspect: -1, ImagePasses: 100, Seconds: 0.5}
	for i := range 20 {
		r.Classes = append(r.Classes, ClassScore{Class: i, Loss: float64(c.Order + i), Reached: i%2 == 0})
	}
	return r
}

func TestWorkersShareASuite(t *testing.T) {
	s := openTemp(t)
	planGrid(t, s, "grid", 30)
	second := reopen(t, s.Path()) // a second connection pool, as another process has
	var wg sync.WaitGroup
	counts, errs := make([]int, 4), make([]error, 4)
	for i := range counts {
		wg.Add(1)
		go func() {
			defer wg.Done()
			counts[i], errs[i] = work([]*Store{s, second}[i%2], "grid", fmt.Sprintf("w%d", i))
		}()
	}
	wg.Wait()
	total := 0
	for i := range counts {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		total += counts[i]
	}
	if total != 90 {
		t.Fatalf("%v cells were computed, each of 90 should have been once", counts)
	}
	rows, err := s.Detections("grid")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.State != Finished || r.Attempts != 1 || len(r.Result.Classes) != 20 {
			t.Fatalf("%+v", r)
		}
	}
}

func TestLeasesFollowTheOrderAndTheModels(t *testing.T) {
	s := openTemp(t)
	planGrid(t, s, "grid", 3)
	if _, ok, err := s.LeaseDetection("grid", "w", time.Minute); ok || err != nil {
		t.Fatalf("a detection without its model: %v %v", ok, err)
	}
	var orders []int
	for range 3 {
		c, ok, err := s.LeaseModel("", "w", time.Minute)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		orders = append(orders, c.Order)
	}
	if !slices.Equal(orders, []int{0, 1, 2}) {
		t.Fatalf("leased in order %v", orders)
	}
	if _, ok, err := s.LeaseModel("other suite", "w", time.Minute); ok || err != nil {
		t.Fatalf("%v %v", ok, err)
	}
	models, err := s.Models("grid")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.FinishModel(models[1].Cell.Key, "w", fakeModel(models[1].Cell)); err != nil {
		t.Fatal(err)
	}
	d, ok, err := s.LeaseDetection("grid", "w", time.Minute)
	if err != nil || !ok || d.ModelKey != models[1].Cell.Key || d.Order != 2 || d.Detector != "ci" {
		t.Fatalf("%+v %v %v", d, ok, err)
	}
}

func TestExpiredLeaseIsTakenOver(t *testing.T) {
	s := openTemp(t)
	clock := time.Unix(1e9, 0)
	s.now = func() time.Time { return clock }
	planGrid(t, s, "grid", 1)
	c, _, err := s.LeaseModel("grid", "slow", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(50 * time.Second)
	if err := s.Renew(KindModel, c.Key, "slow", time.Minute); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(50 * time.Second)
	if _, ok, err := s.LeaseModel("grid", "quick", time.Minute); ok || err != nil {
		t.Fatalf("a renewed lease was given away: %v %v", ok, err)
	}
	clock = clock.Add(11 * time.Second)
	if c2, ok, err := s.LeaseModel("grid", "quick", time.Minute); !ok || err != nil || c2.Key != c.Key {
		t.Fatalf("an expired lease was kept: %v %v", ok, err)
	}
	if err := s.Renew(KindModel, c.Key, "slow", time.Minute); !errors.Is(err, ErrLeaseLost) {
		t.Fatalf("renewed what another holds: %v", err)
	}
	if err := s.Fail(KindModel, c.Key, "slow", "late"); !errors.Is(err, ErrLeaseLost) {
		t.Fatalf("failed what another holds: %v", err)
	}
	// Both finish: the same result twice is harmless, another is not.
	r := fakeModel(c)
	if err := s.FinishModel(c.Key, "slow", r); err != nil {
		t.Fatal(err)
	}
	r.Seconds, r.Path = 99, "elsewhere"
	if err := s.FinishModel(c.Key, "quick", r); err != nil {
		t.Fatal(err)
	}
	r.ACC = 0.1
	if err := s.FinishModel(c.Key, "quick", r); !errors.Is(err, ErrConflict) {
		t.Fatalf("another result was taken: %v", err)
	}
	if row, _, err := s.Model(c.Key); err != nil || row.Result.Seconds != 1 || row.Result.ACC != 0.9 || row.Attempts != 2 {
		t.Fatalf("%+v %v", row, err)
	}
}

func TestFailedCellsWaitForTheNextRun(t *testing.T) {
	s := openTemp(t)
	planGrid(t, s, "grid", 1)
	for attempt := 1; attempt <= 2; attempt++ {
		c, ok, err := s.LeaseModel("grid", "w", time.Minute)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := s.Fail(KindModel, c.Key, "w", "out of memory"); err != nil {
			t.Fatal(err)
		}
		if _, ok, _ := s.LeaseModel("grid", "w", time.Minute); ok {
			t.Fatal("retried in the same run")
		}
		p, err := s.Progress("grid")
		if err != nil || !p.Done() || p.Models.Failed != 1 || p.Detections.Blocked != 2 {
			t.Fatalf("%+v %v", p, err)
		}
		n, err := s.RetryFailed("grid", 2)
		if err != nil || n != 2-attempt {
			t.Fatalf("attempt %d: %d cells to retry, %v", attempt, n, err)
		}
	}
	rows, err := s.Models("grid")
	if err != nil || rows[0].State != Failed || rows[0].Message != "out of memory" || rows[0].Failures != 2 {
		t.Fatalf("%+v %v", rows, err)
	}
}

func TestReleasedCellIsLeasedAtOnce(t *testing.T) {
	s := openTemp(t)
	planGrid(t, s, "grid", 1)
	c, _, err := s.LeaseModel("grid", "a", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Release(KindModel, c.Key, "a"); err != nil {
		t.Fatal(err)
	}
	if c2, ok, err := s.LeaseModel("grid", "b", time.Hour); !ok || err != nil || c2.Key != c.Key {
		t.Fatal(ok, err)
	}
}

func TestReopenedModelReopensDetectionsOnlyWhenItDiffers(t *testing.T) {
	s := openTemp(t)
	planGrid(t, s, "grid", 1)
	if _, err := work(s, "grid", "w"); err != nil {
		t.Fatal(err)
	}
	models, err := s.Models("grid")
	if err != nil {
		t.Fatal(err)
	}
	key := models[0].Cell.Key
	r := fakeModel(models[0].Cell)
	for _, c := range []struct {
		hash string
		left int
	}{{r.Hash, 0}, {"other", 2}} {
		if err := s.Reopen(KindModel, key); err != nil {
			t.Fatal(err)
		}
		r.Hash = c.hash
		if err := s.FinishModel(key, "w", r); err != nil {
			t.Fatal(err)
		}
		if p, err := s.Progress("grid"); err != nil || p.Detections.Pending != c.left || p.Models.Finished != 1 {
			t.Fatalf("hash %q: %+v %v", c.hash, p, err)
		}
	}
}

// A suite is the union of what was planned under its name; a cell that asks what an older one
// asked, with another version, engine or fingerprint, takes its place.
func TestPlansOfOneNameJoin(t *testing.T) {
	s := openTemp(t)
	cell := func(seed, version int) ModelCell {
		c := modelCell("", "pets", "clean", seed, 0)
		c.Settings["version"] = version
		c.Dataset = fmt.Sprintf("folder:pets#%d", version)
		c.Settings["dataset"] = map[string]any{"name": fmt.Sprintf("folder:sha256:%d", version), "fingerprint": fmt.Sprint("bytes", version)}
		return c
	}
	plan := func(m ModelCell) {
		t.Helper()
		var err error
		if m.Key, err = m.Identity(); err != nil {
			t.Fatal(err)
		}
		d := DetectionCell{ModelKey: m.Key, Detector: "ci", Settings: map[string]any{"k": 2, "engine": fmt.Sprint(m.Settings["version"])}}
		if d.Key, err = d.Identity(); err != nil {
			t.Fatal(err)
		}
		if err := s.Plan(Suite{Name: "grid"}, []ModelCell{m}, []DetectionCell{d}); err != nil {
			t.Fatal(err)
		}
		if err := s.PlanRepairs("grid", []RepairCell{{DetectionKey: d.Key}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ seed, version, want int }{{1, 1, 1}, {2, 1, 2}, {1, 1, 2}, {1, 2, 2}, {3, 2, 3}} {
		plan(cell(c.seed, c.version))
		p, err := s.Progress("grid")
		if err != nil || p.Models.Planned != c.want || p.Detections.Planned != c.want || p.Repairs.Planned != c.want {
			t.Errorf("after seed %d, version %d: got %+v %v, want %d of each", c.seed, c.version, p, err, c.want)
		}
	}
	models, err := s.Models("grid")
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]any{}
	for _, m := range models {
		got[m.Cell.Seed] = m.Cell.Settings["version"]
	}
	if want := (map[int]any{1: 2, 2: 1, 3: 2}); !maps.Equal(got, want) {
		t.Errorf("versions by seed: got %v, want %v", got, want)
	}
}

// A view leases and counts the cells of one plan alone.
func TestOnlyTheCellsOfOnePlan(t *testing.T) {
	s := openTemp(t)
	planGrid(t, s, "grid", 4)
	models, err := s.Models("grid")
	if err != nil {
		t.Fatal(err)
	}
	own := models[2].Cell.Key
	view := s.Only(func(kind Kind, key string) bool { return kind == KindModel && key == own })
	c, ok, err := view.LeaseModel("grid", "w", time.Minute)
	if err != nil || !ok || c.Key != own {
		t.Errorf("leased %v %v %v, want %s", c.Key, ok, err, own)
	}
	if err := view.FinishModel(own, "w", fakeModel(c)); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := view.LeaseModel("grid", "w", time.Minute); ok || err != nil {
		t.Errorf("a second cell is leased: %v %v", ok, err)
	}
	if p, err := view.Progress("grid"); err != nil || !p.Done() || p.Models.Planned != 1 || p.Detections.Planned != 0 {
		t.Errorf("got %+v %v, want one model, done", p, err)
	}
}

func TestTwoCellsUnderOneKeyAreRefused(t *testing.T) {
	s := openTemp(t)
	planGrid(t, s, "grid", 1)
	c := modelCell("grid", "d0", "clean", 0, 0)
	var err error
	if c.Key, err = c.Identity(); err != nil {
		t.Fatal(err)
	}
	c.Attack = "badnets"
	if err := s.Plan(Suite{Name: "grid"}, []ModelCell{c}, nil); err == nil {
		t.Fatal("two cells under one key")
	}
}

// A lease from a clock that was an hour ahead and has been set back is nobody's: its cell is not
// waited for.
func TestALeaseOfAClockThatWasSetBack(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "r.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	planGrid(t, s, "grid", 1)
	now := time.Now()
	s.now = func() time.Time { return now.Add(time.Hour) }
	first, ok, err := s.LeaseModel("grid", "a", 15*time.Second)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	s.now = func() time.Time { return now }
	for _, want := range []string{first.Key} {
		if c, ok, err := s.LeaseModel("grid", "b", 15*time.Second); err != nil || !ok || c.Key != want {
			t.Errorf("got %q, %v, %v; want the cell that the clock had locked up", c.Key, ok, err)
		}
	}
	if err := s.Renew(KindModel, first.Key, "a", 15*time.Second); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("the first worker still holds it: %v", err)
	}
}
