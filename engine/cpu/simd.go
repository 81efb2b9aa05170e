package cpu

// #include "ci.h"
import "C"

import (
	"fmt"
	"sync/atomic"
)

// SIMDEnv names the environment variable that pins the kernels to a level of x86-64's instruction
// set: v2, v3 (AVX2, FMA) or v4 (AVX-512). All give the same bits.
const SIMDEnv = "CLIPINSPECTOR_SIMD"

var simdNames = map[C.int]string{2: "v2", 3: "v3", 4: "v4"}

// level returns the level of that name, or the processor's where none is given.
func level(name string) (C.int, error) {
	best := C.ci_simd_best()
	if name == "" {
		return best, nil
	}
	for simd, n := range simdNames {
		if n == name && simd <= best {
			return simd, nil
		}
	}
	return 0, fmt.Errorf("%s is %q: want v2 to %s, which is what this processor has", SIMDEnv, name, simdNames[best])
}

// FMA has every thread multiply and add in registers alone, for some milliseconds, and returns the
// operations done: what no product is faster than.
func (e *Engine) FMA() float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	var total atomic.Int64
	e.pool.do(&step{tiles: 16 * e.pool.workers, run: func(int, int) {
		sink := C.float(1)
		total.Add(int64(C.ci_fma_loop(e.simd, 20000, &sink)))
	}})
	return float64(total.Load())
}
