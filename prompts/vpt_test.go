package prompts

import (
	"slices"
	"strings"
	"testing"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/internal/dense"
)

// VPT puts its prompts behind the class token: in front of the first block only when shallow, anew
// in front of each block when deep; class vectors are zero-shot CLIP's. It learns, and a patch can
// be planted in it.
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
		sameVectors(t, m, zero)
		learns(t, m, newModel(t, c, "vpt", map[string]any{"prompts": 3, "depth": depth}, threeAndOne), data)
	}
	if _, err := tryModel(c, "vpt", map[string]any{"depth": 3}, threeAndOne); err == nil || !strings.Contains(err.Error(), "has 2") {
		t.Errorf("prompts for a third of two blocks: %v", err)
	}
}
