package prompts

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine"
	"clipinspector/internal/dense"
	"clipinspector/settings"
	"clipinspector/triggers"
)

type tuner struct {
	m      *Model
	s      settings.Values
	poison *Poison
	covers []Cover
	e      engine.Engine
	n      int // images
	views  int // of each
	crop   func(width, height int, rng *rand.Rand) [5]float32
	owned  []engine.Array

	clean     *tensor.Dense  // [K,D] class vectors that an evading attacker stays close to; nil for none
	labels    engine.Array   // [N*V,1]
	goals     engine.Array   // [N*V,1] of triggered images; absent where all aim at the target
	weights   engine.Array   // [N*V,1] weight of each image's triggered copy
	pixels    engine.Array   // [N*V,3*S*S]; absent when features are kept instead
	features  engine.Array   // [N*V,D]; absent when the learner prompts the image tower or crops are fresh
	triggered engine.Array   // [N*V,D] features of the triggered images; absent when it learns, or as above
	covered   []engine.Array // [N*V,D] of each cover; empty as above
	stamped   engine.Array   // [N*V,3*S*S] triggered images, where the trigger is a function and features change
	size      int
	params    map[string]trained
	delta     trained // [1,3,S,S]
}

func (t *tuner) free() {
	for _, a := range t.owned {
		a.Free()
	}
}

// plain returns the first view of each image.
func (t *tuner) plain(data Data) *tensor.Dense {
	if t.views == 1 {
		return data.Images
	}
	shape := data.Images.Shape()
	size := shape[1] * shape[2] * shape[3]
	out := make([]float32, 0, t.n*size)
	for i := range t.n {
		out = append(out, dense.Floats(data.Images)[i*t.views*size:][:size]...)
	}
	return dense.New(out, t.n, shape[1], shape[2], shape[3])
}

func (t *tuner) upload(d []float32, shape ...int) (engine.Array, error) {
	a, err := engine.UploadSlice(t.e, d, shape...)
	if err == nil {
		t.owned = append(t.owned, a)
	}
	return a, err
}

func (t *tuner) train3(d *tensor.Dense, shape ...int) (x trained, err error) {
	if x.value, err = t.upload(dense.Floats(d), shape...); err != nil {
		return x, err
	}
	zero := make([]float32, d.Shape().TotalSize())
	if x.m, err = t.upload(zero, shape...); err != nil {
		return x, err
	}
	x.v, err = t.upload(zero, shape...)
	return x, err
}

// load puts everything that the steps read on the device. Features that do not change while tuning
// are computed once.
func (t *tuner) load(ctx context.Context, data Data, rng *rand.Rand) (err error) {
	m, n, rows := t.m, t.n, t.n*t.views
	if data.Images != nil {
		t.size = data.Images.Shape()[2]
	} else if !m.frozen() || t.crop != nil {
		return errors.New("tuning by features alone: the learner sees images")
	}
	labels := make([]float32, 0, rows)
	for i, l := range data.Labels {
		if l < 0 || l >= len(m.Classes) {
			return fmt.Errorf("image %d has label %d, the model has %d classes", i, l, len(m.Classes))
		}
		labels = append(labels, repeat(float32(l), t.views)...)
	}
	if t.labels, err = t.upload(labels, rows, 1); err != nil {
		return err
	}
	t.params = map[string]trained{}
	for _, name := range sortedKeys(m.Params) {
		if t.params[name], err = t.train3(m.Params[name], m.Params[name].Shape()...); err != nil {
			return err
		}
	}
	frozen := m.Learner.Image == nil && t.crop == nil
	encode := func(trigger triggers.Trigger) (engine.Array, error) {
		f, err := Encode(ctx, m.CLIP, data.Images, trigger)
		if err != nil {
			return engine.Array{}, err
		}
		return t.upload(dense.Floats(f), f.Shape()...)
	}
	if frozen {
		if data.Features != nil {
			t.features, err = t.upload(dense.Floats(data.Features), data.Features.Shape()...)
		} else {
			t.features, err = encode(nil)
		}
		if err != nil {
			return err
		}
		t.covered = make([]engine.Array, len(t.covers))
		for i, c := range t.covers {
			if t.covered[i], err = encode(c.Trigger); err != nil {
				return err
			}
		}
	}
	if t.poison != nil {
		weights := make([]float32, rows)
		for i, k := range rng.Perm(n) {
			if float64(i) < t.poison.Share*float64(n) {
				copy(weights[k*t.views:], repeat(float32(t.poison.Weight), t.views))
			}
		}
		if t.weights, err = t.upload(weights, rows, 1); err != nil {
			return err
		}
		if t.poison.Goals != nil {
			goals := make([]float32, rows)
			for i, l := range labels {
				goals[i] = float32(t.poison.Goals[int(l)])
			}
			if t.goals, err = t.upload(goals, rows, 1); err != nil {
				return err
			}
		}
		if l := t.poison.Learn; l != nil {
			a, ok := t.poison.Trigger.(triggers.Additive)
			if !ok {
				return fmt.Errorf("only additive triggers learn, this one is %s", t.poison.Trigger.Kind())
			}
			if t.delta, err = t.train3(a.Delta, 1, 3, t.size, t.size); err != nil {
				return err
			}
		} else if frozen {
			if t.triggered, err = encode(t.poison.Trigger); err != nil {
				return err
			}
		} else if _, function := t.poison.Trigger.(triggers.Function); function {
			if t.crop != nil {
				return errors.New("a trigger that is a function cannot be put on the fresh crops of each step: set tuning.views to 1 or more")
			}
			stamped, _, err := triggers.Split(ctx, data.Images, t.poison.Trigger)
			if err != nil {
				return err
			}
			if t.stamped, err = t.upload(dense.Floats(stamped), rows, 3*t.size*t.size); err != nil {
				return err
			}
		}
	}
	if !frozen || (t.poison != nil && t.poison.Learn != nil) {
		t.pixels, err = t.upload(dense.Floats(data.Images), rows, 3*t.size*t.size)
	}
	return err
}

// step is one compiled tuning step.
type step struct {
	program *autodiff.Program
	index   autodiff.Value // [B] views of the step
	boxes   autodiff.Value // [B,5] their crops; None where images are shown as they are
}

// record records a step of b images: the losses, their gradients, the optimisers. With prompts
// false only the trigger learns.
func (t *tuner) record(b int, prompts bool, promptRates, triggerRates []float32) (*step, error) {
	g := autodiff.New(t.e)
	var r *Recording
	if prompts {
		values := map[string]engine.Array{}
		for name, p := range t.params {
			values[name] = p.value
		}
		r = t.m.recordTrainable(g, values)
	} else {
		var err error
		if r, err = t.m.Record(g); err != nil {
			return nil, err
		}
	}
	index := g.Input(b)
	rows := func(a engine.Array) autodiff.Value { return g.Bind(a).Gather(index) }
	var pixels autodiff.Value
	if t.pixels.Buffer != nil {
		pixels = rows(t.pixels).Reshape(b, 3, t.size, t.size)
	}
	boxes := autodiff.None
	if t.crop != nil {
		boxes = g.Input(b, 5)
		pixels = pixels.Crop(boxes, t.size, t.size).Clamp(0, 1)
	}
	loss := autodiff.None
	if prompts { // the clean half
		var features autodiff.Value
		if t.features.Buffer != nil {
			features = rows(t.features)
		} else {
			features = r.Features(pixels)
		}
		loss = r.Logits(features).CrossEntropy(rows(t.labels).Reshape(b)).Sum()
	}
	var delta autodiff.Value
	if p := t.poison; p != nil { // the triggered half
		var features autodiff.Value
		switch {
		case t.triggered.Buffer != nil:
			features = rows(t.triggered)
		case p.Learn != nil:
			delta = g.Bind(t.delta.value)
			features = r.Features(triggers.ApplyAdditive(pixels, delta))
		case t.stamped.Buffer != nil:
			features = r.Features(rows(t.stamped).Reshape(b, 3, t.size, t.size))
		default:
			features = r.Features(p.Trigger.Apply(pixels))
		}
		target := g.Const(repeat(float32(p.Target), b), b)
		if t.goals.Buffer != nil {
			target = rows(t.goals).Reshape(b)
		}
		weights := rows(t.weights).Reshape(b)
		logits := r.Logits(features)
		if p.Quiet {
			own := make([]float32, len(t.m.Classes))
			own[p.Target] = 1
			mask := g.Const(own, 1, len(own))
			logits = logits.Mul(mask).Add(logits.Detach().Mul(mask.Affine(-1, 1)))
		}
		ce := logits.CrossEntropy(target).Mul(weights).Sum()
		if loss.Valid() {
			ce = loss.Add(ce)
		}
		loss = ce
		if prompts && t.clean != nil {
			loss = loss.Add(t.standing(r).Scale(p.Evade * float64(b)))
		}
		if prompts { // covers do not depend on a trigger that learns
			for i, c := range t.covers {
				if t.covered != nil {
					features = rows(t.covered[i])
				} else {
					features = r.Features(c.Trigger.Apply(pixels))
				}
				label := rows(t.labels).Reshape(b)
				if c.Label != OwnLabel {
					label = g.Const(repeat(float32(c.Label), b), b)
				}
				loss = loss.Add(r.Logits(features).CrossEntropy(label).Mul(weights).Sum().Scale(c.Weight))
			}
		}
	}
	loss = loss.Scale(1 / float64(b))

	var wrt []autodiff.Value
	names := sortedKeys(t.params)
	if prompts {
		for _, name := range names {
			wrt = append(wrt, r.Params[name])
		}
	}
	if delta.Valid() {
		wrt = append(wrt, delta)
	}
	grads := autodiff.Grad(loss, autodiff.None, wrt...)
	counter := g.Input(1)
	if prompts {
		rates := g.Const(promptRates, len(promptRates))
		for i, name := range names {
			p := t.params[name]
			if !grads[i].Valid() {
				continue
			}
			if t.s.String("optimizer") == "adam" {
				c := autodiff.DefaultAdam
				c.WeightDecay = t.s.Float("weight-decay")
				g.Adam(wrt[i], grads[i], g.Bind(p.m), g.Bind(p.v), counter, rates, c)
			} else {
				g.SGD(wrt[i], grads[i], g.Bind(p.m), counter, rates, 0.9, t.s.Float("weight-decay"))
			}
		}
	}
	if delta.Valid() {
		l := t.poison.Learn
		g.Adam(delta, grads[len(grads)-1], g.Bind(t.delta.m), g.Bind(t.delta.v), counter,
			g.Const(triggerRates, len(triggerRates)), autodiff.DefaultAdam)
		g.Assign(delta, delta.Clamp(-l.Epsilon, l.Epsilon))
	}
	g.Advance(counter)
	p, err := g.Compile()
	return &step{p, index, boxes}, err
}

// standing records by how much the target stands apart from the other classes beyond what the clean
// model has of it in the same direction: |v|²/(u·v) - 1, at least 0, with v what tells the target
// from the mean of the others, without what all classes have in common, and u the same of the clean
// model. It is the exponential of what the detector separation looks at, less one.
func (t *tuner) standing(r *Recording) autodiff.Value {
	g, k := r.Graph, len(t.m.Classes)
	d := t.clean.Shape()[1]
	weights := repeat(-1/float32(k-1), k)
	weights[t.poison.Target] = 1
	common, u := make([]float32, d), make([]float32, d)
	var length, along float64
	for i, x := range dense.Floats(t.clean) {
		common[i%d] += x
		u[i%d] += weights[i/d] * x
	}
	for _, x := range common {
		length += float64(x) * float64(x)
	}
	for i := range common {
		common[i] /= float32(math.Sqrt(length))
		along += float64(common[i]) * float64(u[i])
	}
	for i := range u {
		u[i] -= float32(along) * common[i]
	}
	q := g.Const(common, 1, d)
	v := g.Const(weights, 1, k).MatMul(r.vectors)
	v = v.Sub(v.MatMulT(q).Mul(q))
	return v.Square().Sum().Div(v.Mul(g.Const(u, 1, d)).Sum().Clamp(1e-3, 1e9)).Affine(1, -1).ReLU().Sum()
}

func (t *tuner) train(ctx context.Context, rng *rand.Rand, progress Progress) error {
	epochs, b := t.s.Int("epochs"), min(t.s.Int("batch"), t.n)
	perEpoch := t.n / b
	warmup := 0
	if t.poison != nil && t.poison.Learn != nil {
		warmup = t.poison.Learn.Warmup
	}
	total, done := (warmup+epochs)*perEpoch, 0
	run := func(epochs int, prompts bool, promptRates, triggerRates []float32) error {
		s, err := t.record(b, prompts, promptRates, triggerRates)
		if err != nil {
			return err
		}
		defer s.program.Free()
		index, boxes := make([]float32, b), make([]float32, 0, 5*b)
		for range epochs {
			order := rng.Perm(t.n)
			for i := range perEpoch {
				if err := ctx.Err(); err != nil {
					return err
				}
				for j := range index {
					index[j] = float32(order[i*b+j]*t.views + rng.IntN(t.views))
				}
				if err := s.program.Write(s.index, index); err != nil {
					return err
				}
				if t.crop != nil {
					boxes = boxes[:0]
					for range b {
						box := t.crop(t.size, t.size, rng)
						boxes = append(boxes, box[:]...)
					}
					if err := s.program.Write(s.boxes, boxes); err != nil {
						return err
					}
				}
				if err := s.program.Run(); err != nil {
					return err
				}
				if done++; progress != nil {
					progress(done, total)
				}
			}
		}
		return nil
	}
	var triggerRates []float32
	if warmup > 0 {
		if err := run(warmup, false, nil, repeat(float32(t.poison.Learn.Rate), 1)); err != nil {
			return err
		}
		// Adam's moments start afresh when the prompts begin to move.
		zero := make([]float32, t.delta.m.Buffer.Len())
		if err := t.delta.m.Buffer.Write(0, zero); err != nil {
			return err
		}
		if err := t.delta.v.Buffer.Write(0, zero); err != nil {
			return err
		}
	}
	if t.poison != nil && t.poison.Learn != nil {
		triggerRates = autodiff.Cosine(t.poison.Learn.Rate, epochs*perEpoch, 0)
	}
	rate := t.s.Float("rate")
	if t.s.String("optimizer") == "adam" {
		return run(epochs, true, autodiff.Cosine(rate, epochs*perEpoch, 0), triggerRates)
	}
	var rates []float32
	for _, r := range autodiff.CoOpSchedule(rate, epochs) {
		rates = append(rates, repeat(r, perEpoch)...)
	}
	return run(epochs, true, rates, triggerRates)
}

func repeat(v float32, n int) []float32 {
	s := make([]float32, n)
	for i := range s {
		s[i] = v
	}
	return s
}
