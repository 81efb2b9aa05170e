package autodiff

import (
	"fmt"
	"slices"

	"clipinspector/engine"
)

// Reshape gives the same elements another shape; one dimension may be -1.
func (x Value) Reshape(shape ...int) Value {
	shape = slices.Clone(shape)
	if i := slices.Index(shape, -1); i >= 0 {
		shape[i] = 1
		shape[i] = x.Size() / engine.Size(shape)
	}
	if engine.Size(shape) != x.Size() || slices.ContainsFunc(shape, func(d int) bool { return d <= 0 }) {
		panic(fmt.Sprintf("autodiff: %v reshaped to %v", x.Shape(), shape))
	}
	if slices.Equal(shape, x.Shape()) {
		return x
	}
	return x.g.viewOf(x, shape, reshaped)
}

// Detach returns x as a constant: no gradient flows through it.
func (x Value) Detach() Value { return x.g.viewOf(x, x.Shape(), detached) }

// Slice returns n elements from index from on along axis.
func (x Value) Slice(axis, from, n int) Value {
	s := slices.Clone(x.Shape())
	if axis < 0 {
		axis += len(s)
	}
	if from < 0 || n <= 0 || from+n > s[axis] {
		panic(fmt.Sprintf("autodiff: slice %d:%d of axis %d of %v", from, from+n, axis, s))
	}
	if n == s[axis] {
		return x
	}
	s[axis] = n
	return x.g.record1(engine.Slice, engine.Attr{Axis: axis, From: from}, s, x)
}

// Pad returns x as the part from index from on of n elements along axis, the others zero: the
// transpose of Slice.
func (x Value) Pad(axis, from, n int) Value {
	s := slices.Clone(x.Shape())
	if from < 0 || from+s[axis] > n {
		panic(fmt.Sprintf("autodiff: %v put at %d of %d along axis %d", s, from, n, axis))
	}
	s[axis] = n
	return x.g.record1(engine.Pad, engine.Attr{Axis: axis, From: from}, s, x)
}

func sliceGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	return []Value{g.record1(engine.Pad, n.attr, g.value(n.in[0]).Shape(), d[0])}
}

func padGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	return []Value{g.record1(engine.Slice, n.attr, g.value(n.in[0]).Shape(), d[0])}
}

// Concat puts values one after another along axis; the other dimensions are equal.
func Concat(axis int, xs ...Value) Value {
	s := slices.Clone(xs[0].Shape())
	if axis < 0 {
		axis += len(s)
	}
	s[axis] = 0
	for _, x := range xs {
		t := slices.Clone(x.Shape())
		if len(t) == len(s) {
			s[axis] += t[axis]
			t[axis] = s[axis]
		}
		if !slices.Equal(s, t) {
			panic(fmt.Sprintf("autodiff: %v among values of shape %v joined along axis %d", x.Shape(), xs[0].Shape(), axis))
		}
	}
	return xs[0].g.record1(engine.Concat, engine.Attr{Axis: axis}, s, xs...)
}

func concatGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	in := make([]Value, len(n.in))
	from := 0
	for i, id := range n.in {
		k := g.value(id).Dim(n.attr.Axis)
		if need[i] {
			in[i] = d[0].Slice(n.attr.Axis, from, k)
		}
		from += k
	}
	return in
}

// Permute reorders dimensions: dimension i of the result is dimension axes[i] of x.
func (x Value) Permute(axes ...int) Value {
	s := make([]int, len(axes))
	seen := make([]bool, len(axes))
	if len(axes) != len(x.Shape()) {
		panic(fmt.Sprintf("autodiff: permutation %v of %v", axes, x.Shape()))
	}
	for i, a := range axes {
		if a < 0 || a >= len(axes) || seen[a] {
			panic(fmt.Sprintf("autodiff: permutation %v of %v", axes, x.Shape()))
		}
		seen[a] = true
		s[i] = x.Dim(a)
	}
	return x.g.record1(engine.Permute, engine.Attr{Axes: slices.Clone(axes)}, s, x)
}

func permuteGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	inverse := make([]int, len(n.attr.Axes))
	for i, a := range n.attr.Axes {
		inverse[a] = i
	}
	return []Value{d[0].Permute(inverse...)}
}

// Gather returns rows of a table [V,W]: index of shape s gives [s..,W]. Indices are whole numbers
// in 0..V-1.
func (table Value) Gather(index Value) Value {
	if len(table.Shape()) != 2 {
		panic(fmt.Sprintf("autodiff: rows gathered from %v", table.Shape()))
	}
	s := append(slices.Clone(index.Shape()), table.Dim(1))
	return table.g.record1(engine.Gather, engine.Attr{}, s, table, index)
}

func gatherGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	table, index := g.value(n.in[0]), g.value(n.in[1])
	return []Value{g.record1(engine.ScatterAdd, engine.Attr{}, table.Shape(), index, d[0]), None}
}

func scatterAddGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	index, x := g.value(n.in[0]), g.value(n.in[1])
	return []Value{None, g.record1(engine.Gather, engine.Attr{}, x.Shape(), d[0], index)}
}
