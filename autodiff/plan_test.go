package autodiff

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/plain"
)

// randomGraph records a graph of random operations and gradients and returns the values that make
// sense as outputs.
func randomGraph(g *Graph, r *rand.Rand) []Value {
	shapes := [][]int{{4, 6}, {6, 4}, {1, 6}, {4, 1}, {24}, {2, 3, 4}}
	var vs []Value
	for i := range 4 {
		f := uni(shapes[i]...)
		vs = append(vs, g.Const(float32s(numbers(f, r.IntN(1000))), f.shape...))
	}
	gamma, beta := g.Const(float32s(numbers(pos(6), 1)), 6), g.Const(float32s(numbers(uni(6), 2)), 6)
	w := g.Const(float32s(numbers(uni(6, 6), 3)), 6, 6)
	inputs := slices.Clone(vs)
	is := func(v Value, s ...int) bool { return slices.Equal(v.Shape(), s) }
	for range 5 + r.IntN(40) {
		a, b := vs[r.IntN(len(vs))], vs[r.IntN(len(vs))]
		var y Value
		switch r.IntN(12) {
		case 0:
			y = a.Tanh()
		case 1:
			y = a.Affine(0.5, 0.1)
		case 2, 3:
			if !slices.Equal(a.Shape(), b.Shape()) {
				continue
			}
			y = a.Add(b).Tanh()
		case 4:
			if a.Size() != 24 {
				continue
			}
			y = a.Reshape(shapes[[]int{0, 1, 4, 5}[r.IntN(4)]]...)
		case 5:
			if len(a.Shape()) != 2 {
				continue
			}
			y = a.Permute(1, 0)
		case 6:
			if !is(a, 4, 6) || !is(b, 4, 6) {
				continue
			}
			var h Value
			y, h = a.AddLayerNorm(b, gamma, beta)
			vs = append(vs, h.Scale(0.5))
		case 7:
			if a.Dim(-1) != 6 {
				continue
			}
			y = a.Linear(w, beta).Softmax()
		case 8:
			if !is(a, 4, 6) {
				continue
			}
			y = a.SumTo(1, 6).Tanh().Mul(b.Detach().Sum()).Tanh()
		case 9:
			if !is(a, 6, 4) {
				continue
			}
			y = Concat(0, a.Slice(0, 1, 5), a.Slice(0, 0, 1))
		case 10:
			if !is(a, 2, 3, 4) {
				continue
			}
			y = a.Max(2).BroadcastTo(2, 3, 4).Add(a)
		case 11:
			if r.IntN(4) > 0 {
				continue
			}
			// Only functions that can be differentiated again keep random graphs free of panics:
			// detach the result.
			for _, d := range Grad(a.Square().Sum(), None, inputs...) {
				if d.Valid() {
					vs = append(vs, d.Tanh().Detach())
				}
			}
			continue
		}
		vs = append(vs, y)
	}
	// Gradients again at the end, of all the last values together.
	last := vs[len(vs)-1].Square().Sum()
	for _, d := range Grad(last, None, append(inputs, gamma, beta, w)...) {
		if d.Valid() {
			vs = append(vs, d)
		}
	}
	return append(vs, last)
}

// checkPlan fails when two slots of the arena that live at the same time overlap, when an
// instruction reads what was never written, or when an output shares memory with an input.
func checkPlan(t *testing.T, p *engine.Program) {
	t.Helper()
	type life struct{ first, last int }
	lives := map[int]*life{}
	for i, ins := range p.Instrs {
		for _, o := range ins.In {
			if o.Slot < 0 || p.Slots[o.Slot].Bound != nil {
				continue
			}
			if lives[o.Slot] == nil {
				t.Fatalf("instruction %d (%v) reads slot %d before it is written", i, ins.Op, o.Slot)
			}
			lives[o.Slot].last = i
		}
		for _, o := range ins.Out {
			if o.Slot < 0 || p.Slots[o.Slot].Bound != nil {
				continue
			}
			if lives[o.Slot] != nil {
				t.Fatalf("instruction %d (%v) writes slot %d a second time", i, ins.Op, o.Slot)
			}
			lives[o.Slot] = &life{i, i}
		}
	}
	for a := range p.Slots {
		la, sa := lives[a], p.Slots[a]
		if sa.Bound == nil && sa.Offset+sa.Len > p.Arena {
			t.Errorf("slot %d lies at %d..%d of an arena of %d", a, sa.Offset, sa.Offset+sa.Len, p.Arena)
		}
		for b := range a {
			lb, sb := lives[b], p.Slots[b]
			if la == nil || lb == nil || la.last < lb.first || lb.last < la.first {
				continue
			}
			if sa.Offset < sb.Offset+sb.Len && sb.Offset < sa.Offset+sa.Len {
				t.Errorf("slots %d (lives %v, at %d..%d) and %d (%v, %d..%d) overlap", a, *la, sa.Offset, sa.Offset+sa.Len,
					b, *lb, sb.Offset, sb.Offset+sb.Len)
			}
		}
	}
}

func recorded(g *Graph) map[engine.Op]int {
	m := map[engine.Op]int{}
	for _, n := range g.nodes {
		if n.view == notView {
			m[n.op]++
		}
	}
	return m
}

// Gradients of pixels record nothing for weights: one product for each product, none for biases,
// gammas and betas.
func TestFrozenWeightsCostNothing(t *testing.T) {
	g := New(plain.New[float32]())
	w := newTower(g)
	forward := recorded(g)
	d := Grad(w.loss, None, w.pixels)
	if !slices.Equal(d[0].Shape(), w.pixels.Shape()) {
		t.Fatalf("gradient of shape %v", d[0].Shape())
	}
	all := recorded(g)
	for op, want := range map[engine.Op]int{
		engine.MatMul: 2 * forward[engine.MatMul], engine.LayerNormParamGrad: 0, engine.LayerNormGrad: 3,
		engine.AttentionGrad: 2, engine.Unpatchify: 1, engine.SumTo: forward[engine.SumTo], engine.ScatterAdd: 0,
	} {
		if all[op] != want {
			t.Errorf("%d of %v recorded, want %d", all[op], op, want)
		}
	}
	p, err := g.Compile(w.loss, d[0])
	if err != nil {
		t.Fatal(err)
	}
	defer p.Free()
	if n := ops(g.plan().Instrs); n[engine.MatMul] != all[engine.MatMul] {
		t.Errorf("%d products kept of %d", n[engine.MatMul], all[engine.MatMul])
	}
	checkPlan(t, g.plan())

	// With every weight asked for they are there.
	g = New(plain.New[float32]())
	w = newTower(g)
	Grad(w.loss, None, w.pixels, w.gamma, w.beta, w.inProj, w.outProj, w.proj, w.bias)
	all = recorded(g)
	if all[engine.LayerNormParamGrad] != 3 || all[engine.MatMul] != 3*forward[engine.MatMul] {
		t.Errorf("%d parameter gradients of LayerNorm and %d products", all[engine.LayerNormParamGrad], all[engine.MatMul])
	}
}

// Sampling computes the gradients of images or of the grid only when they are asked for.
func TestGridSampleAbsentGradients(t *testing.T) {
	for _, c := range []struct{ image, grid bool }{{true, false}, {false, true}, {true, true}} {
		g := New(plain.New[float32]())
		x, grid := g.Input(2, 1, 4, 4), g.Input(1, 3, 3, 2)
		var wrt []Value
		if c.image {
			wrt = append(wrt, x)
		}
		if c.grid {
			wrt = append(wrt, grid)
		}
		Grad(x.GridSample(grid), None, wrt...)
		n := g.nodes[len(g.nodes)-1]
		if n.op != engine.GridSampleGrad || (n.out[0] >= 0) != c.image || (n.out[1] >= 0) != c.grid {
			t.Errorf("%+v: %v with outputs %v", c, n.op, n.out)
		}
	}
}

// What nobody reads is not in the program, whatever was recorded.
func TestDeadCode(t *testing.T) {
	count := func(f func(g *Graph, w tower) []Value) int {
		g := New(plain.New[float32]())
		w := newTower(g)
		p, err := g.Compile(f(g, w)...)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Free()
		checkPlan(t, g.plan())
		return p.Stats().Instructions
	}
	loss := count(func(g *Graph, w tower) []Value { return []Value{w.loss} })
	unasked := count(func(g *Graph, w tower) []Value {
		Grad(w.loss, None, w.pixels, w.gamma, w.inProj)
		w.loss.ArgMax()
		return []Value{w.loss}
	})
	if unasked != loss {
		t.Errorf("gradients that nobody reads add %d instructions", unasked-loss)
	}
	pixels := count(func(g *Graph, w tower) []Value { return []Value{w.loss, Grad(w.loss, None, w.pixels)[0]} })
	both := count(func(g *Graph, w tower) []Value {
		return []Value{w.loss, Grad(w.loss, None, w.pixels, w.inProj, w.gamma)[0]}
	})
	if pixels != both {
		t.Errorf("gradients of weights that nobody reads add %d instructions", both-pixels)
	}
	if n := count(func(g *Graph, w tower) []Value { return nil }); n != 0 {
		t.Errorf("%d instructions without an output", n)
	}
	if n := count(func(g *Graph, w tower) []Value { return []Value{w.pixels} }); n != 0 {
		t.Errorf("%d instructions for an input as output", n)
	}
	if n := count(func(g *Graph, w tower) []Value { g.Assign(g.Input(1), w.loss); return nil }); n != loss+1 {
		t.Errorf("%d instructions for an assigned loss, want %d", n, loss+1)
	}
}

// Dead slots are empty: a program whose arena is smaller than a dropped value still compiles.
func TestDeadSlotsAreEmpty(t *testing.T) {
	g := New(plain.New[float32]())
	x := g.Input(3)
	x.BroadcastTo(3).Reshape(3, 1).BroadcastTo(3, 1000).Tanh()
	p, err := g.Compile(x.Tanh())
	if err != nil {
		t.Fatal(err)
	}
	if p.Stats().Instructions != 1 || p.Stats().ArenaBytes != 0 {
		t.Errorf("%+v", p.Stats())
	}
}

func mustRun(t *testing.T, p *Program, err error) *Program {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	return p
}

func wantNumbers(t *testing.T, what string, got []float64, want ...float64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// Reads before an Assign or an optimiser step see the old contents, reads after it the new ones.
func TestOrder(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine.Engine, tol float64) {
		g := New(e)
		x := g.Const([]float32{1, 2}, 2)
		view := x.Reshape(2, 1)
		before := x.Scale(10)
		g.Assign(x, x.Affine(1, 1))
		after := x.Scale(10)
		g.SGD(x, g.Const([]float32{1, 1}, 2), None, g.Input(1), g.Const([]float32{0.5}, 1), 0, 0)
		last := view.Scale(10)
		p, err := g.Compile(before, after, last)
		mustRun(t, p, err)
		wantNumbers(t, "before", data(t, p, before), 10, 20)
		wantNumbers(t, "after Assign", data(t, p, after), 20, 30)
		wantNumbers(t, "after SGD, through an older view", data(t, p, last), 15, 25)
		wantNumbers(t, "x", data(t, p, x), 1.5, 2.5)
		mustRun(t, p, nil)
		wantNumbers(t, "before, second run", data(t, p, before), 15, 25)
		if err := p.Write(x, []float32{7, 8}); err != nil {
			t.Fatal(err)
		}
		mustRun(t, p, nil)
		wantNumbers(t, "before, after Write", data(t, p, before), 70, 80)
		p.Free()
	})
}

// An array bound twice, or with two shapes, is one memory.
func TestBindTwice(t *testing.T) {
	e := plain.New[float64]()
	a, err := engine.UploadSlice(e, []float32{1, 2, 3, 4}, 4)
	if err != nil {
		t.Fatal(err)
	}
	g := New(e)
	part := g.Bind(engine.Array{Buffer: a.Buffer, Shape: []int{2}})
	whole := g.Bind(a)
	g.Assign(part, part.Scale(10))
	y := whole.Scale(1)
	p, err := g.Compile(y)
	mustRun(t, p, err)
	wantNumbers(t, "whole", data(t, p, y), 10, 20, 3, 4)
	if g.Bind(engine.Array{}).Valid() {
		t.Error("an absent array is a value")
	}
	p.Free()
	if a.Buffer.(*plain.Buffer[float64]).Data() == nil {
		t.Error("Free gave back an array that was bound")
	}
}

// A program's outputs serve as another program's operands.
func TestOutputsBoundElsewhere(t *testing.T) {
	e := plain.New[float32]()
	g := New(e)
	x := g.Const([]float32{1, 2}, 2)
	y := x.Scale(2)
	view := y.Reshape(1, 2)
	first, err := g.Compile(y, view)
	mustRun(t, first, err)
	h := New(e)
	z := h.Bind(first.Array(view)).Square()
	second, err := h.Compile(z)
	mustRun(t, second, err)
	wantNumbers(t, "z", data(t, second, z), 4, 16)
	second.Free()
	wantNumbers(t, "y", data(t, first, y), 2, 4)
	first.Free()
}

// counting counts the numbers that an engine holds.
type counting struct {
	engine.Engine
	held  int
	fails int // the allocation that fails, counted from 1; 0 for none
	asked int
}

type counted struct {
	engine.Buffer
	e *counting
}

func (c *counting) NewBuffer(n int) (engine.Buffer, error) {
	if c.asked++; c.asked == c.fails {
		return nil, fmt.Errorf("no memory for %d numbers", n)
	}
	b, err := c.Engine.NewBuffer(n)
	c.held += n
	return counted{b, c}, err
}

func (b counted) Free() {
	b.e.held -= b.Len()
	b.Buffer.Free()
}

func (c *counting) Compile(p *engine.Program) (engine.Executable, error) {
	q := *p
	q.Slots = slices.Clone(p.Slots)
	for i, s := range q.Slots {
		if s.Bound != nil {
			q.Slots[i].Bound = s.Bound.(counted).Buffer
		}
	}
	return c.Engine.Compile(&q)
}

// Free gives back inputs, constants and outputs; a failed allocation is reported by Compile and
// leaves nothing behind.
func TestFree(t *testing.T) {
	build := func(e *counting) (*Program, error) {
		g := New(e)
		x := g.Const([]float32{1, 2, 3}, 3)
		y := x.Mul(g.Input(3)).Tanh()
		g.Assign(g.Input(3), y)
		g.SGD(x, y, None, g.Input(1), g.Const([]float32{1}, 1), 0, 0)
		return g.Compile(y, y.Sum())
	}
	e := &counting{Engine: plain.New[float32]()}
	p, err := build(e)
	if err != nil {
		t.Fatal(err)
	}
	if e.held != 3+3+3+1+1+3+1 {
		t.Errorf("%d numbers held", e.held)
	}
	p.Free()
	if e.held != 0 {
		t.Errorf("%d numbers held after Free", e.held)
	}
	for n := 1; n <= e.asked; n++ {
		f := &counting{Engine: plain.New[float32](), fails: n}
		if _, err := build(f); err == nil {
			t.Errorf("allocation %d failed and Compile did not say so", n)
		}
		if f.held != 0 {
			t.Errorf("%d numbers held after allocation %d failed", f.held, n)
		}
	}
}

// The work of a program is that of its products.
func TestFLOP(t *testing.T) {
	g := New(plain.New[float32]())
	x := g.Input(2, 5, 6)
	y := x.Linear(g.Input(18, 6), None) // 2*10*18*6
	z := y.Attention(2, false)          // 2*2*B*S*S*W
	d := Grad(z.Sum(), None, x)[0]      // attention 5/2 times, the product once
	p, err := g.Compile(z, d)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(2*2*10*18*6 + 7*2*2*5*5*6); p.Stats().FLOP != want {
		t.Errorf("%d operations, want %d", p.Stats().FLOP, want)
	}
}
