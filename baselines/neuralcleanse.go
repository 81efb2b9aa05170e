// Package baselines holds other detectors behind the interface of package inspector, adapted to
// prompt-tuned CLIP. Class loop, parametrisation, objective, cost schedule and outlier rule are the
// authors'. The images are the unlabelled pool.
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
		Name: "neural-cleanse",
		Doc:  "a mask and a pattern per class, the mask's L1 norm as small as the ASR allows (Neural Cleanse, Wang et al., S&P 2019)",
		Params: params(defaults{asr: 0.99, patience: 5, up: 2, down: 2, cost: 1e-3, images: 1000},
			settings.Param{Name: "early-stop", Unit: "rounds", Doc: "a class is done after this many rounds without a smaller mask, once the cost has gone up and down (authors' demo: 25)", Default: 25, Min: 1, Max: 1e6}),
		Check:     inspector.CheckPool,
		Cost:      eachClass,
		Objective: crossEntropy,
		Inspect:   neuralCleanse,
		Rule:      rule,
		Judge:     judge,
	})
}

// tanhScale makes tanh's range a little wider than [0,1] after halving, as the authors do: v =
// tanh(u)/(2-1e-7) + 0.5.
const tanhScale = 1 / (2 - 1e-7)

func neuralCleanse(ctx context.Context, in inspector.Input) (*inspector.Finding, error) {
	return run(ctx, in, cleanseInversion(in.Settings), maskNorm)
}

// maskNorm is the L1 norm of a trigger's mask.
func maskNorm(t triggers.Trigger) (sum float64) {
	for _, v := range dense.Floats(t.(triggers.Masked).Mask) {
		sum += math.Abs(float64(v))
	}
	return sum
}

// cleanseInversion is the inversion of a mask and a pattern under Neural Cleanse's schedule.
func cleanseInversion(s settings.Values) inspector.Inversion {
	inv := maskInversion()
	inv.Adam = autodiff.AdamConfig{Beta1: 0.5, Beta2: 0.9, Eps: 1e-7} // Keras' epsilon
	inv.Control = func() inspector.Controller {
		return &cleanse{restarted: restarted{cost: newCost(s, s.Float("up"), math.Pow(s.Float("down"), 1.5))},
			stop: s.Int("early-stop"), best: math.Inf(1), stopBest: math.Inf(1)}
	}
	return inv
}

// maskInversion is what Neural Cleanse, K-Arm and DECREE share: mask and pattern through tanh,
// uniform at first, the mask's L1 norm as the penalty; for the former two cross-entropy as the
// objective, and PyTorch's epsilon in Adam.
func maskInversion() inspector.Inversion {
	unit := func(u autodiff.Value) autodiff.Value { return u.Tanh().Affine(tanhScale, 0.5) }
	// broadcast gives variables [C,...] the shape [C,1,channels,S,S].
	broadcast := func(u autodiff.Value, channels int) autodiff.Value {
		s := u.Dim(-1)
		return u.Reshape(u.Dim(0), 1, channels, s, s)
	}
	return inspector.Inversion{
		Start: func(size int, rng *rand.Rand) []*tensor.Dense {
			return []*tensor.Dense{atanhUniform(rng, size, size), atanhUniform(rng, 3, size, size)}
		},
		Apply: func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value {
			return triggers.ApplyMasked(pixels, broadcast(unit(v[0]), 1), broadcast(unit(v[1]), 3))
		},
		Loss: autodiff.Value.CrossEntropy,
		Penalty: func(v []autodiff.Value) autodiff.Value {
			c := v[0].Dim(0)
			return unit(v[0]).Reshape(c, v[0].Size()/c).SumTo(c, 1)
		},
		Trigger: func(v []*tensor.Dense) triggers.Trigger {
			return triggers.Masked{Mask: mapped(v[0], unitTanh), Pattern: mapped(v[1], unitTanh)}
		},
		Adam: autodiff.AdamConfig{Beta1: 0.5, Beta2: 0.9, Eps: 1e-8},
	}
}

// cleanse is Neural Cleanse's schedule for one class: the cost starts at 0, is set after patience
// successful rounds in a row, then rises and falls; the smallest mask of a successful round is
// kept.
type cleanse struct {
	restarted
	stop       int
	best       float64 // smallest penalty of a successful round
	stopBest   float64
	stopRounds int
	kept       []*tensor.Dense
}

func (c *cleanse) Round(r inspector.Round) (bool, error) {
	if r.ASR >= c.bound && r.Penalty < c.best {
		v, err := r.After()
		if err != nil {
			return false, err
		}
		c.kept, c.best = v, r.Penalty
	}
	if !math.IsInf(c.best, 1) {
		if c.best >= c.stopBest {
			c.stopRounds++
		} else {
			c.stopRounds = 0
		}
	}
	c.stopBest = math.Min(c.best, c.stopBest)
	if c.raised && c.lowered && c.stopRounds >= c.stop {
		return true, nil
	}
	c.adjust(r.ASR, c.patience)
	return false, nil
}

func (c *cleanse) Best() ([]*tensor.Dense, bool) { return c.kept, c.kept != nil }

func unitTanh(u float64) float64 { return math.Min(1, math.Max(0, math.Tanh(u)*tanhScale+0.5)) }

// atanhUniform draws u with v uniform in [0,1).
func atanhUniform(rng *rand.Rand, shape ...int) *tensor.Dense {
	return drawn(func() float64 { return math.Atanh((rng.Float64() - 0.5) / tanhScale) }, shape...)
}
