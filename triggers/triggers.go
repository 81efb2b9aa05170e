// Package triggers says what a trigger is: something that changes an image, differentiably and
// within bounds, and that can be stored, measured and looked at. Every trigger of this project is
// one of four kinds:
//
//	masked    x' = (1-m)x + m*p: a patch (m is 0 or 1), a blend (m constant), Neural Cleanse's mask and pattern
//	additive  x' = clip(x + d, 0, 1): learned noise, sinusoids, Pixel-Backdoor's perturbation
//	warp      x' = x sampled bilinearly on a grid: WaNet
//	dynamic   x' = clip(x + d(x), 0, 1): noise that differs from image to image, as input-aware attacks have it
//
// Or it is a function outside this program, of which nothing is known but what it makes of images:
// see Function.
//
// Images are [N,3,S,S] in [0,1].
package triggers

import (
	"context"
	"fmt"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/internal/dense"
)

// Trigger is a fixed trigger for images of one size.
type Trigger interface {
	// Kind is "masked", "additive", "warp" or "dynamic".
	Kind() string
	// Size is the side of the images in pixels.
	Size() int
	// Apply records the triggered images of pixels [N,3,S,S], of the same shape and range.
	Apply(pixels autodiff.Value) autodiff.Value
	// Tensors returns what decides the trigger, for storage; see FromTensors.
	Tensors() map[string]*tensor.Dense
}

// Masked replaces a share m of each pixel by a pattern.
type Masked struct {
	Mask    *tensor.Dense // [S,S] in [0,1]
	Pattern *tensor.Dense // [3,S,S] in [0,1]
}

// Kind implements Trigger.
func (Masked) Kind() string { return "masked" }

// Size implements Trigger.
func (t Masked) Size() int { return t.Mask.Shape()[1] }

// Tensors implements Trigger.
func (t Masked) Tensors() map[string]*tensor.Dense {
	return map[string]*tensor.Dense{"mask": t.Mask, "pattern": t.Pattern}
}

// Apply implements Trigger.
func (t Masked) Apply(pixels autodiff.Value) autodiff.Value {
	g, s := pixels.Graph(), t.Size()
	return ApplyMasked(pixels, g.Const(dense.Floats(t.Mask), 1, 1, s, s), g.Const(dense.Floats(t.Pattern), 1, 3, s, s))
}

// ApplyMasked records (1-m)x + m*p; mask and pattern broadcast against the pixels.
func ApplyMasked(pixels, mask, pattern autodiff.Value) autodiff.Value {
	return pixels.Add(mask.Mul(pattern.Sub(pixels)))
}

// Additive adds a perturbation and clips to the range of pixels.
type Additive struct {
	Delta *tensor.Dense // [3,S,S] in pixel units
}

// Kind implements Trigger.
func (Additive) Kind() string { return "additive" }

// Size implements Trigger.
func (t Additive) Size() int { return t.Delta.Shape()[1] }

// Tensors implements Trigger.
func (t Additive) Tensors() map[string]*tensor.Dense {
	return map[string]*tensor.Dense{"delta": t.Delta}
}

// Apply implements Trigger.
func (t Additive) Apply(pixels autodiff.Value) autodiff.Value {
	s := t.Size()
	return ApplyAdditive(pixels, pixels.Graph().Const(dense.Floats(t.Delta), 1, 3, s, s))
}

// ApplyAdditive records clip(x + delta, 0, 1); delta broadcasts against the pixels.
func ApplyAdditive(pixels, delta autodiff.Value) autodiff.Value {
	return pixels.Add(delta).Clamp(0, 1)
}

// Warp samples the image on a displaced grid.
type Warp struct {
	Grid *tensor.Dense // [S,S,2], (x,y) in [-1,1] between the centres of the corner pixels
}

// Kind implements Trigger.
func (Warp) Kind() string { return "warp" }

// Size implements Trigger.
func (t Warp) Size() int { return t.Grid.Shape()[0] }

// Tensors implements Trigger.
func (t Warp) Tensors() map[string]*tensor.Dense { return map[string]*tensor.Dense{"grid": t.Grid} }

// Apply implements Trigger.
func (t Warp) Apply(pixels autodiff.Value) autodiff.Value {
	s := t.Size()
	return pixels.GridSample(pixels.Graph().Const(dense.Floats(t.Grid), 1, s, s, 2))
}

// Dynamic adds noise patterns with signs that the image decides, and clips to the range of pixels:
//
//	d(x) = Σ_p clip( Σ_i key_pi (x_i - 1/2), -1, 1 ) pattern_p
type Dynamic struct {
	Keys     *tensor.Dense // [P,3,S,S] in [-1,1]
	Patterns *tensor.Dense // [P,3,S,S] in pixel units
}

// Kind implements Trigger.
func (Dynamic) Kind() string { return "dynamic" }

// Size implements Trigger.
func (t Dynamic) Size() int { return t.Keys.Shape()[2] }

// Tensors implements Trigger.
func (t Dynamic) Tensors() map[string]*tensor.Dense {
	return map[string]*tensor.Dense{"keys": t.Keys, "patterns": t.Patterns}
}

// Apply implements Trigger.
func (t Dynamic) Apply(pixels autodiff.Value) autodiff.Value {
	g, n, shape := pixels.Graph(), t.Keys.Shape()[0], pixels.Shape()
	size := 3 * t.Size() * t.Size()
	x := pixels.Reshape(shape[0], size)
	signs := x.Affine(1, -0.5).MatMulT(g.Const(dense.Floats(t.Keys), n, size)).Clamp(-1, 1)
	return x.Add(signs.MatMul(g.Const(dense.Floats(t.Patterns), n, size))).Clamp(0, 1).Reshape(shape...)
}

// Function is a trigger that another program applies. It is no recorded operation, has no gradient,
// and cannot be stored.
type Function struct {
	Side int // of the images in pixels
	// Of returns the triggered images of images [N,3,S,S], of the same shape and range.
	Of func(ctx context.Context, images *tensor.Dense) (*tensor.Dense, error)
}

// Kind implements Trigger.
func (Function) Kind() string { return "function" }

// Size implements Trigger.
func (t Function) Size() int { return t.Side }

// Tensors implements Trigger: there are none.
func (Function) Tensors() map[string]*tensor.Dense { return nil }

// Apply implements Trigger. A function cannot be recorded: who applies triggers asks for Function
// first; see Split.
func (Function) Apply(autodiff.Value) autodiff.Value {
	panic("triggers: a function cannot be recorded; a fault of the program")
}

// Split applies a trigger that is a function to the images, and returns them with the trigger that
// is left to record: none then. Other triggers, and nil for none, are left as they are.
func Split(ctx context.Context, images *tensor.Dense, t Trigger) (*tensor.Dense, Trigger, error) {
	f, ok := t.(Function)
	if !ok {
		return images, t, nil
	}
	changed, err := f.Of(ctx, images)
	return changed, nil, err
}

// FromTensors rebuilds a stored trigger. Missing tensors, wrong shapes and values out of range give
// an error.
func FromTensors(kind string, t map[string]*tensor.Dense) (Trigger, error) {
	get := func(name string, rank, channels int, least float32) (*tensor.Dense, error) {
		d := t[name]
		if d == nil {
			return nil, fmt.Errorf("a %s trigger needs a tensor %q", kind, name)
		}
		s := d.Shape()
		if len(s) != rank || s[rank-1] <= 0 || (channels == 3 && (s[0] != 3 || s[1] != s[2])) ||
			(channels == 4 && (s[0] <= 0 || s[1] != 3 || s[2] != s[3])) ||
			(channels == 1 && s[0] != s[1]) || (channels == 2 && (s[0] != s[1] || s[2] != 2)) {
			return nil, fmt.Errorf("tensor %q of a %s trigger has shape %v", name, kind, s)
		}
		for _, v := range dense.Floats(d) {
			if !(v >= least && v <= 1) {
				return nil, fmt.Errorf("tensor %q of a %s trigger holds %v, want %v to 1", name, kind, v, least)
			}
		}
		return d, nil
	}
	switch kind {
	case "masked":
		m, err := get("mask", 2, 1, 0)
		if err != nil {
			return nil, err
		}
		p, err := get("pattern", 3, 3, 0)
		if err != nil {
			return nil, err
		}
		if m.Shape()[0] != p.Shape()[1] {
			return nil, fmt.Errorf("mask %v and pattern %v of a trigger differ in size", m.Shape(), p.Shape())
		}
		return Masked{m, p}, nil
	case "additive":
		d, err := get("delta", 3, 3, -1)
		if err != nil {
			return nil, err
		}
		return Additive{d}, nil
	case "warp":
		g, err := get("grid", 3, 2, -1)
		if err != nil {
			return nil, err
		}
		return Warp{g}, nil
	case "dynamic":
		k, err := get("keys", 4, 4, -1)
		if err != nil {
			return nil, err
		}
		p, err := get("patterns", 4, 4, -1)
		if err != nil {
			return nil, err
		}
		if k.Shape()[0] != p.Shape()[0] || k.Shape()[2] != p.Shape()[2] {
			return nil, fmt.Errorf("keys %v and patterns %v of a trigger differ in size", k.Shape(), p.Shape())
		}
		return Dynamic{k, p}, nil
	}
	return nil, fmt.Errorf("unknown kind of trigger %.40q; known are masked, additive, warp, dynamic", kind)
}

// Dense makes a tensor of numbers in row-major order, for triggers of whoever imports this module.
func Dense(data []float32, shape ...int) *tensor.Dense { return dense.New(data, shape...) }

// Rows copies rows of a tensor [N,...], which may repeat, in the order of the indices:
// [len(indices),...].
func Rows(t *tensor.Dense, indices []int) *tensor.Dense {
	shape := t.Shape()
	size := shape.TotalSize() / shape[0]
	data := make([]float32, 0, len(indices)*size)
	for _, i := range indices {
		data = append(data, dense.Floats(t)[i*size:(i+1)*size]...)
	}
	return Dense(data, append([]int{len(indices)}, shape[1:]...)...)
}
