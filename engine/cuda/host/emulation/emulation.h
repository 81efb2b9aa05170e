// The part of CUDA C++ that the kernels use, on the host: a block's threads are fibres that take turns, so that barriers and
// shuffles mean what they mean on a GPU. Slow and exact; for tests.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#define __device__
#define __shared__ static
#define __align__(n) alignas(n)
#define KERNEL(threads, name) static void name
#define DYNAMIC_SHARED(type, name) type *name = (type *)emulation_shared()

struct emulation_dim { unsigned x, y, z; };
extern emulation_dim threadIdx, blockIdx, blockDim, gridDim;

unsigned char *emulation_shared();
void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
// emulation_exchange hands words to the other lanes of the warp and returns what all 32 hand over.
struct emulation_words { unsigned v[6]; };
const emulation_words *emulation_exchange(unsigned mask, const emulation_words &mine);

template <class T> static inline T emulation_shuffle(unsigned mask, T v, unsigned from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    emulation_words mine = {{0}};
    memcpy(&mine, &v, sizeof v);
    memcpy(&v, emulation_exchange(mask, mine) + from, sizeof v);
    return v;
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int d) {
    return emulation_shuffle(mask, v, (threadIdx.x % 32) ^ d);
}
template <class T> static inline T __shfl_sync(unsigned mask, T v, int lane) { return emulation_shuffle(mask, v, lane & 31); }

static inline unsigned __float_as_uint(float f) { unsigned u; memcpy(&u, &f, 4); return u; }
static inline float __uint_as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

// Tensor cores: see device.cuh. A TF32 operand that was not rounded, of which PTX does not say what it counts as, is no number.
void mma_bf16(float c[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1);
void mma_tf32(float c[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1);
static inline unsigned tf32(float x) {
    unsigned u = __float_as_uint(x);
    return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & ~0x1fffu;
}
static inline float ex2(float x) { return exp2f(x); }
