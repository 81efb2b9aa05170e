package experiments

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"clipinspector/engine/cpu"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/inspector"
	"clipinspector/internal/experimentstest"
	"clipinspector/results/store"

	_ "clipinspector/baselines"
)

// runTiny runs a suite and returns its canonical export.
func runTiny(t testing.TB, f *suite.File, o Options) []byte {
	t.Helper()
	if _, err := Run(context.Background(), f, o); err != nil {
		t.Fatal(err)
	}
	return exported(t, o.Out, f.Name)
}

func exported(t testing.TB, out, suite string) []byte {
	t.Helper()
	s, err := store.OpenExisting(filepath.Join(out, StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() // at once: tests copy and damage the file
	var b bytes.Buffer
	if err := s.Export(&b, suite); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSameBytesForAnyThreadsWorkersAndProcessors(t *testing.T) {
	f := experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t)))
	want := runTiny(t, f, Options{Out: t.TempDir(), Workers: 1, Threads: 1})
	if n := bytes.Count(want, []byte(`"state":"finished"`)); n != 6+18 {
		t.Fatalf("%d cells finished, want 24:\n%s", n, want)
	}
	for _, o := range []Options{{Workers: 1, Threads: 2}, {Workers: 2, Threads: 2}, {Workers: 3, Threads: 1}} {
		o.Out = t.TempDir()
		if got := runTiny(t, f, o); !bytes.Equal(got, want) {
			t.Errorf("workers %d, threads %d: another export: %s", o.Workers, o.Threads, experimentstest.FirstDifference(got, want))
		}
	}
	for _, simd := range []string{"v2", "v3", "v4"} { // what other processors have
		t.Setenv(cpu.SIMDEnv, simd)
		if e, err := cpu.New(cpu.Options{}); err != nil {
			t.Logf("%s is not compared: %v", simd, err)
			continue
		} else {
			e.Close()
		}
		if got := runTiny(t, f, Options{Workers: 1, Threads: 2, Out: t.TempDir()}); !bytes.Equal(got, want) {
			t.Errorf("%s: another export: %s", simd, experimentstest.FirstDifference(got, want))
		}
	}
}

func TestFilesAreWhereTheStoreSays(t *testing.T) {
	f := experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t)))
	out := t.TempDir()
	runTiny(t, f, Options{Out: out})
	s := experimentstest.Store(t, filepath.Join(out, StoreFile))
	models := experimentstest.Rows(t, s.Models)
	for _, m := range models {
		if hash, err := HashFile(filepath.Join(out, m.Result.Path)); err != nil || hash != m.Result.Hash {
			t.Errorf("%s: %v, hash %s", m.Result.Path, err, hash)
		}
		_, err := os.Stat(filepath.Join(out, "models", m.Cell.Key, triggerFile))
		if m.Result.Backdoored != (err == nil) {
			t.Errorf("%s: trigger: %v", m.Cell.Attack, err)
		}
		if m.Result.Backdoored && (m.Result.Target != target(1, m.Cell.Dataset, m.Cell.Attack, m.Result.Classes) || !(m.Result.PSNR > 0)) {
			t.Errorf("%+v", m.Result)
		}
	}
	detections := experimentstest.Rows(t, s.Detections)
	for _, d := range detections {
		if _, err := os.Stat(filepath.Join(out, d.Result.Path)); err != nil || d.Result.ImagePasses == 0 {
			t.Errorf("%s: %v, %d passes", d.Cell.Detector, err, d.Result.ImagePasses)
		}
	}
}

func TestFinishedCellsNeverRunAgain(t *testing.T) {
	f := experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t)))
	out := t.TempDir()
	want := runTiny(t, f, Options{Out: out})
	if got := runTiny(t, f, Options{Out: out}); !bytes.Equal(got, want) {
		t.Error("another export")
	}
	checkAttempts(t, out, 1, 1)

	// Another detector setting trains no model, a lost model file is made again when somebody needs
	// it.
	models, err := filepath.Glob(filepath.Join(out, "models", "*", modelFile))
	if err != nil || len(models) != 6 {
		t.Fatal(models, err)
	}
	if err := os.WriteFile(models[0], []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	g := experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(f.Suites[0].CLIP), "detectors.ci.epsilon=0.05")
	runTiny(t, g, Options{Out: out})
	checkAttempts(t, out, 2, 2)
}

// checkAttempts checks how often models were leased at most, and detections.
func checkAttempts(t *testing.T, out string, models, detections int) {
	t.Helper()
	s := experimentstest.Store(t, filepath.Join(out, StoreFile))
	m := experimentstest.Rows(t, s.Models)
	total, most := 0, 0
	for _, r := range m {
		total, most = total+r.Attempts-1, max(most, r.Attempts)
	}
	if most != models || total > models-1 {
		t.Errorf("a model took %d attempts, all together %d extra", most, total)
	}
	d := experimentstest.Rows(t, s.Detections)
	for _, r := range d {
		if r.Attempts > detections {
			t.Errorf("%s: %d attempts", r.Cell.Detector, r.Attempts)
		}
	}
}

func init() {
	inspector.Register(&inspector.Detector{Name: "failing", Doc: "a detector that always fails", Params: inspector.PoolParams,
		Inspect: func(context.Context, inspector.Input) (*inspector.Finding, error) {
			return nil, errors.New("it always fails")
		}})
}

// What a detector cannot work with is refused when the suite is planned, before anything is
// computed, and names the cell.
func TestPlansAskTheDetectors(t *testing.T) {
	text := experimentstest.TinySuite(experimentstest.TinyCLIP(t))
	for set, want := range map[string]string{
		"detectors.neural-cleanse.optimise=100":                                            "neural-cleanse on mini-eurosat, clean, seed 1: the pool holds 24 images; optimise = 100 and measure = 8 need 108",
		"detectors=[{name: decree, optimise: 16, measure: 8, images: 1, budget: authors}]": "decree on mini-eurosat, clean, seed 1: decree compares images",
	} {
		if _, err := NewPlan(world.New(), experimentstest.Read(t, suite.Parse, text, set), "engine"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", set, err, want)
		}
	}
}

func TestFailingCellsAreReportedAndTheOthersGoOn(t *testing.T) {
	f := experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t)), "detectors.1={name: failing}")
	var report strings.Builder
	out := t.TempDir()
	p, err := Run(context.Background(), f, Options{Out: out, Report: &report})
	if err == nil || p.Detections.Failed != 6 || p.Detections.Finished != 12 || p.Models.Finished != 6 {
		t.Fatalf("%+v, %v", p, err)
	}
	if !strings.Contains(report.String(), "failed: failing on mini-dtd, badnets, seed 1") {
		t.Errorf("report: %s", report.String())
	}
	if !strings.Contains(err.Error(), "the first: failing on mini-eurosat, clean, seed 1: it always fails") {
		t.Errorf("the run ends with %v", err)
	}
}

func TestStoppingGivesCellsBack(t *testing.T) {
	f := experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t)), "tuning.epochs=10000", "tuning.batch=1")
	out := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	start := time.Now()
	p, err := Run(ctx, f, Options{Out: out})
	if err == nil || time.Since(start) > 5*time.Second {
		t.Fatalf("%v after %v", err, time.Since(start))
	}
	if p.Models.Leased != 0 || p.Models.Pending == 0 || p.Models.Failed != 0 {
		t.Errorf("%+v", p)
	}
}
