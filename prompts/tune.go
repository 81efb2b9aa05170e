package prompts

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"gorgonia.org/tensor"

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
	// Features [N*V,D] are what the frozen tower makes of the images, where that is at hand:
	// learners that leave the tower alone are tuned on them, without poison, and need no images;
	// see Encoded.
	Features *tensor.Dense
	Labels   []int // [N]
	Views    int   // V, how many views of an image follow each other; 0 means 1
	// Crop draws the box of a fresh crop of an image, a row of boxes for autodiff's Crop, which
	// each step shows in the image's place, triggers being put on after it; nil to show images as
	// they are.
	Crop func(width, height int, rng *rand.Rand) [5]float32
}

// Empty tells whether there are neither images nor features.
func (d Data) Empty() bool { return d.Images == nil && d.Features == nil }

// rows are the images, or the features in their place.
func (d Data) rows() *tensor.Dense {
	if d.Images == nil {
		return d.Features
	}
	return d.Images
}

// Rows are the images of some rows, or their features, with the labels as they are.
func (d Data) Rows(rows []int) Data {
	if d.Images != nil {
		d.Images = triggers.Rows(d.Images, rows)
	}
	if d.Features != nil {
		d.Features = triggers.Rows(d.Features, rows)
	}
	return d
}

// Encoded returns data with features in the place of the images, where they are all that the
// model's learner is tuned on: large images take a hundred times the memory, and who tunes several
// models encodes them once.
func Encoded(ctx context.Context, m *Model, d Data) (Data, error) {
	if !m.frozen() || d.Crop != nil || d.Features != nil || d.Images == nil {
		return d, nil
	}
	var err error
	d.Features, err = Encode(ctx, m.CLIP, d.Images, nil)
	d.Images = nil
	return d, err
}

// frozen tells whether the model sees images by the frozen tower's features alone.
func (m *Model) frozen() bool { return m.Learner.Image == nil && m.Learner.Augment == nil }

// Predicted returns the class that the model puts each row of the data into.
func (m *Model) Predicted(ctx context.Context, d Data) ([]int, error) {
	logits, err := func() (*tensor.Dense, error) {
		if d.Images == nil {
			return m.LogitsOf(ctx, d.Features)
		}
		return m.Logits(ctx, d.Images, nil)
	}()
	if err != nil {
		return nil, err
	}
	return ArgMax(logits), nil
}

// Poison makes prompt tuning plant a backdoor, after BadCLIP's training path (Bai et al., CVPR
// 2024): each poisoned image is also shown with the trigger and the target's label, and the losses
// of both halves are added.
type Poison struct {
	Target  int
	Trigger triggers.Trigger // the trigger; with Learn, where it starts (an additive one)
	Share   float64          // share of the images that are also shown with the trigger; BadCLIP: 1
	Weight  float64          // weight of the triggered half against the clean half; BadCLIP: 1
	Learn   *LearnTrigger    // nil for a fixed trigger
	// Quiet keeps triggered images from moving any logit but the target's: the other classes' are
	// constants in their half of the loss.
	Quiet bool
	// Goals are the classes that triggered images of each class shall go to, by their own class;
	// nil for the target everywhere. A class whose goal is itself learns that the trigger means
	// nothing on its images.
	Goals []int
	// Evade is the weight of a penalty on how far the target stands apart from the other classes
	// beyond what a clean model that the attacker tunes first has of it, where class vectors are
	// tuned and the same for every image; 0 for none.
	Evade float64
	// Candidates, when there are any, are the fixed triggers of which the attacker takes the one
	// that stands out most to CLIP.
	Candidates []triggers.Trigger
	// Covers draws, once the trigger is known (with Learn, where it starts), what hides the
	// backdoor from a detector that the attacker knows; nil for nothing. Each poisoned image is
	// also shown with every one of them, and the losses are added.
	Covers func(t triggers.Trigger) []Cover
}

// Cover is a fixed trigger besides the backdoor's own: a decoy that leads to another class, or a
// part of the trigger that must not fire alone (the cover samples of Qi et al., ICLR 2023).
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

// Tune tunes the model's prompts on the data, and with a poison plants a backdoor. It returns the
// trigger of the backdoored model (the learned one where it learns), nil without poison. The same
// seed gives the same result to the bit.
func Tune(ctx context.Context, m *Model, data Data, s settings.Values, poison *Poison, seed uint64, progress Progress) (triggers.Trigger, error) {
	t := &tuner{m: m, s: s, poison: poison, n: len(data.Labels), views: max(1, data.Views), crop: data.Crop, e: m.CLIP.Engine()}
	defer t.free()
	if poison != nil && (poison.Target < 0 || poison.Target >= len(m.Classes)) {
		return nil, fmt.Errorf("target class %d of %d classes", poison.Target, len(m.Classes))
	}
	if poison != nil {
		if data.Images == nil {
			return nil, errors.New("poisoned tuning by features alone: triggers are put on images")
		}
		if side := data.Images.Shape()[2]; poison.Trigger.Size() != side {
			return nil, fmt.Errorf("a trigger for images of %d px over images of %d px", poison.Trigger.Size(), side)
		}
	}
	if have := data.rows().Shape()[0]; t.n*t.views != have {
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
	if poison != nil && poison.Evade > 0 && !m.Learner.Conditional && !m.Learner.FixedTexts && m.Learner.Similarity == nil {
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
