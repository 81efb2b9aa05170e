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
extern emulation_dim threadIdx, blockIdx, gridDim;

unsigned char *emulation_shared();
void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
// emulation_exchange hands 8 bytes to the other lanes of the warp and returns what `from` hands over.
uint64_t emulation_exchange(unsigned mask, uint64_t mine, unsigned from);

template <class T> static inline T emulation_shuffle(unsigned mask, T v, unsigned from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = emulation_exchange(mask, bits, from);
    memcpy(&v, &bits, sizeof v);
    return v;
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int d) {
    return emulation_shuffle(mask, v, (threadIdx.x % 32) ^ d);
}
template <class T> static inline T __shfl_sync(unsigned mask, T v, int lane) { return emulation_shuffle(mask, v, lane & 31); }

static inline unsigned __float_as_uint(float f) { unsigned u; memcpy(&u, &f, 4); return u; }
static inline float __uint_as_float(unsigned u) { float f; memcpy(&f, &u, 4); return f; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
