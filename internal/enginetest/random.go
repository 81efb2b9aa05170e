package enginetest

import (
	"math"
	"math/rand/v2"

	"clipinspector/engine"
)

// gen makes random operands.
type gen struct{ *rand.Rand }

// size returns a size from 1 to n, odd ones and those around powers of two included.
func (g gen) size(n int) int {
	if g.IntN(4) == 0 {
		n = min(n, 4)
	}
	return 1 + g.IntN(n)
}

func (g gen) shape(rank, n int) []int {
	s := make([]int, rank)
	for i := range s {
		s[i] = g.size(n)
	}
	return s
}

// width returns the width of a LayerNorm, often one of those that transformers have and engines
// have special ways for.
func (g gen) width() int {
	if g.IntN(3) == 0 {
		return 128 * (1 + g.IntN(9))
	}
	return 2 + g.size(800)
}

// normal returns numbers of unit variance.
func (g gen) normal(shape ...int) Array {
	a := Array{shape, make([]float32, engine.Size(shape))}
	for i := range a.Data {
		a.Data[i] = float32(g.NormFloat64())
	}
	return a
}

// uniform returns numbers in [lo, hi).
func (g gen) uniform(lo, hi float64, shape ...int) Array {
	a := Array{shape, make([]float32, engine.Size(shape))}
	for i := range a.Data {
		a.Data[i] = float32(lo + (hi-lo)*g.Float64())
	}
	return a
}

// whole returns whole numbers below n.
func (g gen) whole(n int, shape ...int) Array {
	a := Array{shape, make([]float32, engine.Size(shape))}
	for i := range a.Data {
		a.Data[i] = float32(g.IntN(n))
	}
	return a
}

// maybe returns x or an absent operand.
func (g gen) maybe(x Array) Array {
	if g.IntN(2) == 0 {
		return Array{}
	}
	return x
}

// ones replaces some dimensions by 1.
func (g gen) ones(shape []int) []int {
	s := append([]int(nil), shape...)
	for i := range s {
		if g.IntN(2) == 0 {
			s[i] = 1
		}
	}
	return s
}

func empty(shape ...int) Array { return Array{Shape: shape} }

// like returns a copy of a shape with one dimension replaced.
func like(shape []int, axis, n int) []int {
	s := append([]int(nil), shape...)
	s[axis] = n
	return s
}

// reference executes a case on the reference, for operands that are results of other operations.
func reference(c Case) []Array {
	r := make([]Array, len(c.Out))
	out, err := c.Exec(oracle)
	if err != nil {
		panic(err)
	}
	for i := range r {
		r[i] = Array{c.Out[i].Shape, out[i]}
	}
	return r
}

// Random returns a random instruction of an operation.
func Random(rng *rand.Rand, op engine.Op) *Case {
	g := gen{rng}
	c := &Case{Op: op, Attr: engine.Attr{Alpha: 1}}
	at := &c.Attr
	switch op {
	case engine.MatMul:
		g.matMul(c)
	case engine.Attention, engine.AttentionGrad:
		b, s, h, d := g.size(3), g.size(70), g.size(4), g.size(40)
		w := h * d
		at.Heads, at.Causal = h, g.IntN(2) == 0
		c.In, c.Out = []Array{g.normal(b, s, 3*w)}, []Array{empty(b, s, w), empty(b, h, s)}
		if op == engine.AttentionGrad {
			fwd := reference(Case{Op: engine.Attention, Attr: *at, In: c.In, Out: c.Out})
			c.In = append(c.In, fwd[0], fwd[1], g.normal(b, s, w))
			c.Out = []Array{empty(b, s, 3*w)}
		}
	case engine.LayerNorm:
		r, w := g.shape(2, 30), g.width()
		at.Eps = 1e-5
		x := append(r, w)
		c.In = []Array{g.normal(x...), g.normal(w), g.normal(w), g.maybe(g.normal(x...))}
		c.Out = []Array{empty(x...), empty(r[0]*r[1], 2), {}}
		if c.In[3].Shape != nil {
			c.Out[2] = empty(x...)
		}
	case engine.LayerNormGrad, engine.LayerNormParamGrad:
		r, w := g.size(200), g.width()
		at.Eps = 1e-5
		h, gamma := g.normal(r, w), g.normal(w)
		fwd := reference(Case{Op: engine.LayerNorm, Attr: *at, In: []Array{h, gamma, gamma, {}}, Out: []Array{empty(r, w), empty(r, 2), {}}})
		if op == engine.LayerNormGrad {
			c.In, c.Out = []Array{h, gamma, fwd[1], g.normal(r, w), g.maybe(g.normal(r, w))}, []Array{empty(r, w)}
		} else {
			c.In, c.Out = []Array{h, fwd[1], g.normal(r, w)}, []Array{empty(w), empty(w)}
		}
	case engine.Unary, engine.UnaryGrad:
		x := g.uniform(-6, 6, g.shape(2, 250)...)
		*at = engine.Attr{Func: engine.Func(g.IntN(int(engine.Reciprocal) + 1)), Alpha: 1.5, Beta: -0.5, Lo: -1, Hi: 0.7}
		switch at.Func {
		case engine.Log, engine.Sqrt, engine.Reciprocal:
			x = g.uniform(0.1, 6, x.Shape...)
		}
		c.In, c.Out = []Array{x}, []Array{empty(x.Shape...)}
		if op == engine.UnaryGrad {
			c.In = append(c.In, g.normal(x.Shape...))
		}
	case engine.Binary:
		rank := 1 + g.IntN(6)
		shape := g.shape(rank, []int{0, 70000, 200, 40, 14, 8, 5}[rank])
		at.Func = engine.Add + engine.Func(g.IntN(int(engine.GreaterEqual-engine.Add)+1))
		sa, sb := g.ones(shape), g.ones(shape)
		for k := range shape {
			shape[k] = max(sa[k], sb[k])
		}
		a, b := g.normal(sa...), g.uniform(0.5, 2, sb...)
		if at.Func >= engine.Equal {
			a, b = g.whole(3, sa...), g.whole(3, sb...)
		}
		c.In, c.Out = []Array{a, b}, []Array{empty(shape...)}
	case engine.SumTo, engine.BroadcastTo:
		rank := 1 + g.IntN(5)
		big := g.shape(rank, []int{0, 300000, 600, 60, 20, 10}[rank])
		small := g.ones(big)
		at.Alpha = 0.25
		c.In, c.Out = []Array{g.normal(big...)}, []Array{empty(small...)}
		if op == engine.BroadcastTo {
			c.In, c.Out = []Array{g.normal(small...)}, []Array{empty(big...)}
		}
	case engine.MaxAxis, engine.MaxAxisGrad:
		shape := g.shape(3, 30)
		at.Axis = g.IntN(3)
		y := like(shape, at.Axis, 1)
		if op == engine.MaxAxis {
			c.In, c.Out = []Array{g.whole(9, shape...)}, []Array{empty(y...), empty(y...)}
		} else {
			c.In, c.Out = []Array{g.whole(shape[at.Axis], y...), g.normal(y...)}, []Array{empty(shape...)}
		}
	case engine.Slice, engine.Pad:
		shape := g.shape(3, 30)
		at.Axis = g.IntN(3)
		n := g.size(shape[at.Axis])
		at.From = g.IntN(shape[at.Axis] - n + 1)
		part := like(shape, at.Axis, n)
		c.In, c.Out = []Array{g.normal(shape...)}, []Array{empty(part...)}
		if op == engine.Pad {
			c.In, c.Out = []Array{g.normal(part...)}, []Array{empty(shape...)}
		}
	case engine.Concat:
		shape := g.shape(3, 30)
		at.Axis = g.IntN(3)
		total := 0
		for range 1 + g.IntN(4) {
			n := g.size(30)
			c.In = append(c.In, g.normal(like(shape, at.Axis, n)...))
			total += n
		}
		c.Out = []Array{empty(like(shape, at.Axis, total)...)}
	case engine.Permute:
		rank := 1 + g.IntN(5)
		shape := g.shape(rank, []int{0, 1000, 300, 40, 14, 8}[rank])
		at.Axes = g.Perm(rank)
		y := make([]int, rank)
		for i, a := range at.Axes {
			y[i] = shape[a]
		}
		c.In, c.Out = []Array{g.normal(shape...)}, []Array{empty(y...)}
	case engine.Gather, engine.ScatterAdd:
		v, w, idx := g.size(50), g.size(150), g.shape(2, 12)
		n := engine.Size(idx)
		c.In, c.Out = []Array{g.normal(v, w), g.whole(v, idx...)}, []Array{empty(idx[0], idx[1], w)}
		if op == engine.ScatterAdd {
			c.In, c.Out = []Array{g.whole(v, idx...), g.normal(n, w)}, []Array{empty(v, w)}
		}
	case engine.Softmax, engine.SoftmaxGrad, engine.ArgMax, engine.Normalize, engine.NormalizeGrad:
		shape := []int{g.size(30), g.size(10), g.size(300)}
		r := shape[0] * shape[1]
		x := g.uniform(-20, 20, shape...)
		c.In, c.Out = []Array{x}, []Array{empty(shape...)}
		switch op {
		case engine.SoftmaxGrad:
			y := reference(Case{Op: engine.Softmax, In: c.In, Out: c.Out})
			c.In = []Array{y[0], g.normal(shape...)}
		case engine.ArgMax:
			c.In, c.Out = []Array{g.whole(9, shape...)}, []Array{empty(r)}
		case engine.Normalize, engine.NormalizeGrad:
			c.Out = append(c.Out, empty(r))
			if op == engine.NormalizeGrad {
				fwd := reference(Case{Op: engine.Normalize, In: c.In, Out: c.Out})
				c.In, c.Out = []Array{fwd[0], fwd[1], g.normal(shape...)}, []Array{empty(shape...)}
			}
		}
	case engine.CrossEntropy, engine.CrossEntropyGrad, engine.Margin, engine.MarginGrad:
		r, n := g.size(300), 1+g.size(120)
		at.Alpha = 2
		c.In, c.Out = []Array{g.uniform(-20, 20, r, n), g.whole(n, r)}, []Array{empty(r)}
		if op == engine.CrossEntropyGrad || op == engine.MarginGrad {
			c.In, c.Out = append(c.In, g.normal(r)), []Array{empty(r, n)}
		}
	case engine.Patchify, engine.Unpatchify:
		b, ch, p, h, w := g.size(4), g.size(4), g.size(9), g.size(6), g.size(6)
		at.Patch = p
		c.In, c.Out = []Array{g.normal(b, ch, h*p, w*p)}, []Array{empty(b, h*w, ch*p*p)}
		if op == engine.Unpatchify {
			c.In, c.Out = []Array{g.normal(b, h*w, ch*p*p)}, []Array{empty(b, ch, h*p, w*p)}
		}
	case engine.GridSample, engine.GridSampleGrad:
		b, ch, h, w, gh, gw := g.size(4), g.size(4), 1+g.size(40), 1+g.size(40), g.size(40), g.size(40)
		grids := 1
		if g.IntN(2) == 0 {
			grids = b
		}
		x, grid := g.normal(b, ch, h, w), g.smoothGrid(h, w, grids, gh, gw)
		c.In, c.Out = []Array{x, grid}, []Array{empty(b, ch, gh, gw)}
		if op == engine.GridSampleGrad {
			c.In = append(c.In, g.normal(b, ch, gh, gw))
			c.Out = []Array{empty(x.Shape...), empty(grid.Shape...)}
			if k := g.IntN(4); k < 2 {
				c.Out[k] = Array{}
			}
		}
	case engine.Crop:
		b, ch, h, w := g.size(4), g.size(4), g.size(70), g.size(70)
		box := empty(b, 5)
		for range b {
			width, height := g.size(w), g.size(h)
			for _, v := range []int{g.IntN(w - width + 1), g.IntN(h - height + 1), width, height, g.IntN(2)} {
				box.Data = append(box.Data, float32(v))
			}
		}
		c.In, c.Out = []Array{g.normal(b, ch, h, w), box}, []Array{empty(b, ch, g.size(70), g.size(70))}
	case engine.Assign:
		x := g.normal(g.shape(2, 300)...)
		c.In, c.Out = []Array{x}, []Array{empty(x.Shape...)}
	case engine.SGD:
		n := g.size(40000)
		at.Momentum, at.WeightDecay = 0.9, 0.01
		v := g.normal(n)
		if g.IntN(3) == 0 {
			at.Momentum, v = 0, Array{}
		}
		c.In = []Array{g.normal(n), g.normal(n), v, g.whole(4, 1), g.uniform(0.01, 1, 3)}
		c.Out, c.InPlace = []Array{empty(n), v}, map[int]int{0: 0, 1: 2}
	case engine.Adam:
		n := g.size(40000)
		at.Beta1, at.Beta2, at.Eps, at.WeightDecay, at.Decoupled = 0.9, 0.999, 1e-8, 0.01, g.IntN(2) == 0
		c.In = []Array{g.normal(n), g.normal(n), g.normal(n), g.uniform(0.1, 1, n), g.whole(4, 1), g.uniform(0.001, 0.1, 3)}
		c.Out, c.InPlace = []Array{empty(n), empty(n), empty(n)}, map[int]int{0: 0, 1: 2, 2: 3}
	default:
		panic("enginetest: no generator for " + op.String())
	}
	return c
}

func (g gen) matMul(c *Case) {
	at := &c.Attr
	m, n, k := g.size(300), g.size(300), g.size(200)
	at.Batch = 1
	if g.IntN(2) == 0 {
		at.Batch = g.size(8)
		m, n, k = g.size(60), g.size(60), g.size(60)
	}
	at.M, at.N, at.K = m, n, k
	at.TransA, at.TransB, at.Alpha = g.IntN(2) == 0, g.IntN(2) == 0, 0.5+g.Float64()
	nA, nB := 1, 1
	if g.IntN(3) > 0 {
		nA, at.StrideA = at.Batch, m*k
	}
	if g.IntN(3) > 0 {
		nB, at.StrideB = at.Batch, k*n
	}
	a, b := []int{nA, m, k}, []int{nB, k, n}
	if at.TransA {
		a = []int{nA, k, m}
	}
	if at.TransB {
		b = []int{nB, n, k}
	}
	c.In, c.Out = []Array{g.normal(a...), g.normal(b...), g.maybe(g.normal(n))}, []Array{empty(at.Batch, m, n)}
}

// smoothGrid returns points in and around the image that stay away from the pixels' lines, where
// the derivative jumps.
func (g gen) smoothGrid(h, w, grids, gh, gw int) Array {
	a := empty(grids, gh, gw, 2)
	for range grids * gh * gw {
		for _, n := range []int{w, h} {
			p := float64(g.IntN(n+2)-1) + 0.05 + 0.9*g.Float64()
			a.Data = append(a.Data, float32(2*p/math.Max(1, float64(n-1))-1))
		}
	}
	return a
}
