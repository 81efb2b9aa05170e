package triggers

import (
	"fmt"
	"image"
	"image/color"
	"math"

	"clipinspector/internal/dense"
	"clipinspector/internal/safetensors"
)

// Write stores a trigger as a safetensors file whose metadata names its kind.
func Write(path string, t Trigger) error {
	return safetensors.Write(path, &safetensors.File{
		Tensors:  t.Tensors(),
		Metadata: map[string]string{"kind": t.Kind()},
	})
}

// Read loads a trigger that Write stored.
func Read(path string) (Trigger, error) {
	f, err := safetensors.Read(path)
	if err != nil {
		return nil, err
	}
	t, err := FromTensors(f.Metadata["kind"], f.Tensors)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Draw pictures what a trigger does, independent of any image. Masked: the pattern on grey,
// weighted by the mask. Additive: the perturbation around grey, scaled to full contrast. Warp: a
// chequered image, warped. Dynamic: all patterns with one sign, as additive.
func Draw(t Trigger) *image.NRGBA {
	s, scale := t.Size(), math.Max(1e-6, Measure(t).LInf)
	out := image.NewNRGBA(image.Rect(0, 0, s, s))
	set := func(x, y int, v [3]float64) {
		var c [3]uint8
		for i := range c {
			c[i] = uint8(math.Round(255 * math.Min(1, math.Max(0, v[i]))))
		}
		out.SetNRGBA(x, y, color.NRGBA{c[0], c[1], c[2], 255})
	}
	for y := range s {
		for x := range s {
			var v [3]float64
			for c := range v {
				switch t := t.(type) {
				case Masked:
					m := float64(dense.Floats(t.Mask)[y*s+x])
					v[c] = 0.5*(1-m) + m*float64(dense.Floats(t.Pattern)[(c*s+y)*s+x])
				case Additive:
					v[c] = 0.5 + 0.5*float64(dense.Floats(t.Delta)[(c*s+y)*s+x])/scale
				case Dynamic:
					for p := range t.Patterns.Shape()[0] {
						v[c] += 0.5 * float64(dense.Floats(t.Patterns)[((p*3+c)*s+y)*s+x]) / scale
					}
					v[c] += 0.5
				case Warp:
					g := dense.Floats(t.Grid)
					px := (float64(g[2*(y*s+x)]) + 1) / 2 * float64(s-1)
					py := (float64(g[2*(y*s+x)+1]) + 1) / 2 * float64(s-1)
					v[c] = 0.2
					if (int(math.Floor(px+0.5))/4+int(math.Floor(py+0.5))/4)%2 == 0 {
						v[c] = 0.9
					}
				}
			}
			set(x, y, v)
		}
	}
	return out
}
