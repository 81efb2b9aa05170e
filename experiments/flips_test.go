package experiments

import (
	"bytes"
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"clipinspector/experiments/suite"
	"clipinspector/internal/experimentstest"
	"clipinspector/results/stats"
	"clipinspector/results/store"
	"clipinspector/results/tables"
)

// flips is how many bits the test flips; CLIPINSPECTOR_FLIPS says otherwise.
func flips(t *testing.T) int {
	text := os.Getenv("CLIPINSPECTOR_FLIPS")
	if text == "" {
		return 200
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// printed is every number that comes out of a store: its export and its table.
func printed(path, suite string) (string, error) {
	s, err := store.OpenExisting(path)
	if err != nil {
		return "", err
	}
	defer s.Close()
	var b bytes.Buffer
	if err := s.Export(&b, suite); err != nil {
		return "", err
	}
	sum, err := stats.Summarise(s, suite, nil)
	if err != nil {
		return "", err
	}
	return b.String(), tables.Render(&b, sum, "markdown")
}

// A bit flipped anywhere in the store, or in a file of a model or of triggers, is noticed or
// changes no number that is printed.
func TestFlippedBitsAreNoticed(t *testing.T) {
	f := experimentstest.Read(t, suite.Parse, repairSuite(experimentstest.TinyCLIP(t)))
	out := t.TempDir()
	if _, err := Run(context.Background(), f, Options{Out: out}); err != nil {
		t.Fatal(err)
	}
	want, err := printed(filepath.Join(out, StoreFile), f.Name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.OpenExisting(filepath.Join(out, StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[string]func() error{} // what a run and a picture do before they use a file
	add := func(path string, check func() error) {
		if _, err := os.Stat(filepath.Join(out, path)); err == nil {
			hashes[path] = check
		}
	}
	models, err := s.Models(f.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range models {
		add(m.Result.Path, func() error { return unharmed(filepath.Join(out, m.Result.Path), m.Result.Hash) })
		add(filepath.Join(filepath.Dir(m.Result.Path), triggerFile), func() error { _, err := Planted(out, m.Result); return err })
	}
	detections, err := s.Detections(f.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range detections {
		add(d.Result.Path, func() error { _, err := Recovered(out, d.Result.Path, d.Result.Hash); return err })
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var files []string
	err = filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(out, path)
		if err == nil && hashes[rel] != nil {
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	clean, err := os.ReadFile(filepath.Join(out, StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	noticed, harmless, inFiles, n := 0, 0, 0, flips(t)
	at := filepath.Join(t.TempDir(), StoreFile)
	for i := range n {
		if i%4 == 3 { // a file
			path := files[rng.IntN(len(files))]
			raw, err := os.ReadFile(filepath.Join(out, path))
			if err != nil {
				t.Fatal(err)
			}
			bit := rng.IntN(8 * len(raw))
			raw[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(filepath.Join(out, path), raw, 0o644); err != nil {
				t.Fatal(err)
			}
			if hashes[path]() == nil {
				t.Errorf("seed %d: bit %d of %s: not noticed", seed, bit, path)
			}
			inFiles++
			raw[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(filepath.Join(out, path), raw, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		raw := bytes.Clone(clean)
		bit := rng.IntN(8 * len(raw))
		raw[bit/8] ^= 1 << (bit % 8)
		for _, end := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(at + end)
		}
		if err := os.WriteFile(at, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		switch got, err := printed(at, f.Name); {
		case err != nil:
			noticed++
			if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), at) {
				t.Errorf("bit %d: %v: not one line that names the file", bit, err)
			}
		case got == want:
			harmless++
		default:
			t.Errorf("seed %d: bit %d of the store: not noticed, other numbers: %s", seed, bit, experimentstest.FirstDifference([]byte(got), []byte(want)))
		}
	}
	t.Logf("%d bits: in the store (%d bytes) %d noticed, %d changed no number; in files of models and triggers %d, all noticed", n, len(clean), noticed, harmless, inFiles)
}
