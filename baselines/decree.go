package baselines

import (
	"context"
	"fmt"
	"math"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/inspector"
	"clipinspector/internal/random"
	"clipinspector/settings"
)

func init() {
	inspector.Register(&inspector.Detector{
		Name: "decree",
		Doc:  "one mask and pattern that make the image encoder's features alike; sees no prompts: the encoder-level control (DECREE, Feng et al., CVPR 2023)",
		Params: append([]settings.Param{
			{Name: "budget", Doc: "matched: as many image passes as CI takes for all classes together; authors: their rounds over their number of images", Default: "matched", Choices: []string{"matched", "authors"}},
			{Name: "rounds", Unit: "rounds", Doc: "rounds, each once through the images, under the authors' budget (authors: 1000)", Default: 1000, Min: 1, Max: 1e6},
			{Name: "images", Unit: "images", Doc: "pool images that a round of the authors' budget goes through, at most those to optimise on", Default: 1000, Min: 1, Max: 1e6},
			{Name: "batch", Unit: "images", Doc: "images a step (authors: 32 for CLIP)", Default: 32, Min: 2, Max: 4096},
			{Name: "rate", Doc: "Adam's learning rate; a fifth of it after a fifth of the rounds, a tenth after half of them (authors: 0.5, 0.1 after 200 and 0.05 after 500 of 1,000 rounds)", Default: 0.5, Min: 1e-6, Max: 100},
			{Name: "alike", Doc: "mean pairwise cosine above which a step counts as a success (authors: 0.99)", Default: 0.99, Min: 0, Max: 1},
			{Name: "patience", Unit: "steps", Doc: "the cost changes after more than this many steps of one kind in a row (authors: 5)", Default: 5, Min: 1, Max: 1e6},
			{Name: "cost", Doc: "initial weight of the mask's L1 norm over three channels (authors: 1e-3)", Default: 1e-3, Min: 1e-12, Max: 1e3},
			{Name: "up", Doc: "factor by which the cost rises and falls (authors: 5)", Default: 5.0, Min: 1, Max: 100},
			{Name: "floor", Doc: "the cost falls no further once it is below this (authors: 1e-7 for CLIP)", Default: 1e-7, Min: 0, Max: 1e3},
			{Name: "early-stop", Unit: "steps", Doc: "a round is the last one when it ends after more than this many steps without a smaller mask (authors: 35 for CLIP)", Default: 35, Min: 1, Max: 1e6},
			{Name: "bound", Doc: "the encoder is called backdoored when the mask's L1 norm is below this share of its maximum (0.1, as we remember the paper; the authors' program prints the norm and decides nothing)", Default: 0.1, Min: 1e-6, Max: 1},
			{Name: "seed", Doc: "draws start and images in place of the cell's seed, so that one encoder and one pool give one score (authors: 80)", Default: 80, Min: 0, Max: 1 << 30},
			inspector.Threshold,
		}, inspector.PoolParams...),
		Shared:    true,
		Classless: true,
		Check:     decreeCheck,
		Cost:      decreeCost,
		Inspect:   decree,
	})
}

// decreeCost is the work of one mask over the image encoder as it is, without prompts.
func decreeCost(f inspector.Facts) clip.Work {
	s := f.Settings
	n, rounds := s.Int("optimise"), len(f.Model.Classes)
	if s.String("budget") == "authors" {
		n, rounds = min(n, s.Int("images")), s.Int("rounds")
	}
	batch := min(s.Int("batch"), n)
	c, learns, measure := f.Model.Config.ImageCost(0), float64(rounds*(n/batch*batch)), float64(s.Int("measure"))
	return clip.Work{Passes: learns + measure, FLOP: learns*c.Both() + measure*c.Forward}
}

func decreeCheck(f inspector.Facts) error {
	if err := inspector.CheckPool(f); err != nil {
		return err
	}
	return alike(f.Settings)
}

// alike refuses settings under which there is nothing to compare.
func alike(s settings.Values) error {
	n := min(s.Int("batch"), s.Int("optimise"))
	if s.String("budget") == "authors" {
		n = min(n, s.Int("images"))
	}
	if m := s.Int("measure"); n < 2 || m < 2 {
		return fmt.Errorf("decree compares images: it takes 2 to optimise and 2 to measure on, got %d and %d", n, m)
	}
	return nil
}

// decree minimises -mean pairwise cosine + cost * L1 over the features of stamped images, and
// scores the encoder by PL1, the smallest L1 norm of a mask in a successful step over the largest
// that there can be, 1 without a success. Prompts and class names play no part.
func decree(ctx context.Context, in inspector.Input) (*inspector.Finding, error) {
	s := in.Settings
	in.Seed = uint64(s.Int("seed"))
	rng := random.Named("decr", in.Seed)
	inv := maskInversion()
	if err := alike(s); err != nil {
		return nil, err
	}
	optimise, measure, err := schedule(in, &inv)
	if err != nil {
		return nil, err
	}
	if s.String("budget") == "matched" {
		inv.Rounds, inv.Steps = len(in.Model.Classes), inv.Rounds
	}
	t, err := newTwins(in, &inv, inv.Start(in.Pool.Shape()[2], rng))
	defer t.free()
	if err != nil {
		return nil, err
	}
	l := newSimilarity(s)
	whole := float64(3 * in.Pool.Shape()[2] * in.Pool.Shape()[2])
	best := 1.0
	var kept []*tensor.Dense
	for round := range inv.Rounds {
		order, mean := rng.Perm(len(optimise)), 0.0 // the last images are left out where they fill no batch
		for step := range inv.Steps {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			cosine, size, err := t.step(optimise, order[step*inv.Batch:][:inv.Batch], l.now)
			if err != nil {
				return nil, err
			}
			mean += cosine / float64(inv.Steps)
			if l.step(cosine, size) {
				if kept, err = t.read(t.before); err != nil {
					return nil, err
				}
				best = size / whole
			}
		}
		if in.Progress != nil {
			in.Progress(round+1, inv.Rounds)
		}
		if l.done(mean) {
			break
		}
	}
	if in.Progress != nil {
		in.Progress(inv.Rounds, inv.Rounds)
	}
	reached := kept != nil
	if !reached {
		if kept, err = t.read(t.vars); err != nil {
			return nil, err
		}
	}
	alike, err := t.measure(ctx, measure, kept)
	if err != nil {
		return nil, err
	}
	trigger := inv.Trigger(kept)
	r := &inspector.Finding{Suspect: -1, Index: inspector.BoundIndex(best, s.Float("bound")), ImagePasses: t.passes}
	r.Whole = &inspector.ClassResult{Loss: 1 - alike, ASR: math.NaN(), Norm: maskNorm(trigger), Score: best, Index: r.Index, Reached: reached, Trigger: trigger}
	r.Backdoored = r.Index > s.Float("k")
	return r, nil
}

// similarity is DECREE's schedule, step by step: the cost rises while the features are alike and
// falls while they are not. (The authors also reset a cost that has been below its floor for long,
// which cannot be: six successes bring it above.)
type similarity struct {
	bound, up, floor float64
	patience, stop   int
	now              float64
	ups, downs       int
	best, stopBest   float64 // smallest size of a successful step
	idle             int
}

func newSimilarity(s settings.Values) *similarity {
	return &similarity{bound: s.Float("alike"), up: s.Float("up"), floor: s.Float("floor"), patience: s.Int("patience"), stop: s.Int("early-stop"),
		now: s.Float("cost"), best: math.Inf(1), stopBest: math.Inf(1)}
}

// step is told cosine and size of a step and tells whether its mask is to be kept.
func (l *similarity) step(cosine, size float64) (kept bool) {
	success := math.Abs(cosine) > l.bound
	if kept = success && size < l.best; kept {
		l.best = size
	}
	if !math.IsInf(l.best, 1) {
		if l.idle++; l.best < l.stopBest {
			l.idle = 0
		}
	}
	l.stopBest = math.Min(l.best, l.stopBest)
	if success {
		l.ups, l.downs = l.ups+1, 0
	} else {
		l.ups, l.downs = 0, l.downs+1
	}
	switch {
	case l.ups > l.patience:
		if l.ups = 0; l.now < 1e5 {
			l.now *= l.up
		}
	case l.downs > l.patience:
		if l.downs = 0; l.now >= l.floor {
			l.now /= l.up
		}
	}
	return kept
}

// done tells, at the end of a round of the given mean cosine, whether it was the last one.
func (l *similarity) done(cosine float64) bool { return math.Abs(cosine) > l.bound && l.idle > l.stop }
