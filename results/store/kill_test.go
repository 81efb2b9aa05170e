package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// TestMain is also the worker process of the tests below.
func TestMain(m *testing.M) {
	path := os.Getenv("RESULTS_TEST_STORE")
	if path == "" {
		os.Exit(m.Run())
	}
	s, err := Open(path)
	if err == nil {
		_, err = work(s, "grid", fmt.Sprintf("process %d", os.Getpid()))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func worker(path string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "RESULTS_TEST_STORE="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

func exported(t *testing.T, s *Store, suite string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := s.Export(&buf, suite); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func finished(t *testing.T, s *Store) int {
	t.Helper()
	p, err := s.Progress("grid")
	if err != nil {
		t.Fatal(err)
	}
	return p.Models.Finished + p.Detections.Finished
}

// TestProcessesShareAStore also lets them create the file together.
func TestProcessesShareAStore(t *testing.T) {
	path := t.TempDir() + "/r.db"
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := worker(path).Run(); err != nil { // no suite yet: nothing to do
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	s := reopen(t, path)
	planGrid(t, s, "grid", 20)
	for range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := worker(path).Run(); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	rows, err := s.Detections("grid")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.State != Finished || r.Attempts != 1 {
			t.Fatalf("%+v", r)
		}
	}
}

func TestKilledWorkersLeaveWholeCells(t *testing.T) {
	undisturbed := openTemp(t)
	planGrid(t, undisturbed, "grid", 200)
	if _, err := work(undisturbed, "grid", "w"); err != nil {
		t.Fatal(err)
	}
	s := openTemp(t)
	planGrid(t, s, "grid", 200)
	killed := 0
	for range 10 {
		cmd := worker(s.Path())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := finished(t, s)
		started := time.Now()
		for finished(t, s) == before && time.Since(started) < 5*time.Second {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			killed++
		}
		rows, err := s.Detections("grid")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if r.State == Finished && len(r.Result.Classes) != 20 {
				t.Fatalf("half a cell: %+v", r)
			}
		}
	}
	p, err := s.Progress("grid")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d workers were killed; then: %+v", killed, p)
	// The leases of the killed run out.
	s.now = func() time.Time { return time.Now().Add(2 * time.Minute) }
	if _, err := work(s, "grid", "heir"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(exported(t, s, "grid"), exported(t, undisturbed, "grid")) {
		t.Fatal("the export differs from an undisturbed run's")
	}
}
