package cuda

// Ptr is an address in a device's memory; 0 is none.
type Ptr uint64

// Driver is what the engine needs of a device. There are two: the CUDA driver with cuBLASLt (build
// tag cuda), and package host, which emulates the kernels on the CPU for tests.
//
// Work is done in the order in which it is submitted. A driver is used by one goroutine at a time.
type Driver interface {
	// Info describes the device.
	Info() Info
	// Alloc returns memory at a multiple of 16 bytes with undefined contents; the error wraps
	// engine.ErrMemory when there is not enough and says how much was free.
	Alloc(bytes int64) (Ptr, error)
	// Free gives memory back when the work submitted before is done.
	Free(Ptr)
	// Write submits a copy to the device; src may be used again when it returns.
	Write(dst Ptr, src []byte) error
	// Read waits for everything submitted before and copies from the device.
	Read(dst []byte, src Ptr) error
	// Prepare makes steps ready to be launched many times, as one graph.
	Prepare(steps []Step) (Graph, error)
	// Close gives everything back.
	Close() error
}

// Info describes a device.
type Info struct {
	Name       string // "NVIDIA H100 80GB HBM3"
	Capability string // "sm_90"
	Library    string // what multiplies matrices: "cublasLt 12.6.4"; empty when there is none and the kernel gemm must do
	Memory     int64  // bytes in all
	Processors int    // streaming multiprocessors
}

// Graph is a prepared sequence of steps.
type Graph interface {
	Launch() error
	Free()
}

// Step is one piece of work: a kernel, or where Product is not nil a matrix product by the library.
type Step struct {
	Kernel  string
	Grid    [3]int
	Block   int      // threads of a block, a multiple of 32
	Shared  int      // bytes of dynamic shared memory
	Args    []uint64 // 8 bytes a parameter: pointers, integers, bits of doubles
	Product *Product
}

// Product is engine.MatMul for the library. Operands are row-major; a half one is bf16, else
// float32. Bias has the type of Y and is 0 where there is none.
type Product struct {
	A, B, Bias, Y       Ptr
	Batch, M, N, K      int
	StrideA, StrideB    int // in numbers
	TransA, TransB      bool
	HalfA, HalfB, HalfY bool
	Alpha               float32
	Exact               bool // float32 operands are multiplied as they are; else rounded to TF32
}
