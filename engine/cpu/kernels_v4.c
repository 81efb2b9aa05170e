// x86-64 with AVX-512. 24 of 32 registers hold sums of a product.
#ifdef __x86_64__
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi2,prefer-vector-width=512")
enum { LANES = 16, VECS = 3, ROWS = 8 };
#define VARIANT v4
#include "kernels.h"
#endif
