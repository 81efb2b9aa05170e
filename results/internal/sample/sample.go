// Package sample makes a small finished suite for the tests of the packages below results.
package sample

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"clipinspector/results/store"
)

var update = flag.Bool("update", false, "rewrite the golden files of the tables")

// Open opens a fresh store that the test closes.
func Open(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "results.db"))
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

// Fill fills the suite "synthetic", a suite of three datasets, clean + two attacks and two
// detectors, finishing its cells in a random order under changing workers. One
// model fails, one is never computed, one backdoor does not fire.
func Fill(t testing.TB, s *store.Store) {
	t.Helper()
	attacks := []string{"clean", "badnets", "wanet"}
	var models []store.ModelCell
	var detections []store.DetectionCell
	for i, dataset := range []string{"mini-pets", "mini-dtd", "mini_sun"} {
		for j, attack := range attacks {
			for k, shots := range []int{4, 16} {
				c := store.ModelCell{Dataset: dataset, Attack: attack, Learner: "coop", Seed: 1, Order: 6*i + 2*j + k, Settings: map[string]any{
					"dataset": dataset, "attack": map[string]any{"name": attack}, "learner": "coop", "seed": 1, "shots": shots,
				}}
				var err error
				if c.Key, err = c.Identity(); err != nil {
					t.Fatal(err)
				}
				models = append(models, c)
				for l, name := range []string{"neural-cleanse", "ci"} {
					d := store.DetectionCell{ModelKey: c.Key, Detector: name, Order: 2*c.Order + l,
						Settings: map[string]any{"epsilon": 8.0 / 255, "shots": 3}}
					if d.Key, err = d.Identity(); err != nil {
						t.Fatal(err)
					}
					detections = append(detections, d)
				}
			}
		}
	}
	if err := s.Plan(store.Suite{Name: "synthetic", YAML: "name: synthetic"}, models, detections); err != nil {
		t.Fatal(err)
	}
	rand.Shuffle(len(models), func(i, j int) { models[i], models[j] = models[j], models[i] })
	rand.Shuffle(len(detections), func(i, j int) { detections[i], detections[j] = detections[j], detections[i] })
	order := map[string]int{}
	for i, c := range models {
		order[c.Key] = c.Order
		if c.Order == 17 {
			continue
		}
		if c.Order == 16 {
			failOnly(t, s, c.Key)
			continue
		}
		if err := s.FinishModel(c.Key, fmt.Sprint("worker ", i%3), syntheticModel(c)); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range detections {
		if n := order[c.ModelKey]; n < 16 {
			if err := s.FinishDetection(c.Key, fmt.Sprint("worker ", i%2), syntheticDetection(c, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// failOnly fails one cell of the suite.
func failOnly(t testing.TB, s *store.Store, key string) {
	t.Helper()
	for {
		c, ok, err := s.LeaseModel("synthetic", "w", time.Minute)
		if err != nil || !ok {
			t.Fatalf("lease model cell %s: %v, %v", key, ok, err)
		}
		if c.Key == key {
			break
		}
		defer func() {
			if err := s.Release(store.KindModel, c.Key, "w"); err != nil && !errors.Is(err, store.ErrLeaseLost) {
				t.Fatal(err)
			}
		}()
	}
	if err := s.Fail(store.KindModel, key, "w", "tune: loss is NaN at step 12\nstack"); err != nil {
		t.Fatal(err)
	}
}

func syntheticModel(c store.ModelCell) store.ModelResult {
	nan := math.NaN()
	r := store.ModelResult{Target: -1, Classes: 10, ACC: 0.95 - float64(c.Order)/200, ASR: nan, ASRAll: nan, ASROOD: nan, PSNR: nan, SSIM: nan,
		Hash: "sha of " + c.Key[:6], Path: fmt.Sprint("out/", rand.Int()), Seconds: rand.Float64(), Versions: map[string]string{"go": "1.24"}}
	if c.Attack != "clean" {
		r.Backdoored, r.Target, r.ASR, r.ASRAll, r.ASROOD = true, 3, 1-float64(c.Order)/100, 0.9, 0.8
		r.PSNR, r.SSIM = 30.25, 0.875
	}
	return r
}

// syntheticDetection: ci is right but for one missed model, one of which it cannot tell and one
// wrong suspect, neural-cleanse always says backdoored and its index says nothing.
func syntheticDetection(c store.DetectionCell, n int) store.DetectionResult {
	backdoored := n/2%3 != 0
	r := store.DetectionResult{Index: 1 + float64(n)/100, Backdoored: backdoored, Suspect: 3, ImagePasses: 41600 + int64(n), Seconds: 2}
	switch {
	case c.Detector == "neural-cleanse":
		r.Index, r.Backdoored, r.ImagePasses, r.Seconds = 2, true, 41600, 4
	case n == 6: // the clean model of the second dataset
		r.Index, r.Suspect, r.Unsure = math.NaN(), -1, "the loss of class \"cat\" is NaN"
	case !backdoored:
		r.Suspect = -1
	case n == 2:
		r.Backdoored, r.Index = false, math.NaN()
	case n == 4:
		r.Index, r.Suspect = 3, 7
	default:
		r.Index = 3 + float64(n)
	}
	for i := range 3 {
		r.Classes = append(r.Classes, store.ClassScore{Class: i, Loss: math.NaN(), ASR: 0.5, Score: float64(n), Index: math.Inf(1), Norm: 0.1,
			Reached: c.Detector == "ci" && i > 0})
	}
	return r
}

// Golden compares bytes with a file under testdata; the flag -update rewrites it.
func Golden(t testing.TB, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", path, got)
	}
}
