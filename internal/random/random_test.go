package random

import (
	"math/rand/v2"
	"testing"
)

// The streams of names are those that finished runs were drawn from: a second word of the
// generator's seed for each.
func TestStreamsAreThoseOfFinishedRuns(t *testing.T) {
	for name, word := range map[string]uint64{"invert": 0x696e76657274, "repair": 0x726570616972, "pool": 0x706f6f6c, "decr": 0x64656372,
		"karm": 0x6b61726d, "ref": 0x726566, "prompts": 0x70726f6d707473, "tune": 0x74756e65, "images": 0x696d61676573, "clip": 0x636c6970} {
		got, want := Named(name, 7), rand.New(rand.NewPCG(7, word))
		for i := range 4 {
			if g, w := got.Uint64(), want.Uint64(); g != w {
				t.Fatalf("%s: number %d is %#x, want %#x", name, i, g, w)
			}
		}
	}
	if got, want := Number("target", 1, "/", "mini-pets", "/", "badnets"), uint64(0x2f9c6dea2ae7412e); got != want {
		t.Errorf("the number for a target is %#x, want %#x", got, want)
	}
	if got, want := Stream("prompts", 1, "/", "mini-pets").Uint64(), uint64(0x7b5cfbb436ab511f); got != want {
		t.Errorf("the first number of a model's prompts is %#x, want %#x", got, want)
	}
}
