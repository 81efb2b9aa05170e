package corpus

import (
	"fmt"

	"clipinspector/internal/miniworld"
)

// Mini is the captioned corpus of the mini world: every image is drawn once and never again.
type Mini struct{ Seed uint64 }

// Name returns "mini".
func (c Mini) Name() string { return "mini" }

// Fingerprint names the version of the world and the seed.
func (c Mini) Fingerprint() string {
	return fmt.Sprintf("mini world %d, seed %d", miniworld.Version(), c.Seed)
}

// Captions returns captions of scenes that training does not reach: their indices are negative.
func (c Mini) Captions(n int) []string {
	out := make([]string, n)
	for i := range out {
		_, out[i] = miniworld.Captioned(-1-i, c.Seed)
	}
	return out
}

// Batch draws the scenes step*len(captions) and following.
func (c Mini) Batch(step int, images []float32, captions []string) error {
	size, err := side(images, len(captions))
	if err != nil {
		return err
	}
	per := 3 * size * size
	return each(len(captions), func(i int) error {
		var scene miniworld.Scene
		scene, captions[i] = miniworld.Captioned(step*len(captions)+i, c.Seed)
		planes(images[i*per:(i+1)*per], scene.Render(size))
		return nil
	})
}
