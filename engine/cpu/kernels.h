// The kernels, compiled three times: by kernels_v2.c, kernels_v3.c and kernels_v4.c, each of which says what its processors
// have. Any of them gives the same bits as the others, since the arithmetic is written down and not left to the compiler:
//
//   - Every operation is rounded as IEEE 754 says. Nothing is contracted; where a product and a sum are to be rounded once,
//     fmadd says so, exactly on any processor.
//   - A product's sum is one chain of fmadd in the order of k.
//   - Sums of a row run in 16 lanes, number i in lane i mod 16, and fold16 adds the lanes up in one order.
//   - Nothing comes from a library but sqrtf, floorf, fabsf and copysignf, which are exact.
//
// Vectors are the compiler's in all other loops: it may only do there what changes no bit.
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math", "fp-contract=off")
#include "ci.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define CAT2(a, b) a##_##b
#define CAT(a, b) CAT2(a, b)
#define KERNEL(name) CAT(ci_##name, VARIANT)

#include "lanes.h"
#include "vecmath.h"

#include "elementwise.h"
#include "gemm.h"
#include "image.h"
#include "norm.h"
#include "optim.h"
#include "reduce.h"
#include "softmax.h"

#include "attention.h"
