package inspector

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine"
	"clipinspector/internal/memory"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/triggers"
)

// Inversion is how a detector reconstructs a trigger: what is optimised, towards what, how long.
// One loop serves all detectors. C classes share a step, each with variables and an optimiser of
// its own, on the same B images, so that a class's result does not depend on the others. Now and
// then those that go on are grouped anew: classes that are done make room.
type Inversion struct {
	// Start draws the variables of one class for images of side size; every class starts from the
	// same draw.
	Start func(size int, rng *rand.Rand) []*tensor.Dense
	// Apply records the triggered images [C,B,3,S,S] of pixels [1,B,3,S,S] for variables [C,...].
	Apply func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value
	// Loss records the objective of each row of logits [R,K] against the class it aims at [R].
	Loss func(logits, target autodiff.Value) autodiff.Value
	// Penalty records what is added to the objective of each class, [C], times the Cost of its
	// Controller; nil for none. It needs Control.
	Penalty func(v []autodiff.Value) autodiff.Value
	// Project records the variables after a step, brought back into their bounds; nil for none.
	Project func(v []autodiff.Value) []autodiff.Value
	// Trigger makes a trigger of the final variables of one class.
	Trigger func(v []*tensor.Dense) triggers.Trigger

	// Reference, when not nil, is a model over the same CLIP and classes whose logits, times
	// Contrast, are taken from the model's in the objective: what moves both alike does not count.
	// Success is judged by the model alone.
	Reference *prompts.Model
	Contrast  float64

	Adam    autodiff.AdamConfig
	Rates   []float32 // learning rate of each step; the last one repeats
	Batch   int       // images a step
	Steps   int       // steps of a round, over which loss and ASR are averaged for the controller
	Rounds  int       // rounds at most
	Control func() Controller

	// Random, when not nil, is what Start and the order of the images are drawn from, in the place
	// of a stream of Input.Seed's own.
	Random *rand.Rand
	// Targets are the classes to invert; nil for all.
	Targets []int
	// Checkpoint, where it is not 0, is the round after which Outcome.Midway is taken; for
	// inversions without a Controller.
	Checkpoint int
	// Stop, where it is not 0, is the round after which all classes end, before the schedule does:
	// nothing is measured, and no variables are kept.
	Stop int
}

// Controller follows the inversion of one class and steers it.
type Controller interface {
	// Cost is the weight of the penalty in the next round.
	Cost() float64
	// Round is told how a round went and tells whether the class is done.
	Round(r Round) (done bool, err error)
	// Best returns the variables to keep, nil for the last ones, and whether the method's own ASR
	// bound was reached.
	Best() (v []*tensor.Dense, reached bool)
}

// Round is what a controller learns about a round: loss without penalty, penalty and ASR, averaged
// over the round's steps, each taken before the step's update.
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
	// Loss and ASR are mean objective and success rate on the measuring images; 0 where the
	// inversion was stopped.
	Loss, ASR float64
	Reached   bool
	Rounds    int
	// Midway is the mean objective over the second half of the rounds up to the checkpoint, each
	// step's images before its update. All classes see the same images, and in the first epoch none
	// of them has been optimised on.
	Midway float64
	// MidwayASR is the success rate on those images.
	MidwayASR float64
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

// atOnce is how many triggered images a step aims to put through the model together; it decides how
// many classes share a step. A device that takes more to fill says so by a method AtOnce.
func atOnce(e engine.Engine) int {
	if d, ok := e.(interface{ AtOnce() int }); ok {
		return d.AtOnce()
	}
	return 64
}

// regroup is how many rounds controllers steer between two groupings of the classes that are not
// done: often enough for finished classes to cost little, seldom enough for moving variables and
// moments to cost less.
const regroup = 25

// last is the round after which every class has ended.
func (inv *Inversion) last() int {
	if inv.Stop > 0 {
		return min(inv.Stop, inv.Rounds)
	}
	return inv.Rounds
}

// spans returns the rounds after which the classes that go on are grouped anew, ascending; the last
// one is last().
func (inv *Inversion) spans() (ends []int) {
	switch last := inv.last(); {
	case inv.Control != nil:
		for r := regroup; r < last; r += regroup {
			ends = append(ends, r)
		}
	case inv.Checkpoint > 0 && inv.Checkpoint < last:
		ends = []int{inv.Checkpoint}
	}
	return append(ends, inv.last())
}

// Run inverts every class of the model, or its Targets, on the pool's images with the given indices
// and measures on others. It returns the outcomes by class and the number of images that went
// through the model.
func (inv *Inversion) Run(ctx context.Context, in Input, optimise, measure []int) ([]Outcome, int64, error) {
	if len(optimise) < inv.Batch {
		return nil, 0, fmt.Errorf("%d pool images to optimise on are fewer than a batch of %d", len(optimise), inv.Batch)
	}
	if len(measure) == 0 {
		return nil, 0, fmt.Errorf("no pool images left to measure on")
	}
	if inv.Penalty != nil && inv.Control == nil {
		return nil, 0, errors.New("the inversion has a Penalty and no Control, whose Cost weighs it: a fixed weight belongs into Loss or into a Controller")
	}
	rng := inv.Random
	if rng == nil {
		rng = random.Named("invert", in.Seed)
	}
	start := inv.Start(in.Pool.Shape()[2], rng)
	targets := inv.Targets
	if targets == nil {
		targets = everyView(len(in.Model.Classes), 1)
	}
	classes := make([]*class, len(targets))
	for t := range classes {
		classes[t] = &class{target: targets[t]}
		if inv.Control != nil {
			classes[t].control = inv.Control()
		}
	}
	return inv.run(ctx, in, classes, start, inv.order(rng, optimise), measure)
}

// run is Run for inversions that are already set up: several may aim at one class, each from
// variables of its own. Without measuring images nothing is measured.
func (inv *Inversion) run(ctx context.Context, in Input, classes []*class, start []*tensor.Dense, order, measure []int) ([]Outcome, int64, error) {
	left, err := inv.recall(in, classes, start)
	if err != nil {
		return nil, 0, err
	}
	passes := int64(len(classes)-len(left)) * int64(inv.last()*inv.Steps*inv.Batch)
	if inv.Stop == 0 {
		passes += int64((len(classes) - len(left)) * len(measure))
	}
	told := 0 // of so many classes
	tell := func(n int) {
		if in.Progress != nil && n > told {
			in.Progress(n, len(classes))
			told = n
		}
	}
	if len(left) > 0 {
		s, err := inv.fit(in, len(classes), start)
		if err != nil {
			return nil, 0, err
		}
		defer func() { s.free() }()
		settle(classes, s.c)
		parts := [][]*class{left}
		if inv.keeps(in) { // one group after the other, each to its end
			parts = groups(left, s.c)
		}
		behind := len(classes) - len(left)
		for _, part := range parts {
			p, err := s.invert(ctx, part, order, measure, func(n int) { tell(behind + n) })
			if err == nil {
				err = inv.keep(in, part)
			}
			if err != nil {
				return nil, 0, err
			}
			passes, behind = passes+p, behind+len(part)
		}
	}
	tell(len(classes))
	outcomes := make([]Outcome, len(classes))
	for t, c := range classes {
		outcomes[t] = c.Outcome
	}
	return outcomes, passes, nil
}

// invert takes classes from the start to the end, and measures them. It returns how many images
// went through the model.
func (s *session) invert(ctx context.Context, classes []*class, order, measure []int, tell func(done int)) (passes int64, err error) {
	inv := s.inv
	active, from := classes, 0
	for _, to := range inv.spans() {
		behind := len(classes) - len(active)
		tell(behind)
		for _, group := range groups(active, s.c) {
			p, err := s.advance(ctx, group, from, to, order)
			if err != nil {
				return 0, err
			}
			passes += p
			if behind += len(group); to == inv.last() {
				tell(behind)
			}
		}
		from = to
		if active = slices.DeleteFunc(slices.Clone(active), func(c *class) bool { return c.done }); len(active) == 0 {
			break
		}
	}
	for _, c := range classes {
		if c.control != nil {
			best, reached := c.control.Best()
			if c.Reached = reached; best != nil {
				c.Variables = best
			}
		}
	}
	if inv.Stop > 0 || len(measure) == 0 {
		return passes, nil
	}
	for _, group := range groups(classes, s.c) {
		p, err := s.measure(ctx, group, measure)
		if err != nil {
			return 0, err
		}
		passes += p
	}
	return passes, nil
}

// lanes returns how many of n classes share a step, at most most: groups are even, since the last
// one's idle places cost as much as its classes.
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

// groups deals classes out to as few steps of c as it takes with each in its own place. It keeps
// that while others are done and leave, since the rounding of a product differs with the row: so
// its result is the same to the bit, whoever shares the step.
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

// fit compiles the inversion of n classes, in groups as large as the device wants and its memory
// allows, or of one class with its batch in parts. The size of a group changes no class's batch,
// and its result only by the rounding of products of another height, which on the CPU is the same.
func (inv *Inversion) fit(in Input, n int, start []*tensor.Dense) (*session, error) {
	most, part, room := max(1, atOnce(in.Model.CLIP.Engine())/inv.Batch), inv.Batch, roomOn(in.Model.CLIP.Engine())
	for {
		c := lanes(n, most)
		s, err := inv.newSession(in, c, part, room, start)
		if err == nil {
			s.most = most
			return s, nil
		}
		switch {
		case !errors.Is(err, engine.ErrMemory):
			return nil, err
		case c > 1:
			most = c / 2
		case part > 1:
			for part--; inv.Batch%part != 0; part-- {
			}
		case room < math.MaxInt64: // the wish cannot be met
			room = math.MaxInt64
		default:
			return nil, err
		}
	}
}

// mostRoom is how many bytes the intermediate values of a step take at most where the device is the
// host, whose memory others need as well: larger steps are no faster. They take half of what is
// free at most.
const mostRoom = 320 << 20

// roomOn is how many bytes the intermediate values of a step should take on a device. One that says
// how many images fill it has memory of its own, and says so when that runs out.
func roomOn(e engine.Engine) int64 {
	if _, own := e.(interface{ AtOnce() int }); own {
		return math.MaxInt64
	}
	return min(mostRoom, memory.Free()/2)
}
