package autodiff

import (
	"fmt"
	"slices"

	"clipinspector/engine"
)

// Patchify cuts images [B,C,H,W] into squares of side p: [B,(H/p)(W/p),C*p*p], a patch in the order
// of a convolution's weights, so that a convolution with stride p is Patchify followed by Linear.
func (x Value) Patchify(p int) Value {
	s := x.Shape()
	if len(s) != 4 || p <= 0 || s[2]%p != 0 || s[3]%p != 0 {
		panic(fmt.Sprintf("autodiff: patches of side %d from %v", p, s))
	}
	return x.g.record1(engine.Patchify, engine.Attr{Patch: p}, []int{s[0], s[2] / p * (s[3] / p), s[1] * p * p}, x)
}

func patchifyGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	return []Value{g.record1(engine.Unpatchify, n.attr, g.value(n.in[0]).Shape(), d[0])}
}

func unpatchifyGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	return []Value{g.record1(engine.Patchify, n.attr, g.value(n.in[0]).Shape(), d[0])}
}

// GridSample samples images [B,C,H,W] bilinearly at the points of grid [1 or B,H',W',2], (x,y) in
// [-1,1] between the centres of the corner pixels (align_corners), zero outside.
func (x Value) GridSample(grid Value) Value {
	s, t := x.Shape(), grid.Shape()
	if len(s) != 4 || len(t) != 4 || t[3] != 2 || (t[0] != 1 && t[0] != s[0]) {
		panic(fmt.Sprintf("autodiff: grid %v over images %v", t, s))
	}
	return x.g.record1(engine.GridSample, engine.Attr{}, []int{s[0], s[1], t[1], t[2]}, x, grid)
}

// Crop shows a box of each image [B,C,H,W], scaled to h x w pixels and mirrored or not: [B,C,h,w].
// A row of box [B,5] holds, in whole pixels inside the image, left, top, width and height, and 1 to
// mirror left to right, else 0. The filter is Pillow's bicubic one, whose sums leave the range of
// the pixels by a few per cent at edges (Clamp takes that back). There is no gradient: a trigger is
// put on after the crop.
func (x Value) Crop(box Value, h, w int) Value {
	s := x.Shape()
	if len(s) != 4 || h <= 0 || w <= 0 || !slices.Equal(box.Shape(), []int{s[0], 5}) {
		panic(fmt.Sprintf("autodiff: boxes %v over images %v, scaled to %d x %d", box.Shape(), s, h, w))
	}
	return x.g.record1(engine.Crop, engine.Attr{}, []int{s[0], s[1], h, w}, x, box)
}

func gridSampleGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	x, grid := g.value(n.in[0]), g.value(n.in[1])
	shapes := make([][]int, 2)
	if need[0] {
		shapes[0] = slices.Clone(x.Shape())
	}
	if need[1] {
		shapes[1] = slices.Clone(grid.Shape())
	}
	return g.record(engine.GridSampleGrad, engine.Attr{}, []Value{x, grid, d[0]}, shapes...)
}
