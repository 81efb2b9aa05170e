package experiments

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"clipinspector/experiments/suite"
	"clipinspector/internal/experimentstest"
	"clipinspector/results/store"
)

// TestMain is also the process that the tests below start and kill: it runs one suite.
func TestMain(m *testing.M) {
	path, out := os.Getenv("EXPERIMENTS_TEST_SUITE"), os.Getenv("EXPERIMENTS_TEST_OUT")
	if path == "" {
		os.Exit(m.Run())
	}
	f, err := suite.Load(path, nil)
	o := Options{Out: out, Lease: 600 * time.Millisecond}
	what := os.Getenv("EXPERIMENTS_TEST_SHARD")
	if err == nil && what != "" && what != "merge" {
		o.Shard, err = parseShard(what)
	}
	switch {
	case err == nil && what == "merge":
		_, err = Merge(context.Background(), []string{out}, out, nil)
	case err == nil:
		_, err = Run(context.Background(), f, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// process is a run of a suite in a process of its own.
func process(t *testing.T, suite, out string, env ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), "EXPERIMENTS_TEST_SUITE="+suite, "EXPERIMENTS_TEST_OUT="+out), env...)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

func suiteFile(t *testing.T) (path string, undisturbed []byte) {
	t.Helper()
	text := experimentstest.TinySuite(experimentstest.TinyCLIP(t))
	path = filepath.Join(t.TempDir(), "tiny.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := suite.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return path, runTiny(t, f, Options{Out: t.TempDir()})
}

// TestKilledRunsGoOn kills a run at ten random moments, each after up to two more cells have
// finished, and lets the last one end: the export is that of an undisturbed run.
func TestKilledRunsGoOn(t *testing.T) {
	suite, want := suiteFile(t)
	out := t.TempDir()
	results, err := store.Open(filepath.Join(out, StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	done := func() int {
		p, err := results.Progress("tiny")
		if err != nil {
			t.Fatal(err)
		}
		return p.Models.Finished + p.Detections.Finished
	}
	killed := 0
	var finished []int
	for range 10 {
		goal, c := done()+rand.IntN(3), process(t, suite, out)
		for deadline := time.Now().Add(20 * time.Second); done() < goal && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if c.Wait() != nil {
			killed++
		}
		finished = append(finished, done())
	}
	t.Logf("%d of 10 runs were killed; cells finished after each: %v", killed, finished)
	if killed < 5 {
		t.Errorf("only %d of 10 runs were killed before their end", killed)
	}
	if err := process(t, suite, out).Wait(); err != nil {
		t.Fatal(err)
	}
	if got := exported(t, out, "tiny"); !bytes.Equal(got, want) {
		t.Errorf("another export than undisturbed: %s", experimentstest.FirstDifference(got, want))
	}
	leftovers(t, out)
}

// leftovers checks that every file that the store names is there whole.
func leftovers(t *testing.T, out string) {
	t.Helper()
	s := experimentstest.Store(t, filepath.Join(out, StoreFile))
	models := experimentstest.Rows(t, s.Models)
	for _, m := range models {
		if hash, err := HashFile(filepath.Join(out, m.Result.Path)); err != nil || hash != m.Result.Hash {
			t.Errorf("%s: %v", m.Result.Path, err)
		}
	}
}

func TestProcessesShareAStore(t *testing.T) {
	suite, want := suiteFile(t)
	out := t.TempDir()
	var wg sync.WaitGroup
	for range 2 {
		c := process(t, suite, out)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := c.Wait(); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if got := exported(t, out, "tiny"); !bytes.Equal(got, want) {
		t.Errorf("another export than alone: %s", experimentstest.FirstDifference(got, want))
	}
}
