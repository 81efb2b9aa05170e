package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/prompts"
	"clipinspector/settings"
)

// Tuning is what it took to tune the prompts of one model: CoOp, a context for each class, with
// Adam.
type Tuning struct {
	Config                                  clip.Config
	Classes, Context, Images, Batch, Epochs int
	Tokens                                  int     // of a prompt
	Seconds                                 float64 // of the whole: encoding the images once, and all steps
}

// MiniTuning is the tuning of configs/mini.yaml on a CLIP of architecture c.
func MiniTuning(c clip.Config) Tuning {
	return Tuning{Config: c, Classes: 10, Context: 4, Images: 160, Batch: 32, Epochs: 25}
}

// Tune measures a tuning, with random weights and images: the shortest of several.
func Tune(ctx context.Context, e engine.Engine, t Tuning, atLeast time.Duration) (Tuning, error) {
	fail := func(err error) (Tuning, error) { return t, fmt.Errorf("bench tuning: %w", err) }
	rng := rand.New(rand.NewPCG(1, 2))
	longest := &texts{Engine: e}
	m, images, err := untuned(longest, t.Config, t.Classes, t.Images, map[string]any{"context": t.Context, "class-specific": true}, rng)
	if err != nil {
		return fail(err)
	}
	defer m.CLIP.Free()
	steps, err := settings.Resolve(prompts.TuneParams, map[string]any{"epochs": t.Epochs, "batch": t.Batch, "optimizer": "adam",
		"rate": 0.01, "weight-decay": 0})
	if err != nil {
		return fail(err)
	}
	data := prompts.Data{Images: images, Labels: make([]int, t.Images)}
	for i := range data.Labels {
		data.Labels[i] = i % t.Classes
	}
	t.Seconds, err = repeat(func() error {
		tuned, err := prompts.New(m.CLIP, m.Learner, m.Settings, m.Classes, rng)
		if err != nil {
			return err
		}
		_, err = prompts.Tune(ctx, tuned, data, steps, nil, 1, nil)
		return err
	}, func() error { return nil }, atLeast)
	if err != nil {
		return fail(err)
	}
	t.Tokens = longest.tokens
	return t, nil
}

// texts notes how many tokens the texts have that go through a tower.
type texts struct {
	engine.Engine
	tokens int
}

// Compile implements engine.Engine.
func (x *texts) Compile(p *engine.Program) (engine.Executable, error) {
	for _, ins := range p.Instrs {
		if ins.Op == engine.Attention && ins.Attr.Causal {
			x.tokens = max(x.tokens, ins.In[0].Shape[1])
		}
	}
	return x.Engine.Compile(p)
}

// PrintTuning writes what the tuning took.
func PrintTuning(w io.Writer, t Tuning) error {
	_, err := fmt.Fprintf(w, "tuning of one model's prompts (CoOp, encoder, %d classes, %d images, %d steps of %d): %.0f ms\n", t.Classes, t.Images,
		t.Epochs*(t.Images/t.Batch), t.Batch, 1e3*t.Seconds)
	return err
}
