package experiments

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/internal/experimentstest"
	"clipinspector/results/stats"
	"clipinspector/results/store"
	"clipinspector/results/tables"
)

func repairSuite(clip string) string {
	return experimentstest.TinySuite(clip) + "repair: {detector: ci, rounds: 1, epochs: 2, batch: 4, views: 2}\n"
}

// Every model is repaired, measured beside its control, and the same bytes come out for any number
// of workers, after a lost file as well.
func TestRepairsOfASuite(t *testing.T) {
	f := experimentstest.Read(t, suite.Parse, repairSuite(experimentstest.TinyCLIP(t)))
	out := t.TempDir()
	want := runTiny(t, f, Options{Out: out, Workers: 1, Threads: 1})
	if n := bytes.Count(want, []byte(`"kind":"repair"`)); n != 6 || bytes.Count(want, []byte(`"state":"finished"`)) != 30 {
		t.Fatalf("%d repairs:\n%s", n, want)
	}
	if got := runTiny(t, f, Options{Out: t.TempDir(), Workers: 2, Threads: 2}); !bytes.Equal(got, want) {
		t.Errorf("two workers: %s", experimentstest.FirstDifference(got, want))
	}
	s := experimentstest.Store(t, filepath.Join(out, StoreFile))
	repairs := experimentstest.Rows(t, s.Repairs)
	for _, r := range repairs {
		if hash, err := HashFile(filepath.Join(out, r.Result.Path)); err != nil || hash != r.Result.Hash {
			t.Errorf("%s: %v", r.Result.Path, err)
		}
		d, _, err := s.Detection(r.Cell.DetectionKey)
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := s.Model(d.Cell.ModelKey)
		if err != nil {
			t.Fatal(err)
		}
		delivered, _ := r.Result.Arm(store.ArmDelivered)
		if delivered.ACC != m.Result.ACC || m.Result.Backdoored && delivered.ASR != m.Result.ASR {
			t.Errorf("the delivered model has ACC %v, ASR %v; its own cell says %v, %v", delivered.ACC, delivered.ASR, m.Result.ACC, m.Result.ASR)
		}
		if len(r.Result.Arms) != len(store.Arms) {
			t.Errorf("%+v", r.Result)
		}
	}
	summary, err := stats.Summarise(s, "tiny", nil)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := tables.Render(&table, summary, "markdown"); err != nil || !strings.Contains(table.String(), "## Repair") ||
		!strings.Contains(table.String(), "6 of 6 repairs finished") {
		t.Errorf("%v\n%s", err, table.String())
	}

	// What is lost is made again where a repair needs it.
	if err := s.Reopen(store.KindRepair, repairs[3].Cell.Key); err != nil {
		t.Fatal(err)
	}
	d, _, err := s.Detection(repairs[3].Cell.DetectionKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(out, d.Result.Path)); err != nil {
		t.Fatal(err)
	}
	if got := runTiny(t, f, Options{Out: out}); !bytes.Equal(got, want) {
		t.Errorf("after a lost file: %s", experimentstest.FirstDifference(got, want))
	}
}

func TestRepairSettingsMoveNoOtherCell(t *testing.T) {
	text := repairSuite(experimentstest.TinyCLIP(t))
	plan := func(sets ...string) *Plan {
		p, err := NewPlan(world.New(), experimentstest.Read(t, suite.Parse, text, sets...), "engine")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p, q := plan(), plan("repair.share=0.5")
	for key := range p.detections {
		if q.detections[key] == nil {
			t.Error("a detection moved")
		}
	}
	for key := range p.repairs {
		if q.repairs[key] != nil {
			t.Error("a repair did not move")
		}
	}
	if len(p.Repairs) != 6 || len(plan("sweep.repair.rounds=[0,1]").Repairs) != 12 {
		t.Errorf("%d repairs", len(p.Repairs))
	}
	if e := p.estimate(); e.Repairs.FLOP <= 0 || len(e.ByName) != 7 {
		t.Errorf("%+v", e)
	}
}
