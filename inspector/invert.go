package inspector

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/prompts"
	"clipinspector/triggers"
)

// Inversion is how a detector reconstructs a trigger: what is optimised, towards what, how long. One loop serves all detectors.
// C classes are inverted at once, each with variables and an optimiser of its own, on the same B images of a step, so
// that a class's result does not depend on the others.
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
	Loss, ASR float64 // on the measuring images: mean objective and success rate
	Reached   bool
	Rounds    int
}

// atOnce is how many triggered images a step aims to put through the model together; it decides how many classes share a step. A
// device that takes more to fill says so by a method AtOnce.
func atOnce(e engine.Engine) int {
	if d, ok := e.(interface{ AtOnce() int }); ok {
		return d.AtOnce()
	}
	return 64
}

// Run inverts every class of the model on the pool's images with the given indices and measures on others. It returns the
// outcomes by class and the number of images that went through the model.
func (inv *Inversion) Run(ctx context.Context, in Input, optimise, measure []int) ([]Outcome, int64, error) {
	k := len(in.Model.Classes)
	if len(optimise) < inv.Batch {
		return nil, 0, fmt.Errorf("%d pool images to optimise on are fewer than a batch of %d", len(optimise), inv.Batch)
	}
	if len(measure) == 0 {
		return nil, 0, fmt.Errorf("no pool images left to measure on")
	}
	rng := rand.New(rand.NewPCG(in.Seed, 0x696e76657274))
	start := inv.Start(in.Pool.Shape()[2], rng)
	order := inv.order(rng, optimise)
	most := max(1, atOnce(in.Model.CLIP.Engine())/inv.Batch)
	var s *session
	var c int
	var err error
	for {
		groups := (k + most - 1) / most
		c = (k + groups - 1) / groups // even groups: the last one's idle places cost as much as its classes
		if s, err = inv.newSession(in, c, start); err == nil {
			break
		}
		if !errors.Is(err, engine.ErrMemory) || c == 1 {
			return nil, 0, err
		}
		most = c / 2 // fewer classes share a step; each one's batch and result stay what they are
	}
	defer s.free()
	outcomes := make([]Outcome, k)
	var passes int64
	for from := 0; from < k; from += c {
		n := min(c, k-from)
		p, err := s.invert(ctx, outcomes[from:from+n], from, order)
		if err != nil {
			return nil, 0, err
		}
		passes += p
		if p, err = s.measure(ctx, outcomes[from:from+n], from, measure); err != nil {
			return nil, 0, err
		}
		passes += p
		if in.Progress != nil {
			in.Progress(from+n, k)
		}
	}
	return outcomes, passes, nil
}

// session is one compiled inversion of c classes at once, used for one group of classes after the other.
type session struct {
	inv   *Inversion
	in    Input
	c     int
	start []*tensor.Dense
	owned []engine.Array

	pool              engine.Array   // [N,3*S*S]
	vars, m, v        []engine.Array // [C,...]
	before            []engine.Array // variables before the last update, where a controller may ask
	counter, cost     engine.Array   // [1], [C]
	step              *autodiff.Program
	index, target     autodiff.Value // [B], [C*B]
	loss, hits        autodiff.Value // [C] means over the step's images
	penalty           autodiff.Value // [C]
	probe             *autodiff.Program
	probeIndex        autodiff.Value
	probeTarget       autodiff.Value
	probeLoss, probed autodiff.Value // [C*B]
}

func (s *session) free() {
	for _, p := range []*autodiff.Program{s.step, s.probe} {
		if p != nil {
			p.Free()
		}
	}
	for _, a := range s.owned {
		a.Free()
	}
}

func (s *session) array(data []float32, shape ...int) (engine.Array, error) {
	a, err := engine.UploadSlice(s.in.Model.CLIP.Engine(), data, shape...)
	if err == nil {
		s.owned = append(s.owned, a)
	}
	return a, err
}

func (inv *Inversion) newSession(in Input, c int, start []*tensor.Dense) (s *session, err error) {
	s = &session{inv: inv, in: in, c: c, start: start}
	defer func() {
		if err != nil {
			s.free()
		}
	}()
	shape := in.Pool.Shape()
	if s.pool, err = s.array(floats(in.Pool), shape[0], shape[1]*shape[2]*shape[3]); err != nil {
		return s, err
	}
	for _, t := range start {
		size := t.Shape().TotalSize()
		for _, list := range []*[]engine.Array{&s.vars, &s.m, &s.v, &s.before} {
			a, err := s.array(make([]float32, c*size), append([]int{c}, t.Shape()...)...)
			if err != nil {
				return s, err
			}
			*list = append(*list, a)
		}
	}
	if s.counter, err = s.array([]float32{0}, 1); err != nil {
		return s, err
	}
	if s.cost, err = s.array(make([]float32, c), c); err != nil {
		return s, err
	}
	if err = s.recordStep(); err != nil {
		return s, err
	}
	return s, s.recordProbe()
}

// logits records the logits [C*B,K] of the step's images with every class's trigger, and what the objective sees of them.
func (s *session) logits(g *autodiff.Graph, index autodiff.Value, vars []autodiff.Value) (logits, contrast autodiff.Value, err error) {
	r, err := s.in.Model.Record(g)
	if err != nil {
		return logits, contrast, err
	}
	size, b := s.in.Pool.Shape()[2], index.Size()
	pixels := g.Bind(s.pool).Gather(index).Reshape(1, b, 3, size, size)
	x := s.inv.Apply(pixels, vars).Reshape(s.c*b, 3, size, size)
	features := r.Features(x)
	logits = r.Logits(features)
	if s.inv.Reference == nil || s.inv.Contrast == 0 {
		return logits, logits, nil
	}
	if s.in.Model.Learner.Image != nil { // the reference sees the image through the untouched tower
		features = r.Towers.Image(x, clip.ImagePrompts{})
	}
	reference, err := referenceLogits(s.inv.Reference, g, features)
	if err != nil {
		return logits, contrast, err
	}
	return logits, logits.Sub(reference.Scale(s.inv.Contrast)), nil
}

func (s *session) bind(g *autodiff.Graph, arrays []engine.Array) []autodiff.Value {
	out := make([]autodiff.Value, len(arrays))
	for i, a := range arrays {
		out[i] = g.Bind(a)
	}
	return out
}

func (s *session) recordStep() error {
	g := autodiff.New(s.in.Model.CLIP.Engine())
	b, c := s.inv.Batch, s.c
	s.index, s.target = g.Input(b), g.Input(c*b)
	vars := s.bind(g, s.vars)
	logits, contrast, err := s.logits(g, s.index, vars)
	if err != nil {
		return err
	}
	s.loss = s.inv.Loss(contrast, s.target).Reshape(c, b).MeanTo(c, 1)
	s.hits = logits.ArgMax().Equal(s.target).Reshape(c, b).MeanTo(c, 1)
	total, outputs := s.loss, []autodiff.Value{s.loss, s.hits}
	if s.inv.Penalty != nil {
		s.penalty = s.inv.Penalty(vars).Reshape(c, 1)
		outputs = append(outputs, s.penalty)
		total = total.Add(s.penalty.Mul(g.Bind(s.cost).Reshape(c, 1)))
	}
	if s.inv.Control != nil {
		for i, b := range s.bind(g, s.before) {
			g.Assign(b, vars[i])
		}
	}
	grads := autodiff.Grad(total, autodiff.None, vars...)
	counter, rates := g.Bind(s.counter), g.Const(s.inv.Rates, len(s.inv.Rates))
	for i, m := range s.bind(g, s.m) {
		g.Adam(vars[i], grads[i], m, g.Bind(s.v[i]), counter, rates, s.inv.Adam)
	}
	if s.inv.Project != nil {
		for i, p := range s.inv.Project(vars) {
			g.Assign(vars[i], p)
		}
	}
	g.Advance(counter)
	s.step, err = g.Compile(outputs...)
	return err
}

func (s *session) recordProbe() error {
	g := autodiff.New(s.in.Model.CLIP.Engine())
	b := s.inv.Batch
	s.probeIndex, s.probeTarget = g.Input(b), g.Input(s.c*b)
	logits, contrast, err := s.logits(g, s.probeIndex, s.bind(g, s.vars))
	if err != nil {
		return err
	}
	s.probeLoss = s.inv.Loss(contrast, s.probeTarget)
	s.probed = logits.ArgMax().Equal(s.probeTarget)
	s.probe, err = g.Compile(s.probeLoss, s.probed)
	return err
}

// targets are the classes that the rows of a group aim at; a group that is not full repeats its last class.
func (s *session) targets(from, n int) []float32 {
	t := make([]float32, 0, s.c*s.inv.Batch)
	for i := range s.c {
		for range s.inv.Batch {
			t = append(t, float32(from+min(i, n-1)))
		}
	}
	return t
}

// invert optimises the triggers of the classes from on.
func (s *session) invert(ctx context.Context, outcomes []Outcome, from int, order []int) (int64, error) {
	inv, n := s.inv, len(outcomes)
	for i, t := range s.start {
		size := t.Shape().TotalSize()
		for j := range s.c {
			if err := s.vars[i].Buffer.Write(j*size, floats(t)); err != nil {
				return 0, err
			}
		}
		zero := make([]float32, s.c*size)
		for _, a := range []engine.Array{s.m[i], s.v[i]} {
			if err := a.Buffer.Write(0, zero); err != nil {
				return 0, err
			}
		}
	}
	if err := s.counter.Buffer.Write(0, []float32{0}); err != nil {
		return 0, err
	}
	if err := s.step.Write(s.target, s.targets(from, n)); err != nil {
		return 0, err
	}
	control := make([]Controller, n)
	done := make([]bool, n)
	for i := range control {
		if inv.Control != nil {
			control[i] = inv.Control()
		}
	}
	index := make([]float32, inv.Batch)
	cost := make([]float32, s.c)
	var passes int64
	for round, at := 0, 0; round < inv.Rounds; round++ {
		for i, c := range control {
			if c != nil {
				cost[i] = float32(c.Cost())
			}
		}
		if err := s.cost.Buffer.Write(0, cost); err != nil {
			return 0, err
		}
		loss, hits, penalty := make([]float64, s.c), make([]float64, s.c), make([]float64, s.c)
		for range inv.Steps {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			for i := range index {
				index[i] = float32(order[at+i])
			}
			at += inv.Batch
			if err := s.step.Write(s.index, index); err != nil {
				return 0, err
			}
			if err := s.step.Run(); err != nil {
				return 0, err
			}
			passes += int64(n * inv.Batch)
			if inv.Control == nil {
				continue // nobody asks
			}
			for _, sum := range []struct {
				value autodiff.Value
				to    []float64
			}{{s.loss, loss}, {s.hits, hits}, {s.penalty, penalty}} {
				if err := accumulate(s.step, sum.value, sum.to, 1/float64(inv.Steps)); err != nil {
					return 0, err
				}
			}
		}
		left := 0
		for i, c := range control {
			if c == nil || done[i] {
				continue
			}
			var err error
			done[i], err = c.Round(Round{
				Loss: loss[i], Penalty: penalty[i], ASR: hits[i],
				Before: func() ([]*tensor.Dense, error) { return s.read(s.before, i) },
				After:  func() ([]*tensor.Dense, error) { return s.read(s.vars, i) },
				Set:    func(v []*tensor.Dense) error { return s.write(i, v) },
			})
			if err != nil {
				return 0, err
			}
			outcomes[i].Rounds = round + 1
			if !done[i] {
				left++
				continue
			}
			if outcomes[i].Variables, err = s.read(s.vars, i); err != nil {
				return 0, err
			}
		}
		if inv.Control != nil && left == 0 {
			break
		}
	}
	for i, c := range control {
		var err error
		if outcomes[i].Variables == nil {
			if outcomes[i].Variables, err = s.read(s.vars, i); err != nil {
				return 0, err
			}
		}
		if c != nil {
			best, reached := c.Best()
			if outcomes[i].Reached = reached; best != nil {
				outcomes[i].Variables = best
			}
		}
		if err := s.write(i, outcomes[i].Variables); err != nil {
			return 0, err
		}
	}
	return passes, nil
}

// measure takes loss and ASR of the final triggers on images that the inversion has not seen.
func (s *session) measure(ctx context.Context, outcomes []Outcome, from int, images []int) (int64, error) {
	b, n := s.inv.Batch, len(outcomes)
	if err := s.probe.Write(s.probeTarget, s.targets(from, n)); err != nil {
		return 0, err
	}
	index := make([]float32, b)
	for at := 0; at < len(images); at += b {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		for i := range index {
			index[i] = float32(images[min(at+i, len(images)-1)]) // the last batch is filled up; the fill is not counted
		}
		if err := s.probe.Write(s.probeIndex, index); err != nil {
			return 0, err
		}
		if err := s.probe.Run(); err != nil {
			return 0, err
		}
		loss, err := s.probe.Read(s.probeLoss)
		if err != nil {
			return 0, err
		}
		hits, err := s.probe.Read(s.probed)
		if err != nil {
			return 0, err
		}
		for i := range outcomes {
			for j := range min(b, len(images)-at) {
				outcomes[i].Loss += float64(loss[i*b+j]) / float64(len(images))
				outcomes[i].ASR += float64(hits[i*b+j]) / float64(len(images))
			}
		}
	}
	return int64(n * len(images)), nil
}

func (s *session) read(from []engine.Array, i int) ([]*tensor.Dense, error) {
	out := make([]*tensor.Dense, len(s.start))
	for j, t := range s.start {
		size := t.Shape().TotalSize()
		data := make([]float32, size)
		if err := from[j].Buffer.Read(i*size, data); err != nil {
			return nil, err
		}
		out[j] = triggers.Dense(data, t.Shape()...)
	}
	return out, nil
}

func (s *session) write(i int, v []*tensor.Dense) error {
	for j, t := range v {
		if err := s.vars[j].Buffer.Write(i*t.Shape().TotalSize(), floats(t)); err != nil {
			return err
		}
	}
	return nil
}

func accumulate(p *autodiff.Program, v autodiff.Value, sum []float64, weight float64) error {
	if !v.Valid() {
		return nil
	}
	data, err := p.Read(v)
	if err != nil {
		return err
	}
	for i, x := range data {
		sum[i] += weight * float64(x)
	}
	return nil
}

func floats(t *tensor.Dense) []float32 { return t.Data().([]float32) }
