package inspector_test

import (
	"testing"

	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
)

// Image passes are counted exactly: by the formula and by what the engine saw. A baseline on a
// matched budget takes as many as CI's inversion. CI's score looks at the measuring images without
// a trigger as well.
func TestImagePassesAreCounted(t *testing.T) {
	const size, classes, measure = 16, 4, 24
	e := &counting{Engine: computetest.CPU(t, 2)}
	c := cliptest.Tiny(t, e, size)
	m := untuned(t, c, "coop", cliptest.Classes[:classes])
	if _, err := m.ClassVectors(); err != nil {
		t.Fatal(err)
	}
	pool := cliptest.Images(100, size, 6)
	check := func(d *inspector.Detector, given map[string]any, perClass int) {
		t.Helper()
		in := input(t, d, m, pool, given)
		e.images = 0
		r := inspect(t, d, in)
		want := int64(classes*perClass + len(found(t, r))*measure)
		if d.Name == "ci" {
			want += measure
		}
		if r.ImagePasses != want || e.images != want {
			t.Errorf("%s %v: the report says %d image passes, want %d; the engine saw %d", d.Name, given, r.ImagePasses, want, e.images)
		}
	}
	for _, name := range []string{"ci", "decree", "k-arm", "neural-cleanse", "pixel-backdoor", "separation"} {
		d, err := inspector.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		if d.Name == "k-arm" && len(found(t, inspect(t, d, input(t, d, m, pool, map[string]any{"optimise": 41, "measure": measure, "arms": 100})))) < 2 {
			t.Error("fewer than two arms: the test shows little")
		}
		// batches of 12: 41 images are three whole batches
		check(d, map[string]any{"optimise": 41, "measure": measure, "batch": 12}, 36)
		check(d, map[string]any{"optimise": 8, "measure": measure, "batch": 12}, 8)
		if declares(d, "epochs") {
			check(d, map[string]any{"optimise": 41, "measure": measure, "batch": 12, "epochs": 3}, 108)
		}
		if !declares(d, "budget") {
			continue
		}
		rounds := 5
		switch d.Name { // whose rounds are the model's, with K-Arm's pre-selection one more
		case "k-arm":
			rounds = 7
		case "decree":
			rounds = 8
		}
		authors := map[string]any{"budget": "authors", "optimise": 70, "measure": measure, "batch": 12, "images": 30, "rounds": rounds, "arms": 100}
		perClass := func(batches int) int {
			switch d.Name {
			case "k-arm":
				return (rounds + 1) * batches * 12 / classes
			case "decree":
				return rounds * batches * 12 / classes
			}
			return rounds * batches * 12
		}
		check(d, authors, perClass(2)) // 30 images are two whole batches
		authors["images"] = 1000       // at most those to optimise on
		check(d, authors, perClass(5))
	}
}
