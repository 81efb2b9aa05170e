package inspector

import (
	"context"
	"fmt"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/engine"
)

// Arms are classes whose inversions advance one at a time, in an order that is decided on the way: what a bandit over classes needs.
// Each has variables, an optimiser and a controller of its own, so that its result depends only on how many rounds it has had.
type Arms struct {
	s      *session
	order  []int
	arms   []arm
	loaded int // the arm whose variables are on the device
	passes int64
}

type arm struct {
	class, rounds int
	control       Controller
	kept          [3][]*tensor.Dense // variables and Adam's moments, while another arm is on the device
}

// Arms begins the inversion of some of the model's classes on the pool's images with the given indices. Controllers are made in
// the order of the classes. An arm may take Rounds rounds; the classes are numbered as given from here on.
func (inv *Inversion) Arms(in Input, classes, optimise []int) (*Arms, error) {
	if len(optimise) < inv.Batch {
		return nil, fmt.Errorf("%d pool images to optimise on are fewer than a batch of %d", len(optimise), inv.Batch)
	}
	rng := rand.New(rand.NewPCG(in.Seed, 0x696e76657274))
	start := inv.Start(in.Pool.Shape()[2], rng)
	a := &Arms{order: inv.order(rng, optimise), loaded: -1}
	moment := make([]*tensor.Dense, len(start))
	for i, t := range start {
		moment[i] = t.Clone().(*tensor.Dense)
		moment[i].Zero()
	}
	for _, c := range classes {
		a.arms = append(a.arms, arm{class: c, control: inv.Control(), kept: [3][]*tensor.Dense{start, moment, moment}})
	}
	var err error
	a.s, err = inv.newSession(in, 1, start)
	return a, err
}

// order draws the images of all steps, an epoch after the other.
func (inv *Inversion) order(rng *rand.Rand, optimise []int) (order []int) {
	for len(order) < inv.Rounds*inv.Steps*inv.Batch {
		epoch := rng.Perm(len(optimise))
		for _, i := range epoch[:len(epoch)/inv.Batch*inv.Batch] {
			order = append(order, optimise[i])
		}
	}
	return order
}

// Free gives the device memory back.
func (a *Arms) Free() { a.s.free() }

// Advance takes the arm through one round and tells what its controller says of it: whether it is done.
func (a *Arms) Advance(ctx context.Context, i int) (done bool, err error) {
	s, arm := a.s, &a.arms[i]
	if err := a.load(i); err != nil {
		return false, err
	}
	if err := s.cost.Buffer.Write(0, []float32{float32(arm.control.Cost())}); err != nil {
		return false, err
	}
	index := make([]float32, s.inv.Batch)
	var loss, hits, penalty [1]float64
	for step := range s.inv.Steps {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		at := (arm.rounds*s.inv.Steps + step) * s.inv.Batch
		for j := range index {
			index[j] = float32(a.order[at+j])
		}
		if err := s.step.Write(s.index, index); err != nil {
			return false, err
		}
		if err := s.step.Run(); err != nil {
			return false, err
		}
		a.passes += int64(s.inv.Batch)
		share := 1 / float64(s.inv.Steps)
		if err := accumulate(s.step, s.loss, loss[:], share); err != nil {
			return false, err
		}
		if err := accumulate(s.step, s.hits, hits[:], share); err != nil {
			return false, err
		}
		if err := accumulate(s.step, s.penalty, penalty[:], share); err != nil {
			return false, err
		}
	}
	arm.rounds++
	return arm.control.Round(Round{
		Loss: loss[0], Penalty: penalty[0], ASR: hits[0],
		Before: func() ([]*tensor.Dense, error) { return s.read(s.before, 0) },
		After:  func() ([]*tensor.Dense, error) { return s.read(s.vars, 0) },
		Set:    func(v []*tensor.Dense) error { return s.write(0, v) },
	})
}

// load puts an arm's variables, moments and target on the device, in the place of those of the arm before.
func (a *Arms) load(i int) (err error) {
	s := a.s
	if a.loaded == i {
		return nil
	}
	if a.loaded >= 0 {
		kept := &a.arms[a.loaded].kept
		for j := range kept {
			if kept[j], err = s.read(s.state()[j], 0); err != nil {
				return err
			}
		}
	}
	for j, kept := range a.arms[i].kept {
		for n, array := range s.state()[j] {
			if err := array.Buffer.Write(0, floats(kept[n])); err != nil {
				return err
			}
		}
	}
	a.loaded = i
	if err := s.counter.Buffer.Write(0, []float32{float32(a.arms[i].rounds * s.inv.Steps)}); err != nil {
		return err
	}
	return s.step.Write(s.target, s.targets(a.arms[i].class, 1))
}

// Finish measures what each arm's controller kept on images that no arm has seen. It returns the outcomes by arm and the number of
// images that have gone through the model for all arms.
func (a *Arms) Finish(ctx context.Context, measure []int) ([]Outcome, int64, error) {
	if len(measure) == 0 {
		return nil, 0, fmt.Errorf("no pool images left to measure on")
	}
	outcomes := make([]Outcome, len(a.arms))
	for i, arm := range a.arms {
		if err := a.load(i); err != nil {
			return nil, 0, err
		}
		o := &outcomes[i]
		o.Rounds = arm.rounds
		var err error
		if o.Variables, o.Reached = arm.control.Best(); o.Variables == nil {
			if o.Variables, err = a.s.read(a.s.vars, 0); err != nil {
				return nil, 0, err
			}
		}
		if err := a.s.write(0, o.Variables); err != nil {
			return nil, 0, err
		}
		p, err := a.s.measure(ctx, outcomes[i:i+1], arm.class, measure)
		if err != nil {
			return nil, 0, err
		}
		a.passes += p
	}
	return outcomes, a.passes, nil
}

// state is what a class carries from step to step: variables and moments.
func (s *session) state() [3][]engine.Array { return [3][]engine.Array{s.vars, s.m, s.v} }
