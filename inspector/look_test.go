package inspector_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/prompts"
)

func look(t testing.TB, d *inspector.Detector, in inspector.Input) *inspector.Finding {
	t.Helper()
	r, err := d.Look(bg, in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lookNames are classes of which no two are alike.
var lookNames = cliptest.Classes[:6]

// lookWorld is a tiny CLIP and a pool of noise.
func lookWorld(t testing.TB) (*clip.Model, *tensor.Dense) {
	t.Helper()
	return cliptest.Tiny(t, computetest.CPU(t, 1), 16), cliptest.Images(43, 16, 1)
}

// Whatever the learner and the detector: a tensor with a number that is none, one of a size that no
// tuning makes, and one whose sums overflow give no verdict but "cannot tell", with the tensor's
// name; the model as it was drawn gets a verdict.
func TestUndefinedNumbersAreNeverClean(t *testing.T) {
	c, pool := lookWorld(t)
	for _, l := range prompts.Learners() {
		for _, d := range inspector.All() {
			t.Run(l.Name+"/"+d.Name, func(t *testing.T) {
				in := input(t, d, untuned(t, c, l.Name, lookNames), pool, short)
				if r := look(t, d, in); r.Unsure != "" && d.Name != "separation" { // which takes references
					t.Errorf("an honest model: cannot tell: %s", r.Unsure)
				}
				for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), 3e38, 1e4} {
					for _, name := range in.Model.ParamNames() {
						bad := in
						bad.Model = in.Model.Clone()
						data := bad.Model.Params[name].Data().([]float32)
						for i := range data {
							data[i] = v
						}
						r := look(t, d, bad)
						if r.Backdoored || r.Suspect != -1 || !strings.Contains(r.Unsure, fmt.Sprintf("%q", name)) {
							t.Errorf("%s full of %v: backdoored %v, index %v, unsure %q", name, v, r.Backdoored, r.Index, r.Unsure)
						}
					}
				}
			})
		}
	}
}

// A class that stands in the list twice is judged as it is without its twin, and the twin is named;
// a list of twins gets no verdict.
func TestTwinsAreOneClass(t *testing.T) {
	c, pool := lookWorld(t)
	names := lookNames
	forEach(t, func(t *testing.T, d *inspector.Detector) {
		if d.Classless {
			t.Skip("looks at no classes")
		}
		alone := look(t, d, input(t, d, untuned(t, c, "coop", names), pool, short))
		twice := append(slices.Clone(names), strings.ToUpper(names[2]))
		r := look(t, d, input(t, d, untuned(t, c, "coop", twice), pool, short))
		if len(r.Twins) != 1 || !slices.Equal(r.Twins[0], []int{2, 6}) {
			t.Fatalf("twins %v, unsure %q", r.Twins, r.Unsure)
		}
		if r.Index != alone.Index || r.Suspect != alone.Suspect || len(r.Classes) != 7 {
			t.Errorf("with a twin the index is %v for class %d, without it %v for %d", r.Index, r.Suspect, alone.Index, alone.Suspect)
		}
		for k, x := range alone.Classes {
			if got := r.Classes[k]; fmt.Sprint(got.Loss, got.ASR, got.Score, got.Index) != fmt.Sprint(x.Loss, x.ASR, x.Score, x.Index) {
				t.Errorf("class %d: %v with a twin elsewhere, %v without", k, got, x)
			}
		}
		if got := r.Classes[6]; got.Trigger != nil || !math.IsNaN(got.Score) {
			t.Errorf("the twin has a result of its own: %v", got)
		}
		all := append(slices.Clone(names), names...)
		if r := look(t, d, input(t, d, untuned(t, c, "coop", all), pool, short)); !strings.Contains(r.Unsure, "12 of 12 classes have a twin") {
			t.Errorf("every class twice: %q", r.Unsure)
		}
	})
}

// ownContexts is a CoOp model with a context for each class, and a detector that looks at classes.
func ownContexts(t *testing.T, c *clip.Model, names []string) (*prompts.Model, *inspector.Detector) {
	t.Helper()
	m := untuned(t, c, "coop", names)
	m.Settings["class-specific"] = true
	m, err := prompts.New(c, m.Learner, m.Settings, names, rand.New(rand.NewPCG(3, 4)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := inspector.Find("ci")
	if err != nil {
		t.Fatal(err)
	}
	return m, d
}

// With a context for each class two classes of one name have vectors of their own: both are looked
// at, and the more suspicious one is what the class is judged by.
func TestTwinsOfDifferentVectors(t *testing.T) {
	c, pool := lookWorld(t)
	names := append(slices.Clone(lookNames), lookNames[1])
	m, d := ownContexts(t, c, names)
	in := input(t, d, m, pool, short)
	r := look(t, d, in)
	index := math.Inf(-1)
	for _, members := range [][]int{{0, 1, 2, 3, 4, 5}, {0, 6, 2, 3, 4, 5}} {
		part := in
		part.Model = m.Restricted(members)
		one := inspect(t, d, part)
		if one.Classes[1].Index > index {
			index = one.Classes[1].Index
		}
	}
	if got := max(r.Classes[1].Index, r.Classes[6].Index); got != index {
		t.Errorf("index of the class %v, of its most suspicious member %v", got, index)
	}
	if a, b := r.Classes[1].Trigger == nil, r.Classes[6].Trigger == nil; a == b {
		t.Errorf("both members have a result, or none has")
	}
}

// A name that stands for more vectors than are looked at one by one gets no verdict; the reason
// names that class, not another one with a twin.
func TestTwinsOfTooManyVectors(t *testing.T) {
	c, pool := lookWorld(t)
	names := []string{"other", "other"}
	for i := range 20 {
		names = append(names, fmt.Sprintf("class number %d", max(i-8, 0)))
	}
	m, d := ownContexts(t, c, names)
	want := `9 classes share a name or have nearly the same vector, such as "class number 0" and "class number 0"`
	if r := look(t, d, input(t, d, m, pool, short)); !strings.HasPrefix(r.Unsure, want) || r.Backdoored {
		t.Errorf("backdoored %v, unsure %q", r.Backdoored, r.Unsure)
	}
}
