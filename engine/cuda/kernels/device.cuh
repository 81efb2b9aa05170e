// What all kernels share: storage types, reductions in a fixed order, and the names that let the same source run on a
// GPU and, for tests, on the host (../host/emulation.h).
//
// Every parameter of a kernel is 8 bytes: a pointer, an i64 or a double. Numbers lie in memory as float or, where the
// engine's planner chose so, as bf16; `half` is a bit set that tells which operands do. All arithmetic is float.
#pragma once

#ifdef HOST_EMULATION
#include "emulation.h"
#else
#define KERNEL(threads, name) extern "C" __global__ void __launch_bounds__(threads) name
#define DYNAMIC_SHARED(type, name)                          \
    extern __shared__ __align__(16) unsigned char shared_bytes[]; \
    type *name = (type *)shared_bytes
#define INFINITY __int_as_float(0x7f800000)
#endif

typedef long long i64;
typedef unsigned u32;
typedef unsigned short bf16; // the upper half of a float

#define FULL 0xffffffffu

struct __align__(16) float4s { float v[4]; };
struct __align__(8) bf16x4 { bf16 v[4]; };

__device__ inline float widen(bf16 h) { return __uint_as_float((u32)h << 16); }

// Rounds to nearest even; what is no number stays none.
__device__ inline bf16 narrow(float x) {
    u32 b = __float_as_uint(x);
    if ((b & 0x7fffffffu) > 0x7f800000u) return (bf16)((b >> 16) | 0x40u);
    return (bf16)((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
}

__device__ inline float load(const void *p, i64 i, bool half) {
    return half ? widen(((const bf16 *)p)[i]) : ((const float *)p)[i];
}

__device__ inline void store(void *p, i64 i, float v, bool half) {
    if (half) ((bf16 *)p)[i] = narrow(v);
    else ((float *)p)[i] = v;
}

// load4 and store4 move four neighbours, the first at a multiple of four.
__device__ inline float4s load4(const void *p, i64 i, bool half) {
    float4s r;
    if (half) {
        bf16x4 h = *(const bf16x4 *)((const bf16 *)p + i);
        for (int k = 0; k < 4; k++) r.v[k] = widen(h.v[k]);
        return r;
    }
    return *(const float4s *)((const float *)p + i);
}

__device__ inline void store4(void *p, i64 i, float4s v, bool half) {
    if (half) {
        bf16x4 h;
        for (int k = 0; k < 4; k++) h.v[k] = narrow(v.v[k]);
        *(bf16x4 *)((bf16 *)p + i) = h;
        return;
    }
    *(float4s *)((float *)p + i) = v;
}

// warp_sum and warp_max give all lanes the same bits: the butterfly adds the same pairs in every lane.
__device__ inline float warp_sum(float v) {
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(FULL, v, d);
    return v;
}

__device__ inline float warp_max(float v) {
    for (int d = 16; d > 0; d >>= 1) v = fmaxf(v, __shfl_xor_sync(FULL, v, d));
    return v;
}

// warp_first returns the place of the largest value over the warp's lanes, the first of equals. A lane without a
// candidate brings at = -1.
__device__ inline int warp_first(float v, int at) {
    for (int d = 16; d > 0; d >>= 1) {
        float w = __shfl_xor_sync(FULL, v, d);
        int b = __shfl_xor_sync(FULL, at, d);
        if (b >= 0 && (at < 0 || w > v || (w == v && b < at))) v = w, at = b;
    }
    return at;
}

// index_of reads an index stored as a float. One outside of 0..n-1 is noted in *fault, which the engine reports, and
// becomes -1: nothing is read or written for it.
__device__ inline int index_of(float f, i64 n, i64 *fault) {
    if (f >= 0 && f < (float)n) return (int)f;
    *fault = 1; // every thread would write the same
    return -1;
}
