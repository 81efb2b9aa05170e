package experiments

import (
	"bytes"
	"math"
	"path/filepath"
	"testing"

	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/inspector"
	"clipinspector/internal/computetest"
	"clipinspector/internal/experimentstest"
	"clipinspector/prompts"
	"clipinspector/results/store"
	"clipinspector/triggers"
)

// Every suspect is looked at once more, with the same bytes for any number of workers. Beside the
// recovered trigger stands what the true one does on the images that the look has fitted nothing to.
func TestExplanationsOfASuite(t *testing.T) {
	f := experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t))+
		"explain: {detector: ci, draws: 4, images: 2, batch: 4, first: 4, optimise: 8, further: 4}\n")
	out := t.TempDir()
	want := runTiny(t, f, Options{Out: out, Workers: 1, Threads: 1})
	if got := runTiny(t, f, Options{Out: t.TempDir(), Workers: 2, Threads: 2}); !bytes.Equal(got, want) {
		t.Errorf("two workers: %s", experimentstest.FirstDifference(got, want))
	}
	s := experimentstest.Store(t, filepath.Join(out, StoreFile))
	w, e := world.New(), computetest.CPU(t, 1)
	plan, err := NewPlan(w, f, e.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	k := newWorker(0, e, w, plan, s, Options{Out: out}, nil, nil)
	rows := experimentstest.Rows(t, s.Explanations)
	for _, r := range rows {
		job := plan.explanations[r.Cell.Key]
		m, made, err := k.delivered(job.Detection.Model)
		if err != nil {
			t.Fatal(err)
		}
		if r.State != store.Finished || len(r.Result.Families) != len(inspector.Kinds) {
			t.Errorf("%s: %s, %d families", made.Path, r.State, len(r.Result.Families))
		}
		if !made.Backdoored {
			if !math.IsNaN(r.Result.TrueASR) {
				t.Errorf("a clean model's true trigger has ASR %v", r.Result.TrueASR)
			}
			continue
		}
		trigger, err := Planted(out, made)
		if err != nil {
			t.Fatal(err)
		}
		pool, err := w.PoolImages(t.Context(), job.Detection.Pool)
		if err != nil {
			t.Fatal(err)
		}
		unseen := inspector.Unseen(pool.Shape()[0], job.Settings, lookedAt(job.Detection.Model, m, pool).Seed)
		with, err := prompts.Triggered(t.Context(), e, triggers.Rows(pool, unseen), trigger)
		if err != nil {
			t.Fatal(err)
		}
		logits, err := m.Logits(t.Context(), with, nil)
		if err != nil {
			t.Fatal(err)
		}
		if asr, _ := prompts.SuccessRate(prompts.ArgMax(logits), nil, made.Target); len(unseen) != 6 || r.Result.TrueASR != asr {
			t.Errorf("%s: the true trigger has ASR %v on %d images; the explanation says %v of a quarter of 24", made.Path, asr, len(unseen), r.Result.TrueASR)
		}
	}
	if len(rows) != 6 {
		t.Errorf("%d explanations; want one for each of six models", len(rows))
	}
}
