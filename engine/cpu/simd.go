package cpu

// #include "ci.h"
import "C"

import "fmt"

// SIMDEnv names the environment variable that pins the kernels to a level of x86-64's instruction set: v2, v3 (AVX2, FMA) or v4
// (AVX-512). All give the same bits.
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
