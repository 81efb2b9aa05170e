// Package plain is the reference implementation of package engine: every operation in its most
// readable form, one thread, no tricks. Numbers are stored as T and computed in float64. So
// Engine[float64] is the oracle with which other engines and the gradients of package autodiff are
// compared. Engine[float32] shows what storage alone costs.
package plain

import (
	"fmt"

	"clipinspector/engine"
)

// Float is a type of stored numbers.
type Float interface{ float32 | float64 }

// Engine is the reference engine.
type Engine[T Float] struct{}

// New returns a reference engine that stores numbers as T. It is named "plain" for float32 and
// "plain64" for float64.
func New[T Float]() *Engine[T] { return &Engine[T]{} }

// Name returns "plain" or "plain64".
func (e *Engine[T]) Name() string {
	if is64[T]() {
		return "plain64"
	}
	return "plain"
}

// Fingerprint names what decides the bits of a result.
func (e *Engine[T]) Fingerprint() string {
	if is64[T]() {
		return "plain float64"
	}
	return "plain float32"
}

func is64[T Float]() bool {
	// 1+2^-30 is a float64 but no float32.
	eps := T(1) / (1 << 30)
	return 1+eps != 1
}

// NewBuffer returns n zeroed numbers.
func (e *Engine[T]) NewBuffer(n int) (engine.Buffer, error) {
	if n < 0 {
		return nil, fmt.Errorf("%s: a buffer of %d numbers was asked for", e.Name(), n)
	}
	return &Buffer[T]{data: make([]T, n)}, nil
}

// Close does nothing: the memory belongs to the garbage collector.
func (e *Engine[T]) Close() error { return nil }

// Buffer holds its numbers in a Go slice.
type Buffer[T Float] struct{ data []T }

// Data returns the numbers themselves, not a copy.
func (b *Buffer[T]) Data() []T { return b.data }

// Len returns the number of elements.
func (b *Buffer[T]) Len() int { return len(b.data) }

// Write converts src to T and stores it from offset on.
func (b *Buffer[T]) Write(offset int, src []float32) error {
	dst := b.data[offset : offset+len(src)]
	for i, x := range src {
		dst[i] = T(x)
	}
	return nil
}

// Read converts the numbers from offset on to float32.
func (b *Buffer[T]) Read(offset int, dst []float32) error {
	src := b.data[offset : offset+len(dst)]
	for i, x := range src {
		dst[i] = float32(x)
	}
	return nil
}

// Free lets go of the memory.
func (b *Buffer[T]) Free() { b.data = nil }

// Compile allocates the arena and resolves every operand to a slice.
func (e *Engine[T]) Compile(p *engine.Program) (engine.Executable, error) {
	if err := Check(p); err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name(), err)
	}
	arena := make([]T, p.Arena)
	slots := make([][]T, len(p.Slots))
	for i, s := range p.Slots {
		if s.Bound == nil {
			slots[i] = arena[s.Offset : s.Offset+s.Len]
			continue
		}
		b, ok := s.Bound.(*Buffer[T])
		if !ok {
			return nil, fmt.Errorf("%s: slot %d is bound to a buffer of another engine (%T)", e.Name(), i, s.Bound)
		}
		slots[i] = b.data[:s.Len]
	}
	x := &executable[T]{}
	for i := range p.Instrs {
		x.steps = append(x.steps, step[T]{&p.Instrs[i], Operands(p.Instrs[i].In, slots), Operands(p.Instrs[i].Out, slots)})
	}
	return x, nil
}

// Check reports the first slot or operand of a program that does not fit its memory, and the first
// operation that does not exist. Engines call it before they compile.
func Check(p *engine.Program) error {
	for i, s := range p.Slots {
		switch {
		case s.Len < 0:
			return fmt.Errorf("slot %d has length %d", i, s.Len)
		case s.Bound != nil && s.Bound.Len() < s.Len:
			return fmt.Errorf("slot %d needs %d numbers but its buffer holds %d", i, s.Len, s.Bound.Len())
		case s.Bound == nil && (s.Offset < 0 || s.Offset+s.Len > p.Arena):
			return fmt.Errorf("slot %d lies at %d..%d, outside the arena of %d numbers", i, s.Offset, s.Offset+s.Len, p.Arena)
		}
	}
	for i := range p.Instrs {
		ins := &p.Instrs[i]
		a, ok := arities[ins.Op]
		if !ok {
			return fmt.Errorf("instruction %d: unknown operation %v", i, ins.Op)
		}
		if len(ins.Out) != a.out || (a.in >= 0 && len(ins.In) != a.in) {
			return fmt.Errorf("instruction %d (%v) has %d inputs and %d outputs, want %d and %d", i, ins.Op,
				len(ins.In), len(ins.Out), a.in, a.out)
		}
		for _, ops := range [][]engine.Operand{ins.In, ins.Out} {
			for k, o := range ops {
				if o.Slot == -1 {
					continue
				}
				if o.Slot < 0 || o.Slot >= len(p.Slots) {
					return fmt.Errorf("instruction %d (%v), operand %d: no slot %d", i, ins.Op, k, o.Slot)
				}
				if n := p.Slots[o.Slot].Len; o.Size() > n {
					return fmt.Errorf("instruction %d (%v), operand %d: shape %v does not fit slot %d of %d numbers", i, ins.Op,
						k, o.Shape, o.Slot, n)
				}
			}
		}
	}
	return nil
}

// Operands resolves operands to the slices of their slots, cut to the operands' sizes; nil for an
// absent one.
func Operands[T any](ops []engine.Operand, slots [][]T) [][]T {
	r := make([][]T, len(ops))
	for i, o := range ops {
		if o.Slot >= 0 {
			r[i] = slots[o.Slot][:o.Size():o.Size()]
		}
	}
	return r
}

type step[T Float] struct {
	ins     *engine.Instr
	in, out [][]T
}

type executable[T Float] struct{ steps []step[T] }

func (x *executable[T]) Run() error {
	for _, s := range x.steps {
		Exec(s.ins, s.in, s.out)
	}
	return nil
}

func (x *executable[T]) Free() { x.steps = nil }
