// Package cuda executes programs on an NVIDIA GPU: matrix products by cuBLASLt, everything else by
// the kernels of kernels/*.cu.
//
// The engine itself is plain Go. It turns a program into a list of kernel launches and products
// (lower.go). A Driver captures the list once as a graph and replays it. The driver for real
// devices needs the build tag cuda. Package host emulates a device, so that the engine and every
// kernel can be tested against the reference without a GPU.
package cuda

import (
	"fmt"
	"sync"
	"unsafe"

	"clipinspector/engine"
)

// Precision says how matrix products and attention compute, and how what lies between them is
// stored. Sums are float32 always.
type Precision string

const (
	FP32 Precision = "fp32" // everything in float32
	TF32 Precision = "tf32" // products round their operands to 10 bits of mantissa, on tensor cores
	BF16 Precision = "bf16" // products of bf16; their results and operands are stored as bf16, the residual stream is not
)

// ParsePrecision reads the name of a precision; the empty one is TF32.
func ParsePrecision(s string) (Precision, error) {
	switch p := Precision(s); p {
	case "":
		return TF32, nil
	case FP32, TF32, BF16:
		return p, nil
	}
	return "", fmt.Errorf("precision %q: known are fp32, tf32 and bf16", s)
}

// engine executes programs on one device. It may be used from several goroutines, which take turns.
type Engine struct {
	name      string
	precision Precision
	info      Info

	mu     sync.Mutex
	driver Driver
	fault  Ptr // an int64 that kernels set when an index is outside of its table or a box outside of its image
	closed bool

	// Products of fewer operations stay in float32 with BF16: they cost nothing, and logits want
	// the digits.
	smallProduct int64
	halfAssign   bool // Assign takes and gives bf16: lets tests reach such operands
}

// NewOn returns an engine on a driver, which it owns: Close closes it.
func NewOn(d Driver, name string, p Precision) (*Engine, error) {
	e := &Engine{name: name, precision: p, info: d.Info(), driver: d, smallProduct: 100e6}
	var err error
	if e.fault, err = d.Alloc(8); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := d.Write(e.fault, make([]byte, 8)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return e, nil
}

// Name returns "cuda:N".
func (e *Engine) Name() string { return e.name }

// Precision returns how products compute.
func (e *Engine) Precision() Precision { return e.precision }

// Info describes the device.
func (e *Engine) Info() Info { return e.info }

// Fingerprint names the device's kind, the library, the precision and the kernels.
func (e *Engine) Fingerprint() string {
	library := e.info.Library
	if library == "" {
		library = "own products"
	}
	return fmt.Sprintf("cuda %s %s, %s, precision=%s, kernels=%s", e.info.Name, e.info.Capability, library, e.precision, kernelsVersion())
}

// Warning is empty, or one line that says what slows the engine down and what to do about it.
func (e *Engine) Warning() string {
	if d, ok := e.driver.(interface{ Warning() string }); ok {
		return d.Warning()
	}
	return ""
}

// AtOnce is how many images fill the device, as a hint for those who choose a batch: at ViT-B/16,
// two images for each multiprocessor give products of hundreds of tiles for each of them.
func (e *Engine) AtOnce() int { return max(64, 2*e.info.Processors) }

// SetSmallProduct says below how many operations a product stays in float32 with BF16; the default
// is 100 million. It matters to programs that are compiled afterwards.
func (e *Engine) SetSmallProduct(operations int64) { e.smallProduct = operations }

// Close gives everything back.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	return e.driver.Close()
}

// buffer is device memory of float32 numbers. Products in bf16 read constants through a shadow, a
// copy that is made anew when the numbers have changed.
type buffer struct {
	e       *Engine
	ptr     Ptr
	n       int
	version int // raised by every change
	shadow  Ptr
	shadows int // version of the shadow; 0 when it holds nothing yet
}

// NewBuffer returns n zeroed numbers.
func (e *Engine) NewBuffer(n int) (engine.Buffer, error) {
	if n < 0 {
		return nil, fmt.Errorf("%s: a buffer of %d numbers was asked for", e.name, n)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	ptr, err := e.driver.Alloc(4 * int64(max(n, 1)))
	if err != nil {
		return nil, fmt.Errorf("%s: a buffer of %d numbers: %w", e.name, n, err)
	}
	b := &buffer{e: e, ptr: ptr, n: n, version: 1}
	if err := b.clear(); err != nil {
		e.driver.Free(ptr)
		return nil, err
	}
	return b, nil
}

// clear zeroes the memory. The copy is cheaper than a graph for the few numbers that most buffers
// hold.
func (b *buffer) clear() error {
	if b.n <= 1<<16 {
		return b.e.driver.Write(b.ptr, make([]byte, 4*b.n))
	}
	l := &lowering{e: b.e}
	l.each("zero", b.n, 4, b.ptr, b.n)
	g, err := b.e.driver.Prepare(l.steps)
	if err != nil {
		return err
	}
	defer g.Free()
	return g.Launch()
}

// Len returns the number of elements.
func (b *buffer) Len() int { return b.n }

// Write copies src to the numbers from offset on.
func (b *buffer) Write(offset int, src []float32) error {
	b.check(offset, len(src))
	b.e.mu.Lock()
	defer b.e.mu.Unlock()
	b.version++
	if len(src) == 0 {
		return nil
	}
	return b.e.driver.Write(b.ptr+Ptr(4*offset), bytesOf(src))
}

// Read waits for everything submitted before and copies the numbers from offset on to dst.
func (b *buffer) Read(offset int, dst []float32) error {
	b.check(offset, len(dst))
	b.e.mu.Lock()
	defer b.e.mu.Unlock()
	if len(dst) == 0 {
		return nil
	}
	var fault [8]byte
	if err := b.e.driver.Read(fault[:], b.e.fault); err != nil {
		return err
	}
	if fault != [8]byte{} {
		if err := b.e.driver.Write(b.e.fault, make([]byte, 8)); err != nil {
			return err
		}
		return fmt.Errorf("%s: an index, label or box in an earlier program lies outside of its table or image", b.e.name)
	}
	return b.e.driver.Read(bytesOf(dst), b.ptr+Ptr(4*offset))
}

func (b *buffer) check(offset, n int) {
	if offset < 0 || offset+n > b.n {
		panic(fmt.Sprintf("cuda: numbers %d..%d of a buffer of %d", offset, offset+n, b.n))
	}
}

// Free gives the memory back.
func (b *buffer) Free() {
	b.e.mu.Lock()
	defer b.e.mu.Unlock()
	if b.e.closed || b.ptr == 0 {
		return
	}
	b.e.driver.Free(b.ptr)
	if b.shadow != 0 {
		b.e.driver.Free(b.shadow)
	}
	b.ptr, b.shadow = 0, 0
}

func bytesOf[T float32 | int64](x []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), len(x)*int(unsafe.Sizeof(x[0])))
}
