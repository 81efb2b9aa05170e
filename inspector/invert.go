package inspector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/triggers"
)

// Inversion is how a detector reconstructs a trigger: what is optimised, towards what, how long. One loop serves all detectors.
// C classes share a step, each with variables and an optimiser of its own, on the same B images, so that a class's result does
// not depend on the others. Now and then those that go on are grouped anew: classes that are done, or stopped (see Halving), make room.
type Inversion struct {
	// Start draws the variables of one class for images of side size; every class starts from the same draw.
	Start func(size int, rng *rand.Rand) []*tensor.Dense
	// Apply records the triggered images [C,B,3,S,S] of pixels [1,B,3,S,S] for variables [C,...].
	Apply func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value
	// Loss records the objective of each row of logits [R,K] against the class it aims at [R].
	Loss func(logits, target autodiff.Value) autodiff.Value
	// Penalty records what the cost weighs for each class, [C]; nil for none.
	Penalty func(v []autodiff.Value) autodiff.Value
	// Project records the variables after a step, brought back into their bounds; nil for none.
	Project func(v []autodiff.Value) []autodiff.Value
	// Trigger makes a trigger of the final variables of one class.
	Trigger func(v []*tensor.Dense) triggers.Trigger

	// Reference, when not nil, is a model over the same CLIP and classes whose logits, times Contrast, are taken from the
	// model's in the objective: what moves both alike does not count. Success is judged by the model alone.
	Reference *prompts.Model
	Contrast  float64

	Adam    autodiff.AdamConfig
	Rates   []float32 // learning rate of each step; the last one repeats
	Batch   int       // images a step
	Steps   int       // steps of a round, over which loss and ASR are averaged for the controller
	Rounds  int       // rounds at most
	Control func() Controller
	Halving *Halving // nil for none; for inversions without a Controller
}

// Halving is successive halving over classes (Jamieson and Talwalkar, AISTATS 2016): all start, and at each rung only the most
// suspicious go on. Rung i of R, counted from 1, lies at the share Keep^(R+1-i) of the rounds, so that the stretches between rungs
// cost about the same.
type Halving struct {
	Rungs int
	Keep  float64 // share of the classes that go on from a rung, and at least 3 classes
	// Suspicion tells which of the given classes go on: those for which it is highest at their losses at the rung.
	Suspicion func(classes []int, losses []float64) []float64
}

// fewest is how many classes are inverted to the end at least: a median of fewer says nothing about the others (see atTheEnd).
const fewest = 3

// rungs returns after how many rounds classes are stopped, ascending, each within [1, rounds).
func (h *Halving) rungs(rounds int) []int {
	var at []int
	for i := h.Rungs; i > 0; i-- {
		r := max(1, int(math.Round(float64(rounds)*math.Pow(h.Keep, float64(i)))))
		if r < rounds && (len(at) == 0 || r > at[len(at)-1]) {
			at = append(at, r)
		}
	}
	return at
}

// left returns how many of n classes go on from a rung.
func (h *Halving) left(n int) int {
	return min(n, max(fewest, int(math.Ceil(h.Keep*float64(n)))))
}

// Rounds returns how many rounds n classes take together where each takes so many when it goes on to the end, and how many do.
func (h *Halving) Rounds(n, rounds int) (all, left int) {
	from := 0
	for _, at := range h.rungs(rounds) {
		all += n * (at - from)
		from, n = at, h.left(n)
	}
	return all + n*(rounds-from), n
}

// keep returns the classes that go on from a rung, in their order.
func (h *Halving) keep(active []*class) []*class {
	n := h.left(len(active))
	if n == len(active) {
		return active
	}
	classes, losses := make([]int, len(active)), make([]float64, len(active))
	for i, c := range active {
		classes[i], losses[i] = c.target, c.Loss
	}
	suspicion := make(map[*class]float64, len(active))
	for i, v := range h.Suspicion(classes, losses) {
		suspicion[active[i]] = v
	}
	order := slices.Clone(active)
	slices.SortStableFunc(order, func(a, b *class) int { return cmp.Compare(suspicion[b], suspicion[a]) })
	for _, c := range order[n:] {
		c.Stopped, c.moments = true, nil
	}
	return slices.DeleteFunc(slices.Clone(active), func(c *class) bool { return c.Stopped })
}

// Controller follows the inversion of one class and steers it.
type Controller interface {
	// Cost is the weight of the penalty in the next round.
	Cost() float64
	// Round is told how a round went and tells whether the class is done.
	Round(r Round) (done bool, err error)
	// Best returns the variables to keep, nil for the last ones, and whether the method's own ASR bound was reached.
	Best() (v []*tensor.Dense, reached bool)
}

// Round is what a controller learns about a round: loss without penalty, penalty and ASR, averaged over the round's steps, each
// taken before the step's update.
type Round struct {
	Loss, Penalty, ASR float64
	// Before and After return the variables before and after the last update.
	Before, After func() ([]*tensor.Dense, error)
	// Set replaces the variables.
	Set func(v []*tensor.Dense) error
}

// Outcome is the inversion of one class.
type Outcome struct {
	Variables []*tensor.Dense
	// Loss and ASR are mean objective and success rate on the measuring images. Those of a class that was stopped are of the
	// optimising images, see Rungs.
	Loss, ASR float64
	Reached   bool
	Rounds    int
	Stopped   bool
	// Rungs holds the mean objective at each rung that the class came to: over the second half of the rounds since the rung
	// before, each step's images before its update. All classes see the same images, and in the first epoch none of them has
	// been optimised on.
	Rungs []float64
}

// class is a class under inversion: where it stands while others share the step.
type class struct {
	Outcome
	target  int
	place   int               // in the step, see groups
	moments [][]*tensor.Dense // Adam's m and v; nil before the first step and after the last one
	control Controller        // nil for none
	done    bool
}

// atOnce is how many triggered images a step aims to put through the model together; it decides how many classes share a step. A
// device that takes more to fill says so by a method AtOnce.
func atOnce(e engine.Engine) int {
	if d, ok := e.(interface{ AtOnce() int }); ok {
		return d.AtOnce()
	}
	return 64
}

// regroup is how many rounds controllers steer between two groupings of the classes that are not done: often enough for finished
// classes to cost little, seldom enough for moving variables and moments to cost less.
const regroup = 25

// spans returns the rounds after which the classes that go on are grouped anew, ascending; the last one is inv.Rounds.
func (inv *Inversion) spans() (ends []int) {
	switch {
	case inv.Control != nil:
		for r := regroup; r < inv.Rounds; r += regroup {
			ends = append(ends, r)
		}
	case inv.Halving != nil:
		ends = inv.Halving.rungs(inv.Rounds)
	}
	return append(ends, inv.Rounds)
}

// Run inverts every class of the model on the pool's images with the given indices and measures on others. It returns the
// outcomes by class and the number of images that went through the model.
func (inv *Inversion) Run(ctx context.Context, in Input, optimise, measure []int) ([]Outcome, int64, error) {
	if len(optimise) < inv.Batch {
		return nil, 0, fmt.Errorf("%d pool images to optimise on are fewer than a batch of %d", len(optimise), inv.Batch)
	}
	if len(measure) == 0 {
		return nil, 0, fmt.Errorf("no pool images left to measure on")
	}
	rng := random.Named("invert", in.Seed)
	start := inv.Start(in.Pool.Shape()[2], rng)
	order := inv.order(rng, optimise)
	classes := make([]*class, len(in.Model.Classes))
	for t := range classes {
		classes[t] = &class{target: t}
		if inv.Control != nil {
			classes[t].control = inv.Control()
		}
	}
	s, err := inv.fit(in, len(classes), start)
	if err != nil {
		return nil, 0, err
	}
	defer func() { s.free() }()
	settle(classes, s.c)
	var passes int64
	told := 0 // of so many classes
	tell := func(n int) {
		if in.Progress != nil && n > told {
			in.Progress(n, len(classes))
			told = n
		}
	}
	active, from := classes, 0
	for _, to := range inv.spans() {
		behind := len(classes) - len(active)
		tell(behind)
		for _, group := range groups(active, s.c) {
			p, err := s.advance(ctx, group, from, to, order)
			if err != nil {
				return nil, 0, err
			}
			passes += p
			if behind += len(group); to == inv.Rounds {
				tell(behind)
			}
		}
		from = to
		if active = slices.DeleteFunc(slices.Clone(active), func(c *class) bool { return c.done }); len(active) == 0 {
			break
		}
		if inv.Halving != nil && to < inv.Rounds {
			active = inv.Halving.keep(active)
			if lanes(len(active), s.most) != s.c {
				s.free()
				if s, err = inv.fit(in, len(active), start); err != nil {
					return nil, 0, err
				}
			}
			settle(active, s.c)
		}
	}
	tell(len(classes))
	ended := slices.DeleteFunc(slices.Clone(classes), func(c *class) bool { return c.Stopped })
	for _, c := range ended {
		if c.control != nil {
			best, reached := c.control.Best()
			if c.Reached = reached; best != nil {
				c.Variables = best
			}
		}
	}
	for _, group := range groups(ended, s.c) {
		p, err := s.measure(ctx, group, measure)
		if err != nil {
			return nil, 0, err
		}
		passes += p
	}
	outcomes := make([]Outcome, len(classes))
	for t, c := range classes {
		outcomes[t] = c.Outcome
	}
	return outcomes, passes, nil
}

// lanes returns how many of n classes share a step, at most most: groups are even, since the last one's idle places cost as much as
// its classes.
func lanes(n, most int) int {
	groups := (n + most - 1) / most
	return (n + groups - 1) / groups
}

// settle gives classes their places in steps of c classes.
func settle(classes []*class, c int) {
	for i, x := range classes {
		x.place = i % c
	}
}

// groups deals classes out to as few steps of c as it takes with each in its own place. It keeps that while others are done and leave,
// since the rounding of a product differs with the row: so its result is the same to the bit, whoever shares the step. At a rung of
// halving, where the others decide anyway whether a class goes on, those that do are settled anew.
func groups(classes []*class, c int) (out [][]*class) {
	next := make([]int, c) // group with the first free spot at a place
	for _, x := range classes {
		if next[x.place] == len(out) {
			out = append(out, nil)
		}
		out[next[x.place]] = append(out[next[x.place]], x)
		next[x.place]++
	}
	return out
}

// fit compiles the inversion of n classes, in groups as large as the device wants and its memory allows. The size of a group changes
// no class's batch, and its result only by the rounding of products of another height.
func (inv *Inversion) fit(in Input, n int, start []*tensor.Dense) (*session, error) {
	most := max(1, atOnce(in.Model.CLIP.Engine())/inv.Batch)
	for {
		c := lanes(n, most)
		s, err := inv.newSession(in, c, start)
		if err == nil {
			s.most = most
			return s, nil
		}
		if !errors.Is(err, engine.ErrMemory) || c == 1 {
			return nil, err
		}
		most = c / 2
	}
}

// atTheEnd returns the loss of each class at the end of the inversion: as measured, or for one that was stopped at a rung with L_r,
// the L with
//
//	ln(floor + L) = ln(floor + L_r) + median over the classes inverted to the end of ( ln(floor + L_c) - ln(floor + L_c,r) ),
//
// what it would have come to had it gone on as they did on the median, but no less than the least of theirs: nobody has seen it reach that.
// Losses at a rung are of the same images for all, those at the end of the measuring images: the median also stands for the
// difference between the two.
func atTheEnd(outcomes []Outcome, floor float64) []float64 {
	loss, least := make([]float64, len(outcomes)), math.Inf(1)
	for t, o := range outcomes {
		loss[t] = o.Loss
		if !o.Stopped {
			least = math.Min(least, o.Loss)
		}
	}
	for t, o := range outcomes {
		if !o.Stopped {
			continue
		}
		r := len(o.Rungs) - 1
		var fall []float64
		for _, e := range outcomes {
			if !e.Stopped {
				fall = append(fall, math.Log((floor+e.Loss)/(floor+e.Rungs[r])))
			}
		}
		loss[t] = math.Max(least, (floor+o.Rungs[r])*math.Exp(median(fall))-floor)
	}
	return loss
}

func floats(t *tensor.Dense) []float32 { return t.Data().([]float32) }
