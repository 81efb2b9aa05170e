package baselines

import (
	"cmp"
	"context"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/inspector"
	"clipinspector/internal/dense"
	"clipinspector/internal/random"
	"clipinspector/settings"
	"clipinspector/triggers"
)

func init() {
	rule := inspector.IndexRule("bound")
	rule.Choices = append([]string{"bound"}, rule.Choices...)
	rule.Doc = "what the smallest mask is held against: bound (authors: a fixed size), or the other arms' masks by mad or studentized"
	inspector.Register(&inspector.Detector{
		Name: "k-arm",
		Doc:  "a bandit over the classes that clean images are drawn to, each with a mask and a pattern (K-Arm, Shen et al., ICML 2021)",
		Params: append([]settings.Param{
			{Name: "budget", Doc: "matched: as many image passes as CI takes, the pre-selection one class's share of them, a round being a step; authors: their number of rounds in all over their number of images", Default: "matched", Choices: []string{"matched", "authors"}},
			{Name: "rounds", Unit: "rounds", Doc: "rounds of all arms together under the authors' budget (authors: 1000)", Default: 1000, Min: 1, Max: 1e6},
			{Name: "images", Unit: "images", Doc: "pool images that a round of the authors' budget goes through, at most those to optimise on (authors: all that they are given)", Default: 1000, Min: 1, Max: 1e6},
			{Name: "batch", Unit: "images", Doc: "images a step (authors: 32)", Default: 32, Min: 1, Max: 4096},
			{Name: "share", Doc: "pre-selection: an image's list holds this share of the classes, its likeliest, and 2 of up to 8 classes (authors: 0.25)", Default: 0.25, Min: 0.01, Max: 1},
			{Name: "theta", Doc: "pre-selection: an arm is in more than this share of the lists (authors: 0.95, and the one class that is in most)", Default: 0.0, Min: 0, Max: 1},
			{Name: "arms", Unit: "classes", Doc: "pre-selection: arms at most, those in most lists; 0 for as many as a list is long (authors: 1)", Default: 0, Min: 0, Max: 10000},
			{Name: "rate", Doc: "Adam's learning rate (authors: 0.1)", Default: 0.1, Min: 1e-6, Max: 100},
			{Name: "asr", Doc: "success rate that an inversion has to reach (authors: 0.99)", Default: 0.99, Min: 0, Max: 1},
			{Name: "patience", Unit: "rounds", Doc: "rounds in a row above or below the success rate before the cost changes (authors: 5)", Default: 5, Min: 1, Max: 1e6},
			{Name: "cost", Doc: "weight of the mask's size after the second success in a row; 0 before (authors: 1e-3)", Default: 1e-3, Min: 0, Max: 1e3},
			{Name: "up", Doc: "factor by which the cost rises and falls (authors: 1.5)", Default: 1.5, Min: 1, Max: 100},
			{Name: "warmup", Unit: "rounds", Doc: "smaller masks that every arm has to find before the bandit chooses (authors: 2)", Default: 2, Min: 1, Max: 1e6},
			{Name: "beta", Doc: "weight of 1/size beside the rate of shrinking in the choice of an arm, sizes as at 224 px (authors: 1e4)", Default: 1e4, Min: 0, Max: 1e9},
			{Name: "explore", Doc: "chance of an arm at random instead (authors: 0.3)", Default: 0.3, Min: 0, Max: 1},
			{Name: "early-stop", Unit: "rounds", Doc: "an arm is done after more than this many rounds without a smaller mask, once its cost has gone up and down (authors: 10)", Default: 10, Min: 1, Max: 1e6},
			{Name: "shrinks", Unit: "rounds", Doc: "an arm is done after more than this many smaller masks (authors: 60)", Default: 60, Min: 1, Max: 1e6},
			{Name: "bound", Unit: "px", Doc: "a mask of a smaller L1 norm is a backdoor's: at 224 px, scaled by the area of the model's images (authors: 1720)", Default: 1720.0, Min: 1, Max: 50176},
			rule, inspector.Threshold,
		}, inspector.PoolParams...),
		Shared:    true,
		Check:     inspector.CheckPool,
		Cost:      kArmCost,
		Objective: crossEntropy,
		Inspect:   kArm,
	})
}

// side is that of the authors' images, in whose pixels their constants count.
const side = 224

// kArmCost is the work of the pre-selection, of all pulls, and of measuring as many arms as there
// may be.
func kArmCost(f inspector.Facts) clip.Work {
	s, k := f.Settings, len(f.Model.Classes)
	n, pulls := s.Int("optimise"), k-1
	if s.String("budget") == "authors" {
		n, pulls = min(n, s.Int("images")), s.Int("rounds")
	}
	batch := min(s.Int("batch"), n)
	whole := float64(n / batch * batch)
	w := f.Model.Encoded(whole)
	w.Add(f.Inverted(float64(pulls)*whole, float64(k*s.Int("measure")), 0))
	w.Add(f.Model.ClassVectors())
	return w
}

func kArm(ctx context.Context, in inspector.Input) (*inspector.Finding, error) {
	s, classes, size := in.Settings, len(in.Model.Classes), in.Pool.Shape()[2]
	b := newBandit(s, size)
	rng := random.Named("karm", in.Seed)
	b.uniform, b.pick = rng.Float64, rng.IntN
	inv := maskInversion()
	inv.Control = b.arm
	optimise, measure, err := schedule(in, &inv)
	if err != nil {
		return nil, err
	}
	if s.String("budget") == "matched" {
		inv.Rounds *= classes - 1
	}
	clean := optimise[:len(optimise)/inv.Batch*inv.Batch]
	logits, err := in.Model.Logits(ctx, triggers.Rows(in.Pool, clean), nil)
	if err != nil {
		return nil, err
	}
	r := &inspector.Finding{ImagePasses: int64(len(clean)), Suspect: -1}
	if r.Unsure = inspector.Undefined(in.Model, logits); r.Unsure != "" { // no class is ruled out by what is no number
		r.Index = math.NaN()
		return r, nil
	}
	chosen := candidates(logits, s)
	none, lowest := math.NaN(), inspector.BoundIndex(math.Inf(1), 1)
	for range classes {
		r.Classes = append(r.Classes, inspector.ClassResult{Loss: none, ASR: none, Norm: none, Score: none, Index: lowest})
	}
	if r.Index = lowest; len(chosen) == 0 {
		return r, nil
	}
	arms, err := inv.Arms(in, chosen, optimise)
	if err != nil {
		return nil, err
	}
	defer arms.Free()
	for pull, more := 0, true; more && pull < inv.Rounds; pull++ {
		if _, err := arms.Advance(ctx, b.now); err != nil {
			return nil, err
		}
		if more = b.next(); in.Progress != nil {
			in.Progress(pull+1, inv.Rounds)
		}
	}
	if in.Progress != nil {
		in.Progress(inv.Rounds, inv.Rounds)
	}
	outcomes, passes, err := arms.Finish(ctx, measure)
	if err != nil {
		return nil, err
	}
	r.ImagePasses += passes
	whole := float64(size * size) // an arm without a success shows no smaller trigger than the whole image
	scores := make([]float64, len(chosen))
	for i, o := range outcomes {
		t := inv.Trigger(o.Variables)
		norm := maskNorm(t)
		if scores[i] = whole; o.Reached {
			scores[i] = norm
		}
		r.Classes[chosen[i]] = inspector.ClassResult{Loss: o.Loss, ASR: o.ASR, Norm: norm, Score: scores[i], Reached: o.Reached, Trigger: t}
	}
	index := make([]float64, len(scores))
	if rule := s.String("index"); rule != "bound" {
		index = inspector.Indices(rule, scores)
	} else {
		for i, v := range scores {
			index[i] = inspector.BoundIndex(v*b.scale, s.Float("bound"))
		}
	}
	for i, c := range chosen {
		r.Classes[c].Index = index[i]
	}
	r.Verdict(s.Float("k"))
	return r, nil
}

// candidates pre-selects the classes to invert from logits [N,K] of clean images: those that are
// most often among an image's likeliest. Between classes in as many lists the more probable one
// comes first, so that the classes' order plays no part.
func candidates(logits *tensor.Dense, s settings.Values) []int {
	n, k := logits.Shape()[0], logits.Shape()[1]
	list := 2
	if k > 8 {
		list = max(1, int(math.RoundToEven(s.Float("share")*float64(k))))
	}
	count, mean := make([]float64, k), make([]float64, k)
	order := make([]int, k)
	for row := range slices.Chunk(dense.Floats(logits), k) {
		sum, most := 0.0, float64(slices.Max(row))
		for c := range order {
			order[c] = c
			sum += math.Exp(float64(row[c]) - most)
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(row[b], row[a]) })
		for i, c := range order {
			if i < list {
				count[c]++
			}
			mean[c] += math.Exp(float64(row[c])-most) / sum
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(mean[b], mean[a]), cmp.Compare(a, b))
	})
	arms := s.Int("arms")
	if arms == 0 {
		arms = list
	}
	order = order[:min(arms, k)]
	return slices.DeleteFunc(order, func(c int) bool { return count[c] <= s.Float("theta")*float64(n) })
}
