package inspector

import (
	"context"
	"fmt"
	"math/rand/v2"

	"clipinspector/internal/random"
)

// Arms are classes whose inversions advance one at a time, in an order that is decided on the way:
// what a bandit over classes needs. Each has variables, an optimiser and a controller of its own,
// so that its result depends only on how many rounds it has had.
type Arms struct {
	s      *session
	order  []int
	arms   []*class
	passes int64
}

// Arms begins the inversion of some of the model's classes on the pool's images with the given
// indices. Controllers are made in the order of the classes. An arm may take Rounds rounds; the
// classes are numbered as given from here on.
func (inv *Inversion) Arms(in Input, classes, optimise []int) (*Arms, error) {
	if len(optimise) < inv.Batch {
		return nil, fmt.Errorf("%d pool images to optimise on are fewer than a batch of %d", len(optimise), inv.Batch)
	}
	rng := random.Named("invert", in.Seed)
	start := inv.Start(in.Pool.Shape()[2], rng)
	a := &Arms{order: inv.order(rng, optimise)}
	for _, c := range classes {
		a.arms = append(a.arms, &class{target: c, control: inv.Control(), Outcome: Outcome{Variables: start}})
	}
	var err error
	a.s, err = inv.fit(in, 1, start)
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

// Advance takes the arm through one round and tells what its controller says of it: whether it is
// done.
func (a *Arms) Advance(ctx context.Context, i int) (done bool, err error) {
	c := a.arms[i]
	c.done = false // a bandit may come back to an arm that is
	p, err := a.s.advance(ctx, []*class{c}, c.Rounds, c.Rounds+1, a.order)
	a.passes += p
	return c.done, err
}

// Finish measures what each arm's controller kept on images that no arm has seen. It returns the
// outcomes by arm and the number of images that have gone through the model for all arms.
func (a *Arms) Finish(ctx context.Context, measure []int) ([]Outcome, int64, error) {
	if len(measure) == 0 {
		return nil, 0, fmt.Errorf("no pool images left to measure on")
	}
	outcomes := make([]Outcome, len(a.arms))
	for i, c := range a.arms {
		best, reached := c.control.Best()
		if c.Reached = reached; best != nil {
			c.Variables = best
		}
		p, err := a.s.measure(ctx, []*class{c}, measure)
		if err != nil {
			return nil, 0, err
		}
		a.passes += p
		outcomes[i] = c.Outcome
	}
	return outcomes, a.passes, nil
}
