package miniworld

import "math/rand/v2"

func stub(names ...string) []subject {
	var out []subject
	for i, n := range names {
		out = append(out, subject{n, surface(texture(1+i), 1, 2)})
	}
	return out
}

var (
	ucf = &family{name: "mini-ucf", cousin: "UCF101", template: "a photo of a person doing {}.", subjects: stub("archery", "biking", "weight lifting", "handstand", "jumping jacks", "juggling", "push ups", "rowing", "golf")}
)

func drawStranger(rng *rand.Rand) *sketch { s := newSketch(rng, "blobs"); s.backdrop(); return s }

// Captioned draws picture index of the pretraining corpus and its caption.
func Captioned(index int, seed uint64) (Scene, string) {
	rng := stream(seed, "captioned", "", 0, index)
	f := families[rng.IntN(len(families))]
	k := rng.IntN(len(f.subjects))
	s := f.sketch(rng, k)
	if rng.IntN(10) < 3 {
		s.scene.overlay = drawOverlay(rng)
	}
	return s.finish(), "a photo of " + f.subjects[k].name
}
