package prompts

import (
	"context"
	"fmt"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/internal/dense"
	"clipinspector/triggers"
)

const (
	// encodeBatch is how many images one replay of an encoding program takes, and encodeNumbers how
	// many numbers they have at most: large images fill a device with few. Results do not depend on
	// it.
	encodeBatch   = 64
	encodeNumbers = 8 * 3 * 224 * 224
)

// Encode returns the frozen tower's features [N,D] of images [N,3,S,S], after the trigger when
// there is one.
func Encode(ctx context.Context, c *clip.Model, images *tensor.Dense, t triggers.Trigger) (*tensor.Dense, error) {
	images, t, err := triggers.Split(ctx, images, t)
	if err != nil {
		return nil, err
	}
	return each(ctx, c.Engine(), images, func(pixels autodiff.Value) (autodiff.Value, error) {
		if t != nil {
			pixels = t.Apply(pixels)
		}
		return c.Bind(pixels.Graph()).Image(pixels, clip.ImagePrompts{}), nil
	})
}

// Triggered returns images [N,3,S,S] with the trigger, computed on a device. A trigger for images
// of another size is an error.
func Triggered(ctx context.Context, e engine.Engine, images *tensor.Dense, t triggers.Trigger) (*tensor.Dense, error) {
	shape := images.Shape()
	if t.Size() != shape[2] {
		return nil, fmt.Errorf("a trigger for images of %d px over images of %d px", t.Size(), shape[2])
	}
	images, t, err := triggers.Split(ctx, images, t)
	if t == nil || err != nil {
		return images, err
	}
	x, err := each(ctx, e, images, func(pixels autodiff.Value) (autodiff.Value, error) {
		return t.Apply(pixels), nil
	})
	if err != nil {
		return nil, err
	}
	return dense.New(dense.Floats(x), shape...), nil
}

// Logits returns the logits [N,K] of images [N,3,S,S], after the trigger when there is one.
func (m *Model) Logits(ctx context.Context, images *tensor.Dense, t triggers.Trigger) (*tensor.Dense, error) {
	images, t, err := triggers.Split(ctx, images, t)
	if err != nil {
		return nil, err
	}
	return each(ctx, m.CLIP.Engine(), images, func(pixels autodiff.Value) (autodiff.Value, error) {
		r, err := m.Record(pixels.Graph())
		if err != nil {
			return autodiff.None, err
		}
		if t != nil {
			pixels = t.Apply(pixels)
		}
		return r.Logits(r.Features(pixels)), nil
	})
}

// LogitsOf returns the logits [N,K] of image features [N,D] that were encoded before; only for
// learners that leave the image tower alone.
func (m *Model) LogitsOf(ctx context.Context, features *tensor.Dense) (*tensor.Dense, error) {
	if m.Learner.Image != nil {
		return nil, fmt.Errorf("%s prompts the image tower: features of the frozen tower do not serve", m.Learner.Name)
	}
	return each(ctx, m.CLIP.Engine(), features, func(f autodiff.Value) (autodiff.Value, error) {
		r, err := m.Record(f.Graph())
		if err != nil {
			return autodiff.None, err
		}
		return r.Logits(f), nil
	})
}

// VectorsOf returns the class vectors [N,K*D] that a conditional learner gives each of the images
// [N,3,S,S].
func (m *Model) VectorsOf(ctx context.Context, images *tensor.Dense) (*tensor.Dense, error) {
	return each(ctx, m.CLIP.Engine(), images, func(pixels autodiff.Value) (autodiff.Value, error) {
		r, err := m.Record(pixels.Graph())
		if err != nil {
			return autodiff.None, err
		}
		v := m.Learner.Text(r, r.Features(pixels))
		return v.Reshape(v.Dim(0), v.Dim(1)*v.Dim(2)), nil
	})
}

// Slopes returns for each class the gradient of its logit with respect to the features of an image,
// the mean over images [N,3,S,S]: [K][D]. Where class vectors are the same for every image these are
// the class vectors, times CLIP's logit scale. A conditional learner's logit also moves because the
// class vector does.
func (m *Model) Slopes(ctx context.Context, images *tensor.Dense) ([][]float64, error) {
	features, err := each(ctx, m.CLIP.Engine(), images, func(pixels autodiff.Value) (autodiff.Value, error) {
		r, err := m.Record(pixels.Graph())
		if err != nil {
			return autodiff.None, err
		}
		return r.Features(pixels), nil
	})
	if err != nil {
		return nil, err
	}
	n, d := features.Shape()[0], features.Shape()[1]
	out := make([][]float64, len(m.Classes))
	for c := range out {
		alone := m.Restricted([]int{c})
		slopes, err := each(ctx, m.CLIP.Engine(), features, func(f autodiff.Value) (autodiff.Value, error) {
			r, err := alone.Record(f.Graph())
			if err != nil {
				return autodiff.None, err
			}
			return autodiff.Grad(r.Logits(f), autodiff.None, f)[0], nil
		})
		if err != nil {
			return nil, err
		}
		out[c] = make([]float64, d)
		for i, v := range dense.Floats(slopes) {
			out[c][i%d] += float64(v) / float64(n)
		}
	}
	return out, nil
}

// ClassVectorsOn returns the class vectors: [1,K*D], or of a conditional learner [N,K*D], those of
// each of the images [N,3,S,S].
func (m *Model) ClassVectorsOn(ctx context.Context, images *tensor.Dense) (*tensor.Dense, error) {
	if m.Learner.Conditional {
		return m.VectorsOf(ctx, images)
	}
	v, err := m.ClassVectors()
	if err != nil {
		return nil, err
	}
	return dense.New(dense.Floats(v), 1, len(dense.Floats(v))), nil
}

// each puts the rows of x [N,..] through one program, which gives [N,width].
func each(ctx context.Context, e engine.Engine, x *tensor.Dense, record func(autodiff.Value) (autodiff.Value, error)) (*tensor.Dense, error) {
	batch := max(1, min(encodeBatch, encodeNumbers/engine.Size(x.Shape()[1:])))
	y, err := autodiff.MapRows(ctx, e, dense.Floats(x), x.Shape(), batch, record)
	if err != nil {
		return nil, err
	}
	n := x.Shape()[0]
	return dense.New(y, n, len(y)/n), nil
}

// ArgMax returns the predicted class of each row of logits [N,K], the first of equals.
func ArgMax(logits *tensor.Dense) []int {
	n, k := logits.Shape()[0], logits.Shape()[1]
	data := dense.Floats(logits)
	out := make([]int, n)
	for i := range out {
		row := data[i*k : (i+1)*k]
		for j, v := range row {
			if v > row[out[i]] {
				out[i] = j
			}
		}
	}
	return out
}

// Accuracy returns the share of predictions that equal their labels (ACC).
func Accuracy(predicted, labels []int) float64 {
	hits := 0
	for i, p := range predicted {
		if p == labels[i] {
			hits++
		}
	}
	return float64(hits) / float64(len(labels))
}

// GoalRate is SuccessRate for an attack whose triggered images of each class shall go to a class of
// their own (see Poison.Goals): the share of the images whose goal is another class than theirs
// that are predicted as it.
func GoalRate(predicted, labels, goals []int) float64 {
	hits, n := 0, 0
	for i, p := range predicted {
		if goal := goals[labels[i]]; goal != labels[i] {
			n++
			if p == goal {
				hits++
			}
		}
	}
	return float64(hits) / float64(max(1, n))
}

// SuccessRate returns the share of triggered images that are predicted as the target (ASR): of all
// images, and of those whose label is another class (BackdoorBench's convention). Without labels
// both are the same.
func SuccessRate(predicted, labels []int, target int) (all, others float64) {
	var hits, hitsOthers, n int
	for i, p := range predicted {
		if p == target {
			hits++
		}
		if labels == nil || labels[i] != target {
			n++
			if p == target {
				hitsOthers++
			}
		}
	}
	return float64(hits) / float64(len(predicted)), float64(hitsOthers) / float64(max(1, n))
}
