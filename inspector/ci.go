package inspector

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/internal/dense"
	"clipinspector/internal/random"
	"clipinspector/prompts"
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
		Doc:  "CLIP-Inspector: a bounded perturbation per class, margin objective, one epoch over the pool, score from loss and ASR (arXiv 2604.09101)",
		Params: append(append(slices.Clone(perturbation),
			settings.Param{Name: "score", Doc: "what outliers are sought in: by how much the trigger lowers the loss, the share of misses (asr), or both (paper: from reconstruction loss and ASR; the formula is our choice)", Default: "both", Choices: []string{"both", "loss", "asr"}},
			IndexRule("studentized"),
			Threshold), append(manyClasses(0), PoolParams...)...),
		Check:     CheckPool,
		Cost:      ciCost,
		Objective: marginObjective,
		Inspect:   inspect,
		Idle:      idleOfFew,
		Rule:      func(settings.Values) []string { return []string{"index", "k"} },
		Judge: func(s settings.Values, _ []*Evidence, r *Finding) error {
			r.Judge(s.String("index"), s.Float("k"))
			return nil
		},
	})
}

// perturbation are the settings of one bounded perturbation for each class.
var perturbation = []settings.Param{
	{Name: "epsilon", Unit: "pixel value", Doc: "bound on each pixel of the reconstructed perturbation (our choice; the paper's body is not public)", Default: 8.0 / 255, Min: 0.1 / 255, Max: 1},
	{Name: "margin", Unit: "logits", Doc: "by how much the target's logit shall exceed the largest other one (our choice)", Default: 5.0, Min: 0, Max: 1000},
	{Name: "epochs", Unit: "epochs", Doc: "passes over the optimising images (paper: 1)", Default: 1, Min: 1, Max: 1000},
	{Name: "batch", Unit: "images", Doc: "images a step (our choice)", Default: 32, Min: 1, Max: 4096},
	{Name: "rate", Doc: "Adam's learning rate as a share of epsilon; it falls to 0 along a cosine (our choice)", Default: 0.25, Min: 1e-4, Max: 10},
}

// bounded is the inversion that looks for one perturbation d of all images, |d| <= epsilon, of
// clip(x + d, 0, 1), which minimises the mean of max(0, margin + max_{j≠t} z_j - z_t) over the
// pool. It comes with the images to optimise and to measure on.
func bounded(in Input) (inv Inversion, optimise, measure []int, err error) {
	s := in.Settings
	if optimise, measure, err = SplitPool(in); err != nil {
		return inv, nil, nil, err
	}
	epsilon := s.Float("epsilon")
	batch := min(s.Int("batch"), len(optimise))
	steps := s.Int("epochs") * (len(optimise) / batch)
	return Inversion{
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
		Steps:   1,
		Rounds:  steps,
	}, optimise, measure, nil
}

// inspect is CI: a bounded perturbation for every class, its loss and ASR on further images, and
// outliers among the classes' scores.
func inspect(ctx context.Context, in Input) (*Finding, error) {
	s := in.Settings
	inv, optimise, measure, err := bounded(in)
	if err != nil {
		return nil, err
	}
	if in.Only != nil {
		return inv.recover(ctx, in, optimise, measure)
	}
	var outcomes []Outcome
	var passes int64
	judged := measure // the images that a class is judged on
	if in.many() {
		if outcomes, passes, err = inv.try(ctx, in, optimise, measure); err != nil {
			return nil, err
		}
		judged = inv.trial(s).midway(in, optimise)
		for c, o := range outcomes {
			outcomes[c].Loss, outcomes[c].ASR = o.Midway, o.MidwayASR
		}
	} else if outcomes, passes, err = inv.Run(ctx, in, optimise, measure); err != nil {
		return nil, err
	}
	before, p, err := untriggered(ctx, in, judged)
	if err != nil {
		return nil, err
	}
	r := &Finding{ImagePasses: passes + p, Classes: make([]ClassResult, len(outcomes))}
	scores := make([]float64, len(outcomes))
	for c, o := range outcomes {
		scores[c] = change(s.String("score"), before[c], o, s.Float("margin"))
		r.Classes[c].Score = scores[c]
		if !in.many() {
			r.Classes[c].inverted(inv, o)
		}
	}
	r.Judge(s.String("index"), s.Float("k"))
	if in.many() {
		err = inv.finish(ctx, in, r, finalists(scores, s.Int("finalists")), optimise, measure)
	}
	return r, err
}

// marginObjective is the margin objective of one image's logits.
func marginObjective(s settings.Values, logits, _ []float32, target int) float64 {
	return math.Max(0, s.Float("margin")+gap(logits, target))
}

// ciCost is the inversion of every class, and the images that they are judged on without a trigger.
func ciCost(f Facts) clip.Work {
	w := boundedCost(f, 0)
	judged := f.Settings.Int("measure")
	switch {
	case f.Only > 0:
		judged = 0
	case f.many():
		n, batch := trialOf(f.Settings, optimised(f.Settings))
		judged = n - n/batch/2*batch
	}
	w.Add(f.Model.Encoded(float64(judged)))
	return w
}

// boundedCost is the inversion of every class, or of many ones the trials and the inversion of the
// finalists, to the end and measured, and the class vectors.
func boundedCost(f Facts, contrast float64) clip.Work {
	s, k := f.Settings, len(f.Model.Classes)
	tried, whole := 0, k
	switch {
	case f.Only > 0:
		whole = f.Only
	case f.many():
		n, _ := trialOf(s, optimised(s))
		tried, whole = k*n, min(k, s.Int("finalists"))
	}
	w := f.Inverted(float64(tried+whole*optimised(s)), float64(whole*s.Int("measure")), contrast)
	w.Add(f.Model.ClassVectors())
	return w
}

// optimised is how many images of a class the bounded inversion looks at, in whole batches.
func optimised(s settings.Values) int {
	n := s.Int("optimise")
	batch := min(s.Int("batch"), n)
	return s.Int("epochs") * (n / batch * batch)
}

// zeroShot returns the model's CLIP with hand-written prompts, which no provider has touched, over
// the same classes.
func zeroShot(m *prompts.Model, template string) (*prompts.Model, error) {
	return zeroShotOf(m.CLIP, m.Classes, template)
}

func zeroShotOf(c *clip.Model, classes []string, template string) (*prompts.Model, error) {
	learner, err := prompts.FindLearner("coop")
	if err != nil {
		return nil, err
	}
	s, err := settings.Resolve(learner.Params, map[string]any{"init": template})
	if err != nil {
		return nil, err
	}
	model, err := prompts.New(c, learner, s, classes, rand.New(rand.NewPCG(0, 0)))
	if err != nil {
		return nil, fmt.Errorf("the contrast's zero-shot prompts, whose init is the detector's setting template, such as detectors.separation.template=a: %w", err)
	}
	return model, nil
}

// untriggered measures objective and success rate of each class on images without a trigger, and
// counts image passes.
func untriggered(ctx context.Context, in Input, measure []int) ([]Outcome, int64, error) {
	logits, err := in.Model.Logits(ctx, triggers.Rows(in.Pool, measure), nil)
	if err != nil {
		return nil, 0, err
	}
	k, n := len(in.Model.Classes), float64(len(measure))
	out := make([]Outcome, k)
	for i := range measure {
		row := dense.Floats(logits)[i*k : (i+1)*k]
		for t := range row {
			behind := gap(row, t)
			out[t].Loss += math.Max(0, in.Settings.Float("margin")+behind) / n
			if behind < 0 {
				out[t].ASR++ // counted, and divided once: a rate is never above 1
			}
		}
	}
	for t := range out {
		out[t].ASR /= n
	}
	return out, int64(len(measure)), nil
}

// gap returns by how much the largest of the other logits exceeds that of class t.
func gap(logits []float32, t int) float64 {
	other := math.Inf(-1)
	for j, z := range logits {
		if j != t {
			other = math.Max(other, float64(z))
		}
	}
	return other - float64(logits[t])
}

// change says how much easier the recovered trigger makes it to reach a class, lower for more:
//
//	(loss - loss₀)/margin + ln((1 - ASR + 0.05)/(1 - ASR₀ + 0.05))
//
// with loss₀ and ASR₀ measured without a trigger, so that classes that out-of-distribution images
// are drawn to anyway do not stand out. The first term tells classes that are hard to reach apart,
// the second those that are nearly reached; 0.05 is a share of misses that small pools cannot tell
// from none.
func change(kind string, before, after Outcome, margin float64) float64 {
	loss := (after.Loss - before.Loss) / math.Max(margin, 1)
	miss := math.Log((1 - after.ASR + 0.05) / (1 - before.ASR + 0.05))
	switch kind {
	case "loss":
		return loss
	case "asr":
		return miss
	}
	return loss + miss
}

// SplitPool draws the images to optimise and to measure on from the pool, without overlap, by the
// input's seed.
func SplitPool(in Input) (optimise, measure []int, err error) {
	n, m := in.Settings.Int("optimise"), in.Settings.Int("measure")
	have := in.Pool.Shape()[0]
	if err := poolHolds(have, n, m); err != nil {
		return nil, nil, err
	}
	order := random.Named("pool", in.Seed).Perm(have)
	return order[:n], order[n : n+m], nil
}

func meanAbs(t *tensor.Dense) float64 {
	var sum float64
	data := dense.Floats(t)
	for _, v := range data {
		sum += math.Abs(float64(v))
	}
	return sum / float64(len(data))
}
