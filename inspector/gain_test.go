package inspector

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"clipinspector/clip/cliptest"
	"clipinspector/engine/cpu"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// The first-order gain is the l1 norm of the mean gradient, here taken by central differences, pixel by pixel.
func TestGainAgainstFiniteDifferences(t *testing.T) {
	const size, n, step = 8, 4, 2e-3
	e, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	c := cliptest.Tiny(t, e, size)
	for _, learner := range []string{"coop", "cocoop", "maple"} {
		l, err := prompts.FindLearner(learner)
		if err != nil {
			t.Fatal(err)
		}
		s, err := settings.Resolve(l.Params, map[string]any{"context": 2})
		if err != nil {
			t.Fatal(err)
		}
		m, err := prompts.New(c, l, s, cliptest.Classes[:3], rand.New(rand.NewPCG(5, 5)))
		if err != nil {
			t.Fatal(err)
		}
		reference, err := zeroShot(m, "a photo of a")
		if err != nil {
			t.Fatal(err)
		}
		in := Input{Model: m, Pool: cliptest.Images(n, size, 3)}
		const contrast = 0.5
		got, _, err := gains(context.Background(), in, reference, contrast, []int{2, 0, 3, 1}, 2)
		if err != nil {
			t.Fatal(err)
		}
		// above is the mean over the images by which each class's contrasted logit exceeds the mean of the others.
		above := func(pixel int, by float32) [3]float64 {
			x := make([]float32, 0, n*3*size*size)
			for i, v := range floats(in.Pool) {
				if i%(3*size*size) == pixel {
					v += by
				}
				x = append(x, v)
			}
			var mean [3]float64
			images := triggers.Dense(x, n, 3, size, size)
			z, err := m.Logits(context.Background(), images, nil)
			if err != nil {
				t.Fatal(err)
			}
			z0, err := reference.Logits(context.Background(), images, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				for k := range 3 {
					for j := range 3 {
						u := float64(floats(z)[3*i+j]) - contrast*float64(floats(z0)[3*i+j])
						if j == k {
							mean[k] += u / n
						} else {
							mean[k] -= u / (2 * n)
						}
					}
				}
			}
			return mean
		}
		var want [3]float64
		for pixel := range 3 * size * size {
			up, down := above(pixel, step), above(pixel, -step)
			for k := range want {
				want[k] += math.Abs(up[k]-down[k]) / (2 * step)
			}
		}
		for k, w := range want {
			if math.Abs(got[k]-w) > 0.01*w {
				t.Errorf("%s, class %d: gain %v, by finite differences %v", learner, k, got[k], w)
			}
		}
	}
}
