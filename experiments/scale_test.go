package experiments

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"clipinspector/configs"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/results/store"
)

// scaleVariable asks for the tests that take minutes: 200 killed processes, 10,000 models.
const scaleVariable = "CLIPINSPECTOR_SCALE"

// Ten thousand models in 200 shards, with made-up results of realistic size: planned within 5 s,
// merged within 60 s and 500 MB. CLIPINSPECTOR_SCALE names the folder that everything is left in,
// for `table` and `plot` on it.
func TestTenThousandModels(t *testing.T) {
	out := os.Getenv(scaleVariable)
	if out == "" {
		t.Skipf("takes minutes and 2 GB of disk: name a folder by %s", scaleVariable)
	}
	const seeds, shards = 200, 200
	var list []string
	for i := range seeds {
		list = append(list, fmt.Sprint(i+1000)) // no calibration used them
	}
	f, err := suite.ParseFS(configs.Suites, configs.MiniPath, configs.Mini, []string{"seeds=[" + strings.Join(list, ",") + "]"})
	if err != nil {
		t.Fatal(err)
	}
	w := world.New()
	if _, err := NewPlan(w, f, "an engine"); err != nil { // draws the pools, which no plan does twice
		t.Fatal(err)
	}
	start := time.Now()
	whole, err := NewPlan(w, f, "an engine")
	if err != nil {
		t.Fatal(err)
	}
	first := whole.part(Shard{1, shards})
	within(t, "planning a shard of 10,000 models", start, 5*time.Second)
	if len(whole.Models) != 10_000 {
		t.Fatalf("%d models are planned, want 10,000", len(whole.Models))
	}
	t.Logf("shard 1 has %d models", len(first.Models))
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range shards {
		s := Shard{i + 1, shards}
		if _, err := os.Stat(filepath.Join(s.Folder(out), "made")); err == nil {
			continue // by a run of this test before
		}
		madeUp(t, whole.part(s), s.Folder(out), rng)
		if err := os.WriteFile(filepath.Join(s.Folder(out), "made"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range before { // what an earlier merge left
		if e.Name() != shardsFolder {
			if err := os.RemoveAll(filepath.Join(out, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.GC()
	start = time.Now()
	planned := peak(t)
	m := merged(t, []string{out}, out)
	within(t, "merging 200 shards", start, 60*time.Second)
	t.Logf("peak memory of the process before the merge %d MB, after it %d MB", planned>>20, peak(t)>>20)
	if grown := peak(t); grown > 500<<20 {
		t.Errorf("the process takes %d MB, want at most 500", grown>>20)
	}
	if m.Partial() != "" || m.Models != 10_000 {
		t.Errorf("merged: %+v, %q", m, m.Partial())
	}
}

func within(t *testing.T, what string, start time.Time, limit time.Duration) {
	t.Helper()
	took := time.Since(start)
	t.Logf("%s: %s", what, took.Round(time.Millisecond))
	if took > limit {
		t.Errorf("%s took %s, want at most %s", what, took.Round(time.Millisecond), limit)
	}
}

func peak(t *testing.T) int64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u.Maxrss << 10
}

// madeUp fills a shard with results as large as real ones.
func madeUp(t *testing.T, p *Plan, out string, rng *rand.Rand) {
	t.Helper()
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(filepath.Join(out, StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := p.Store(s, map[string]string{"engine": p.Engine}); err != nil {
		t.Fatal(err)
	}
	file := func(path string, size int) {
		full := filepath.Join(out, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range p.Models {
		r := store.ModelResult{Backdoored: m.target >= 0, Target: m.target, Classes: 9, ACC: rng.Float64(), ASR: rng.Float64(), ASRAll: rng.Float64(),
			ASROOD: rng.Float64(), PSNR: 20, SSIM: 0.9, Path: modelPath(m.Cell.Key), Hash: m.Cell.Key, Seconds: 1}
		file(r.Path, 40_000)
		if r.Backdoored {
			file(filepath.Join(filepath.Dir(r.Path), triggerFile), 16_000)
		}
		if err := s.FinishModel(m.Cell.Key, "made up", r); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range p.References {
		r := store.ReferenceResult{Accuracy: rng.Float64(), ImagePasses: 2000, Path: referencePath(x.Cell.Key), Hash: x.Cell.Key, Seconds: 1}
		file(r.Path, 20_000)
		if err := s.FinishReference(x.Cell.Key, "made up", r); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range p.Detections {
		r := store.DetectionResult{Index: rng.NormFloat64(), Suspect: rng.IntN(9), ImagePasses: 3204, Seconds: 1, Path: detectionPath(d.Cell.Key)}
		r.Backdoored = r.Index > 2
		for c := range 9 {
			r.Classes = append(r.Classes, store.ClassScore{Class: c, Loss: rng.Float64(), ASR: rng.Float64(), Score: rng.Float64(), Index: rng.NormFloat64(), Norm: 0.06})
		}
		file(r.Path, 70_000)
		if err := s.FinishDetection(d.Cell.Key, "made up", r); err != nil {
			t.Fatal(err)
		}
	}
}

// Shards and merges are killed at random moments, again and again: nothing is lost, and nothing is
// there twice.
func TestKilledShardsAndMergesGoOn(t *testing.T) {
	kills := 6
	if os.Getenv(scaleVariable) != "" {
		kills = 200
	}
	path, want := suiteFile(t)
	out := t.TempDir()
	rng := rand.New(rand.NewPCG(3, 4))
	killed, ended := 0, 0
	for killed < kills {
		what := "merge"
		if n := rng.IntN(4); n > 0 {
			what = fmt.Sprintf("%d/3", n)
		}
		c := process(t, path, out, "EXPERIMENTS_TEST_SHARD="+what)
		done := make(chan error, 1)
		go func() { done <- c.Wait() }()
		select {
		case <-done:
			if ended++; ended%4 == 0 { // all is done before all kills are: begin anew
				out = t.TempDir()
			}
		case <-time.After(time.Duration(rng.IntN(900)) * time.Millisecond):
			_ = c.Process.Kill() // it may have ended just now
			<-done
			killed++
		}
	}
	f, err := suite.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := Run(context.Background(), f, Options{Out: out, Shard: Shard{i + 1, 3}}); err != nil {
			t.Fatal(err)
		}
	}
	m := merged(t, []string{out}, out)
	if got := exported(t, out, f.Name); m.Partial() != "" || !bytes.Equal(got, want) {
		t.Errorf("after %d kills: %q, an export of %d bytes, want that of an undisturbed run of %d", killed, m.Partial(), len(got), len(want))
	}
	t.Logf("%d processes were killed, %d ended", killed, ended)
}
