package prompts

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"clipinspector/internal/dense"
	"clipinspector/triggers"
)

// A view is another picture of the same example: it carries its image's label and share of poison,
// and an image shown in two equal views counts once.
func TestViewsOfAnImage(t *testing.T) {
	c := newTiny(t)
	data := coloured(20, 1)
	twice := Data{Labels: data.Labels, Views: 2}
	var pixels []float32
	size := len(dense.Floats(data.Images)) / 20
	for i := range 20 {
		picture := dense.Floats(data.Images)[i*size : (i+1)*size]
		pixels = append(append(pixels, picture...), picture...)
	}
	s := data.Images.Shape()
	twice.Images = dense.New(pixels, 40, s[1], s[2], s[3])
	models := [2]*Model{}
	for i, d := range []Data{data, twice} {
		models[i] = newModel(t, c, "coop", map[string]any{"context": 2}, threeAndOne)
		tune(t, models[i], d, adam, &Poison{Target: 3, Trigger: patch(), Share: 0.5, Weight: 2}, 1)
	}
	for name, p := range models[0].Params {
		for i, v := range dense.Floats(p) {
			if w := dense.Floats(models[1].Params[name])[i]; math.Abs(float64(v-w)) > 1e-5 { // the encoder is fed other batches
				t.Fatalf("%s[%d] is %v when each image has two equal views, %v with one", name, i, w, v)
			}
		}
	}
	twice.Labels = twice.Labels[:10]
	if _, err := Tune(bg, models[1], twice, tuneSettings(t, nil), nil, 1, nil); err == nil {
		t.Error("10 labels for 40 pictures in two views were accepted")
	}
}

// A crop of the whole image shows what the stored image shows, to every learner, poisoned or not;
// other crops teach something else, the same thing for the same seed, and each image of each step
// has a box of its own.
func TestFreshCrops(t *testing.T) {
	c := newTiny(t)
	data := coloured(20, 1)
	drawn := 0
	with := func(crop func(width, height int, rng *rand.Rand) [5]float32) Data {
		d := data
		d.Crop = func(width, height int, rng *rand.Rand) [5]float32 {
			if drawn++; width != size || height != size {
				t.Fatalf("a crop of an image of %d x %d px was asked for", width, height)
			}
			return crop(width, height, rng)
		}
		return d
	}
	whole := with(func(w, h int, _ *rand.Rand) [5]float32 { return [5]float32{0, 0, float32(w), float32(h), 0} })
	corner := with(func(w, h int, rng *rand.Rand) [5]float32 {
		return [5]float32{float32(rng.IntN(w / 2)), float32(rng.IntN(h / 2)), float32(w / 2), float32(h / 2), float32(rng.IntN(2))}
	})
	learn := &Poison{Target: 3, Trigger: noise(0.05, 1), Share: 1, Weight: 1, Learn: &LearnTrigger{Epsilon: 0.05, Rate: 0.01, Warmup: 1}}
	fixed := &Poison{Target: 3, Trigger: patch(), Share: 0.5, Weight: 2, Covers: func(triggers.Trigger) []Cover {
		return []Cover{{noise(0.05, 2), OwnLabel, 1}}
	}}
	given := map[string]any{"optimizer": "adam", "rate": 0.01, "epochs": 3, "batch": 10}
	for _, x := range []struct {
		learner string
		poison  *Poison
	}{{"coop", nil}, {"coop", fixed}, {"cocoop", learn}, {"vpt", fixed}} {
		run := func(d Data, seed uint64) []float32 {
			m := newModel(t, c, x.learner, nil, threeAndOne)
			tune(t, m, d, given, x.poison, seed)
			var all []float32
			for _, name := range sortedKeys(m.Params) {
				all = append(all, dense.Floats(m.Params[name])...)
			}
			return all
		}
		plain, again := run(data, 1), run(corner, 1)
		if gap := largestGap(run(whole, 1), plain); gap > 1e-4 { // the encoder is fed other batches
			t.Errorf("%s: with crops of the whole image prompts differ by %v", x.learner, gap)
		}
		if largestGap(again, plain) < 1e-3 {
			t.Errorf("%s: crops change nothing", x.learner)
		}
		if !slices.Equal(run(corner, 1), again) {
			t.Errorf("%s: the same seed gave another model", x.learner)
		}
		drawn = 0
		run(corner, 2)
		want := 3 * 20
		if x.poison == learn {
			want += 20 // the warm-up
		}
		if drawn != want {
			t.Errorf("%s: %d crops were drawn, want %d", x.learner, drawn, want)
		}
	}
}

// Of several triggers the attacker takes the one that the frozen CLIP sees best.
func TestCandidates(t *testing.T) {
	c := newTiny(t)
	data := coloured(20, 1)
	faint, strong := noise(0.001, 1), noise(0.3, 2)
	for _, candidates := range [][]triggers.Trigger{{faint, strong}, {strong, faint}} {
		m := newModel(t, c, "coop", map[string]any{"context": 2}, threeAndOne)
		p := &Poison{Target: 3, Trigger: faint, Share: 1, Weight: 1, Candidates: candidates}
		got, err := Tune(bg, m, data, tuneSettings(t, adam), p, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !sameDelta(got, strong) {
			t.Errorf("the attacker took %v of a faint and a strong trigger", got)
		}
		if !sameDelta(p.Trigger, faint) {
			t.Error("tuning changed the caller's poison")
		}
	}
}

func sameDelta(a, b triggers.Trigger) bool {
	return a.Kind() == b.Kind() && slices.Equal(dense.Floats(a.Tensors()["delta"]), dense.Floats(b.Tensors()["delta"]))
}
