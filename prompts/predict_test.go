package prompts

import (
	"math"
	"slices"
	"testing"

	"clipinspector/internal/cliptest"
	"clipinspector/internal/dense"
)

// The slopes of a model whose class vectors are the same for every image are these, times CLIP's
// scale. Those of a conditional learner are what differences of its logits say.
func TestSlopes(t *testing.T) {
	c := newTiny(t)
	classes := []string{"red", "green", "blue"}
	images := cliptest.Images(3, c.Config.Vision.ImageSize, 1)
	coop := newModel(t, c, "coop", map[string]any{"context": 4}, classes)
	slopes, err := coop.Slopes(bg, images)
	if err != nil {
		t.Fatal(err)
	}
	scale := 0.0
	for _, v := range slopes[0] {
		scale += v * v
	}
	scale = math.Sqrt(scale) // class vectors are of length 1
	for k, w := range classVectors(t, coop) {
		for i, v := range w {
			if want := scale * float64(v); math.Abs(slopes[k][i]-want) > 1e-4*scale {
				t.Fatalf("class %d, feature %d: slope %v, class vector times scale %v", k, i, slopes[k][i], want)
			}
		}
	}
	m := newModel(t, c, "cocoop", map[string]any{"context": 4}, classes)
	if slopes, err = m.Slopes(bg, images); err != nil {
		t.Fatal(err)
	}
	features, err := Encode(bg, c, images, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, d := features.Shape()[0], features.Shape()[1]
	const step = 1e-2
	moved := func(i int, by float32) []float32 {
		f := slices.Clone(dense.Floats(features))
		for b := range n {
			f[b*d+i] += by
		}
		z, err := m.LogitsOf(bg, dense.New(f, n, d))
		if err != nil {
			t.Fatal(err)
		}
		return dense.Floats(z)
	}
	largest := 0.0
	for i := range d {
		up, down := moved(i, step), moved(i, -step)
		for k := range classes {
			want := 0.0
			for b := range n {
				want += float64(up[b*len(classes)+k]-down[b*len(classes)+k]) / (2 * step * float64(n))
			}
			largest = max(largest, math.Abs(want))
			if math.Abs(slopes[k][i]-want) > 0.02*scale {
				t.Errorf("class %d, feature %d: slope %v, differences say %v", k, i, slopes[k][i], want)
			}
		}
	}
	t.Logf("slopes of up to %.2f, scale %.2f", largest, scale)
}
