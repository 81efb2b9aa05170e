package inspector

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// PoolParams are the settings of detectors that say how the pool is used.
var PoolParams = []settings.Param{
	{Name: "optimise", Unit: "images", Doc: "pool images to invert on; the paper's pool has about 1,000 in all", Default: 800, Min: 1, Max: 1e6},
	{Name: "measure", Unit: "images", Doc: "further pool images to measure the recovered trigger on", Default: 200, Min: 1, Max: 1e6},
}

func init() {
	Register(&Detector{
		Name: "ci",
		Doc:  "CLIP-Inspector: a bounded perturbation per class, margin objective, one epoch over the pool (arXiv 2604.09101)",
		Params: append([]settings.Param{
			{Name: "epsilon", Unit: "pixel value", Doc: "bound on each pixel of the reconstructed perturbation (our choice; the paper's body is not public)", Default: 8.0 / 255, Min: 0.1 / 255, Max: 1},
			{Name: "margin", Unit: "logits", Doc: "by how much the target's logit shall exceed the largest other one (our choice)", Default: 5.0, Min: 0, Max: 1000},
			{Name: "epochs", Unit: "epochs", Doc: "passes over the optimising images (paper: 1)", Default: 1, Min: 1, Max: 1000},
			{Name: "batch", Unit: "images", Doc: "images a step (our choice)", Default: 32, Min: 1, Max: 4096},
			{Name: "rate", Doc: "Adam's learning rate as a share of epsilon; it falls to 0 along a cosine (our choice)", Default: 0.25, Min: 1e-4, Max: 10},
			{Name: "score", Doc: "what outliers are sought in, each on a logarithmic scale: loss, asr (1 - ASR), or both, their sum (our choice)", Default: "both", Choices: []string{"loss", "asr", "both"}},
			IndexRule("studentized"), Threshold,
		}, PoolParams...),
		Inspect: inspect,
	})
}

// inspect is CI: for every class t it minimises the mean of max(0, margin + max_{j≠t} z_j - z_t) over the pool with
// respect to a perturbation d, |d| <= epsilon, of the images clip(x + d, 0, 1), z being the model's logits; it measures loss and
// ASR on further images and seeks outliers among the classes' scores.
func inspect(ctx context.Context, in Input) (*Report, error) {
	s := in.Settings
	optimise, measure, err := SplitPool(in)
	if err != nil {
		return nil, err
	}
	epsilon := s.Float("epsilon")
	batch := min(s.Int("batch"), len(optimise))
	steps := s.Int("epochs") * (len(optimise) / batch)
	inv := Inversion{
		Start: func(size int, _ *rand.Rand) []*tensor.Dense {
			return []*tensor.Dense{triggers.Dense(make([]float32, 3*size*size), 3, size, size)}
		},
		Apply: func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value {
			d := v[0].Shape()
			return triggers.ApplyAdditive(pixels, v[0].Reshape(d[0], 1, d[1], d[2], d[3]))
		},
		Loss: func(logits, target autodiff.Value) autodiff.Value {
			return logits.MarginLoss(target, s.Float("margin"))
		},
		Project: func(v []autodiff.Value) []autodiff.Value {
			return []autodiff.Value{v[0].Clamp(-epsilon, epsilon)}
		},
		Trigger: func(v []*tensor.Dense) triggers.Trigger { return triggers.Additive{Delta: v[0]} },
		Adam:    autodiff.DefaultAdam,
		Rates:   autodiff.Cosine(s.Float("rate")*epsilon, steps, 0),
		Batch:   batch,
		Steps:   steps,
		Rounds:  1,
	}
	outcomes, passes, err := inv.Run(ctx, in, optimise, measure)
	if err != nil {
		return nil, err
	}
	r := &Report{ImagePasses: passes, Classes: make([]ClassResult, len(outcomes))}
	scores := make([]float64, len(outcomes))
	for c, o := range outcomes {
		scores[c] = score(s.String("score"), o, s.Float("margin"), len(measure))
		t := inv.Trigger(o.Variables)
		r.Classes[c] = ClassResult{Loss: o.Loss, ASR: o.ASR, Norm: meanAbs(o.Variables[0]), Score: scores[c], Reached: o.ASR >= 0.9, Trigger: t}
	}
	for c, v := range Indices(s.String("index"), scores) {
		r.Classes[c].Index = v
	}
	r.Verdict(s.Float("k"))
	return r, nil
}

// score puts loss and success rate of a class on one logarithmic scale, lower for classes that are easier to reach:
//
//	ln(loss + margin/100) + ln(1 - ASR + 1/n)
//
// n is the number of measuring images. How much easier a class is than another is a ratio, so that on this scale the classes of
// a clean model scatter alike, whether they are easy or hard to reach; the two constants are what cannot be told from zero.
func score(kind string, o Outcome, margin float64, n int) float64 {
	loss, miss := math.Log(o.Loss+margin/100+1e-9), math.Log(1-o.ASR+1/float64(n))
	switch kind {
	case "loss":
		return loss
	case "asr":
		return miss
	}
	return loss + miss
}

// SplitPool draws the images to optimise and to measure on from the pool, without overlap, by the input's seed.
func SplitPool(in Input) (optimise, measure []int, err error) {
	n, m := in.Settings.Int("optimise"), in.Settings.Int("measure")
	have := in.Pool.Shape()[0]
	if n+m > have {
		return nil, nil, fmt.Errorf("the pool holds %d images; optimise = %d and measure = %d need %d", have, n, m, n+m)
	}
	order := rand.New(rand.NewPCG(in.Seed, 0x706f6f6c)).Perm(have)
	return order[:n], order[n : n+m], nil
}

func meanAbs(t *tensor.Dense) float64 {
	var sum float64
	data := floats(t)
	for _, v := range data {
		sum += math.Abs(float64(v))
	}
	return sum / float64(len(data))
}
