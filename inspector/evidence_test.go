package inspector

import (
	"context"
	"slices"
	"testing"

	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/prompts"
	"clipinspector/triggers"
)

// A seed puts the same typical triggers on the same images whoever the model is, another one
// others, and no image stays as it is.
func TestTypicalTriggersAreThoseOfTheSeed(t *testing.T) {
	const size = 24
	pool := cliptest.Images(20, size, 3)
	rows := []int{4, 9, 2, 7, 11, 0}
	with := func(seed uint64) []float32 {
		c := cliptest.Tiny(t, computetest.CPU(t, 2), size)
		x, err := typical(context.Background(), Input{Model: &prompts.Model{CLIP: c}, Pool: pool, Seed: seed}, rows)
		if err != nil {
			t.Fatal(err)
		}
		return dense.Floats(x)
	}
	first := with(1)
	if !slices.Equal(first, with(1)) {
		t.Error("the same seed gave other images")
	}
	if slices.Equal(first, with(2)) {
		t.Error("another seed gave the same images")
	}
	plain := dense.Floats(triggers.Rows(pool, rows))
	for i, n := 0, len(plain)/len(rows); i < len(rows); i++ {
		if slices.Equal(first[i*n:(i+1)*n], plain[i*n:(i+1)*n]) {
			t.Errorf("image %d has no trigger", i)
		}
	}
}
