package bench

import (
	"fmt"
	"slices"
	"testing"

	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/engine/cpu"
)

// small is a tower whose inversions take moments.
func small() clip.Config {
	c := clip.ViTB32()
	c.Vision.Width, c.Vision.MLP, c.Vision.Heads, c.Vision.Layers, c.Vision.ImageSize = 64, 128, 2, 2, 64
	c.Text.Width, c.Text.MLP, c.Text.Heads, c.Text.Layers = 32, 64, 2, 1
	return c
}

// meter computes nothing. It notes the arena of the program that takes an optimiser's step, and how
// often that runs.
type meter struct {
	engine.Engine
	arena, steps int
}

func (m *meter) Compile(p *engine.Program) (engine.Executable, error) {
	if slices.ContainsFunc(p.Instrs, func(i engine.Instr) bool { return i.Op == engine.Adam }) {
		m.arena = p.Arena
		return step{m: m}, nil
	}
	return nothing{}, nil
}

type step struct {
	nothing
	m *meter
}

func (s step) Run() error { s.m.steps++; return nil }

// The work of an inversion is one program, run classes x images / 64 times whatever the two are.
// What it keeps between its operations is the same for any number of classes: an image's logits,
// one for each class, fit where a block's activations were.
func TestInversionsScaleWithClassesAndImages(t *testing.T) {
	e, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	const together = 64 // images in a step: two classes of 32
	arena := map[int]int{}
	for _, classes := range []int{10, 100, 400} {
		for _, images := range []int{72, 143} { // nine tenths of them, in batches of 32, are optimised on
			m := &meter{Engine: e}
			if _, err := Invert(t.Context(), m, small(), classes, images); err != nil {
				t.Fatal(err)
			}
			if want := classes * (images * 9 / 10 / 32 * 32) / together; m.steps != want {
				t.Errorf("%d classes x %d images: %d steps, want %d", classes, images, m.steps, want)
			}
			if was, ok := arena[classes]; ok && was != m.arena {
				t.Errorf("%d classes: %d numbers are kept for %d images, %d for fewer", classes, m.arena, images, was)
			}
			arena[classes] = m.arena
		}
		if arena[classes] != arena[10] {
			t.Errorf("%d classes keep %d bytes of activations, ten %d", classes, 4*arena[classes], 4*arena[10])
		}
		t.Logf("%d classes: %d bytes", classes, 4*arena[classes])
	}
}

// Seconds for a class and image, which do not depend on how many of either there are.
func BenchmarkInversion(b *testing.B) {
	e, err := cpu.New(cpu.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	for _, classes := range []int{10, 100, 400} {
		for _, images := range []int{72, 143} {
			b.Run(fmt.Sprintf("%dx%d", classes, images), func(b *testing.B) {
				var seconds float64
				for range b.N {
					r, err := Invert(b.Context(), e, small(), classes, images)
					if err != nil {
						b.Fatal(err)
					}
					seconds += r.Seconds
				}
				b.ReportMetric(1e6*seconds/float64(b.N*classes*images), "us/(class·image)")
			})
		}
	}
}
