// Package experimentstest holds the small encoder and suites that the tests of experiments share.
package experimentstest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/clip"
	"clipinspector/clip/bpe"
	"clipinspector/internal/miniworld"
	"clipinspector/results/store"

	_ "clipinspector/baselines"
)

// TinySearch is TinySuite on a calibration seed with candidates for two detectors: 6 models, 3
// trials each.
func TinySearch(clip string) string {
	text := strings.Replace(TinySuite(clip), "seeds: [1]", "seeds: [101]", 1)
	i := strings.Index(text, "  - {name: pixel-backdoor")
	return text[:i] + `search:
  trials: 3
  detectors.ci.epsilon: [0.02, 0.03, 0.2]
  detectors.ci.margin: [2, 5]
  detectors.neural-cleanse.rate: [0.1, 0.3]
  detectors.neural-cleanse.cost: [0.001, 0.01]
`
}

// TinyCLIP writes a random encoder of a few thousand weights.
func TinyCLIP(t testing.TB) string {
	t.Helper()
	var words []string
	for _, name := range miniworld.Names() {
		d, err := miniworld.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, d.Classes...)
	}
	tok := bpe.Learn(words, 100)
	c := clip.ViTB32()
	c.Vision.Width, c.Vision.MLP, c.Vision.Layers, c.Vision.Heads = 16, 32, 2, 2
	c.Vision.ImageSize, c.Vision.PatchSize = 16, 8
	c.Text.Width, c.Text.MLP, c.Text.Layers, c.Text.Heads, c.Text.ContextLength, c.Text.VocabSize = 16, 32, 2, 2, 40, tok.Size()
	c.Text.EOS = tok.EOT()
	c.ProjectionDim = 16
	dir := filepath.Join(t.TempDir(), "clip")
	if err := clip.SavePretrained(dir, c, clip.RandomWeights(c, 1), tok, false); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TinySuite is a grid of two datasets, clean and two attacks, and three detectors: 6 models, 18
// detections.
func TinySuite(clip string) string {
	return fmt.Sprintf(`
name: tiny
clip: %s
seeds: [1]
datasets: [{name: mini-eurosat, classes: 3}, {name: mini-dtd, classes: 4}]
shots: 2
test-images: 12
learner: {name: coop, context: 2}
tuning: {epochs: 2, batch: 4, optimizer: adam, rate: 0.01, weight-decay: 0}
attacks: [clean, badnets, {name: badclip, warmup: 1}]
pool: {name: mini, images: 24}
ood: {images: 8}
detectors:
  - {name: ci, optimise: 16, measure: 8, batch: 8}
  - {name: neural-cleanse, optimise: 16, measure: 8, batch: 8}
  - {name: pixel-backdoor, optimise: 16, measure: 8, batch: 8}
`, clip)
}

// Read parses a suite with suite.Parse or suite.ParseSearch.
func Read[F any](t testing.TB, parse func(path string, text []byte, sets []string) (F, error), text string, sets ...string) F {
	t.Helper()
	f, err := parse("suite.yaml", []byte(text), sets)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Store opens the store of a run until the test ends.
func Store(t testing.TB, path string) *store.Store {
	t.Helper()
	s, err := store.OpenExisting(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Rows are the cells of one kind of the suite tiny: Rows(t, s.Models).
func Rows[R any](t testing.TB, of func(suite string) ([]R, error)) []R {
	t.Helper()
	rows, err := of("tiny")
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// FirstDifference shows the first line in which two exports differ.
func FirstDifference(a, b []byte) string {
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d:\n%s\n%s", i+1, x[i], y[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}
