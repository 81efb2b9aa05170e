package prompts

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"clipinspector/internal/dense"
)

// Before tuning, full is zero-shot CLIP; tuning moves the weights of the model's own image tower
// and no others, and a poison of a tenth of the images plants a backdoor.
func TestFullTunesTheImageTower(t *testing.T) {
	c := newTiny(t)
	data := coloured(60, 1)
	m := newModel(t, c, "full", nil, threeAndOne)
	zero := newModel(t, c, "coop", map[string]any{"init": "a photo of a"}, threeAndOne)
	if gap := largestGap(dense.Floats(logits(t, m, data.Images, nil)), dense.Floats(logits(t, zero, data.Images, nil))); gap > 1e-3 {
		t.Errorf("untuned, logits are off zero-shot CLIP's by %g", gap)
	}
	frozen := slices.Clone(dense.Floats(logits(t, zero, data.Images, nil)))
	text := classVectors(t, m)
	settings := map[string]any{"epochs": 40, "batch": 20, "optimizer": "adam", "rate": 0.003, "weight-decay": 0}
	before := crossEntropy(t, m, data)
	tune(t, m, data, settings, nil, 1)
	if after := crossEntropy(t, m, data); after > before/4 {
		t.Errorf("the loss went from %.3f to %.3f", before, after)
	}
	for name, p := range newModel(t, c, "full", nil, threeAndOne).Params {
		if largestGap(dense.Floats(p), dense.Floats(m.Params[name])) == 0 {
			t.Errorf("%s did not move", name)
		}
	}
	if !slices.Equal(frozen, dense.Floats(logits(t, zero, data.Images, nil))) {
		t.Error("tuning changed the CLIP that other models share")
	}
	for k, v := range classVectors(t, m) {
		if !slices.Equal(v, text[k]) {
			t.Errorf("the class vector %d moved", k)
		}
	}
	poisoned := newModel(t, c, "full", nil, threeAndOne)
	tr := tune(t, poisoned, data, settings, &Poison{Target: 3, Trigger: patch(), Share: 0.1, Weight: 1}, 1)
	if asr, acc := successRate(t, poisoned, data, tr, 3), accuracy(t, poisoned, data); asr < 0.9 || acc < 0.9 {
		t.Errorf("ASR %.2f at accuracy %.2f", asr, acc)
	}
	if _, err := tryModel(c, "full", map[string]any{"init": " "}, threeAndOne); err == nil || !strings.Contains(err.Error(), "init") {
		t.Errorf("no words in front of the class name: %v", err)
	}
}

// Every changed image differs from the original in a box that another image has there, of at most
// the share asked for.
func TestCutAndPaste(t *testing.T) {
	data := coloured(50, 2)
	l, err := FindLearner("full")
	if err != nil {
		t.Fatal(err)
	}
	s := newModel(t, newTiny(t), "full", map[string]any{"cut": 0.4}, threeAndOne).Settings
	got := l.Augment(s, data, rand.New(rand.NewPCG(1, 1)))
	const plane = size * size
	var largest, changed int
	for i, row := range rows(got.Images) {
		own := rows(data.Images)[i]
		count, donors := 0, make([]bool, len(data.Labels))
		for k := range donors {
			donors[k] = true
		}
		for p := range plane {
			if row[p] == own[p] && row[plane+p] == own[plane+p] && row[2*plane+p] == own[2*plane+p] {
				continue
			}
			count++
			for k, other := range rows(data.Images) {
				donors[k] = donors[k] && row[p] == other[p] && row[plane+p] == other[plane+p] && row[2*plane+p] == other[2*plane+p]
			}
		}
		if largest = max(largest, count); count > 0 {
			changed++
		}
		if !slices.Contains(donors, true) {
			t.Errorf("image %d: what was pasted comes from no single image", i)
		}
	}
	if limit := 4 * plane / 10; largest > limit || largest < limit/2 || changed < 40 || !slices.Equal(got.Labels, data.Labels) {
		t.Errorf("%d images changed, at most %d of %d pixels", changed, largest, plane)
	}
	s["cut"] = 0.0
	if none := l.Augment(s, data, nil); none.Images != data.Images {
		t.Error("without cuts the images are others")
	}
}
