package baselines

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/engine/plain"
	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/dense"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

func delivered(t *testing.T, c *clip.Model, learner string, seed uint64) *prompts.Model {
	t.Helper()
	l, err := prompts.FindLearner(learner)
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(l.Params, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := prompts.New(c, l, s, cliptest.Classes[:4], rand.New(rand.NewPCG(seed, 0)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func inspected(t *testing.T, name string, m *prompts.Model, pool *tensor.Dense, given map[string]any, seed uint64) *inspector.Finding {
	t.Helper()
	d, err := inspector.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Inspect(context.Background(), inspector.Input{Model: m, Pool: pool, Seed: seed, Settings: resolve(t, name, given)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// DECREE gives models over one encoder one score, to the last bit, whatever their prompts, in the
// texts or in the image tower, and whatever the cell's seed; a changed encoder has another. Its
// loss is what the recovered trigger leaves on the measuring images.
func TestDECREESeesTheEncoderAndNoPrompts(t *testing.T) {
	const size = 16
	c := cliptest.Tiny(t, plain.New[float32](), size)
	pool := cliptest.Images(30, size, 1)
	given := map[string]any{"optimise": 16, "measure": 9, "batch": 8}
	want := inspected(t, "decree", delivered(t, c, "coop", 1), pool, given, 1)
	for _, m := range []*prompts.Model{delivered(t, c, "coop", 2), delivered(t, c, "vpt", 3), delivered(t, c, "full", 1)} {
		got := inspected(t, "decree", m, pool, given, 7)
		if got.Index != want.Index || got.Whole.Score != want.Whole.Score || got.Whole.Loss != want.Whole.Loss || got.Backdoored != want.Backdoored {
			t.Errorf("%s over the same encoder: %+v, want %+v", m.Learner.Name, got.Whole, want.Whole)
		}
	}
	tuned := delivered(t, c, "full", 1)
	w := tuned.Params["visual_projection.weight"]
	for i, v := range dense.Floats(w) {
		dense.Floats(w)[i] = v + 0.1*float32(i%7)
	}
	if got := inspected(t, "decree", tuned, pool, given, 1); got.Whole.Loss == want.Whole.Loss {
		t.Error("another encoder has the same loss")
	}

	in := inspector.Input{Pool: pool, Seed: 80, Settings: resolve(t, "decree", given)}
	_, measure, err := inspector.SplitPool(in)
	if err != nil {
		t.Fatal(err)
	}
	f, err := prompts.Encode(context.Background(), c, triggers.Rows(pool, measure), want.Whole.Trigger)
	if err != nil {
		t.Fatal(err)
	}
	n, d, mean := f.Shape()[0], f.Shape()[1], 0.0
	for i := range n {
		for j := range n {
			for k := range d {
				if i != j {
					mean += float64(dense.Floats(f)[i*d+k]) * float64(dense.Floats(f)[j*d+k]) / float64(n*(n-1))
				}
			}
		}
	}
	if math.Abs(1-mean-want.Whole.Loss) > 1e-4 {
		t.Errorf("the trigger leaves a loss of %v, the report says %v", 1-mean, want.Whole.Loss)
	}
}

// The pre-selection by hand: classes in most images' lists, the more probable ones first among
// equals.
func TestCandidatesAreThoseInMostLists(t *testing.T) {
	logits := triggers.Dense([]float32{
		3, 2, 1, 0,
		3, 0, 2, 1,
		0, 3, 2, 1,
	}, 3, 4) // lists of two: {0,1}, {0,2}, {1,2}; 3 is in none
	for _, c := range []struct {
		given map[string]any
		want  []int
	}{
		{nil, []int{0, 1}}, // 0, 1 and 2 are in two lists each
		{map[string]any{"arms": 9}, []int{0, 1, 2}},
		{map[string]any{"arms": 9, "theta": 0.7}, nil},
		{map[string]any{"arms": 1, "theta": 0.5}, []int{0}},
	} {
		if got := candidates(logits, resolve(t, "k-arm", c.given)); !slices.Equal(got, c.want) {
			t.Errorf("%v: candidates %v, want %v", c.given, got, c.want)
		}
	}
	many := make([]float32, 10) // of ten classes a list holds 2, as Python rounds 2.5, and 3 at a share of 0.3
	for i := range many {
		many[i] = float32(i % 7)
	}
	for share, want := range map[float64][]int{0.25: {6, 5}, 0.3: {6, 5, 4}} {
		if got := candidates(triggers.Dense(many, 1, 10), resolve(t, "k-arm", map[string]any{"share": share})); !slices.Equal(got, want) {
			t.Errorf("a share of %v: %v, want %v", share, got, want)
		}
	}
}

// Classes that the pre-selection leaves out are ruled out; without any candidate the model is clean
// and nobody is suspected.
func TestKArmRulesClassesOut(t *testing.T) {
	const size = 16
	m := delivered(t, cliptest.Tiny(t, plain.New[float32](), size), "coop", 1)
	pool := cliptest.Images(20, size, 1)
	given := map[string]any{"optimise": 12, "measure": 4, "batch": 6, "arms": 1}
	r := inspected(t, "k-arm", m, pool, given, 1)
	inverted := 0
	for c, x := range r.Classes {
		if x.Trigger != nil {
			inverted++
			if c != r.Suspect || x.Score != size*size && !x.Reached {
				t.Errorf("the arm %d, suspect %d: %+v", c, r.Suspect, x)
			}
		}
	}
	if want := int64(12 + 3*2*6 + 4); inverted != 1 || r.ImagePasses != want {
		t.Errorf("%d arms, %d image passes, want %d", inverted, r.ImagePasses, want)
	}
	given["theta"] = 1.0 // more than all lists
	if r = inspected(t, "k-arm", m, pool, given, 1); r.Suspect != -1 || r.Backdoored || r.Index > -30 || r.ImagePasses != 12 {
		t.Errorf("without candidates: suspect %d, backdoored %v, index %v, %d image passes", r.Suspect, r.Backdoored, r.Index, r.ImagePasses)
	}
}

// The authors' bound of 1720 holds at 224 px; at 36 px it is 44.4: the index is above k just below
// it.
func TestTheBoundScalesWithTheArea(t *testing.T) {
	s := resolve(t, "k-arm", nil)
	b := newBandit(s, 36)
	limit := 1720.0 * 36 * 36 / (224 * 224)
	for _, c := range []struct{ size, want float64 }{{limit, 2}, {limit / 2, 3}, {limit * 4, 0}, {0, 37}, {math.Inf(1), -37}, {math.NaN(), -37}} {
		if got := inspector.BoundIndex(c.size*b.scale, s.Float("bound")); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("a mask of %v has the index %v, want %v", c.size, got, c.want)
		}
	}
}
