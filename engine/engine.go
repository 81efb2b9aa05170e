// Package engine says what a device must do: hold float32 memory, and execute recorded programs.
//
// A program is a straight list of instructions over numbered slots. Package autodiff records it
// once; then it is planned once and replayed. Everything that a device needs is in it: shapes,
// attributes, and which slots live in the program's own arena and which are buffers that outlive
// it. Nothing is allocated while a program runs. So a CPU engine only walks the list, and a CUDA
// engine can capture it as a graph.
package engine

import "clipinspector/internal/memory"

// ErrMemory says that a device has not enough memory left: a smaller batch may fit. The host is one.
var ErrMemory = memory.ErrShort

// Engine is a device that executes programs.
type Engine interface {
	// Name is how users ask for the engine: "cpu", "plain", "cuda:0".
	Name() string
	// Fingerprint names everything that decides the bits of a result: kind, library, core type,
	// precision. The number of threads is no part of it: results do not depend on it.
	Fingerprint() string
	// NewBuffer returns zeroed device memory for n numbers, or an error that says how much was
	// asked for.
	NewBuffer(n int) (Buffer, error)
	// Compile prepares a program for execution and allocates its arena.
	Compile(p *Program) (Executable, error)
	// Close frees what the engine holds. Buffers and executables of a closed engine must not be
	// used.
	Close() error
}

// Buffer is device memory for Len numbers. Methods panic when a range lies outside the buffer.
type Buffer interface {
	Len() int
	// Write copies src to the numbers from offset on.
	Write(offset int, src []float32) error
	// Read waits for everything submitted before and copies the numbers from offset on to dst.
	Read(offset int, dst []float32) error
	// Free gives the memory back. The buffer must not be used afterwards.
	Free()
}

// Executable is a compiled program.
type Executable interface {
	// Run submits one execution. It may return before the execution has finished; reading a buffer
	// waits for it.
	Run() error
	// Free gives the arena back. Bound buffers stay.
	Free()
}

// Slot is one piece of memory of a program. Bound slots are buffers that outlive the program
// (weights, inputs, outputs, optimiser state); the others lie at Offset in the program's arena,
// where slots whose lives do not overlap share memory.
type Slot struct {
	Len    int
	Bound  Buffer // nil for a slot in the arena
	Offset int    // in the arena, in numbers
}

// Operand is a slot seen with a shape: dense, row-major, starting at the slot's first number. Slot
// is -1 where an optional operand is absent.
type Operand struct {
	Slot  int
	Shape []int
}

// Absent is an optional operand that is not there.
var Absent = Operand{Slot: -1}

// Size returns the number of elements.
func (o Operand) Size() int { return Size(o.Shape) }

// Size returns the number of elements of a shape; 1 for the empty shape.
func Size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Instr is one instruction. Instructions run in the order of the list. An output never shares
// memory with an input, except for the optimisers, which update their operands in place.
type Instr struct {
	Op   Op
	In   []Operand
	Out  []Operand
	Attr Attr
}

// Program is a recorded computation.
type Program struct {
	Slots  []Slot
	Arena  int // size of the arena, in numbers
	Instrs []Instr
}
