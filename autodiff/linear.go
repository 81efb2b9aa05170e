package autodiff

import (
	"fmt"
	"math"

	"clipinspector/engine"
)

// Linear returns x·wᵀ + b, a fully connected layer in PyTorch's layout: x [..,K], w [N,K], b [N] or
// None, result [..,N].
func (x Value) Linear(w, b Value) Value {
	s := x.Shape()
	k := s[len(s)-1]
	if len(w.Shape()) != 2 || w.Dim(1) != k {
		panic(fmt.Sprintf("autodiff: Linear of %v by %v", s, w.Shape()))
	}
	if b.Valid() && b.Size() != w.Dim(0) {
		panic(fmt.Sprintf("autodiff: Linear by %v with a bias of %v", w.Shape(), b.Shape()))
	}
	n := w.Dim(0)
	a := engine.Attr{Batch: 1, M: x.Size() / k, N: n, K: k, TransB: true, Alpha: 1}
	return x.g.record1(engine.MatMul, a, withLast(s, n), x, w, b)
}

// MatMul returns a·b for matrices in the last two dimensions: [..,M,K] by [..,K,N]. Leading
// dimensions are equal, or b is a single matrix [K,N].
func (a Value) MatMul(b Value) Value { return matMul(a, b, false, false, 1) }

// MatMulT returns a·bᵀ: [..,M,K] by [..,N,K], leading dimensions as in MatMul.
func (a Value) MatMulT(b Value) Value { return matMul(a, b, false, true, 1) }

func matMul(a, b Value, transA, transB bool, alpha float64) Value {
	sa, sb := a.Shape(), b.Shape()
	la, lb := len(sa), len(sb)
	if la < 2 || lb < 2 {
		panic(fmt.Sprintf("autodiff: matrix product of %v and %v", sa, sb))
	}
	m, k := sa[la-2], sa[la-1]
	if transA {
		m, k = k, m
	}
	kb, n := sb[lb-2], sb[lb-1]
	if transB {
		kb, n = n, kb
	}
	batchA, batchB := engine.Size(sa[:la-2]), engine.Size(sb[:lb-2])
	if k != kb || (batchB != batchA && batchB != 1) {
		panic(fmt.Sprintf("autodiff: matrix product of %v and %v (transposed: %v, %v)", sa, sb, transA, transB))
	}
	attr := engine.Attr{Batch: batchA, M: m, N: n, K: k, TransA: transA, TransB: transB, Alpha: alpha}
	shape := append(append([]int(nil), sa[:la-2]...), m, n)
	switch {
	case batchB == 1 && !transA: // one tall product
		attr.Batch, attr.M = 1, batchA*m
	default:
		attr.StrideA = m * k
		if batchB > 1 || batchA == 1 {
			attr.StrideB = k * n
		}
	}
	return a.g.record1(engine.MatMul, attr, shape, a, b, None)
}

func matMulGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	at, dy := n.attr, d[0]
	in := make([]Value, 3)
	a, b := g.value(n.in[0]), g.value(n.in[1])
	strideY := at.M * at.N
	if need[0] {
		t := engine.Attr{Batch: at.Batch, Alpha: at.Alpha}
		if at.TransA { // [K,M] = op(b)·dyᵀ
			t.M, t.N, t.K = at.K, at.M, at.N
			t.TransA, t.TransB, t.StrideA, t.StrideB = at.TransB, true, at.StrideB, strideY
			in[0] = product(g, t, b, dy, a, at.StrideA)
		} else { // [M,K] = dy·op(b)ᵀ
			t.M, t.N, t.K = at.M, at.K, at.N
			t.TransB, t.StrideA, t.StrideB = !at.TransB, strideY, at.StrideB
			in[0] = product(g, t, dy, b, a, at.StrideA)
		}
	}
	if need[1] {
		t := engine.Attr{Batch: at.Batch, Alpha: at.Alpha}
		if at.TransB { // [N,K] = dyᵀ·op(a)
			t.M, t.N, t.K = at.N, at.K, at.M
			t.TransA, t.TransB, t.StrideA, t.StrideB = true, at.TransA, strideY, at.StrideA
			in[1] = product(g, t, dy, a, b, at.StrideB)
		} else { // [K,N] = op(a)ᵀ·dy
			t.M, t.N, t.K = at.K, at.N, at.M
			t.TransA, t.StrideA, t.StrideB = !at.TransA, at.StrideA, strideY
			in[1] = product(g, t, a, dy, b, at.StrideB)
		}
	}
	if len(need) > 2 && need[2] {
		in[2] = dy.Reshape(dy.Size()/at.N, at.N).SumTo(1, at.N).Reshape(g.value(n.in[2]).Shape()...)
	}
	return in[:len(n.in)]
}

// product records the gradient of an operand like; an operand that all products of the batch share
// sums theirs.
func product(g *Graph, t engine.Attr, a, b, like Value, stride int) Value {
	if t.Batch > 1 && stride == 0 {
		y := g.record1(engine.MatMul, t, []int{t.Batch, t.M, t.N}, a, b, None)
		return y.SumTo(1, t.M, t.N).Reshape(like.Shape()...)
	}
	return g.record1(engine.MatMul, t, like.Shape(), a, b, None)
}

// Attention returns multi-head self-attention of x·[q k v], given as qkv [B,S,3W] (as CLIP's
// in_proj yields it): softmax(q·kᵀ/sqrt(W/heads))·v per head, result [B,S,W]. Causal hides later
// positions.
func (qkv Value) Attention(heads int, causal bool) Value {
	s := qkv.Shape()
	if len(s) != 3 || s[2]%(3*heads) != 0 {
		panic(fmt.Sprintf("autodiff: attention of %v with %d heads", s, heads))
	}
	return qkv.g.record(engine.Attention, engine.Attr{Heads: heads, Causal: causal}, []Value{qkv},
		[]int{s[0], s[1], s[2] / 3}, []int{s[0], heads, s[1]})[0]
}

func attentionGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	qkv, o, lse := g.value(n.in[0]), g.value(n.out[0]), g.value(n.out[1])
	return []Value{g.record1(engine.AttentionGrad, n.attr, qkv.Shape(), qkv, o, lse, d[0])}
}

// layerNormEps is the constant of every LayerNorm in CLIP.
const layerNormEps = 1e-5

// LayerNorm normalises the last dimension W: gamma [W], beta [W].
func (x Value) LayerNorm(gamma, beta Value) Value {
	y, _ := layerNorm(x, None, gamma, beta)
	return y
}

// AddLayerNorm returns y = LayerNorm(x + residual) together with the sum h, the residual stream of
// a transformer.
func (x Value) AddLayerNorm(residual, gamma, beta Value) (y, h Value) {
	return layerNorm(x, residual, gamma, beta)
}

func layerNorm(x, residual, gamma, beta Value) (y, h Value) {
	s := x.Shape()
	w := s[len(s)-1]
	if gamma.Size() != w || beta.Size() != w {
		panic(fmt.Sprintf("autodiff: LayerNorm of %v with gamma %v and beta %v", s, gamma.Shape(), beta.Shape()))
	}
	if residual.Valid() && residual.Size() != x.Size() {
		panic(fmt.Sprintf("autodiff: LayerNorm of %v plus %v", s, residual.Shape()))
	}
	shapes := [][]int{s, {x.Size() / w, 2}, nil}
	if residual.Valid() {
		shapes[2] = s
	}
	out := x.g.record(engine.LayerNorm, engine.Attr{Eps: layerNormEps}, []Value{x, gamma, beta, residual}, shapes...)
	return out[0], out[2]
}

func layerNormGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	x, gamma, residual := g.value(n.in[0]), g.value(n.in[1]), g.value(n.in[3])
	h := x
	dh := None
	if residual.Valid() {
		h, dh = g.value(n.out[2]), d[2]
	}
	stats := g.value(n.out[1])
	in := make([]Value, 4)
	dx := dh // all there is when only the sum is used
	if d[0].Valid() && (need[0] || need[3]) {
		dx = g.record1(engine.LayerNormGrad, n.attr, x.Shape(), h, gamma, stats, d[0], dh)
	}
	in[0] = dx
	if need[3] && dx.Valid() {
		in[3] = dx.Reshape(residual.Shape()...)
	}
	if d[0].Valid() && (need[1] || need[2]) {
		out := g.record(engine.LayerNormParamGrad, n.attr, []Value{h, stats, d[0]}, gamma.Shape(), gamma.Shape())
		in[1], in[2] = out[0], out[1]
	}
	return in
}

// Normalize divides each row (last dimension) by its Euclidean length.
func (x Value) Normalize() Value {
	s := x.Shape()
	return x.g.record(engine.Normalize, engine.Attr{}, []Value{x}, s, []int{x.Size() / s[len(s)-1]})[0]
}

func normalizeGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	y, norm := g.value(n.out[0]), g.value(n.out[1])
	return []Value{g.record1(engine.NormalizeGrad, engine.Attr{}, y.Shape(), y, norm, d[0])}
}

// Mean returns the average of all elements as a value of shape [1].
func (x Value) Mean() Value { return x.sumAll(1 / float64(x.Size())) }

// Sum returns the sum of all elements as a value of shape [1].
func (x Value) Sum() Value { return x.sumAll(1) }

func (x Value) sumAll(alpha float64) Value {
	if math.IsInf(alpha, 0) {
		panic("autodiff: mean of nothing")
	}
	return x.Reshape(1, x.Size()).sumTo(alpha, 1, 1).Reshape(1)
}

func withLast(shape []int, n int) []int {
	s := append([]int(nil), shape...)
	s[len(s)-1] = n
	return s
}
