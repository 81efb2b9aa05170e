// x86-64 with AVX2 and FMA. 12 of 16 registers hold sums of a product.
#ifdef __x86_64__
#pragma GCC target("avx2,fma,bmi2")
enum { LANES = 8, VECS = 2, ROWS = 6 };
#define VARIANT v3
#include "kernels.h"
#endif
