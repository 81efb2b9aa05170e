package autodiff

import (
	"fmt"
	"sort"

	"clipinspector/engine"
)

// Program is a compiled recording.
type Program struct {
	g     *Graph
	exec  engine.Executable
	stats Stats
}

// Stats describes a compiled program.
type Stats struct {
	Instructions int
	ArenaBytes   int64 // memory for intermediate values, at 4 bytes a number
	FLOP         int64 // multiplications and additions of matrix products and attention of one run
}

// Compile plans the recording and prepares it for its engine. Only what the outputs, Assign and the
// optimisers need is kept. Outputs get memory of their own, which stays valid between runs. A graph
// is compiled once.
func (g *Graph) Compile(outputs ...Value) (*Program, error) {
	if g.err != nil {
		g.free()
		return nil, fmt.Errorf("recording a program: %w", g.err)
	}
	for _, v := range outputs {
		if v.g != g {
			panic("autodiff: an output that is None or of another graph")
		}
		s := &g.slots[g.values[v.id].slot]
		if s.bound != nil {
			continue
		}
		b, err := g.eng.NewBuffer(s.len)
		if err != nil {
			g.free()
			return nil, err
		}
		s.bound = b
		g.owned = append(g.owned, b)
	}
	p := g.plan()
	exec, err := g.eng.Compile(p)
	if err != nil {
		g.free()
		return nil, err
	}
	return &Program{g, exec, Stats{len(p.Instrs), 4 * int64(p.Arena), flop(p)}}, nil
}

// plan drops what nobody needs and lays the remaining intermediate values out in one arena.
func (g *Graph) plan() *engine.Program {
	needed := make([]bool, len(g.nodes))
	neededSlot := make([]bool, len(g.slots))
	for i := len(g.nodes) - 1; i >= 0; i-- {
		n := &g.nodes[i]
		for _, id := range n.out {
			if id >= 0 {
				s := g.values[id].slot
				needed[i] = needed[i] || neededSlot[s] || (g.slots[s].bound != nil && n.view == notView)
			}
		}
		if needed[i] {
			for _, id := range n.in {
				if id >= 0 {
					neededSlot[g.values[id].slot] = true
				}
			}
		}
	}
	p := &engine.Program{Slots: make([]engine.Slot, len(g.slots))}
	last := make([]int, len(g.slots)) // instruction that uses a slot last
	for i, n := range g.nodes {
		if !needed[i] || n.view != notView {
			continue
		}
		ins := engine.Instr{Op: n.op, Attr: n.attr}
		for _, id := range n.in {
			ins.In = append(ins.In, g.operand(id))
		}
		for _, id := range n.out {
			ins.Out = append(ins.Out, g.operand(id))
		}
		p.Instrs = append(p.Instrs, ins)
	}
	for i := range last {
		last[i] = -1
	}
	for i, ins := range p.Instrs {
		for _, o := range append(append([]engine.Operand(nil), ins.In...), ins.Out...) {
			if o.Slot >= 0 {
				last[o.Slot] = i
			}
		}
	}
	for i, s := range g.slots {
		if s.bound != nil || last[i] >= 0 { // a slot that no instruction uses is empty
			p.Slots[i] = engine.Slot{Len: s.len, Bound: s.bound}
		}
	}
	var a arena
	placed := make([]bool, len(g.slots))
	for i, ins := range p.Instrs {
		for _, o := range ins.Out {
			if o.Slot >= 0 && !placed[o.Slot] && p.Slots[o.Slot].Bound == nil {
				p.Slots[o.Slot].Offset = a.alloc(p.Slots[o.Slot].Len)
				placed[o.Slot] = true
			}
		}
		for _, o := range append(append([]engine.Operand(nil), ins.In...), ins.Out...) {
			if o.Slot >= 0 && placed[o.Slot] && last[o.Slot] == i {
				a.release(p.Slots[o.Slot].Offset, p.Slots[o.Slot].Len)
				placed[o.Slot] = false
			}
		}
	}
	p.Arena = a.size
	return p
}

func (g *Graph) operand(id int) engine.Operand {
	if id < 0 {
		return engine.Absent
	}
	v := g.values[id]
	return engine.Operand{Slot: v.slot, Shape: v.shape}
}

// arena hands out pieces of one growing array, best fit first, and joins free neighbours.
type arena struct {
	size int
	free []span // sorted by offset
}

type span struct{ off, len int }

// align keeps pieces on cache lines and on what vector loads like.
const align = 32

func roundUp(n int) int { return (n + align - 1) / align * align }

func (a *arena) alloc(n int) int {
	n = roundUp(n)
	best := -1
	for i, s := range a.free {
		if s.len >= n && (best < 0 || s.len < a.free[best].len) {
			best = i
		}
	}
	if best >= 0 {
		s := &a.free[best]
		off := s.off
		s.off += n
		s.len -= n
		if s.len == 0 {
			a.free = append(a.free[:best], a.free[best+1:]...)
		}
		return off
	}
	off := a.size
	if k := len(a.free) - 1; k >= 0 && a.free[k].off+a.free[k].len == a.size {
		off = a.free[k].off // grow the last free piece instead of leaving it behind
		a.free = a.free[:k]
	}
	a.size = off + n
	return off
}

func (a *arena) release(off, n int) {
	n = roundUp(n)
	i := sort.Search(len(a.free), func(i int) bool { return a.free[i].off > off })
	a.free = append(a.free, span{})
	copy(a.free[i+1:], a.free[i:])
	a.free[i] = span{off, n}
	if i+1 < len(a.free) && off+n == a.free[i+1].off {
		a.free[i].len += a.free[i+1].len
		a.free = append(a.free[:i+1], a.free[i+2:]...)
	}
	if i > 0 && a.free[i-1].off+a.free[i-1].len == off {
		a.free[i-1].len += a.free[i].len
		a.free = append(a.free[:i], a.free[i+1:]...)
	}
}

// flop counts the work of matrix products and attention, 2 for a multiplication with its addition.
func flop(p *engine.Program) int64 {
	var n int64
	for _, ins := range p.Instrs {
		n += FLOP(ins)
	}
	return n
}

// FLOP counts the multiplications and additions of one instruction when it is a matrix product or
// attention, 0 otherwise.
func FLOP(ins engine.Instr) int64 {
	a := ins.Attr
	switch ins.Op {
	case engine.MatMul:
		return 2 * int64(a.Batch) * int64(a.M) * int64(a.N) * int64(a.K)
	case engine.Attention, engine.AttentionGrad:
		s := ins.In[0].Shape // [B,S,3W]
		products := int64(2)
		if ins.Op == engine.AttentionGrad {
			products = 5
		}
		return products * 2 * int64(s[0]) * int64(s[1]) * int64(s[1]) * int64(s[2]/3)
	}
	return 0
}

// Run submits one execution; reading waits for it.
func (p *Program) Run() error { return p.exec.Run() }

// Stats describes the program.
func (p *Program) Stats() Stats { return p.stats }

// Write copies data, as many numbers as v holds, to a bound value.
func (p *Program) Write(v Value, data []float32) error {
	if len(data) != v.Size() {
		panic(fmt.Sprintf("autodiff: %d numbers written to shape %v", len(data), v.Shape()))
	}
	return p.Array(v).Buffer.Write(0, data)
}

// Read waits for the program and returns the numbers of a bound value or an output.
func (p *Program) Read(v Value) ([]float32, error) {
	data := make([]float32, v.Size())
	return data, p.Array(v).Buffer.Read(0, data)
}

// Array returns the device memory of a bound value or an output, for use in other recordings. It
// panics for other values: they have no memory of their own.
func (p *Program) Array(v Value) engine.Array {
	if v.g != p.g {
		panic("autodiff: None or a value of another graph")
	}
	b := p.g.slots[p.g.values[v.id].slot].bound
	if b == nil {
		panic("autodiff: the value is neither bound nor an output of Compile")
	}
	return engine.Array{Buffer: b, Shape: v.Shape()}
}

// Free gives back the arena, the inputs and the outputs. Arrays that were bound stay.
func (p *Program) Free() {
	p.exec.Free()
	p.g.free()
}

func (g *Graph) free() {
	for _, b := range g.owned {
		b.Free()
	}
	g.owned = nil
}
