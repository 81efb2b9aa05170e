package inspector_test

import (
	"fmt"
	"math"
	"testing"

	"clipinspector/engine"
	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
)

// crowded is an engine that takes many images at once and has no memory for them: programs of a
// larger arena do not compile.
type crowded struct {
	engine.Engine
	limit    int
	largest  int // arena that was compiled
	refusals int
}

func (c *crowded) AtOnce() int { return 1000 }

func (c *crowded) Compile(p *engine.Program) (engine.Executable, error) {
	if p.Arena > c.limit {
		c.refusals++
		return nil, fmt.Errorf("%w: an arena of %d numbers", engine.ErrMemory, p.Arena)
	}
	c.largest = max(c.largest, p.Arena)
	return c.Engine.Compile(p)
}

// Where memory is short fewer classes share a step; the optimiser's batch and every result stay
// what they are, up to the rounding of products of another height.
func TestShortMemoryChangesNoResult(t *testing.T) {
	d, err := inspector.Find("ci")
	if err != nil {
		t.Fatal(err)
	}
	run := func(limit int) (*crowded, *inspector.Finding) {
		e := &crowded{Engine: computetest.CPU(t, 2), limit: limit}
		m := untuned(t, cliptest.Tiny(t, e, 16), "coop", cliptest.Classes)
		return e, inspect(t, d, input(t, d, m, cliptest.Images(50, 16, 1), short))
	}
	roomy, want := run(1 << 40)
	tight, got := run(roomy.largest / 2)
	if tight.refusals == 0 {
		t.Error("the tight engine refused nothing")
	}
	if got.ImagePasses != want.ImagePasses {
		t.Errorf("%d image passes, %d with much memory", got.ImagePasses, want.ImagePasses)
	}
	for i, c := range got.Classes {
		if w := want.Classes[i]; math.Abs(c.Loss-w.Loss) > 1e-4*(1+math.Abs(w.Loss)) || math.Abs(c.Score-w.Score) > 1e-3*(1+math.Abs(w.Score)) {
			t.Errorf("class %d: loss %v, score %v; with much memory %v, %v", i, c.Loss, c.Score, w.Loss, w.Score)
		}
	}
}

// Where not even one class's batch fits, it goes through the model in parts: the optimiser's batch
// is the same, and so is every bit.
func TestABatchInPartsChangesNoBit(t *testing.T) {
	whole := map[string]any{"optimise": 160, "measure": 7, "batch": 80}
	for _, name := range []string{"ci", "separation"} {
		d, err := inspector.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, learner := range []string{"coop", "cocoop", "vpt"} {
			run := func(limit int) (*crowded, *inspector.Finding) {
				e := &crowded{Engine: computetest.CPU(t, 2), limit: limit}
				m := untuned(t, cliptest.Tiny(t, e, 16), learner, cliptest.Classes[:3])
				return e, inspect(t, d, input(t, d, m, cliptest.Images(170, 16, 1), whole))
			}
			_, want := run(1 << 40)
			tight, got := run(300_000) // the text tower takes as much
			if tight.refusals < 2 {    // of three classes together, and of one
				t.Errorf("%s, %s: %d refusals: the batch was not cut", name, learner, tight.refusals)
			}
			for i, c := range got.Classes {
				if w := want.Classes[i]; c.Loss != w.Loss || c.Score != w.Score || c.ASR != w.ASR || c.Norm != w.Norm {
					t.Errorf("%s, %s, class %d: loss %v, score %v, ASR %v, norm %v; of the whole batch %v, %v, %v, %v", name, learner, i,
						c.Loss, c.Score, c.ASR, c.Norm, w.Loss, w.Score, w.ASR, w.Norm)
				}
			}
		}
	}
}
