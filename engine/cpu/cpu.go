// Package cpu executes programs on the processor's cores, by C kernels in parallel over tiles.
//
// Results are the same bits for any number of threads and on any processor: what is summed in which
// order depends on an instruction's operands alone, and every rounding is written down (kernels.h).
package cpu

/*
#cgo CFLAGS: -O3 -fopenmp-simd -Wall
#cgo LDFLAGS: -lm
#include "ci.h"
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"clipinspector/engine"
	"clipinspector/engine/plain"
	"clipinspector/internal/memory"
)

// Options choose how an engine works. None of them changes a result.
type Options struct {
	Threads int // 0: as many as Go may use (GOMAXPROCS)
}

// Engine executes programs on the CPU. It may be used from several goroutines; executions take
// turns.
type Engine struct {
	pool *pool
	simd C.int // the level of the instruction set that the kernels use

	mu      sync.Mutex  // held while a program runs
	scratch [][]float32 // one a worker
}

// New returns an engine. The environment variable CLIPINSPECTOR_SIMD may ask for the kernels of
// less than the processor has.
func New(o Options) (*Engine, error) {
	if o.Threads < 0 {
		return nil, fmt.Errorf("cpu engine: %d threads were asked for, want 0 (all) or more", o.Threads)
	}
	if o.Threads == 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	simd, err := level(os.Getenv(SIMDEnv))
	if err != nil {
		return nil, fmt.Errorf("cpu engine: %w", err)
	}
	return &Engine{pool: newPool(o.Threads), simd: simd, scratch: make([][]float32, o.Threads)}, nil
}

// Name returns "cpu".
func (e *Engine) Name() string { return "cpu" }

// Threads returns the number of threads that share the work.
func (e *Engine) Threads() int { return e.pool.workers }

// SIMD names the level of the instruction set that the kernels use. It decides how fast they are
// and no bit of a result.
func (e *Engine) SIMD() string { return simdNames[e.simd] }

// Warning is empty, or one line that says why the engine is slow.
func (e *Engine) Warning() string {
	if e.simd == 2 && C.ci_fma_emulated() != 0 {
		return "this processor lacks AVX2 and FMA, or " + SIMDEnv + " is v2: kernels give the same results, some forty times slower; the last digit of an index may differ"
	}
	return ""
}

// Fingerprint names what decides the bits of a result: the kernels' version. The processor is no
// part of it.
func (e *Engine) Fingerprint() string { return "cpu kernels=" + kernels }

// kernels changes whenever a result's bits may.
const kernels = "4"

// Close ends the engine's goroutines.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pool.close()
	return nil
}

// buffer is memory of the Go heap.
type buffer struct {
	data       []float32
	generation uint64 // rises with every change, from 1 on
	packings   map[packingKey]*packing
	shared     bool // see Share
}

// NewBuffer returns n zeroed numbers.
func (e *Engine) NewBuffer(n int) (engine.Buffer, error) {
	if n < 0 {
		return nil, fmt.Errorf("cpu: a buffer of %d numbers was asked for", n)
	}
	if err := memory.Check("a buffer", 4*int64(n)); err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	return &buffer{data: make([]float32, n), generation: 1}, nil
}

// Share returns a buffer of numbers that stay where they are; see [engine.Share].
func (e *Engine) Share(data []float32) engine.Buffer {
	return &buffer{data: data, generation: 1, shared: true}
}

func (b *buffer) Len() int { return len(b.data) }

func (b *buffer) Write(offset int, src []float32) error {
	if b.shared {
		panic("cpu: numbers are written to that are shared with the host")
	}
	copy(b.data[offset:offset+len(src)], src)
	b.generation++
	return nil
}

func (b *buffer) Read(offset int, dst []float32) error {
	copy(dst, b.data[offset:offset+len(dst)])
	return nil
}

func (b *buffer) Free() { b.data, b.packings = nil, nil }

type executable struct {
	e     *Engine
	steps []step
	uses  []use
}

// use says that a program reads a packing of a buffer.
type use struct {
	of  *buffer
	key packingKey
}

// Compile allocates the arena and turns every instruction into steps.
func (e *Engine) Compile(p *engine.Program) (engine.Executable, error) {
	if err := plain.Check(p); err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	if err := memory.Check("a program's intermediate values and packed weights", 4*(int64(p.Arena)+e.unpacked(p))); err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	arena := aligned(p.Arena)
	slots := make([][]float32, len(p.Slots))
	for i, s := range p.Slots {
		if s.Bound == nil {
			slots[i] = arena[s.Offset : s.Offset+s.Len]
			continue
		}
		b, ok := s.Bound.(*buffer)
		if !ok {
			return nil, fmt.Errorf("cpu: slot %d is bound to a buffer of another engine (%T)", i, s.Bound)
		}
		slots[i] = b.data[:s.Len]
	}
	c := &compiler{e: e, program: p}
	for i := 0; i < len(p.Instrs); i++ {
		ins := &p.Instrs[i]
		in, out := plain.Operands(ins.In, slots), plain.Operands(ins.Out, slots)
		if ins.Op == engine.MatMul && i+1 < len(p.Instrs) {
			next := &p.Instrs[i+1]
			act := fuses(ins, next, in, out, plain.Operands(next.In, slots), plain.Operands(next.Out, slots))
			if act != nil {
				c.matMul(ins, in, out, act)
				c.changed(ins)
				c.changed(next)
				i++
				continue
			}
		}
		c.compile(ins, in, out)
		c.changed(ins)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.scratch {
		if len(e.scratch[w]) < c.scratch {
			e.scratch[w] = aligned(c.scratch)
		}
	}
	return &executable{e, c.steps, c.uses}, nil
}

// Run executes the program and returns when it is done.
func (x *executable) Run() error {
	x.e.mu.Lock()
	defer x.e.mu.Unlock()
	for i := range x.steps {
		if s := &x.steps[i]; s.due == nil || s.due() {
			x.e.pool.do(s)
		}
	}
	return nil
}

// Free gives the arena back, and the packings that no other program reads.
func (x *executable) Free() {
	x.e.mu.Lock()
	defer x.e.mu.Unlock()
	for _, u := range x.uses {
		if p := u.of.packings[u.key]; p != nil {
			if p.programs--; p.programs == 0 {
				delete(u.of.packings, u.key)
			}
		}
	}
	x.steps, x.uses = nil, nil
}

// compiler collects the steps of a program.
type compiler struct {
	e       *Engine
	program *engine.Program
	steps   []step
	uses    []use
	scratch int // numbers of scratch that a worker needs
}

// add appends a step of n tiles.
func (c *compiler) add(n int, run func(tile, worker int)) {
	if n > 0 {
		c.steps = append(c.steps, step{tiles: n, run: run})
	}
}

// bound returns the buffer of an operand that outlives the program, nil for one in the arena.
func (c *compiler) bound(o engine.Operand) *buffer {
	if o.Slot < 0 || c.program.Slots[o.Slot].Bound == nil {
		return nil
	}
	return c.program.Slots[o.Slot].Bound.(*buffer)
}

// changed appends what tells the buffers that an instruction writes to of their new generation.
func (c *compiler) changed(ins *engine.Instr) {
	for _, o := range ins.Out {
		if b := c.bound(o); b != nil {
			c.add(1, func(int, int) { b.generation++ })
		}
	}
}

// tileSize is the number of elements of a tile of cheap elementwise work: some microseconds, far
// more than it costs to hand a tile out, and small enough for the second-level cache.
const tileSize = 16384

// ranges appends a step that cuts n items, each of the given number of elements, into tiles of
// about tileSize elements.
func (c *compiler) ranges(n, each int, run func(from, to int)) {
	per := max(1, tileSize/max(1, each))
	c.add((n+per-1)/per, func(t, _ int) { run(t*per, min(n, (t+1)*per)) })
}

// compile appends the steps of one instruction.
func (c *compiler) compile(ins *engine.Instr, in, out [][]float32) {
	switch ins.Op {
	case engine.MatMul:
		c.matMul(ins, in, out, nil)
	case engine.Attention:
		c.attention(ins, in, out)
	case engine.AttentionGrad:
		c.attentionGrad(ins, in, out)
	case engine.LayerNorm:
		c.layerNorm(ins, in, out)
	case engine.LayerNormGrad:
		c.layerNormGrad(ins, in, out)
	case engine.LayerNormParamGrad:
		c.layerNormParamGrad(ins, in, out)
	case engine.Unary:
		c.unary(ins, in, out)
	case engine.UnaryGrad:
		c.unaryGrad(ins, in, out)
	case engine.Binary:
		c.binary(ins, in, out)
	case engine.SumTo:
		c.sumTo(ins, in, out)
	case engine.BroadcastTo:
		c.broadcastTo(ins, in, out)
	case engine.MaxAxis:
		c.maxAxis(ins, in, out)
	case engine.MaxAxisGrad:
		c.maxAxisGrad(ins, in, out)
	case engine.Slice:
		c.slice(ins, in, out)
	case engine.Pad:
		c.pad(ins, in, out)
	case engine.Concat:
		c.concat(ins, in, out)
	case engine.Permute:
		c.permute(ins, in, out)
	case engine.Gather:
		c.gather(ins, in, out)
	case engine.ScatterAdd:
		c.scatterAdd(ins, in, out)
	case engine.Softmax, engine.SoftmaxGrad, engine.CrossEntropy, engine.CrossEntropyGrad:
		c.softmaxFamily(ins, in, out)
	case engine.ArgMax:
		c.argMax(ins, in, out)
	case engine.Normalize, engine.NormalizeGrad:
		c.normalize(ins, in, out)
	case engine.Patchify, engine.Unpatchify:
		c.patches(ins, in, out)
	case engine.GridSample:
		c.gridSample(ins, in, out)
	case engine.GridSampleGrad:
		c.gridSampleGrad(ins, in, out)
	case engine.Crop:
		c.crop(ins, in, out)
	case engine.Assign:
		c.copies(1, 0, 0, out[0], 0, 0, in[0], len(out[0]))
	case engine.SGD:
		c.sgd(ins, in, out)
	case engine.Adam:
		c.adam(ins, in, out)
	default: // Margin and its gradient: a few numbers an image
		run := plain.Kernel[float32](ins.Op) // looked up here, since that allocates
		c.add(1, func(int, int) { run(ins, in, out) })
	}
}

// fp returns the address of a slice's first number for C; nil for an absent or empty one.
func fp(x []float32) *C.float {
	if len(x) == 0 {
		return nil
	}
	return (*C.float)(unsafe.Pointer(&x[0]))
}

// overlap reports whether two slices share memory.
func overlap(a, b []float32) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	a0, b0 := uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&b[0]))
	return a0 < b0+4*uintptr(len(b)) && b0 < a0+4*uintptr(len(a))
}

// mustIndex panics where a number is no index below n: C would follow it anywhere.
func mustIndex(op engine.Op, index []float32, n int) {
	for _, v := range index {
		if !(v >= 0 && v < float32(n)) {
			panic(fmt.Sprintf("cpu: %v: index %v is not in 0..%d", op, v, n-1))
		}
	}
}

// aligned returns n zeroed numbers that begin at a multiple of 64 bytes, in large pages where there
// are many.
func aligned(n int) []float32 {
	x := make([]float32, n+16)
	largePages(x)
	skip := (64 - int(uintptr(unsafe.Pointer(&x[0]))&63)) / 4 % 16
	return x[skip : skip+n : skip+n]
}

// last returns the width of a row.
func last(o engine.Operand) int {
	if len(o.Shape) == 0 {
		return 1
	}
	return o.Shape[len(o.Shape)-1]
}

// around returns the product of the dimensions before an axis, the axis itself, and the product of
// those behind it.
func around(shape []int, axis int) (outer, n, inner int) {
	return engine.Size(shape[:axis]), shape[axis], engine.Size(shape[axis+1:])
}

func bit(b bool) C.int {
	if b {
		return 1
	}
	return 0
}
