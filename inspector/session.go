package inspector

import (
	"context"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/internal/dense"
	"clipinspector/prompts"
	"clipinspector/triggers"
)

// session is a compiled inversion, used for one group of at most c classes after the other. The
// pool, c classes' variables and moments and the programs are all that is kept on the device,
// however many classes there are.
type session struct {
	inv    *Inversion
	in     Input
	c      int // classes that share a step
	most   int // and how many could, by the device's wish and memory
	part   int // images of a batch that go through the model together: all, or of a lone class fewer
	engine engine.Engine
	start  []*tensor.Dense
	zero   []*tensor.Dense // moments at the start
	owned  []engine.Array

	pool              engine.Array   // [N,3*S*S]
	vars, m, v        []engine.Array // [C,...]
	before            []engine.Array // variables before the last update, where a controller may ask
	counter, cost     engine.Array   // [1], [C]
	step              *autodiff.Program
	index, target     autodiff.Value // [B], [C*B]; without target where parts do the looking
	loss, hits        autodiff.Value // [C] means over the step's images
	penalty           autodiff.Value // [C]
	parts             *parts         // nil where the whole batch goes through at once
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
	if s.parts != nil {
		s.parts.program.Free()
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

// newSession compiles the inversion of c classes at once, part images of each class's batch going
// through the model together. It returns engine.ErrMemory where a program's intermediate values are
// larger than room, in bytes, or than what the device has.
func (inv *Inversion) newSession(in Input, c, part int, room int64, start []*tensor.Dense) (s *session, err error) {
	s = &session{inv: inv, in: in, c: c, part: part, start: start, engine: roomy{in.Model.CLIP.Engine(), room}}
	defer func() {
		if err != nil {
			s.free()
		}
	}()
	shape := in.Pool.Shape()
	if s.pool, err = engine.Share(in.Model.CLIP.Engine(), dense.Floats(in.Pool), shape[0], shape[1]*shape[2]*shape[3]); err != nil {
		return s, err
	}
	s.owned = append(s.owned, s.pool)
	for _, t := range start {
		size := t.Shape().TotalSize()
		s.zero = append(s.zero, triggers.Dense(make([]float32, size), t.Shape()...))
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

// images records the step's images [C*B,3,S,S] with every class's trigger.
func (s *session) images(g *autodiff.Graph, index autodiff.Value, vars []autodiff.Value) autodiff.Value {
	size, b := s.in.Pool.Shape()[2], index.Size()
	pixels := g.Bind(s.pool).Gather(index).Reshape(1, b, 3, size, size)
	return s.inv.Apply(pixels, vars).Reshape(s.c*b, 3, size, size)
}

// look records what the model makes of images: each one's loss and whether it goes to its target,
// [C*B].
func (s *session) look(g *autodiff.Graph, x, target autodiff.Value) (loss, hit autodiff.Value, err error) {
	r, err := s.in.Model.Record(g)
	if err != nil {
		return loss, hit, err
	}
	features := r.Features(x)
	logits := r.Logits(features)
	contrast, err := contrasted(r, x, features, logits, s.inv.Reference, s.inv.Contrast)
	if err != nil {
		return loss, hit, err
	}
	return s.inv.Loss(contrast, target), logits.ArgMax().Equal(target), nil
}

// contrasted records logits [R,K] less weight times those that a reference gives the same images;
// the logits themselves where there is nothing to take off. x [R,3,S,S] are the images and features
// [R,D] what the model's tower makes of them.
func contrasted(r *prompts.Recording, x, features, logits autodiff.Value, reference *prompts.Model, weight float64) (autodiff.Value, error) {
	if reference == nil || weight == 0 {
		return logits, nil
	}
	if r.Model.Learner.Image != nil { // the reference sees the image through the untouched tower
		features = r.Towers.Image(x, clip.ImagePrompts{})
	}
	v, err := reference.ClassVectors()
	if err != nil {
		return autodiff.None, err
	}
	z := features.MatMulT(r.Graph.Const(dense.Floats(v), v.Shape()...)).Scale(reference.CLIP.LogitScale())
	return logits.Sub(z.Scale(weight)), nil
}

func (s *session) recordStep() (err error) {
	g := autodiff.New(s.engine)
	b, c := s.inv.Batch, s.c
	s.index = g.Input(b)
	vars := g.BindAll(s.vars)
	x := s.images(g, s.index, vars)
	var loss, hit, toImages autodiff.Value
	if s.part < b {
		if s.parts, err = s.recordParts(); err != nil {
			return err
		}
		loss, hit, toImages = g.Input(b), g.Input(b), g.Input(x.Shape()...)
		s.parts.loss, s.parts.hit, s.parts.toImages = loss, hit, toImages
	} else {
		s.target = g.Input(c * b)
		if loss, hit, err = s.look(g, x, s.target); err != nil {
			return err
		}
	}
	s.loss, s.hits = loss.Reshape(c, b).MeanTo(c, 1), hit.Reshape(c, b).MeanTo(c, 1)
	total, outputs := s.loss, []autodiff.Value{s.loss, s.hits}
	if s.inv.Penalty != nil {
		s.penalty = s.inv.Penalty(vars).Reshape(c, 1)
		outputs = append(outputs, s.penalty)
		total = total.Add(s.penalty.Mul(g.Bind(s.cost).Reshape(c, 1)))
	}
	if s.inv.Control != nil {
		for i, b := range g.BindAll(s.before) {
			g.Assign(b, vars[i])
		}
	}
	var grads []autodiff.Value
	if s.parts == nil {
		grads = autodiff.Grad(total, autodiff.None, vars...)
	} else {
		grads = s.parts.gradients(x, total, vars, s.inv.Penalty != nil)
	}
	counter, rates := g.Bind(s.counter), g.Const(s.inv.Rates, len(s.inv.Rates))
	for i, m := range g.BindAll(s.m) {
		if !grads[i].Valid() { // a constant of the class, which Apply detaches
			continue
		}
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

func (s *session) recordProbe() (err error) {
	g := autodiff.New(s.engine)
	s.probeIndex, s.probeTarget = g.Input(s.part), g.Input(s.c*s.part)
	x := s.images(g, s.probeIndex, g.BindAll(s.vars))
	if s.probeLoss, s.probed, err = s.look(g, x, s.probeTarget); err != nil {
		return err
	}
	s.probe, err = g.Compile(s.probeLoss, s.probed)
	return err
}

// targets are the classes that images of a step aim at, those of a class beside each other; idle
// places aim at class 0, and nobody looks.
func (s *session) targets(group []*class) []float32 {
	t := make([]float32, s.c*s.part)
	for _, c := range group {
		for i := range s.part {
			t[c.place*s.part+i] = float32(c.target)
		}
	}
	return t
}

// load puts a group's variables and moments in place, as they were when the classes last stood in a
// step, or at the start.
func (s *session) load(group []*class) error {
	for _, c := range group {
		v, moments := c.Variables, c.moments
		if v == nil {
			v = s.start
		}
		if moments == nil {
			moments = [][]*tensor.Dense{s.zero, s.zero}
		}
		for j, t := range [][]*tensor.Dense{v, moments[0], moments[1]} {
			if err := s.write([][]engine.Array{s.vars, s.m, s.v}[j], c.place, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// save keeps the variables of class c, and with moments also those.
func (s *session) save(c *class, moments bool) (err error) {
	if c.Variables, err = s.read(s.vars, c.place); err != nil || !moments {
		c.moments = nil
		return err
	}
	c.moments = make([][]*tensor.Dense, 2)
	if c.moments[0], err = s.read(s.m, c.place); err != nil {
		return err
	}
	c.moments[1], err = s.read(s.v, c.place)
	return err
}

// advance takes a group's inversion from one round to another. Classes that are done on the way
// stay in the step, unchanged in what is kept of them, and are counted: images went through for
// them. It returns how many did.
func (s *session) advance(ctx context.Context, group []*class, from, to int, order []int) (passes int64, err error) {
	inv := s.inv
	if err := s.load(group); err != nil {
		return 0, err
	}
	if err := s.counter.Buffer.Write(0, []float32{float32(from * inv.Steps)}); err != nil {
		return 0, err
	}
	if err := s.aim(group); err != nil {
		return 0, err
	}
	var midway sums // over the second half of the rounds up to a checkpoint
	half := to
	if inv.Control == nil && to == inv.Checkpoint {
		half = to / 2
		midway = s.newSums(inv.Steps * (to - half))
	}
	for round := from; round < to; round++ {
		means := s.newSums(inv.Steps)
		if inv.Control != nil {
			if err := s.weigh(group); err != nil {
				return 0, err
			}
		}
		for step := range inv.Steps {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			if err := s.run(s.batch(order, (round*inv.Steps+step)*inv.Batch)); err != nil {
				return 0, err
			}
			passes += int64(len(group) * inv.Batch)
			switch { // where nobody asks nothing waits for the device
			case inv.Control != nil:
				err = means.add(s)
			case round >= half:
				err = midway.add(s)
			}
			if err != nil {
				return 0, err
			}
		}
		if inv.Control != nil {
			left, err := s.steer(group, means, round+1)
			if err != nil || left == 0 {
				return passes, err
			}
		}
	}
	for _, c := range group {
		if c.done {
			continue
		}
		if inv.Stop == 0 || to < inv.Stop {
			if err := s.save(c, to < inv.last()); err != nil {
				return 0, err
			}
		}
		if c.Rounds = to; half < to {
			c.Midway, c.MidwayASR = midway.loss[c.place], midway.hits[c.place]
		}
	}
	return passes, nil
}

// aim sets the classes that the next steps aim at.
func (s *session) aim(group []*class) error {
	if s.parts != nil {
		return s.parts.program.Write(s.parts.target, s.targets(group))
	}
	return s.step.Write(s.target, s.targets(group))
}

// run takes one step on the images of a batch.
func (s *session) run(batch []float32) error {
	if s.parts != nil {
		if err := s.parts.run(s.step, batch); err != nil {
			return err
		}
	}
	if err := s.step.Write(s.index, batch); err != nil {
		return err
	}
	return s.step.Run()
}

// weigh sets the cost of each class's penalty.
func (s *session) weigh(group []*class) error {
	cost := make([]float32, s.c)
	for _, c := range group {
		cost[c.place] = float32(c.control.Cost())
	}
	return s.cost.Buffer.Write(0, cost)
}

// steer tells the controllers of the classes that are not done how round number rounds went, and
// returns how many go on.
func (s *session) steer(group []*class, means sums, rounds int) (left int, err error) {
	for _, c := range group {
		if c.done {
			continue
		}
		i := c.place
		c.done, err = c.control.Round(Round{
			Loss: means.loss[i], Penalty: means.penalty[i], ASR: means.hits[i],
			Before: func() ([]*tensor.Dense, error) { return s.read(s.before, i) },
			After:  func() ([]*tensor.Dense, error) { return s.read(s.vars, i) },
			Set:    func(v []*tensor.Dense) error { return s.write(s.vars, i, v) },
		})
		if err != nil {
			return 0, err
		}
		if c.Rounds = rounds; !c.done {
			left++
		} else if err := s.save(c, false); err != nil {
			return 0, err
		}
	}
	return left, nil
}

// batch returns the images of the step that begins at a place in the order.
func (s *session) batch(order []int, at int) []float32 {
	index := make([]float32, s.inv.Batch)
	for i := range index {
		index[i] = float32(order[at+i])
	}
	return index
}

// sums are means of loss, successes and penalty of each class over a number of steps.
type sums struct {
	weight              float64
	loss, hits, penalty []float64
}

func (s *session) newSums(steps int) sums {
	return sums{1 / float64(steps), make([]float64, s.c), make([]float64, s.c), make([]float64, s.c)}
}

// add adds what the last step gave.
func (m sums) add(s *session) error {
	for _, x := range []struct {
		value autodiff.Value
		to    []float64
	}{{s.loss, m.loss}, {s.hits, m.hits}, {s.penalty, m.penalty}} {
		if err := accumulate(s.step, x.value, x.to, m.weight); err != nil {
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

// measure takes loss and ASR of the final triggers on images that the inversion has not seen.
func (s *session) measure(ctx context.Context, group []*class, images []int) (int64, error) {
	b := s.part
	for _, c := range group {
		c.Loss, c.ASR = 0, 0
		if err := s.write(s.vars, c.place, c.Variables); err != nil {
			return 0, err
		}
	}
	if err := s.probe.Write(s.probeTarget, s.targets(group)); err != nil {
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
		for _, c := range group {
			for j := range min(b, len(images)-at) {
				c.Loss += float64(loss[c.place*b+j]) / float64(len(images))
				c.ASR += float64(hits[c.place*b+j]) // counted, and divided once: a rate is never above 1
			}
		}
	}
	for _, c := range group {
		c.ASR /= float64(len(images))
	}
	return int64(len(group) * len(images)), nil
}

// read copies what an array of all places holds for the i-th.
func (s *session) read(from []engine.Array, i int) ([]*tensor.Dense, error) {
	out := make([]*tensor.Dense, len(s.start))
	for j, t := range s.start {
		data := make([]float32, t.Shape().TotalSize())
		if err := from[j].Buffer.Read(i*len(data), data); err != nil {
			return nil, err
		}
		out[j] = triggers.Dense(data, t.Shape()...)
	}
	return out, nil
}

func (s *session) write(to []engine.Array, i int, v []*tensor.Dense) error {
	for j, t := range v {
		if err := to[j].Buffer.Write(i*t.Shape().TotalSize(), dense.Floats(t)); err != nil {
			return err
		}
	}
	return nil
}
