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
		Doc:  "CLIP-Inspector: a bounded perturbation per class, margin objective, one epoch over the pool (arXiv 2604.09101)",
		Params: append([]settings.Param{
			{Name: "epsilon", Unit: "pixel value", Doc: "bound on each pixel of the reconstructed perturbation (our choice; the paper's body is not public)", Default: 16.0 / 255, Min: 0.1 / 255, Max: 1},
			{Name: "margin", Unit: "logits", Doc: "by how much the target's logit shall exceed the largest other one (our choice)", Default: 5.0, Min: 0, Max: 1000},
			{Name: "epochs", Unit: "epochs", Doc: "passes over the optimising images (paper: 1)", Default: 1, Min: 1, Max: 1000},
			{Name: "batch", Unit: "images", Doc: "images a step (our choice)", Default: 32, Min: 1, Max: 4096},
			{Name: "rate", Doc: "Adam's learning rate as a share of epsilon; it falls to 0 along a cosine (our choice)", Default: 0.25, Min: 1e-4, Max: 10},
			{Name: "contrast", Doc: "weight of zero-shot CLIP's logits, taken from the model's in the objective: a trigger that moves the untouched model as well is no trace of a backdoor; 0 is the paper's objective (our choice)", Default: 1.0, Min: 0, Max: 4},
			{Name: "template", Doc: "words before the class name in the zero-shot prompts of the contrast", Default: "a photo of a"},
			{Name: "score", Doc: "what outliers are sought in: by how much the other classes' vectors retreat from a class together (push), the squared first-order gain (gain), either over the fourth root of loss-floor and loss, by how much the trigger lowers the loss, the share of misses (asr), or both; a model whose class vectors are not tuned, or differ from image to image, has gain for push (our choice)", Default: "push", Choices: []string{"push", "gain", "both", "loss", "asr"}},
			{Name: "loss-floor", Unit: "logits", Doc: "losses that differ by less than this are alike to the scores push and gain (our choice)", Default: 0.05, Min: 1e-3, Max: 100},
			{Name: "gain-contrast", Doc: "the contrast in the first-order gain (our choice)", Default: 0.5, Min: 0, Max: 4},
			{Name: "gain-images", Unit: "images", Doc: "images of those to optimise on that the first-order gain is averaged over (our choice)", Default: 128, Min: 1, Max: 1e6},
			{Name: "halving", Unit: "rungs", Doc: "successive halving over classes: so many times only the most suspicious go on; 0 inverts every class to the end (our choice)", Default: 0, Min: 0, Max: 10},
			{Name: "keep", Doc: "share of the classes that goes on from a rung of halving, at least 3 classes; a stretch between rungs is longer than the one before by as much", Default: 0.33, Min: 0.01, Max: 0.99},
			{Name: "index", Doc: "how outliers are measured: ratio (a class's powers over the mean of the others', for the scores push and gain), studentized (K-corrected outlier test) or mad (Neural Cleanse's median absolute deviation) (our choice)", Default: "ratio", Choices: []string{"ratio", "studentized", "mad"}},
			{Name: "shape", Doc: "of the Gamma distribution that the ratio takes the powers of a clean model's classes from; larger flags more (our choice)", Default: 6.0, Min: 0.5, Max: 1000},
			{Name: "loss-shape", Doc: "the same of the ratio's second power, 1/(loss-floor + loss), by which an attacker who avoids the push still shows; 0 leaves it out (our choice)", Default: 1.0, Min: 0, Max: 1000},
			Threshold,
		}, PoolParams...),
		Check:     ciCheck,
		Cost:      ciCost,
		Objective: ciObjective,
		Inspect:   inspect,
		Rule:      rule,
		Judge: func(s settings.Values, r *Report) {
			losses := make([]float64, len(r.Classes))
			for c := range losses {
				losses[c] = r.Classes[c].Loss
			}
			judge(s, r, losses)
		},
	})
}

// inspect is CI: for every class t it minimises the mean of max(0, margin + max_{j≠t} u_j - u_t) over the pool with
// respect to a perturbation d, |d| <= epsilon, of the images clip(x + d, 0, 1); it measures loss and ASR on further images and
// seeks outliers among the classes' scores. u = z - contrast z⁰ are the model's logits less those of zero-shot CLIP, which
// no provider has touched: what makes CLIP itself see a class is no trace of a backdoor.
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
		Steps:   1,
		Rounds:  steps,
	}
	inv.Contrast = s.Float("contrast")
	if inv.Reference, err = zeroShot(in.Model, s.String("template")); err != nil {
		return nil, err
	}
	score, passes, err := ciScore(ctx, in, &inv, optimise, measure)
	if err != nil {
		return nil, err
	}
	if err := checkRule(s); err != nil {
		return nil, err
	}
	if rungs := s.Int("halving"); rungs > 0 {
		inv.Halving = &Halving{Rungs: rungs, Keep: s.Float("keep"), Suspicion: func(classes []int, losses []float64) []float64 {
			at := &Report{Classes: make([]ClassResult, len(classes))}
			for i, t := range classes {
				at.Classes[i].Score = score(t, Outcome{Loss: losses[i]})
			}
			judge(s, at, losses)
			index := make([]float64, len(classes))
			for i, c := range at.Classes {
				index[i] = c.Index
			}
			return index
		}}
	}
	outcomes, p, err := inv.Run(ctx, in, optimise, measure)
	if err != nil {
		return nil, err
	}
	r := &Report{ImagePasses: passes + p, Classes: make([]ClassResult, len(outcomes))}
	end := atTheEnd(outcomes, s.Float("loss-floor"))
	for c, o := range outcomes {
		r.Classes[c] = ClassResult{Loss: o.Loss, ASR: o.ASR, Norm: meanAbs(o.Variables[0]), Score: score(c, Outcome{Loss: end[c], ASR: o.ASR}),
			Reached: o.ASR >= 0.9, Trigger: inv.Trigger(o.Variables)}
	}
	judge(s, r, end)
	return r, nil
}

// ciCheck refuses what inspect could not work with.
func ciCheck(f Facts) error {
	if err := CheckPool(f); err != nil {
		return err
	}
	return checkRule(f.Settings)
}

// checkRule refuses rules that do not go together with the score.
func checkRule(s settings.Values) error {
	if score := s.String("score"); score == "push" || score == "gain" {
		return nil
	} else if s.String("index") == "ratio" {
		return fmt.Errorf("index = ratio compares powers, which the scores push and gain give, not %s: set index to studentized", score)
	} else if rungs := s.Int("halving"); rungs > 0 {
		return fmt.Errorf("halving = %d compares classes by the scores push or gain, not by %s: set halving to 0", rungs, score)
	}
	return nil
}

// ciObjective is the margin objective of one image's logits less those of zero-shot CLIP, times the contrast.
func ciObjective(s settings.Values, logits, zeroShot []float32, target int) float64 {
	u := slices.Clone(logits)
	if c := s.Float("contrast"); c != 0 {
		for j := range u {
			u[j] -= float32(c) * zeroShot[j]
		}
	}
	return math.Max(0, s.Float("margin")+gap(u, target))
}

// ciCost is the inversion of every class, or of fewer from rung to rung of halving, the class vectors of the model and its
// reference, and what the score takes besides.
func ciCost(f Facts) clip.Work {
	s, k, m := f.Settings, len(f.Model.Classes), f.Model
	n := s.Int("optimise")
	batch := min(s.Int("batch"), n)
	steps := s.Int("epochs") * (n / batch)
	all, left := k*steps, k // steps of all classes, and classes that are measured
	if rungs := s.Int("halving"); rungs > 0 {
		all, left = (&Halving{Rungs: rungs, Keep: s.Float("keep")}).Rounds(k, steps)
	}
	measure := float64(s.Int("measure"))
	w := f.Inverted(float64(all*batch), float64(left)*measure, s.Float("contrast"))
	w.Add(m.ClassVectors())
	w.FLOP += m.Texts(s.String("template")).Forward
	switch score := s.String("score"); {
	case score == "push" && pushed(m.Learner): // class vectors alone
	case score == "push" || score == "gain":
		images := min(s.Int("gain-images"), n)
		b := max(1, min(batch, images))
		forward, back := gainReplays(k)
		c, replays := f.Triggered(s.Float("gain-contrast")), float64(forward*(images/b*b))
		w.Add(clip.Work{Passes: float64(k * (images / b * b)), FLOP: replays * (c.Forward + float64(back)*c.Back)})
	default: // the measuring images without a trigger
		w.Add(m.Encoded(measure))
		if s.Float("contrast") != 0 {
			w.Add(clip.Work{Passes: measure, FLOP: measure * m.Config.ImageCost(0).Forward})
		}
	}
	return w
}

// judge gives the verdict on measured classes whose losses at the end of a whole inversion are end, by class. The ratio compares two powers:
// the negative of a score by push or gain, and how nearly the inversion reaches each class,
//
//	1 / (loss-floor + loss)
//
// unless loss-shape is 0. The first tells backdoors best; the second is nothing that tuning the prompts in another way avoids, as long as the trigger works.
func judge(s settings.Values, r *Report, end []float64) {
	if s.String("index") != "ratio" {
		r.Judge(s.String("index"), s.Float("k"))
		return
	}
	score := Power{Values: make([]float64, len(end)), Shape: s.Float("shape")}
	reach := Power{Values: make([]float64, len(end)), Shape: s.Float("loss-shape")}
	for c, loss := range end {
		score.Values[c] = -r.Classes[c].Score
		reach.Values[c] = 1 / (s.Float("loss-floor") + loss)
	}
	powers := []Power{score}
	if reach.Shape > 0 {
		powers = append(powers, reach)
	}
	for c, v := range Ratio(powers...) {
		r.Classes[c].Index = v
	}
	r.Verdict(s.Float("k"))
}

// rule returns the settings that only judge takes. With halving, the rule steers the inversions too.
func rule(s settings.Values) []string {
	if s.Int("halving") > 0 {
		return nil
	}
	return []string{"index", "shape", "loss-shape", "k"}
}

// ciScore returns what outliers are sought in as a function of a class and what its inversion came to, lower for more suspicious, and
// the image passes that it took to know it. By push, which takes none (see pushes), it is
//
//	score = -push / (loss-floor + loss)^(1/4)
//
// with the loss that the inversion left: a class from which the others retreat together, and that a perturbation really reaches. By gain it is
// the same with the squared first-order gain of epsilon (see gains) for the push. By the other rules it is how much the trigger changes
// (see change).
func ciScore(ctx context.Context, in Input, inv *Inversion, optimise, measure []int) (score func(t int, o Outcome) float64, passes int64, err error) {
	s := in.Settings
	power := func(of []float64) func(t int, o Outcome) float64 {
		return func(t int, o Outcome) float64 { return -of[t] / math.Sqrt(math.Sqrt(s.Float("loss-floor")+o.Loss)) }
	}
	switch kind := s.String("score"); {
	case kind == "push" && pushed(in.Model.Learner):
		push, err := pushes(in.Model, inv.Reference)
		return power(push), 0, err
	case kind == "push" || kind == "gain":
		images := optimise[:min(s.Int("gain-images"), len(optimise))]
		gain, passes, err := gains(ctx, in, inv.Reference, s.Float("gain-contrast"), images, inv.Batch)
		for t, g := range gain {
			gain[t] = math.Pow(s.Float("epsilon")*g, 2)
		}
		return power(gain), passes, err
	}
	before, passes, err := untriggered(ctx, in, inv, measure)
	return func(t int, o Outcome) float64 {
		return change(s.String("score"), before[t], o, s.Float("margin"))
	}, passes, err
}

// zeroShot returns the model's CLIP with hand-written prompts, which no provider has touched, over the same classes.
func zeroShot(m *prompts.Model, template string) (*prompts.Model, error) {
	learner, err := prompts.FindLearner("coop")
	if err != nil {
		return nil, err
	}
	s, err := settings.Resolve(learner.Params, map[string]any{"init": template})
	if err != nil {
		return nil, err
	}
	model, err := prompts.New(m.CLIP, learner, s, m.Classes, rand.New(rand.NewPCG(0, 0)))
	if err != nil {
		return nil, fmt.Errorf("the contrast's zero-shot prompts, whose init is ci's setting template, such as detectors.ci.template=a: %w", err)
	}
	return model, nil
}

// untriggered measures objective and success rate of each class on images without a trigger, and counts image passes.
func untriggered(ctx context.Context, in Input, inv *Inversion, measure []int) ([]Outcome, int64, error) {
	pixels := triggers.Rows(in.Pool, measure)
	logits, err := in.Model.Logits(ctx, pixels, nil)
	if err != nil {
		return nil, 0, err
	}
	seen, passes := floats(logits), int64(len(measure))
	if inv.Contrast != 0 {
		reference, err := inv.Reference.Logits(ctx, pixels, nil)
		if err != nil {
			return nil, 0, err
		}
		passes *= 2
		seen = slices.Clone(seen)
		for i, z := range floats(reference) {
			seen[i] -= float32(inv.Contrast) * z
		}
	}
	k, n := len(in.Model.Classes), float64(len(measure))
	out := make([]Outcome, k)
	for i := range measure {
		row, objective := floats(logits)[i*k:(i+1)*k], seen[i*k:(i+1)*k]
		for t := range row {
			out[t].Loss += math.Max(0, in.Settings.Float("margin")+gap(objective, t)) / n
			if gap(row, t) < 0 {
				out[t].ASR++ // counted, and divided once: a rate is never above 1
			}
		}
	}
	for t := range out {
		out[t].ASR /= n
	}
	return out, passes, nil
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
// with loss₀ and ASR₀ measured without a trigger, so that classes that out-of-distribution images are drawn to anyway do not stand
// out. The first term tells classes that are hard to reach apart, the second those that are nearly reached; 0.05 is a
// share of misses that small pools cannot tell from none.
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

// SplitPool draws the images to optimise and to measure on from the pool, without overlap, by the input's seed.
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
	data := floats(t)
	for _, v := range data {
		sum += math.Abs(float64(v))
	}
	return sum / float64(len(data))
}
