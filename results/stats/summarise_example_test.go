package stats_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// A store with one clean model, planned, finished and measured.
func ExampleSummarise() {
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	s, err := store.Open(filepath.Join(folder, "results.sqlite"))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	cell := store.ModelCell{Dataset: "pets", Attack: "clean", Learner: "coop", Seed: 1, Settings: map[string]any{"dataset": "pets", "seed": 1}}
	if cell.Key, err = cell.Identity(); err != nil {
		log.Fatal(err)
	}
	if err := s.Plan(store.Suite{Name: "mine"}, []store.ModelCell{cell}, nil); err != nil {
		log.Fatal(err)
	}
	if err := s.FinishModel(cell.Key, "me", store.ModelResult{Classes: 37, ACC: 0.9, Target: store.NoClass}); err != nil {
		log.Fatal(err)
	}
	sum, err := stats.Summarise(s, "mine", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sum.Models.Finished, "of", sum.Models.Planned, "models,", sum.Attacks[0].Name, "ACC", sum.Attacks[0].Value.ACCMean)
	// Output: 1 of 1 models, clean ACC 0.9
}
