// Package autodiff records computations as programs of differentiable operations.
//
// A Graph is a recording. Methods of Value append operations to it. Grad appends the operations
// that compute gradients. Compile turns the whole into a Program that an engine replays. Shapes are
// fixed when recording. A shape that does not fit is a fault of the calling code: it panics with
// both shapes in the message.
//
//	g := autodiff.New(e)
//	x := g.Input(batch, 3, 32, 32)
//	loss := x.Linear(w, b).CrossEntropy(labels).Mean()
//	dw := autodiff.Grad(loss, autodiff.None, w)[0]
//	g.SGD(w, dw, velocity, step, schedule, 0.9, 5e-4)
//	p, err := g.Compile(loss)
//
// Operations run in the order in which they were recorded. What reads a bound array before an
// Assign or an optimiser step sees the old contents. What reads it afterwards sees the new ones.
package autodiff

import (
	"fmt"
	"slices"

	"clipinspector/engine"
)

// Graph is a recording for one engine.
type Graph struct {
	eng    engine.Engine
	values []valueInfo
	nodes  []node
	slots  []slotInfo
	owned  []engine.Buffer
	err    error // first failed allocation; reported by Compile
}

type valueInfo struct {
	shape []int
	slot  int
	node  int // producer, -1 for a bound value
}

type slotInfo struct {
	len   int
	bound engine.Buffer
}

// node is one recorded operation. Views (reshapes and detached values) are nodes without an
// instruction.
type node struct {
	op   engine.Op
	view view
	in   []int // value ids, -1 where absent
	out  []int
	attr engine.Attr
}

type view uint8

const (
	notView view = iota
	reshaped
	detached
)

// Value is an array in a recording. The zero Value, None, stands for an absent operand.
type Value struct {
	g  *Graph
	id int
}

// None is an absent operand.
var None Value

// Valid tells whether v is a value of a graph and not None.
func (v Value) Valid() bool { return v.g != nil }

// Shape returns the dimensions; the caller must not change them.
func (v Value) Shape() []int { return v.g.values[v.id].shape }

// Dim returns dimension i; negative i count from the end.
func (v Value) Dim(i int) int {
	s := v.Shape()
	if i < 0 {
		i += len(s)
	}
	return s[i]
}

// Size returns the number of elements.
func (v Value) Size() int { return engine.Size(v.Shape()) }

// Graph returns the recording that v belongs to.
func (v Value) Graph() *Graph { return v.g }

// New starts a recording.
func New(e engine.Engine) *Graph { return &Graph{eng: e} }

// Bind makes device memory that outlives the program a value of the recording. Binding the same
// array twice gives two values; gradients are taken with respect to values, so bind once. An absent
// array gives None.
func (g *Graph) Bind(a engine.Array) Value {
	if a.Buffer == nil {
		return None
	}
	if a.Buffer.Len() < engine.Size(a.Shape) {
		panic(fmt.Sprintf("autodiff: a buffer of %d numbers bound with shape %v", a.Buffer.Len(), a.Shape))
	}
	for i, s := range g.slots { // one slot a buffer, so that engines see that two values are the same memory
		if s.bound == a.Buffer {
			g.slots[i].len = max(s.len, engine.Size(a.Shape))
			return g.newValue(a.Shape, i, -1)
		}
	}
	g.slots = append(g.slots, slotInfo{engine.Size(a.Shape), a.Buffer})
	return g.newValue(a.Shape, len(g.slots)-1, -1)
}

// BindAll binds arrays, each to a value.
func (g *Graph) BindAll(arrays []engine.Array) []Value {
	out := make([]Value, len(arrays))
	for i, a := range arrays {
		out[i] = g.Bind(a)
	}
	return out
}

// Input returns a bound value with zeroed memory of its own, to be filled with Program.Write. The
// program owns it.
func (g *Graph) Input(shape ...int) Value {
	for _, d := range shape {
		if d <= 0 {
			panic(fmt.Sprintf("autodiff: input of shape %v", shape))
		}
	}
	a, err := engine.NewArray(g.eng, shape...)
	if err != nil {
		if g.err == nil {
			g.err = err
		}
		g.slots = append(g.slots, slotInfo{engine.Size(shape), nil})
		return g.newValue(shape, len(g.slots)-1, -1)
	}
	g.owned = append(g.owned, a.Buffer)
	return g.Bind(a)
}

// Const returns an input that holds data.
func (g *Graph) Const(data []float32, shape ...int) Value {
	if len(data) != engine.Size(shape) {
		panic(fmt.Sprintf("autodiff: %d numbers for a constant of shape %v", len(data), shape))
	}
	v := g.Input(shape...)
	if b := g.slots[g.values[v.id].slot].bound; b != nil {
		if err := b.Write(0, data); err != nil && g.err == nil {
			g.err = err
		}
	}
	return v
}

func (g *Graph) newValue(shape []int, slot, producer int) Value {
	g.values = append(g.values, valueInfo{slices.Clone(shape), slot, producer})
	return Value{g, len(g.values) - 1}
}

// record appends an operation with fresh outputs of the given shapes (nil for an absent output).
func (g *Graph) record(op engine.Op, attr engine.Attr, in []Value, outShapes ...[]int) []Value {
	n := node{op: op, attr: attr, in: g.ids(in)}
	out := make([]Value, len(outShapes))
	for i, s := range outShapes {
		if s == nil {
			n.out = append(n.out, -1)
			continue
		}
		g.slots = append(g.slots, slotInfo{len: engine.Size(s)})
		out[i] = g.newValue(s, len(g.slots)-1, len(g.nodes))
		n.out = append(n.out, out[i].id)
	}
	g.nodes = append(g.nodes, n)
	return out
}

func (g *Graph) record1(op engine.Op, attr engine.Attr, shape []int, in ...Value) Value {
	return g.record(op, attr, in, shape)[0]
}

// recordInto appends an operation that writes to existing bound values.
func (g *Graph) recordInto(op engine.Op, attr engine.Attr, in, out []Value) {
	for _, v := range out {
		if v.Valid() && g.slots[g.values[v.id].slot].bound == nil && g.err == nil {
			panic(fmt.Sprintf("autodiff: %v writes to a value that is no bound array", op))
		}
	}
	g.nodes = append(g.nodes, node{op: op, attr: attr, in: g.ids(in), out: g.ids(out)})
}

func (g *Graph) ids(vs []Value) []int {
	ids := make([]int, len(vs))
	for i, v := range vs {
		ids[i] = -1
		if v.Valid() {
			if v.g != g {
				panic("autodiff: a value of another graph")
			}
			ids[i] = v.id
		}
	}
	return ids
}

func (g *Graph) viewOf(v Value, shape []int, kind view) Value {
	out := g.newValue(shape, g.values[v.id].slot, len(g.nodes))
	g.nodes = append(g.nodes, node{view: kind, in: []int{v.id}, out: []int{out.id}})
	return out
}

func (g *Graph) value(id int) Value {
	if id < 0 {
		return None
	}
	return Value{g, id}
}
