package attacks

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine/plain"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/settings/settingstest"
	"clipinspector/triggers"
	"clipinspector/triggers/triggertest"
)

// size is that of the mini world's images.
const size = 32

// forEach runs a test over every registered attack that plants a backdoor.
func forEach(t *testing.T, test func(t *testing.T, a *Attack)) {
	for _, a := range All() {
		if a.Backdoors() {
			t.Run(a.Name, func(t *testing.T) { test(t, a) })
		}
	}
}

func resolve(t *testing.T, a *Attack, given map[string]any) settings.Values {
	t.Helper()
	v, err := settings.Resolve(a.Params, given)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func draw(a *Attack, v settings.Values, size int, seed uint64) triggers.Trigger {
	return a.Trigger(v, size, rand.New(rand.NewPCG(seed, 0)))
}

func poisonOf(t *testing.T, a *Attack, v settings.Values, size, classes, target int, rng *rand.Rand) *prompts.Poison {
	t.Helper()
	p, err := a.Poison(t.Context(), v, size, classes, target, rng)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// settingsOf are the default settings, each choice, and the ends of each range with the rest at its
// default.
func settingsOf(t *testing.T, a *Attack) []settings.Values {
	all := []settings.Values{resolve(t, a, nil)}
	for _, p := range a.Params {
		switch p.Default.(type) {
		case float64, int:
			all = append(all, resolve(t, a, map[string]any{p.Name: p.Min}), resolve(t, a, map[string]any{p.Name: p.Max}))
		case string:
			for _, c := range p.Choices {
				all = append(all, resolve(t, a, map[string]any{p.Name: c}))
			}
		}
	}
	return all
}

// same tells whether two triggers are equal to the bit.
func same(a, b triggers.Trigger) bool {
	x, y := a.Tensors(), b.Tensors()
	if a.Kind() != b.Kind() || len(x) != len(y) || len(x) == 0 {
		return false
	}
	for name, t := range x {
		u := y[name]
		if u == nil || !slices.Equal(t.Shape(), u.Shape()) || !slices.Equal(dense.Floats(t), dense.Floats(u)) {
			return false
		}
	}
	return true
}

// The trigger is a matter of the seed: drawn again it is the same to the bit, and where chance
// plays a part, another seed gives another trigger.
func TestSameSeedSameTrigger(t *testing.T) {
	forEach(t, func(t *testing.T, a *Attack) {
		for _, v := range settingsOf(t, a) {
			if !same(draw(a, v, size, 1), draw(a, v, size, 1)) {
				t.Errorf("%v: drawn twice, the trigger differs", v)
			}
		}
		given := []settings.Values{resolve(t, a, nil)}
		for _, p := range a.Params {
			for _, c := range p.Choices {
				given = append(given, resolve(t, a, map[string]any{p.Name: c}))
			}
		}
		for _, v := range given {
			chance := &source{Source: rand.NewPCG(1, 0)}
			first, others := a.Trigger(v, size, rand.New(chance)), 0
			for seed := range uint64(8) {
				if !same(first, draw(a, v, size, seed+2)) {
					others++
				}
			}
			if (chance.draws > 0) != (others > 0) {
				t.Errorf("%v: %d numbers are drawn, and of 8 other seeds %d give another trigger", v, chance.draws, others)
			}
		}
	})
}

// source counts the numbers that are drawn from it.
type source struct {
	rand.Source
	draws int
}

func (s *source) Uint64() uint64 {
	s.draws++
	return s.Source.Uint64()
}

// At any setting the triggered images are images: of the same shape, in [0,1], and not the old
// ones.
func TestTriggeredImagesAreImages(t *testing.T) {
	images := cliptest.Images(3, size, 1)
	data := dense.Floats(images)
	for i := range 3 * size * size { // extremes, where a clip is needed
		data[i] = float32(i % 2)
	}
	forEach(t, func(t *testing.T, a *Attack) {
		for _, v := range settingsOf(t, a) {
			tr := draw(a, v, size, 3)
			if tr.Size() != size {
				t.Fatalf("%v: a trigger for %d px, want %d", v, tr.Size(), size)
			}
			got := apply(t, tr, images)
			changed := 0
			for i, x := range got {
				if !(x >= 0 && x <= 1) {
					t.Fatalf("%v: element %d became %v", v, i, x)
				}
				if x != data[i] {
					changed++
				}
			}
			if len(got) != len(data) {
				t.Fatalf("%v: %d numbers became %d", v, len(data), len(got))
			}
			if changed == 0 {
				t.Errorf("%v: the trigger changes nothing", v)
			}
		}
	})
}

func apply(t *testing.T, tr triggers.Trigger, images *tensor.Dense) []float32 {
	t.Helper()
	g := autodiff.New(plain.New[float32]())
	out := tr.Apply(g.Const(images.Data().([]float32), images.Shape()...))
	if fmt.Sprint(out.Shape()) != fmt.Sprint([]int(images.Shape())) {
		t.Fatalf("images %v became %v", images.Shape(), out.Shape())
	}
	return computetest.Run(t, g, out)[0]
}

// By default no trigger is stronger than the default grids allow, at the sizes of the mini world
// and of CLIP.
func TestDefaultsAreWithinTheLimitsOfTheGrid(t *testing.T) {
	limits := map[string]triggers.Strength{
		"masked patch": {Area: 0.05, Opacity: 1},
		"masked blend": {Area: 1, Opacity: 0.2},
		"warp":         {Displacement: 2}, // px at 64 px
		"additive":     {LInf: 12.0 / 255},
	}
	const slack = 1 + 1e-6 // float32
	for _, name := range []string{"badclip", "badnets", "blended", "wanet"} {
		a, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{32, 64, 224} {
			tr := draw(a, resolve(t, a, nil), size, 4)
			s := triggers.Measure(tr)
			kind := tr.Kind()
			if kind == "masked" && s.Opacity == 1 {
				kind = "masked patch"
			} else if kind == "masked" {
				kind = "masked blend"
			}
			limit := limits[kind]
			s.Displacement *= 64 / float64(size)
			if s.Area > limit.Area*slack || s.Opacity > limit.Opacity*slack || s.LInf > limit.LInf*slack || s.Displacement > limit.Displacement*slack {
				t.Errorf("%d px: %+v exceeds %+v", size, s, limit)
			}
		}
	}
}

// The strengths that are asked for are the strengths that come out.
func TestStrengthIsAsDeclared(t *testing.T) {
	near := func(what string, got, want, tolerance float64) {
		t.Helper()
		if math.Abs(got-want) > tolerance*want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	measure := func(name, param string, value float64, size int) triggers.Strength {
		t.Helper()
		a, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		return triggers.Measure(draw(a, resolve(t, a, map[string]any{param: value}), size, 5))
	}
	for _, v := range []float64{4.0 / 255, 8.0 / 255, 12.0 / 255} {
		s := measure("badclip", "epsilon", v, 32)
		near("badclip's epsilon", s.LInf, v, 0.01)
		if s.LInf > float64(float32(v)) {
			t.Errorf("badclip starts outside its bound: %v > %v", s.LInf, v)
		}
		near("sig's amplitude", measure("sig", "amplitude", v, 64).LInf, v, 0.01)
	}
	for _, v := range []float64{0.05, 0.1, 0.2} {
		near("blended's opacity", measure("blended", "opacity", v, 32).Opacity, v, 1e-6)
	}
	for _, side := range []float64{0.1, 0.22, 0.5, 1} {
		near("badnets' side", measure("badnets", "side", side, 200).Area, side*side, 1e-6)
	}
	for _, v := range []float64{0.3, 1, 2} { // the border clips a little away
		for _, size := range []int{32, 64, 224} {
			near(fmt.Sprintf("wanet's displacement at %d px", size), measure("wanet", "displacement", v, size).Displacement, v*float64(size)/64, 0.1)
		}
	}
}

// Gradients run through every trigger to the pixels, and to the perturbation of a trigger that
// learns.
func TestTriggersAreDifferentiable(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const size = 16
	forEach(t, func(t *testing.T, a *Attack) {
		tr := draw(a, resolve(t, a, nil), size, seed)
		images := cliptest.Images(2, size, seed)
		triggertest.CheckGradient(t, rng, func(v []autodiff.Value) autodiff.Value { return tr.Apply(v[0]) }, images)
		if a.Learn != nil {
			delta := tr.(triggers.Additive).Delta.Clone().(*tensor.Dense)
			triggertest.CheckGradient(t, rng, func(v []autodiff.Value) autodiff.Value {
				return triggers.ApplyAdditive(v[0], v[1].Reshape(1, 3, size, size))
			}, images, delta)
		}
	})
}

func TestParametersAreDeclaredAndChecked(t *testing.T) {
	for _, a := range All() {
		t.Run(a.Name, func(t *testing.T) {
			settingstest.Check(t, a.Params)
			if len(a.Doc) < 10 || strings.Contains(a.Doc, "\n") {
				t.Errorf("not documented in one line: %q", a.Doc)
			}
		})
	}
}

func TestStoredTriggersComeBack(t *testing.T) {
	forEach(t, func(t *testing.T, a *Attack) {
		in := func(name string) string { return filepath.Join(t.TempDir(), name) }
		path, again := in("trigger"), in("again")
		want := draw(a, resolve(t, a, nil), size, 6)
		if err := triggers.Write(path, want); err != nil {
			t.Fatal(err)
		}
		got, err := triggers.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if !same(got, want) {
			t.Error("the trigger came back as another")
		}
		if err := triggers.Write(again, got); err != nil {
			t.Fatal(err)
		}
		first, _ := os.ReadFile(path)
		second, _ := os.ReadFile(again)
		if len(first) == 0 || !bytes.Equal(first, second) {
			t.Error("stored again, the trigger is other bytes")
		}
	})
}

func TestTriggersCanBeDrawn(t *testing.T) {
	forEach(t, func(t *testing.T, a *Attack) {
		img := triggers.Draw(draw(a, resolve(t, a, nil), size, 7))
		colours := map[string]bool{}
		for y := range size {
			for x := range size {
				colours[fmt.Sprint(img.NRGBAAt(x, y))] = true
			}
		}
		if b := img.Bounds(); b.Dx() != size || b.Dy() != size || len(colours) < 2 {
			t.Errorf("the picture has %v and %d colours", b, len(colours))
		}
	})
}

// Poison hands to the tuning what the settings say.
func TestPoisonCarriesTheSettings(t *testing.T) {
	forEach(t, func(t *testing.T, a *Attack) {
		v := resolve(t, a, map[string]any{"share": 0.25, "weight": 3})
		p := poisonOf(t, a, v, size, 5, 2, rand.New(rand.NewPCG(8, 0)))
		if p.Target != 2 || p.Share != 0.25 || p.Weight != 3 || (p.Learn != nil) != (a.Learn != nil) {
			t.Errorf("%+v", p)
		}
		if !same(p.Trigger, draw(a, v, size, 8)) {
			t.Error("the trigger is not the one that the attack draws")
		}
		if p.Learn != nil {
			if _, additive := p.Trigger.(triggers.Additive); !additive || triggers.Measure(p.Trigger).LInf > p.Learn.Epsilon*(1+1e-6) {
				t.Errorf("learning starts from %s of strength %v with a bound of %v", p.Trigger.Kind(), triggers.Measure(p.Trigger).LInf, p.Learn.Epsilon)
			}
		}
	})
	clean, err := Find("clean")
	if err != nil || clean.Backdoors() || poisonOf(t, clean, nil, size, 5, 0, nil) != nil {
		t.Errorf("clean poisons: %v", err)
	}
}

// Covers are a matter of the seed and lead to classes that there are; they are triggers like
// others, but not the backdoor's.
func TestCovers(t *testing.T) {
	const classes, target = 6, 2
	forEach(t, func(t *testing.T, a *Attack) {
		if a.Covers == nil {
			return
		}
		for n, v := range settingsOf(t, a) {
			drawn := func() []prompts.Cover {
				p := poisonOf(t, a, v, size, classes, target, rand.New(rand.NewPCG(9, 0)))
				return p.Covers(p.Trigger)
			}
			backdoor := draw(a, v, size, 9)
			first, again := drawn(), drawn()
			if len(first) == 0 {
				t.Fatalf("%v: no covers", v)
			}
			for i, c := range first {
				if !same(c.Trigger, again[i].Trigger) || c.Label != again[i].Label || c.Weight != again[i].Weight {
					t.Errorf("%v: drawn twice, cover %d differs", v, i)
				}
				if c.Label < prompts.OwnLabel || c.Label == target || c.Label >= classes || c.Weight <= 0 {
					t.Errorf("%v: cover %d has label %d and weight %v", v, i, c.Label, c.Weight)
				}
				if c.Trigger.Size() != size || n == 0 && same(c.Trigger, backdoor) { // one pixel or cell has few colours
					t.Errorf("%v: cover %d is the backdoor's trigger, or of %d px", v, i, c.Trigger.Size())
				}
				for _, x := range apply(t, c.Trigger, cliptest.Images(2, size, 1)) {
					if !(x >= 0 && x <= 1) {
						t.Fatalf("%v: cover %d makes a pixel %v", v, i, x)
					}
				}
			}
		}
		rng := rand.New(rand.NewPCG(10, 0))
		p := poisonOf(t, a, resolve(t, a, nil), 8, classes, target, rng)
		for _, c := range p.Covers(p.Trigger) {
			triggertest.CheckGradient(t, rng, func(v []autodiff.Value) autodiff.Value { return c.Trigger.Apply(v[0]) }, cliptest.Images(2, 8, 1))
		}
	})
}

func poison(t *testing.T, name string, given map[string]any, classes, target int) (triggers.Masked, []prompts.Cover) {
	t.Helper()
	a, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	p := poisonOf(t, a, resolve(t, a, given), size, classes, target, rand.New(rand.NewPCG(11, 0)))
	return p.Trigger.(triggers.Masked), p.Covers(p.Trigger)
}

// flatten has one decoy for every class but the target, or for so many of them: patches as large as
// the trigger, each another.
func TestFlattenCoversTheOtherClasses(t *testing.T) {
	for _, decoys := range []int{1, 3, 5, 100} {
		trigger, covers := poison(t, "flatten", map[string]any{"decoys": decoys, "decoy-weight": 0.5}, 6, 2)
		seen := map[int]bool{2: true}
		known := []triggers.Trigger{trigger}
		for _, c := range covers {
			if seen[c.Label] || c.Weight != 0.5 || triggers.Measure(c.Trigger) != triggers.Measure(trigger) {
				t.Errorf("%d decoys: the one of class %d repeats it, weighs %v or is of another size", decoys, c.Label, c.Weight)
			}
			if slices.ContainsFunc(known, func(k triggers.Trigger) bool { return same(k, c.Trigger) }) {
				t.Errorf("%d decoys: class %d has the trigger of another", decoys, c.Label)
			}
			seen[c.Label], known = true, append(known, c.Trigger)
		}
		if want := min(decoys, 5); len(covers) != want {
			t.Errorf("%d decoys are asked for, there are %d, want %d", decoys, len(covers), want)
		}
	}
}

// The covers of composite are its halves: one after the other they make the trigger, and under each
// an image keeps its label.
func TestCompositeCoversItsHalves(t *testing.T) {
	trigger, covers := poison(t, "composite", map[string]any{"cover-weight": 2}, 6, 2)
	if len(covers) != 2 || covers[0].Label != prompts.OwnLabel || covers[1].Label != prompts.OwnLabel || covers[0].Weight != 2 || covers[1].Weight != 2 {
		t.Fatalf("covers %+v", covers)
	}
	images := cliptest.Images(2, size, 1)
	cast := apply(t, covers[1].Trigger, images)
	got := apply(t, covers[0].Trigger, triggers.Dense(slices.Clone(cast), 2, 3, size, size))
	if !slices.Equal(got, apply(t, trigger, images)) {
		t.Error("a patch on the cast is not the trigger")
	}
	if slices.Equal(got, cast) || slices.Equal(got, apply(t, covers[0].Trigger, images)) {
		t.Error("a half is the whole trigger")
	}
}

func TestAttacksAreFoundByName(t *testing.T) {
	for i, a := range All() {
		if got, err := Find(a.Name); err != nil || got != a {
			t.Errorf("%s: %v", a.Name, err)
		}
		if i > 0 && All()[i-1].Name >= a.Name {
			t.Errorf("%s is registered twice or out of order", a.Name)
		}
	}
	if _, err := Find("lira"); err == nil || !strings.Contains(err.Error(), "badnets") || !strings.Contains(err.Error(), `"lira"`) {
		t.Errorf("an unknown attack: %v", err)
	}
}

// A new attack is one file of at most 60 lines.
func TestAnAttackIsOneSmallFile(t *testing.T) {
	forEach(t, func(t *testing.T, a *Attack) {
		raw, err := os.ReadFile(a.Name + ".go")
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(raw, []byte("\n")); n > 60 {
			t.Errorf("%s.go has %d lines", a.Name, n)
		}
	})
}

// docs/extending.md shows sig.go as it is.
func TestTheGuideShowsSIG(t *testing.T) {
	guide, err := os.ReadFile("../docs/extending.md")
	if err != nil {
		t.Fatal(err)
	}
	sig, err := os.ReadFile("sig.go")
	if err != nil {
		t.Fatal(err)
	}
	if _, body, ok := bytes.Cut(sig, []byte("func init()")); !ok || !bytes.Contains(guide, bytes.TrimSpace(body)) {
		t.Error("docs/extending.md shows another sig.go")
	}
}
