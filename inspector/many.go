package inspector

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"clipinspector/internal/random"
	"clipinspector/settings"
)

// Of many classes most are told apart by a few steps. So each has a trial on a few images, and is
// judged by that, against references whose classes had the same trial: the null is that of the same
// statistic. Only the most suspicious few are then inverted as every class is where there are few,
// for the sake of their triggers. They begin anew: that costs little, and nothing has to be kept of
// the others.

// manyClasses are the settings of that schedule.
func manyClasses(from int) []settings.Param {
	return []settings.Param{
		{Name: "many", Unit: "classes", Doc: "from so many classes on each is judged by a trial on a few images, and the finalists alone are inverted to the end; 0: never", Default: from, Min: 0, Max: 1e6},
		{Name: "trial", Unit: "images", Doc: "pool images of the trial of each of many classes", Default: 32, Min: 2, Max: 1e6},
		{Name: "trial-batch", Unit: "images", Doc: "images a step of the trial", Default: 4, Min: 1, Max: 4096},
		{Name: "finalists", Unit: "classes", Doc: "how many of many classes are inverted to the end: the most suspicious ones", Default: 3, Min: 1, Max: 1e6},
	}
}

// idleOfFew names the settings that decide nothing about a model of few classes.
func idleOfFew(f Facts) []string {
	if f.many() {
		return nil
	}
	return []string{"many", "trial", "trial-batch", "finalists"}
}

// Many is a number of classes from which on trials are worth it.
const Many = 40

// WithMany are the settings under which classes are many from another number on; those of a
// detector that tries none stay as they are.
func WithMany(s settings.Values, from int) settings.Values {
	if _, ok := s["many"]; !ok {
		return s
	}
	s = maps.Clone(s)
	s["many"] = from
	return s
}

func many(s settings.Values, k int) bool { return s.Int("many") > 0 && k >= s.Int("many") }

// many tells whether the classes of the model, or of the one that it is a part of, are many.
func (in Input) many() bool { return many(in.Settings, max(in.of, len(in.Model.Classes))) }

// finalists is how many classes are inverted to the end once all were tried; 0 where they are few.
func (in Input) finalists() int {
	if !in.many() {
		return 0
	}
	return in.Settings.Int("finalists")
}

func (f Facts) many() bool { return many(f.Settings, len(f.Model.Classes)) }

// trialOf returns how many images a trial has in all and in a step, where an inversion has so many.
func trialOf(s settings.Values, images int) (n, batch int) {
	n = min(s.Int("trial"), images)
	batch = min(s.Int("trial-batch"), n)
	return n / batch * batch, batch
}

// trial is the beginning of the inversion, in smaller steps; its Midway is over the second half.
func (inv Inversion) trial(s settings.Values) Inversion {
	return inv.brief(trialOf(s, inv.Rounds*inv.Batch))
}

// brief is the beginning of the inversion on n images, in steps of batch.
func (inv Inversion) brief(n, batch int) Inversion {
	inv.Batch, inv.Rounds = batch, n/batch
	inv.Checkpoint, inv.Stop = inv.Rounds, inv.Rounds
	return inv
}

// finalists returns the classes of the least numbers, at most so many of them, ascending.
func finalists(of []float64, most int) []int {
	order := make([]int, len(of))
	for c := range order {
		order[c] = c
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(of[a], of[b]) })
	order = order[:min(most, len(order))]
	slices.Sort(order)
	return order
}

// try gives every class its trial. Progress is told of the trials and, later, of so many finalists.
func (inv Inversion) try(ctx context.Context, in Input, optimise, measure []int) ([]Outcome, int64, error) {
	in.Progress = in.progress(0, in.finalists())
	inv = inv.trial(in.Settings)
	return inv.Run(ctx, in, optimise, measure)
}

// finish inverts some classes to the end, and completes what a report says of them; of the others
// it says that nothing was measured.
func (inv Inversion) finish(ctx context.Context, in Input, r *Finding, classes, optimise, measure []int) error {
	in.Progress = in.progress(len(r.Classes)+pairs(in.Settings, len(r.Classes)), 0)
	inv.Targets = classes
	outcomes, passes, err := inv.Run(ctx, in, optimise, measure)
	if err != nil {
		return err
	}
	for c := range r.Classes {
		none := math.NaN()
		r.Classes[c].Loss, r.Classes[c].ASR, r.Classes[c].Norm = none, none, none
	}
	for i, c := range classes {
		r.Classes[c].inverted(inv, outcomes[i])
	}
	r.ImagePasses += passes
	return nil
}

// inverted completes a class's result by what its inversion to the end gave.
func (c *ClassResult) inverted(inv Inversion, o Outcome) {
	c.Loss, c.ASR, c.Norm = o.Loss, o.ASR, meanAbs(o.Variables[0])
	c.Reached, c.Trigger = o.ASR >= 0.9, inv.Trigger(o.Variables)
}

// progress tells of a part of the work, with so much of it before and after.
func (in Input) progress(before, after int) func(done, total int) {
	if in.Progress == nil {
		return nil
	}
	return func(done, total int) { in.Progress(before+done, before+total+after) }
}

// recover inverts the classes that alone were asked for: triggers, and no verdict.
func (inv Inversion) recover(ctx context.Context, in Input, optimise, measure []int) (*Finding, error) {
	r := &Finding{Suspect: -1, Index: math.NaN(), Classes: make([]ClassResult, len(in.Model.Classes))}
	for c := range r.Classes {
		r.Classes[c] = ruledOut()
	}
	return r, inv.finish(ctx, in, r, in.Only, optimise, measure)
}

// midway are the images that a trial's Midway is taken on.
func (inv Inversion) midway(in Input, optimise []int) []int {
	order := inv.order(random.Named("invert", in.Seed), optimise)
	return order[inv.Rounds/2*inv.Batch : inv.Rounds*inv.Batch]
}
