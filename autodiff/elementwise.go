package autodiff

import (
	"fmt"
	"slices"

	"clipinspector/engine"
)

func (x Value) unary(a engine.Attr) Value { return x.g.record1(engine.Unary, a, x.Shape(), x) }

// Affine returns scale*x + shift.
func (x Value) Affine(scale, shift float64) Value {
	return x.unary(engine.Attr{Func: engine.Affine, Alpha: scale, Beta: shift})
}

// Scale returns s*x.
func (x Value) Scale(s float64) Value { return x.Affine(s, 0) }

// Clamp bounds x to [lo, hi]; the derivative is one on the closed interval, as in PyTorch.
func (x Value) Clamp(lo, hi float64) Value {
	return x.unary(engine.Attr{Func: engine.Clamp, Lo: lo, Hi: hi})
}

// Apply returns f(x) for a function of one argument that has no constants.
func (x Value) Apply(f engine.Func) Value { return x.unary(engine.Attr{Func: f}) }

// QuickGELU returns x*sigmoid(1.702x), CLIP's activation.
func (x Value) QuickGELU() Value { return x.Apply(engine.QuickGELU) }

// Tanh returns the hyperbolic tangent.
func (x Value) Tanh() Value { return x.Apply(engine.Tanh) }

// ReLU returns max(x, 0).
func (x Value) ReLU() Value { return x.Apply(engine.ReLU) }

// Exp returns e^x.
func (x Value) Exp() Value { return x.Apply(engine.Exp) }

// Square returns x².
func (x Value) Square() Value { return x.Apply(engine.Square) }

func unaryGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	switch n.attr.Func {
	case engine.Affine:
		return []Value{d[0].Scale(n.attr.Alpha)}
	case engine.Sign:
		return []Value{None}
	}
	x := g.value(n.in[0])
	return []Value{g.record1(engine.UnaryGrad, n.attr, x.Shape(), x, d[0])}
}

// Add returns a + b with numpy's broadcasting.
func (a Value) Add(b Value) Value { return a.binary(engine.Add, b) }

// Sub returns a - b with numpy's broadcasting.
func (a Value) Sub(b Value) Value { return a.binary(engine.Sub, b) }

// Mul returns the product element by element with numpy's broadcasting.
func (a Value) Mul(b Value) Value { return a.binary(engine.Mul, b) }

// Div returns the quotient element by element with numpy's broadcasting.
func (a Value) Div(b Value) Value { return a.binary(engine.Div, b) }

// Equal returns 1 where a equals b and 0 elsewhere; it has no gradient.
func (a Value) Equal(b Value) Value { return a.binary(engine.Equal, b) }

// GreaterEqual returns 1 where a >= b and 0 elsewhere; it has no gradient.
func (a Value) GreaterEqual(b Value) Value { return a.binary(engine.GreaterEqual, b) }

func (a Value) binary(f engine.Func, b Value) Value {
	a, b = sameRank(a, b)
	sa, sb := a.Shape(), b.Shape()
	shape := make([]int, len(sa))
	for i := range sa {
		switch {
		case sa[i] == sb[i], sb[i] == 1:
			shape[i] = sa[i]
		case sa[i] == 1:
			shape[i] = sb[i]
		default:
			panic(fmt.Sprintf("autodiff: %v and %v do not broadcast", sa, sb))
		}
	}
	return a.g.record1(engine.Binary, engine.Attr{Func: f}, shape, a, b)
}

func sameRank(a, b Value) (Value, Value) {
	pad := func(v Value, rank int) Value {
		s := v.Shape()
		if len(s) == rank {
			return v
		}
		return v.Reshape(append(slices.Repeat([]int{1}, rank-len(s)), s...)...)
	}
	rank := max(len(a.Shape()), len(b.Shape()))
	return pad(a, rank), pad(b, rank)
}

func binaryGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	a, b, y, dy := g.value(n.in[0]), g.value(n.in[1]), g.value(n.out[0]), d[0]
	in := make([]Value, 2)
	to := func(i int, like Value, dv func() Value) {
		if need[i] {
			in[i] = dv().SumTo(like.Shape()...)
		}
	}
	switch n.attr.Func {
	case engine.Add:
		to(0, a, func() Value { return dy })
		to(1, b, func() Value { return dy })
	case engine.Sub:
		to(0, a, func() Value { return dy })
		to(1, b, func() Value { return dy.Scale(-1) })
	case engine.Mul:
		to(0, a, func() Value { return dy.Mul(b) })
		to(1, b, func() Value { return dy.Mul(a) })
	case engine.Div:
		to(0, a, func() Value { return dy.Div(b) })
		to(1, b, func() Value { return dy.Mul(y).Div(b).Scale(-1) })
	case engine.Equal, engine.GreaterEqual: // piecewise constant
	default:
		panic("autodiff: Maximum and Minimum have no gradient")
	}
	return in
}

// SumTo sums over the dimensions in which the given shape, of equal rank, has size 1.
func (x Value) SumTo(shape ...int) Value { return x.sumTo(1, shape...) }

func (x Value) sumTo(alpha float64, shape ...int) Value {
	s := x.Shape()
	if slices.Equal(s, shape) && alpha == 1 {
		return x
	}
	broadcastable(shape, s)
	return x.g.record1(engine.SumTo, engine.Attr{Alpha: alpha}, shape, x)
}

// MeanTo averages over the dimensions in which the given shape, of equal rank, has size 1.
func (x Value) MeanTo(shape ...int) Value {
	return x.sumTo(float64(engine.Size(shape))/float64(x.Size()), shape...)
}

func sumToGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	dx := d[0].BroadcastTo(g.value(n.in[0]).Shape()...)
	if n.attr.Alpha != 1 {
		dx = d[0].Scale(n.attr.Alpha).BroadcastTo(g.value(n.in[0]).Shape()...)
	}
	return []Value{dx}
}

// BroadcastTo repeats x along the dimensions in which it has size 1; ranks are equal.
func (x Value) BroadcastTo(shape ...int) Value {
	if slices.Equal(x.Shape(), shape) {
		return x
	}
	broadcastable(x.Shape(), shape)
	return x.g.record1(engine.BroadcastTo, engine.Attr{}, shape, x)
}

func broadcastToGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	return []Value{d[0].SumTo(g.value(n.in[0]).Shape()...)}
}

func broadcastable(small, large []int) {
	ok := len(small) == len(large)
	for i := 0; ok && i < len(small); i++ {
		ok = small[i] == large[i] || small[i] == 1
	}
	if !ok {
		panic(fmt.Sprintf("autodiff: %v does not broadcast to %v", small, large))
	}
}

// Max returns the largest element along axis, which gets size 1; the gradient goes to the first of
// equals.
func (x Value) Max(axis int) Value {
	s := slices.Clone(x.Shape())
	if axis < 0 {
		axis += len(s)
	}
	s[axis] = 1
	return x.g.record(engine.MaxAxis, engine.Attr{Axis: axis}, []Value{x}, s, s)[0]
}

func maxAxisGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	index := g.value(n.out[1])
	return []Value{g.record1(engine.MaxAxisGrad, n.attr, g.value(n.in[0]).Shape(), index, d[0])}
}
