package prompts

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine"
	"clipinspector/internal/dense"
	"clipinspector/internal/random"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// TuneParams are the settings of the tuning loop.
var TuneParams = []settings.Param{
	{Name: "epochs", Unit: "epochs", Doc: "passes over the few-shot images (CoOp: 200 at 16 shots)", Default: 50, Min: 1, Max: 10000},
	{Name: "batch", Unit: "images", Doc: "images a step (CoOp: 32, CoCoOp and BadCLIP: 1); the last, smaller batch of an epoch is dropped", Default: 32, Min: 1, Max: 4096},
	{Name: "optimizer", Doc: "sgd with CoOp's schedule (warm-up epoch at 1e-5, then cosine) and momentum 0.9, or adam with a cosine", Default: "sgd", Choices: []string{"sgd", "adam"}},
	{Name: "rate", Doc: "learning rate of the prompts (CoOp: 0.002 with sgd)", Default: 0.002, Min: 1e-7, Max: 10},
	{Name: "views", Unit: "views", Doc: "how many ways each few-shot image is shown: as it is, and as random crops, mirrored or not, drawn once per model; each epoch shows one of them. 0 draws a fresh crop for each image and step, as CoOp does, of the image as CLIP sees it, and encodes the images anew in every step", Default: 1, Min: 0, Max: 1000},
	{Name: "crop", Doc: "smallest share of an image's area that a random crop keeps (CoOp: 0.08)", Default: 0.08, Min: 0.01, Max: 1},
	{Name: "weight-decay", Doc: "weight decay of the prompts (CoOp: 5e-4)", Default: 5e-4, Min: 0, Max: 1},
}

// Data are labelled images.
type Data struct {
	Images *tensor.Dense // [N*V,3,S,S] in [0,1]
	Labels []int         // [N]
	Views  int           // V, how many views of an image follow each other; 0 means 1
	// Crop draws the box of a fresh crop of an image, a row of boxes for autodiff's Crop, which each step shows in the image's
	// place, triggers being put on after it; nil to show images as they are.
	Crop func(width, height int, rng *rand.Rand) [5]float32
}

// Poison makes prompt tuning plant a backdoor, after BadCLIP's training path (Bai et al., CVPR 2024): each poisoned image is
// also shown with the trigger and the target's label, and the losses of both halves are added.
type Poison struct {
	Target  int
	Trigger triggers.Trigger // the trigger; with Learn, where it starts (an additive one)
	Share   float64          // share of the images that are also shown with the trigger; BadCLIP: 1
	Weight  float64          // weight of the triggered half against the clean half; BadCLIP: 1
	Learn   *LearnTrigger    // nil for a fixed trigger
	// Quiet keeps triggered images from moving any logit but the target's: the other classes' are constants in their half of the loss.
	Quiet bool
	// Goals are the classes that triggered images of each class shall go to, by their own class; nil for the target everywhere. A class
	// whose goal is itself learns that the trigger means nothing on its images.
	Goals []int
	// Evade is the weight of a penalty on how far the target stands apart from the other classes beyond what a clean model that the
	// attacker tunes first has of it, where class vectors are tuned and the same for every image; 0 for none.
	Evade float64
	// Candidates, when there are any, are the fixed triggers of which the attacker takes the one that stands out most to CLIP.
	Candidates []triggers.Trigger
	// Covers draws, once the trigger is known (with Learn, where it starts), what hides the backdoor from a detector that the
	// attacker knows; nil for nothing. Each poisoned image is also shown with every one of them, and the losses are added.
	Covers func(t triggers.Trigger) []Cover
}

// Cover is a fixed trigger besides the backdoor's own: a decoy that leads to another class, or a part of the trigger that must
// not fire alone (the cover samples of Qi et al., ICLR 2023).
type Cover struct {
	Trigger triggers.Trigger
	Label   int     // class that images with it shall have; OwnLabel for each image's own
	Weight  float64 // against the triggered half
}

// OwnLabel is the label of covers under which an image keeps its own.
const OwnLabel = -1

// LearnTrigger makes the additive trigger learn together with the prompts.
type LearnTrigger struct {
	Epsilon float64 // bound on each pixel of the trigger, pixel units
	Rate    float64 // Adam's learning rate, pixel units
	Warmup  int     // epochs in which only the trigger learns
}

// Progress is told after each step how many of how many are done.
type Progress func(done, total int)

// Tune tunes the model's prompts on the data, and with a poison plants a backdoor. It returns the trigger of the backdoored
// model (the learned one where it learns), nil without poison. The same seed gives the same result to the bit.
func Tune(ctx context.Context, m *Model, data Data, s settings.Values, poison *Poison, seed uint64, progress Progress) (triggers.Trigger, error) {
	t := &tuner{m: m, s: s, poison: poison, n: len(data.Labels), views: max(1, data.Views), crop: data.Crop, e: m.CLIP.Engine()}
	defer t.free()
	if poison != nil && (poison.Target < 0 || poison.Target >= len(m.Classes)) {
		return nil, fmt.Errorf("target class %d of %d classes", poison.Target, len(m.Classes))
	}
	if side := data.Images.Shape()[2]; poison != nil && poison.Trigger.Size() != side {
		return nil, fmt.Errorf("a trigger for images of %d px over images of %d px", poison.Trigger.Size(), side)
	}
	if have := data.Images.Shape()[0]; t.n*t.views != have {
		return nil, fmt.Errorf("%d labels for %d images in %d views to tune on", t.n, have, t.views)
	}
	if poison != nil && len(poison.Candidates) > 0 {
		chosen := *poison
		var err error
		if chosen.Trigger, err = mostDistinct(ctx, m.CLIP, t.plain(data), poison.Candidates); err != nil {
			return nil, err
		}
		t.poison, poison = &chosen, &chosen
	}
	if poison != nil && poison.Covers != nil {
		t.covers = poison.Covers(poison.Trigger)
		for _, c := range t.covers {
			if c.Label != OwnLabel && (c.Label < 0 || c.Label >= len(m.Classes)) {
				return nil, fmt.Errorf("a cover with class %d of %d classes", c.Label, len(m.Classes))
			}
			if c.Trigger.Size() != poison.Trigger.Size() {
				return nil, fmt.Errorf("a cover for images of %d px over images of %d px", c.Trigger.Size(), poison.Trigger.Size())
			}
		}
	}
	if poison != nil && poison.Goals != nil && len(poison.Goals) != len(m.Classes) {
		return nil, fmt.Errorf("goals of %d classes for %d", len(poison.Goals), len(m.Classes))
	}
	if poison != nil && poison.Evade > 0 && !m.Learner.Conditional && !m.Learner.FixedTexts {
		clean := m.Clone()
		if _, err := Tune(ctx, clean, data, s, nil, seed, nil); err != nil {
			return nil, err
		}
		var err error
		if t.clean, err = clean.ClassVectors(); err != nil {
			return nil, err
		}
	}
	rng := random.Named("tune", seed)
	if m.Learner.Augment != nil {
		data = m.Learner.Augment(m.Settings, data, rng)
	}
	if err := t.load(ctx, data, rng); err != nil {
		return nil, err
	}
	if err := t.train(ctx, rng, progress); err != nil {
		return nil, err
	}
	m.vectors = nil
	for _, name := range sortedKeys(t.params) {
		var err error
		if m.Params[name], err = t.params[name].value.Download(); err != nil {
			return nil, err
		}
	}
	switch {
	case poison == nil:
		return nil, nil
	case poison.Learn != nil:
		d, err := t.delta.value.Download()
		if err != nil {
			return nil, err
		}
		side := d.Shape()[2]
		return triggers.Additive{Delta: dense.New(dense.Floats(d), 3, side, side)}, nil
	}
	return poison.Trigger, nil
}

// trained is a tensor on the device with its optimiser's state.
type trained struct{ value, m, v engine.Array }

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

// load puts everything that the steps read on the device. Features that do not change while tuning are computed once.
func (t *tuner) load(ctx context.Context, data Data, rng *rand.Rand) (err error) {
	m, n, rows := t.m, t.n, t.n*t.views
	t.size = data.Images.Shape()[2]
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
		if t.features, err = encode(nil); err != nil {
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

// record records a step of b images: the losses, their gradients, the optimisers. With prompts false only the trigger learns.
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

// standing records by how much the target stands apart from the other classes beyond what the clean model has of it in the same
// direction: |v|²/(u·v) - 1, at least 0, with v what tells the target from the mean of the others, without what all classes have in
// common, and u the same of the clean model. It is the exponential of what the detector separation looks at, less one.
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
