package prompts

import (
	"slices"
	"strings"
	"testing"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/internal/dense"
)

// VPT puts its prompts behind the class token: in front of the first block only when shallow, anew in front of each block when
// deep; class vectors are zero-shot CLIP's. It learns, and a patch can be planted in it.
func TestVPT(t *testing.T) {
	c := newTiny(t) // two blocks
	data := coloured(40, 1)
	for depth, layers := range map[int]int{0: 2, 1: 1, 2: 2} {
		m := newModel(t, c, "vpt", map[string]any{"prompts": 3, "depth": depth}, threeAndOne)
		if got := []int(m.Params["visual"].Shape()); !slices.Equal(got, []int{layers, 3, c.Config.Vision.Width}) {
			t.Fatalf("depth %d: prompts of shape %v", depth, got)
		}
		g := autodiff.New(c.Engine())
		var p clip.ImagePrompts
		for i, row := range rows(m.Params["visual"]) {
			p.Layers = append(p.Layers, g.Const(row, 3, c.Config.Vision.Width))
			if i == layers {
				t.Fatal("too many")
			}
		}
		n := data.Images.Shape()[0]
		want := run(t, g, c.Bind(g).Image(g.Const(dense.Floats(data.Images), n, 3, size, size), p).MatMulT(
			g.Const(slices.Concat(classVectors(t, m)...), len(threeAndOne), c.Config.ProjectionDim)).Scale(c.LogitScale()))
		if gap := largestGap(want, dense.Floats(logits(t, m, data.Images, nil))); gap > 1e-3 {
			t.Errorf("depth %d: logits are off by %g", depth, gap)
		}
		zero := newModel(t, c, "coop", map[string]any{"init": "a photo of a"}, threeAndOne)
		for k, v := range classVectors(t, m) {
			if gap := largestGap(v, classVectors(t, zero)[k]); gap > 1e-6 {
				t.Errorf("the class vector %d is off by %g", k, gap)
			}
		}
		settings := map[string]any{"epochs": 40, "batch": 20, "optimizer": "adam", "rate": 0.02}
		before := crossEntropy(t, m, data)
		if tune(t, m, data, settings, nil, 1); crossEntropy(t, m, data) > before/2 {
			t.Errorf("depth %d: the loss went from %.3f to %.3f", depth, before, crossEntropy(t, m, data))
		}
		poisoned := newModel(t, c, "vpt", map[string]any{"prompts": 3, "depth": depth}, threeAndOne)
		tr := tune(t, poisoned, data, settings, &Poison{Target: 3, Trigger: patch(), Share: 1, Weight: 1}, 1)
		if asr := successRate(t, poisoned, data, tr, 3); asr < 0.8 {
			t.Errorf("depth %d: ASR %.2f", depth, asr)
		}
	}
	if _, err := tryModel(c, "vpt", map[string]any{"depth": 3}, threeAndOne); err == nil || !strings.Contains(err.Error(), "has 2") {
		t.Errorf("prompts for a third of two blocks: %v", err)
	}
}
