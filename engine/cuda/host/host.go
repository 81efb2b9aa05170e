// Package host emulates a GPU on the CPU for tests. The kernels' own source is compiled by g++. The
// threads of a block run as fibres. Memory ends at a page that nobody may touch.
//
// It is slow, and as strict as it can be. It shows a barrier that some threads do not reach, a
// shuffle that leaves lanes out, shared memory that is read before it is written, and an access
// behind a buffer.
package host

/*
#cgo CFLAGS: -O3 -Wall
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include "product.h"

typedef const char *(*launcher)(const char *, unsigned, unsigned, unsigned, int, int, void **, int, int);

static const char *host_launch(void *f, const char *name, unsigned gx, unsigned gy, unsigned gz, int block, int shared, uint64_t *args,
                               int n, int backward) {
    void *p[64];
    if (n > 64) return "too many parameters";
    for (int i = 0; i < n; i++) p[i] = &args[i];
    return ((launcher)f)(name, gx, gy, gz, block, shared, p, n, backward);
}
*/
import "C"

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"unsafe"

	"clipinspector/engine"
	"clipinspector/engine/cuda"
	"clipinspector/engine/cuda/kernels"
)

// ErrNoCompiler says that g++ is missing, without which there is no emulation.
var ErrNoCompiler = errors.New("g++ is not installed")

// Options choose what the emulated device is like.
type Options struct {
	NoLibrary bool  // no library for products: the kernel gemm must do
	Backward  bool  // blocks, warps and lanes take turns in the opposite order
	Memory    int64 // bytes; 0: 8 GB
}

// Driver is an emulated device.
type Driver struct {
	o      Options
	launch unsafe.Pointer
	used   int64
	areas  map[cuda.Ptr][]byte // mapped memory by the address that was handed out
}

//go:embed emulation/*
var emulation embed.FS

// New compiles the kernels, once a process, and returns a device.
func New(o Options) (*Driver, error) {
	launch, err := compiled()
	if err != nil {
		return nil, fmt.Errorf("emulating a GPU: %w", err)
	}
	if o.Memory == 0 {
		o.Memory = 8 << 30
	}
	return &Driver{o: o, launch: launch, areas: map[cuda.Ptr][]byte{}}, nil
}

var compiled = sync.OnceValues(func() (unsafe.Pointer, error) {
	compiler, err := exec.LookPath("g++")
	if err != nil {
		return nil, ErrNoCompiler
	}
	dir, err := os.MkdirTemp("", "cuda-host-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, fs := range []embed.FS{emulation, kernels.Sources} {
		if err := os.CopyFS(dir, fs); err != nil {
			return nil, err
		}
	}
	unit := "#define HOST_EMULATION\n#include \"emulation/emulation.cc\"\n"
	for _, name := range kernels.Files() {
		unit += fmt.Sprintf("#include %q\n", name)
	}
	unit += "emulation_kernel emulation_kernels[] = {\n"
	for _, name := range kernels.Names() {
		unit += fmt.Sprintf("{%q, arity(%s), [](void **p) { call(%s, p); }},\n", name, name, name)
	}
	unit += "{0, 0, 0}};\n"
	source, library := filepath.Join(dir, "unit.cc"), filepath.Join(dir, "unit.so")
	if err := os.WriteFile(source, []byte(unit), 0o600); err != nil {
		return nil, err
	}
	// The fibres jump between stacks, which fortified longjmp takes for an attack.
	text, err := exec.Command(compiler, "-std=c++14", "-O2", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", "-Wall", "-Wno-unknown-pragmas",
		"-Wno-unused-function", "-I"+filepath.Join(dir, "emulation"), "-o", library, source).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("compiling the kernels: %w\n%s", err, text)
	}
	name := C.CString(library)
	defer C.free(unsafe.Pointer(name))
	handle := C.dlopen(name, C.RTLD_NOW)
	if handle == nil {
		return nil, errors.New(C.GoString(C.dlerror()))
	}
	symbol := C.CString("emulation_launch")
	defer C.free(unsafe.Pointer(symbol))
	f := C.dlsym(handle, symbol)
	if f == nil {
		return nil, errors.New(C.GoString(C.dlerror()))
	}
	return f, nil
})

// Info describes the device.
func (d *Driver) Info() cuda.Info {
	i := cuda.Info{Name: "host emulation", Capability: "sm_80", Library: "host products", Memory: d.o.Memory, Processors: 8}
	if d.o.NoLibrary {
		i.Library = ""
	}
	return i
}

// Alloc returns memory whose end is the end of a page, with a page behind it that must not be
// touched. It holds no numbers.
func (d *Driver) Alloc(bytes int64) (cuda.Ptr, error) {
	if d.used+bytes > d.o.Memory {
		return 0, fmt.Errorf("%w: %d bytes were asked for, %d of %d are free", engine.ErrMemory, bytes, d.o.Memory-d.used, d.o.Memory)
	}
	page := int64(os.Getpagesize())
	size := (bytes + page - 1) / page * page
	area, err := syscall.Mmap(-1, 0, int(size+page), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", engine.ErrMemory, err)
	}
	if err := syscall.Mprotect(area[size:], syscall.PROT_NONE); err != nil {
		return 0, err
	}
	from := (size - bytes) / 16 * 16
	for i := range area[from:size] {
		area[from:size][i] = 0xff
	}
	p := cuda.Ptr(uintptr(unsafe.Pointer(&area[from])))
	d.areas[p] = area
	d.used += bytes
	return p, nil
}

// Free gives memory back.
func (d *Driver) Free(p cuda.Ptr) {
	area, ok := d.areas[p]
	if !ok {
		panic("host: memory is given back that was not handed out")
	}
	delete(d.areas, p)
	d.used -= int64(uintptr(unsafe.Pointer(&area[0]))) + int64(len(area)-os.Getpagesize()) - int64(p)
	if err := syscall.Munmap(area); err != nil {
		panic(err)
	}
}

// Allocated returns how many pieces of memory are handed out.
func (d *Driver) Allocated() int { return len(d.areas) }

func at(p cuda.Ptr, n int) []byte { return unsafe.Slice((*byte)(address(p)), n) }

// address turns a number back into a pointer: the memory is not Go's.
func address(p cuda.Ptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// Write copies to the device.
func (d *Driver) Write(dst cuda.Ptr, src []byte) error {
	copy(at(dst, len(src)), src)
	return nil
}

// Read copies from the device.
func (d *Driver) Read(dst []byte, src cuda.Ptr) error {
	copy(dst, at(src, len(dst)))
	return nil
}

// Close gives everything back.
func (d *Driver) Close() error {
	for p := range d.areas {
		d.Free(p)
	}
	return nil
}

type graph struct {
	d     *Driver
	steps []cuda.Step
}

// Prepare keeps the steps.
func (d *Driver) Prepare(steps []cuda.Step) (cuda.Graph, error) {
	return &graph{d, append([]cuda.Step(nil), steps...)}, nil
}

func (g *graph) Free() {}

// The emulation has one block at a time.
var running sync.Mutex

// Launch runs the steps one after the other.
func (g *graph) Launch() error {
	running.Lock()
	defer running.Unlock()
	for i := range g.steps {
		s := &g.steps[i]
		if s.Product != nil {
			if err := product(s.Product); err != nil {
				return err
			}
			continue
		}
		name := C.CString(s.Kernel)
		wrong := C.host_launch(g.d.launch, name, C.uint(s.Grid[0]), C.uint(s.Grid[1]), C.uint(s.Grid[2]), C.int(s.Block), C.int(s.Shared),
			(*C.uint64_t)(unsafe.Pointer(&s.Args[0])), C.int(len(s.Args)), bit(g.d.o.Backward))
		C.free(unsafe.Pointer(name))
		if wrong != nil {
			return fmt.Errorf("kernel %s: %s", s.Kernel, C.GoString(wrong))
		}
	}
	return nil
}

func product(p *cuda.Product) error {
	if C.host_product(address(p.A), address(p.B), address(p.Bias), address(p.Y), C.int64_t(p.Batch), C.int64_t(p.M), C.int64_t(p.N),
		C.int64_t(p.K), C.int64_t(p.StrideA), C.int64_t(p.StrideB), bit(p.TransA), bit(p.TransB), bit(p.HalfA), bit(p.HalfB),
		bit(p.HalfY), C.float(p.Alpha), bit(p.Exact)) != 0 {
		return engine.ErrMemory
	}
	return nil
}

func bit(b bool) C.int {
	if b {
		return 1
	}
	return 0
}
