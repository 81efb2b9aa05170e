package cuda

import (
	"errors"
	"fmt"

	"clipinspector/engine"
	"clipinspector/engine/plain"
)

// executable is a program whose launches are prepared as one graph.
type executable struct {
	e       *Engine
	graph   Graph
	owned   []Ptr // arena, scratch, shapes
	shadows []*shadow
	written []*buffer
}

// shadow is a bf16 copy of a buffer that the program reads and does not change.
type shadow struct {
	of   *buffer
	cast Graph
}

// maxNumbers is the largest operand: kernels count elements in 32 bits.
const maxNumbers = 1 << 31

// Compile allocates the arena, turns every instruction into launches and prepares them.
func (e *Engine) Compile(p *engine.Program) (engine.Executable, error) {
	if err := plain.Check(p); err != nil {
		return nil, fmt.Errorf("%s: %w", e.name, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	x := &executable{e: e}
	if err := x.compile(p); err != nil {
		x.free()
		return nil, fmt.Errorf("%s: compiling a program: %w", e.name, err)
	}
	return x, nil
}

func (x *executable) compile(p *engine.Program) error {
	e := x.e
	for i, s := range p.Slots {
		if s.Len >= maxNumbers {
			return fmt.Errorf("slot %d holds %d numbers; this engine handles fewer than %d: use a smaller batch", i, s.Len, maxNumbers)
		}
	}
	offsets, total := layout(p)
	arena, err := x.alloc(4 * int64(total))
	if err != nil {
		return fmt.Errorf("an arena of %d numbers: %w", total, err)
	}
	l := &lowering{e: e, slots: make([]slot, len(p.Slots)), shadows: map[*buffer]bool{}}
	half := e.halfSlots(p)
	for i, s := range p.Slots {
		if s.Bound == nil {
			l.slots[i] = slot{ptr: arena + Ptr(4*offsets[i]), half: half[i]}
			continue
		}
		b, ok := s.Bound.(*buffer)
		if !ok || b.e != e {
			return fmt.Errorf("slot %d is bound to a buffer of another engine (%T)", i, s.Bound)
		}
		l.slots[i] = slot{ptr: b.ptr, buffer: b}
	}
	for i := range p.Instrs {
		for _, o := range p.Instrs[i].Out {
			if o.Slot >= 0 {
				if b := l.slots[o.Slot].buffer; b != nil && !l.slots[o.Slot].written {
					l.slots[o.Slot].written = true
					x.written = append(x.written, b)
				}
			}
		}
	}
	// A buffer that two slots share is written when either is.
	for i := range l.slots {
		for _, b := range x.written {
			l.slots[i].written = l.slots[i].written || l.slots[i].buffer == b
		}
	}
	for i := range p.Instrs {
		if err := l.lower(&p.Instrs[i]); err != nil {
			return fmt.Errorf("instruction %d (%v): %w", i, p.Instrs[i].Op, err)
		}
	}
	return x.finish(l)
}

// layout returns where the arena's slots lie, in numbers. Kernels load four neighbours at once,
// which the planner of package autodiff allows for; a program laid out otherwise gets a place of
// its own for each slot.
func layout(p *engine.Program) (offsets []int, total int) {
	const align = 32
	offsets, total = make([]int, len(p.Slots)), p.Arena
	aligned := true
	for i, s := range p.Slots {
		if offsets[i] = s.Offset; s.Bound == nil && s.Offset%align != 0 {
			aligned = false
		}
	}
	if aligned {
		return offsets, total
	}
	total = 0
	for i, s := range p.Slots {
		if s.Bound == nil {
			offsets[i] = total
			total += (s.Len + align - 1) / align * align
		}
	}
	return offsets, total
}

// finish allocates scratch, uploads the shapes, puts their addresses into the launches and prepares
// the graph.
func (x *executable) finish(l *lowering) error {
	d := x.e.driver
	scratch, err := x.alloc(l.scratch)
	if err != nil {
		return fmt.Errorf("scratch of %d bytes: %w", l.scratch, err)
	}
	shapes, err := x.alloc(8 * int64(len(l.shapes)))
	if err != nil {
		return fmt.Errorf("shapes: %w", err)
	}
	if len(l.shapes) > 0 {
		if err := d.Write(shapes, bytesOf(l.shapes)); err != nil {
			return err
		}
	}
	for _, f := range l.fixes {
		base := scratch
		if f.shape {
			base = shapes
		}
		*f.at += uint64(base)
	}
	for _, f := range l.productFixes {
		*f += scratch
	}
	for b := range l.shadows {
		if b.shadow == 0 {
			if b.shadow, err = d.Alloc(2 * int64(b.n)); err != nil {
				return fmt.Errorf("a bf16 copy of %d numbers: %w", b.n, err)
			}
		}
		c := &lowering{e: x.e}
		c.each("cast", b.n, 4, b.ptr, b.shadow, b.n, 2)
		g, err := d.Prepare(c.steps)
		if err != nil {
			return err
		}
		x.shadows = append(x.shadows, &shadow{b, g})
	}
	for _, f := range l.shadowFixes {
		*f.at = f.of.shadow
	}
	x.graph, err = d.Prepare(l.steps)
	return err
}

func (x *executable) alloc(bytes int64) (Ptr, error) {
	if bytes == 0 {
		return 0, nil
	}
	p, err := x.e.driver.Alloc(bytes)
	if err == nil {
		x.owned = append(x.owned, p)
	}
	return p, err
}

var errClosed = errors.New("the engine is closed")

// Run submits one execution.
func (x *executable) Run() error {
	x.e.mu.Lock()
	defer x.e.mu.Unlock()
	if x.e.closed {
		return fmt.Errorf("%s: %w", x.e.name, errClosed)
	}
	for _, s := range x.shadows {
		if s.of.shadows != s.of.version {
			if err := s.cast.Launch(); err != nil {
				return err
			}
			s.of.shadows = s.of.version
		}
	}
	for _, b := range x.written {
		b.version++
	}
	return x.graph.Launch()
}

// Free gives the arena back.
func (x *executable) Free() {
	x.e.mu.Lock()
	defer x.e.mu.Unlock()
	if !x.e.closed {
		x.free()
	}
}

func (x *executable) free() {
	if x.graph != nil {
		x.graph.Free()
	}
	for _, s := range x.shadows {
		s.cast.Free()
	}
	for _, p := range x.owned {
		x.e.driver.Free(p)
	}
	x.graph, x.shadows, x.owned = nil, nil, nil
}
