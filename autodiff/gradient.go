package autodiff

import (
	"fmt"
	"slices"

	"clipinspector/engine"
)

// gradients holds, for each differentiable operation, how its inputs' gradients are recorded. d are
// the gradients of the outputs (None where nothing depends on one), need tells which inputs want
// one; the result has an entry for each input, None where there is none.
var gradients map[engine.Op]func(g *Graph, n *node, d []Value, need []bool) []Value

func init() {
	gradients = map[engine.Op]func(g *Graph, n *node, d []Value, need []bool) []Value{
		engine.MatMul:       matMulGrad,
		engine.Attention:    attentionGrad,
		engine.LayerNorm:    layerNormGrad,
		engine.Unary:        unaryGrad,
		engine.Binary:       binaryGrad,
		engine.SumTo:        sumToGrad,
		engine.BroadcastTo:  broadcastToGrad,
		engine.MaxAxis:      maxAxisGrad,
		engine.Slice:        sliceGrad,
		engine.Pad:          padGrad,
		engine.Concat:       concatGrad,
		engine.Permute:      permuteGrad,
		engine.Gather:       gatherGrad,
		engine.ScatterAdd:   scatterAddGrad,
		engine.Softmax:      softmaxGrad,
		engine.CrossEntropy: crossEntropyGrad,
		engine.Margin:       marginGrad,
		engine.Normalize:    normalizeGrad,
		engine.Patchify:     patchifyGrad,
		engine.Unpatchify:   unpatchifyGrad,
		engine.GridSample:   gridSampleGrad,
	}
}

// Grad records the gradients of y with respect to the given values, weighted by dy, which has y's
// shape; with None for dy all weights are one, so that y may be a scalar loss or a vector of losses
// that are summed. Nothing is recorded for values that y does not reach; their gradient is None, as
// is that of None. No gradient flows through indices, labels, Sign, Equal and GreaterEqual, which
// are piecewise constant. Grad panics when the way leads through another operation that has no
// derivative (ArgMax, Crop, a gradient operation).
func Grad(y, dy Value, wrt ...Value) []Value {
	g := y.g
	if dy.Valid() && !slices.Equal(dy.Shape(), y.Shape()) {
		panic(fmt.Sprintf("autodiff: gradient of shape %v for a value of shape %v", dy.Shape(), y.Shape()))
	}
	depends := make([]bool, len(g.values))
	for _, w := range wrt {
		if w.Valid() {
			depends[w.id] = true
		}
	}
	recorded := len(g.nodes)
	for i := range recorded {
		n := &g.nodes[i]
		if n.view == detached {
			continue
		}
		for _, id := range n.in {
			if id >= 0 && depends[id] {
				for _, o := range n.out {
					if o >= 0 && g.values[o].node == i {
						depends[o] = true
					}
				}
				break
			}
		}
	}
	grads := make(map[int]Value)
	add := func(id int, d Value) {
		if prev, ok := grads[id]; ok {
			d = prev.Add(d)
		}
		grads[id] = d
	}
	if depends[y.id] {
		if !dy.Valid() {
			dy = y.Affine(0, 1)
		}
		add(y.id, dy)
	}
	for i := recorded - 1; i >= 0; i-- {
		n := g.nodes[i] // a copy: recording below may move the list
		d := make([]Value, len(n.out))
		any := false
		for j, o := range n.out {
			if o >= 0 && g.values[o].node == i {
				d[j] = grads[o]
				any = any || d[j].Valid()
			}
		}
		need := make([]bool, len(n.in))
		needAny := false
		for j, id := range n.in {
			need[j] = id >= 0 && depends[id]
			needAny = needAny || need[j]
		}
		if !any || !needAny || n.view == detached {
			continue
		}
		if n.view == reshaped {
			add(n.in[0], d[0].Reshape(g.values[n.in[0]].shape...))
			continue
		}
		f := gradients[n.op]
		if f == nil {
			panic(fmt.Sprintf("autodiff: %v has no gradient", n.op))
		}
		for j, dx := range f(g, &n, d, need) {
			if need[j] && dx.Valid() {
				add(n.in[j], dx)
			}
		}
	}
	out := make([]Value, len(wrt))
	for i, w := range wrt {
		if w.Valid() {
			out[i] = grads[w.id]
		}
	}
	return out
}
