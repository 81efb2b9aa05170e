package cpu

/*
#include <stdlib.h>
#include "ci.h"
*/
import "C"

import (
	"os"
	"strings"
	"sync"
)

// library is what multiplies matrices.
type library struct {
	own                               C.int // 1: the product of gemm.c
	description, fingerprint, warning string
}

const installHint = "products of matrices in batches and in pretraining run slower without it: install it with `apt-get install libopenblas0-pthread` " +
	"(Debian, Ubuntu) or `dnf install openblas` (Fedora)"

var openBLAS = sync.OnceValue(func() library {
	var msg [256]C.char
	level := C.ci_simd_level()
	config := C.ci_blas_load(level, &msg[0], C.int(len(msg)))
	if config == nil {
		return ownProduct("OpenBLAS is missing (" + C.GoString(&msg[0]) + "); " + installHint)
	}
	core := C.GoString(C.ci_blas_core())
	name := "openblas"
	if f := strings.Fields(C.GoString(config)); len(f) > 1 && f[0] == "OpenBLAS" {
		name += " " + f[1]
	}
	return library{description: strings.TrimSpace(C.GoString(config)), fingerprint: name + " core=" + core}
})

func ownProduct(warning string) library {
	return library{own: 1, description: "none (built-in product)", fingerprint: "builtin-gemm", warning: warning}
}

// loadBLAS opens OpenBLAS once per process. CLIPINSPECTOR_BLAS=none does without it.
func loadBLAS() library {
	if os.Getenv("CLIPINSPECTOR_BLAS") == "none" {
		return ownProduct("OpenBLAS is switched off by CLIPINSPECTOR_BLAS=none; products of matrices in batches and in pretraining run slower")
	}
	return openBLAS()
}

// simdName names the level of the instruction set that the kernels were compiled for.
func simdName() string {
	return map[C.int]string{1: "base", 2: "v3", 3: "v4", 4: "v4"}[C.ci_simd_level()]
}

// sgemm is the library's product c = op(a)·op(b) as it is, for benchmarks.
func (l library) sgemm(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	C.ci_sgemm(l.own, bit(transA), bit(transB), C.int(m), C.int(n), C.int(k), 1, fp(a), C.int(lda), fp(b), C.int(ldb), fp(c), C.int(ldc))
}
