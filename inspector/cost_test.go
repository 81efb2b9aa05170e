package inspector_test

import (
	"maps"
	"testing"

	"clipinspector/autodiff"
	"clipinspector/engine"
	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/prompts"

	_ "clipinspector/baselines"
)

// facts are what Check and Cost are told of an inspection.
func facts(m *prompts.Model, in inspector.Input, pool int) inspector.Facts {
	o := prompts.Outline{Learner: m.Learner, Settings: m.Settings, Config: m.CLIP.Config, Classes: m.Classes,
		Tokens: func(text string) int { return len(m.CLIP.Tokenizer.Encode(text)) }}
	return inspector.Facts{Model: o, Pool: pool, Settings: in.Settings}
}

// A detector costs what it says when the suite is planned: no more image passes, and half of them
// at least where it stops early; the engine sees no more than the report counts (but for a
// reference that sees images through a tower of its own), and operations are as estimated, but for
// what passes share.
func TestCostsAreWhatIsCounted(t *testing.T) {
	e := &counting{Engine: computetest.CPU(t, 2)}
	c := cliptest.Tiny(t, e, 16)
	pool := cliptest.Images(60, 16, 7)
	forEach(t, func(t *testing.T, d *inspector.Detector) {
		if d.Cost == nil || d.Check == nil {
			t.Fatal("it declares no Cost or no Check: see docs/extending.md")
		}
		whole := maps.Clone(short)
		whole["measure"] = 12 // a batch: the engine sees what fills a last one up
		given := []map[string]any{whole}
		for _, p := range d.Params {
			for _, choice := range p.Choices {
				more := maps.Clone(whole)
				more[p.Name] = choice
				more["rounds"] = 4 // of a budget that counts them
				given = append(given, more)
			}
		}
		if declares(d, "many") {
			more := maps.Clone(whole)
			more["many"], more["trial"], more["finalists"] = 3, 16, 2
			given = append(given[:1:1], append([]map[string]any{more}, given[1:]...)...)
		}
		for i, learner := range []string{"coop", "cocoop", "maple"} {
			if i > 0 {
				given = given[:min(2, len(given))]
			}
			for _, g := range given {
				m := untuned(t, c, learner, cliptest.Classes[:5])
				in := input(t, d, m, pool, g)
				f := facts(m, in, 60)
				checked := d.Check(f)
				e.images, e.flop = 0, 0
				r, err := d.Inspect(bg, in)
				if (err == nil) != (checked == nil) {
					t.Errorf("%s, %v: Check says %v, Inspect %v", learner, g, checked, err)
				}
				if err != nil {
					continue
				}
				w, passes := d.Cost(f), float64(r.ImagePasses)
				if passes > w.Passes || passes < w.Passes/2 || m.Learner.Image == nil && e.images > r.ImagePasses {
					t.Errorf("%s, %v: Cost says %v image passes, the report %v, the engine saw %d", learner, g, w.Passes, passes, e.images)
				}
				if ratio := w.FLOP / e.flop; passes == w.Passes && !(ratio > 0.9 && ratio < 1.2) {
					t.Errorf("%s, %v: Cost says %.3g operations, the engine saw %.3g", learner, g, w.FLOP, e.flop)
				}
			}
		}
	})
}

// counting counts the images that go through the image tower: those that programs cut into patches.
type counting struct {
	engine.Engine
	images int64
	flop   float64
}

func (e *counting) Compile(p *engine.Program) (engine.Executable, error) {
	x, err := e.Engine.Compile(p)
	var images int64
	var flop float64
	for _, ins := range p.Instrs {
		flop += float64(autodiff.FLOP(ins))
		if ins.Op == engine.Patchify {
			images += int64(ins.In[0].Shape[0])
		}
	}
	return countingRun{x, e, images, flop}, err
}

type countingRun struct {
	engine.Executable
	e      *counting
	images int64
	flop   float64
}

func (r countingRun) Run() error {
	r.e.images += r.images
	r.e.flop += r.flop
	return r.Executable.Run()
}
