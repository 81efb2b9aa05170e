package baselines

import (
	"context"
	"math"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/inspector"
	"clipinspector/internal/dense"
	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	inspector.Register(&inspector.Detector{
		Name:      "pixel-backdoor",
		Doc:       "a positive and a negative perturbation per class, as few pixels as the ASR allows (Pixel-Backdoor, Tao et al., CVPR 2022)",
		Params:    params(defaults{asr: 0.9, patience: 10, up: 1.5, down: 1.5, cost: 1e-3, images: 100}),
		Check:     inspector.CheckPool,
		Cost:      eachClass,
		Objective: crossEntropy,
		Inspect:   pixelBackdoor,
		Rule:      rule,
		Judge:     judge,
	})
}

// smallest is the value below which a perturbation counts as none.
const smallest = 1.0 / 255

func pixelBackdoor(ctx context.Context, in inspector.Input) (*inspector.Finding, error) {
	return run(ctx, in, pixelInversion(in.Settings), func(t triggers.Trigger) float64 {
		return float64(changedPixels(dense.Floats(t.(triggers.Additive).Delta)))
	})
}

func pixelInversion(s settings.Values) inspector.Inversion {
	return inspector.Inversion{
		Start: func(size int, rng *rand.Rand) []*tensor.Dense {
			return []*tensor.Dense{drawn(rng.Float64, 3, size, size), drawn(rng.Float64, 3, size, size)}
		},
		Apply: func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value {
			d := v[0].Clamp(0, 1).Sub(v[1].Clamp(0, 1))
			t := d.Shape()
			return triggers.ApplyAdditive(pixels, d.Reshape(t[0], 1, t[1], t[2], t[3]))
		},
		Loss: autodiff.Value.CrossEntropy,
		Penalty: func(v []autodiff.Value) autodiff.Value { // sum over pixels of the channels' largest smooth count
			c, n := v[0].Dim(0), v[0].Dim(2)*v[0].Dim(3)
			count := func(u autodiff.Value) autodiff.Value {
				return u.Scale(0.1).Tanh().Affine(tanhScale, 0.5).Max(1).Reshape(c, n).SumTo(c, 1)
			}
			return count(v[0]).Add(count(v[1]))
		},
		Trigger: func(v []*tensor.Dense) triggers.Trigger {
			pos, neg := mapped(v[0], thresholded), mapped(v[1], thresholded)
			p, q := dense.Floats(pos), dense.Floats(neg)
			for i := range p {
				p[i] -= q[i]
			}
			return triggers.Additive{Delta: pos}
		},
		Adam: autodiff.AdamConfig{Beta1: 0.5, Beta2: 0.9, Eps: 1e-8}, // PyTorch's epsilon
		Control: func() inspector.Controller {
			c := &pixels{cost: newCost(s, s.Float("up"), math.Pow(s.Float("down"), 1.5)),
				best: math.Inf(1), count: math.MaxInt}
			c.now = c.initial
			return c
		},
	}
}

// pixels is Pixel-Backdoor's schedule for one class: the perturbation of a successful round with a
// smaller penalty and fewer changed pixels is kept, freed from values below 1/255, and optimised on
// from there.
type pixels struct {
	cost
	best  float64
	count int
	kept  []*tensor.Dense
}

func (c *pixels) Round(r inspector.Round) (bool, error) {
	if r.ASR >= c.bound && r.Penalty < c.best {
		v, err := r.Before() // the perturbation that was successful
		if err != nil {
			return false, err
		}
		v = []*tensor.Dense{mapped(v[0], thresholded), mapped(v[1], thresholded)}
		delta := append([]float32(nil), dense.Floats(v[0])...)
		for i, q := range dense.Floats(v[1]) {
			delta[i] -= q
		}
		if n := changedPixels(delta); n < c.count {
			c.kept, c.best, c.count = v, r.Penalty, n
			if err := r.Set(v); err != nil {
				return false, err
			}
		}
	}
	c.adjust(r.ASR)
	return false, nil
}

func (c *pixels) Best() ([]*tensor.Dense, bool) { return c.kept, c.kept != nil }

func thresholded(u float64) float64 {
	if u = math.Min(1, math.Max(0, u)); u < smallest {
		return 0
	}
	return u
}

// changedPixels counts the pixels of a perturbation [3,S,S] with a channel that is not zero.
func changedPixels(delta []float32) int {
	n, count := len(delta)/3, 0
	for i := range n {
		if delta[i] != 0 || delta[n+i] != 0 || delta[2*n+i] != 0 {
			count++
		}
	}
	return count
}
