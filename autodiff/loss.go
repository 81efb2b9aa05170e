package autodiff

import (
	"fmt"

	"clipinspector/engine"
)

// Softmax normalises the exponentials of the last dimension.
func (x Value) Softmax() Value { return x.g.record1(engine.Softmax, engine.Attr{}, x.Shape(), x) }

func softmaxGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	y := g.value(n.out[0])
	return []Value{g.record1(engine.SoftmaxGrad, engine.Attr{}, y.Shape(), y, d[0])}
}

// CrossEntropy returns the loss of each row of logits [R,C] against its label [R], a class index.
func (logits Value) CrossEntropy(label Value) Value {
	return rowLoss(engine.CrossEntropy, engine.Attr{}, logits, label)
}

// MarginLoss returns max(0, margin + largest other logit - logit of the label) of each row of
// logits [R,C], C >= 2, label [R].
func (logits Value) MarginLoss(label Value, margin float64) Value {
	return rowLoss(engine.Margin, engine.Attr{Alpha: margin}, logits, label)
}

func rowLoss(op engine.Op, a engine.Attr, logits, label Value) Value {
	s := logits.Shape()
	if len(s) != 2 || label.Size() != s[0] {
		panic(fmt.Sprintf("autodiff: %v of logits %v with labels %v", op, s, label.Shape()))
	}
	if op == engine.Margin && s[1] < 2 {
		panic("autodiff: a margin needs at least two classes")
	}
	return logits.g.record1(op, a, []int{s[0]}, logits, label)
}

func crossEntropyGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	return rowLossGrad(engine.CrossEntropyGrad, g, n, d)
}

func marginGrad(g *Graph, n *node, d []Value, need []bool) []Value {
	return rowLossGrad(engine.MarginGrad, g, n, d)
}

func rowLossGrad(op engine.Op, g *Graph, n *node, d []Value) []Value {
	x, label := g.value(n.in[0]), g.value(n.in[1])
	return []Value{g.record1(op, n.attr, x.Shape(), x, label, d[0]), None}
}

// ArgMax returns the index of the largest element of each row [..,C] as [R]; it has no gradient.
func (x Value) ArgMax() Value {
	return x.g.record1(engine.ArgMax, engine.Attr{}, []int{x.Size() / x.Dim(-1)}, x)
}
