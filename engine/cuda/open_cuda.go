//go:build cuda

package cuda

/*
#cgo CFLAGS: -O2 -Wall
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "native.h"
*/
import "C"

import (
	_ "embed" // the kernels
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"gorgonia.org/cu"

	"clipinspector/engine"
	"clipinspector/engine/cuda/kernels"
)

// Built tells whether this program can open a GPU.
const Built = true

// HandOver does nothing: this is the build with a CUDA engine.
func HandOver(int) error { return nil }

// LibraryEnv names the environment variable that says which cuBLASLt to open: a file, or "none" for
// the engine's own products.
const LibraryEnv = "CLIPINSPECTOR_CUBLASLT"

// New returns an engine on a GPU. The error wraps ErrNoDevice when it is of no use.
func New(device int, p Precision) (*Engine, error) {
	if _, err := Check(device); err != nil {
		return nil, err
	}
	d, err := open(device)
	if err != nil {
		return nil, fmt.Errorf("cuda:%d: %w: %w", device, ErrNoDevice, err)
	}
	e, err := NewOn(d, fmt.Sprintf("cuda:%d", device), p)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return e, nil
}

// gpu is a Driver. All its calls run on one operating system thread, where the context is current.
type gpu struct {
	device    cu.Device
	calls     chan func()
	info      Info
	warning   string
	ctx       cu.CUContext
	module    cu.Module
	functions map[string]cu.Function
	stream    cu.Stream
	native    *C.native
	workspace cu.DevicePtr
	staging   [stages]stage
	next      int
}

// stage is pinned memory through which copies pass, so that they are asynchronous.
type stage struct {
	memory unsafe.Pointer
	done   cu.Event // of the copy that last used it
}

const (
	stages         = 4
	stageBytes     = 4 << 20
	workspaceBytes = 64 << 20 // of the library's products
)

// do runs f on the device's thread and waits for it.
func (d *gpu) do(f func() error) (err error) {
	done := make(chan struct{})
	d.calls <- func() {
		defer close(done)
		err = f()
	}
	<-done
	return err
}

func open(device int) (*gpu, error) {
	d := &gpu{calls: make(chan func()), functions: map[string]cu.Function{}}
	go func() {
		runtime.LockOSThread()
		for f := range d.calls {
			f()
		}
	}()
	err := d.do(func() error { return d.start(device) })
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *gpu) start(device int) error {
	dev, err := cu.GetDevice(device)
	if err != nil {
		return err
	}
	d.device = dev
	if d.ctx, err = dev.RetainPrimaryCtx(); err != nil {
		return fmt.Errorf("making a context: %w", err)
	}
	if err := cu.SetCurrentContext(d.ctx); err != nil {
		return err
	}
	if d.info.Name, err = dev.Name(); err != nil {
		return err
	}
	if d.info.Memory, err = dev.TotalMem(); err != nil {
		return err
	}
	attributes, err := dev.Attributes(cu.ComputeCapabilityMajor, cu.ComputeCapabilityMinor, cu.MultiprocessorCount)
	if err != nil {
		return err
	}
	d.info.Name = strings.Trim(d.info.Name, "\x00 ")
	d.info.Capability, d.info.Processors = fmt.Sprintf("sm_%d%d", attributes[0], attributes[1]), attributes[2]
	if d.module, err = cu.LoadData(kernels.PTX()); err != nil {
		return fmt.Errorf("loading the kernels: %w (the driver is too old for them, or the program was built for another machine)", err)
	}
	for _, name := range kernels.Names() {
		if d.functions[name], err = d.module.Function(name); err != nil {
			return fmt.Errorf("kernel %s: %w", name, err)
		}
	}
	if d.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return err
	}
	var why [512]C.char
	if d.native = C.native_open(&why[0], C.size_t(len(why))); d.native == nil {
		return fmt.Errorf("opening the driver: %s", C.GoString(&why[0]))
	}
	for i := range d.staging {
		s := &d.staging[i]
		if code := C.native_pinned(d.native, &s.memory, stageBytes); code != 0 {
			return d.error("pinned memory", code)
		}
		if s.done, err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return err
		}
	}
	return d.openLibrary()
}

func (d *gpu) openLibrary() error {
	file := os.Getenv(LibraryEnv)
	if file == "none" {
		d.warning = LibraryEnv + "=none: products are computed by the engine's own, slower kernel"
		return nil
	}
	var why [512]C.char
	var name *C.char
	if file != "" {
		name = C.CString(file)
		defer C.free(unsafe.Pointer(name))
	}
	v := int(C.native_open_library(d.native, name, &why[0], C.size_t(len(why))))
	if v == 0 {
		d.warning = "cuBLASLt is missing, going on with the slower own products: install libcublas (CUDA 12 or 13), or name the file by " +
			LibraryEnv + " (" + C.GoString(&why[0]) + ")"
		return nil
	}
	// 120103 before version 13, 130002 since: major*10000 + minor*100 + patch.
	d.info.Library = fmt.Sprintf("cublasLt %d.%d.%d", v/10000, v/100%100, v%100)
	var err error
	if d.workspace, err = cu.MemAlloc(workspaceBytes); err != nil {
		return fmt.Errorf("%w: a workspace for products: %w", engine.ErrMemory, err)
	}
	return nil
}

func (d *gpu) error(doing string, code C.int) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s", doing, C.GoString(C.native_error(d.native, code)))
}

// Info describes the device.
func (d *gpu) Info() Info { return d.info }

// Warning is empty, or one line that says that the library is missing.
func (d *gpu) Warning() string { return d.warning }

// Alloc returns plain device memory.
func (d *gpu) Alloc(bytes int64) (p Ptr, err error) {
	err = d.do(func() error {
		at, err := cu.MemAlloc(bytes)
		if err != nil {
			free, total, _ := cu.MemInfo()
			return fmt.Errorf("%w: %.1f MB were asked for, %.1f of %.1f MB are free: %w", engine.ErrMemory, float64(bytes)/1e6,
				float64(free)/1e6, float64(total)/1e6, err)
		}
		p = Ptr(at)
		return nil
	})
	return p, err
}

// Free gives memory back; the driver waits for work that uses it.
func (d *gpu) Free(p Ptr) {
	_ = d.do(func() error { return cu.MemFree(cu.DevicePtr(p)) }) // a device that is lost will say so elsewhere
}

// Write copies through pinned memory and returns while the copy to the device is under way.
func (d *gpu) Write(dst Ptr, src []byte) error {
	return d.do(func() error {
		for len(src) > 0 {
			n := min(len(src), stageBytes)
			s := &d.staging[d.next]
			d.next = (d.next + 1) % stages
			if err := s.done.Synchronize(); err != nil {
				return err
			}
			copy(unsafe.Slice((*byte)(s.memory), n), src)
			if err := cu.MemcpyHtoDAsync(cu.DevicePtr(dst), s.memory, int64(n), d.stream); err != nil {
				return fmt.Errorf("copying to the GPU: %w", err)
			}
			if err := s.done.Record(d.stream); err != nil {
				return err
			}
			dst, src = dst+Ptr(n), src[n:]
		}
		return nil
	})
}

// Read waits for everything submitted before.
func (d *gpu) Read(dst []byte, src Ptr) error {
	return d.do(func() error {
		for len(dst) > 0 {
			n := min(len(dst), stageBytes)
			s := &d.staging[d.next]
			d.next = (d.next + 1) % stages
			if err := cu.MemcpyDtoHAsync(s.memory, cu.DevicePtr(src), int64(n), d.stream); err != nil {
				return fmt.Errorf("copying from the GPU: %w", err)
			}
			if err := d.stream.Synchronize(); err != nil {
				return fmt.Errorf("waiting for the GPU: %w", err)
			}
			copy(dst, unsafe.Slice((*byte)(s.memory), n))
			dst, src = dst[n:], src+Ptr(n)
		}
		return nil
	})
}

// captured is a graph of the driver.
type captured struct {
	d        *gpu
	exec     unsafe.Pointer // nil for one without steps
	products []*C.product
}

// Prepare captures the steps as a graph.
func (d *gpu) Prepare(steps []Step) (Graph, error) {
	g := &captured{d: d}
	err := d.do(func() error { return g.capture(steps) })
	if err != nil {
		g.Free()
		return nil, err
	}
	return g, nil
}

func (g *captured) capture(steps []Step) error {
	d := g.d
	if len(steps) == 0 {
		return nil
	}
	// Algorithms are chosen before the capture begins, since the library may ask the driver things
	// that a capture forbids.
	for i := range steps {
		s := &steps[i]
		if s.Product != nil {
			p, err := d.product(s.Product)
			if err != nil {
				return err
			}
			g.products = append(g.products, p)
		} else if s.Shared > 48<<10 {
			f := d.functions[s.Kernel]
			if code := C.native_shared(d.native, *(*unsafe.Pointer)(unsafe.Pointer(&f)), C.int(s.Shared)); code != 0 {
				return d.error(fmt.Sprintf("kernel %s with %d bytes of shared memory", s.Kernel, s.Shared), code)
			}
		}
	}
	stream := unsafe.Pointer(d.stream.C())
	if code := C.native_begin(d.native, stream); code != 0 {
		return d.error("beginning a capture", code)
	}
	err := d.submit(steps, g.products, stream)
	if code := C.native_end(d.native, stream, &g.exec); err == nil && code != 0 {
		err = d.error("making a graph", code)
	}
	return err
}

func (d *gpu) submit(steps []Step, products []*C.product, stream unsafe.Pointer) error {
	for i := range steps {
		s := &steps[i]
		if s.Product != nil {
			if code := C.native_multiply(d.native, products[0], stream); code != 0 {
				return fmt.Errorf("product %dx%dx%d: %s", s.Product.M, s.Product.N, s.Product.K, C.GoString(C.native_status(d.native, code)))
			}
			products = products[1:]
			continue
		}
		f, ok := d.functions[s.Kernel]
		if !ok {
			return fmt.Errorf("there is no kernel %s", s.Kernel)
		}
		args := make([]unsafe.Pointer, len(s.Args))
		for k := range args {
			args[k] = unsafe.Pointer(&s.Args[k])
		}
		if err := f.Launch(s.Grid[0], s.Grid[1], s.Grid[2], s.Block, 1, 1, s.Shared, d.stream, args); err != nil {
			return fmt.Errorf("launching %s: %w", s.Kernel, err)
		}
	}
	return nil
}

func (d *gpu) product(p *Product) (*C.product, error) {
	bit := func(b bool) C.int {
		if b {
			return 1
		}
		return 0
	}
	spec := C.product_spec{a: C.uint64_t(p.A), b: C.uint64_t(p.B), bias: C.uint64_t(p.Bias), y: C.uint64_t(p.Y), batch: C.int64_t(p.Batch),
		m: C.int64_t(p.M), n: C.int64_t(p.N), k: C.int64_t(p.K), stride_a: C.int64_t(p.StrideA), stride_b: C.int64_t(p.StrideB),
		trans_a: bit(p.TransA), trans_b: bit(p.TransB), half_a: bit(p.HalfA), half_b: bit(p.HalfB), half_y: bit(p.HalfY),
		exact: bit(p.Exact), alpha: C.float(p.Alpha)}
	var why [256]C.char
	r := C.native_product(d.native, &spec, C.uint64_t(d.workspace), workspaceBytes, &why[0], C.size_t(len(why)))
	if r == nil {
		return nil, fmt.Errorf("cuBLASLt has no product %dx%dx%d of %+v: %s", p.M, p.N, p.K, *p, C.GoString(&why[0]))
	}
	return r, nil
}

// Launch submits the graph.
func (g *captured) Launch() error {
	if g.exec == nil {
		return nil
	}
	return g.d.do(func() error {
		return g.d.error("launching a graph", C.native_launch(g.d.native, g.exec, unsafe.Pointer(g.d.stream.C())))
	})
}

// Free gives the graph back when its last launch is done.
func (g *captured) Free() {
	_ = g.d.do(func() error {
		if err := g.d.stream.Synchronize(); err != nil {
			return err
		}
		if g.exec != nil {
			C.native_free_graph(g.d.native, g.exec)
		}
		for _, p := range g.products {
			C.native_free_product(g.d.native, p)
		}
		g.exec, g.products = nil, nil
		return nil
	})
}

// Close gives everything back and ends the device's thread.
func (d *gpu) Close() error {
	err := d.do(func() error {
		var zero cu.Stream
		if d.stream == zero {
			return nil
		}
		err := d.stream.Synchronize()
		if d.workspace != 0 {
			err = errors.Join(err, cu.MemFree(d.workspace))
		}
		if d.native != nil {
			for i := range d.staging {
				if d.staging[i].memory != nil {
					C.native_free_pinned(d.native, d.staging[i].memory)
				}
			}
			C.native_close(d.native)
		}
		return errors.Join(err, d.device.ReleasePrimaryCtx())
	})
	close(d.calls)
	return err
}
