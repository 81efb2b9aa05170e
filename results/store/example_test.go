package store_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"clipinspector/results/store"
)

// A suite of one model is planned, leased by a worker and finished; who opens the file afterwards
// reads the result.
func Example() {
	if err := example(); err != nil {
		fmt.Println(err)
	}
	// Output: clean model of mini-pets: ACC 0.91
}

func example() error {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(filepath.Join(dir, "results.db"))
	if err != nil {
		return err
	}
	defer s.Close()
	cell := store.ModelCell{Suite: "try", Dataset: "mini-pets", Attack: "clean", Learner: "coop", Seed: 1,
		Settings: map[string]any{"dataset": "mini-pets", "attack": "clean", "seed": 1}}
	if err := s.Plan(store.Suite{Name: "try"}, []store.ModelCell{cell}, nil); err != nil {
		return err
	}
	leased, ok, err := s.LeaseModel("try", "worker 1", time.Minute)
	if err != nil || !ok {
		return fmt.Errorf("nothing to lease: %v", err)
	}
	none := math.NaN() // a clean model has no trigger
	result := store.ModelResult{Target: -1, Classes: 9, ACC: 0.91, ASR: none, ASRAll: none, ASROOD: none, PSNR: none, SSIM: none,
		Path: "models/m.safetensors", Hash: "1f"}
	if err := s.FinishModel(leased.Key, "worker 1", result); err != nil {
		return err
	}
	rows, err := s.Models("try")
	if err != nil {
		return err
	}
	for _, r := range rows {
		fmt.Printf("%s model of %s: ACC %.2f\n", r.Cell.Attack, r.Cell.Dataset, r.Result.ACC)
	}
	return nil
}
