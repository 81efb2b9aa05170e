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
#define DYNAMIC_SHARED(type, name)                                \
    extern __shared__ __align__(16) unsigned char name##_bytes[]; \
    type *name = (type *)name##_bytes
#define INFINITY __int_as_float(0x7f800000)
#endif

typedef long long i64;
typedef unsigned u32;
typedef unsigned short bf16; // the upper half of a float

#define FULL 0xffffffffu

struct __align__(16) float4s { float v[4]; };
struct __align__(8) bf16x4 { bf16 v[4]; };
struct __align__(8) float2s { float v[2]; };

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

// warp_sum and warp_max give all lanes the same bits: the butterfly adds the same pairs in every lane. With `from` less than 16
// they are over neighbourhoods of 2*from lanes.
__device__ inline float warp_sum(float v, int from = 16) {
    for (int d = from; d > 0; d >>= 1) v += __shfl_xor_sync(FULL, v, d);
    return v;
}

__device__ inline float warp_max(float v, int from = 16) {
    for (int d = from; d > 0; d >>= 1) v = fmaxf(v, __shfl_xor_sync(FULL, v, d));
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

// Tensor cores (PTX ISA, mma): c, 16 x 8, += a·b. Of lane's g = lane/4 and t = lane%4 the sums c are of (g,2t), (g,2t+1), (g+8,2t),
// (g+8,2t+1). mma_bf16 sums over 16, a register holding two neighbours, the first in its lower half: a of (g,2t), (g+8,2t), (g,2t+8),
// (g+8,2t+8), b of (2t,g), (2t+8,g). mma_tf32 sums over 8: a of (g,t), (g+8,t), (g,t+4), (g+8,t+4), b of (t,g), (t+4,g).
//
// tf32 rounds to nearest, ties away from zero, which mma_tf32 asks for; bf16x2 rounds two numbers to nearest even; ex2 is 2^x.
#ifdef HOST_EMULATION
__device__ inline u32 bf16x2(float low, float high) { return narrow(low) | (u32)narrow(high) << 16; }
#else
__device__ inline void mma_bf16(float c[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ inline void mma_tf32(float c[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ inline u32 tf32(float x) {
    u32 y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}

__device__ inline u32 bf16x2(float low, float high) {
    u32 y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

__device__ inline float ex2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

// store2 moves two neighbours, the first at an even place.
__device__ inline void store2(void *p, i64 i, float x, float y, bool half) {
    if (half) *(u32 *)((bf16 *)p + i) = bf16x2(x, y);
    else *(float2s *)((float *)p + i) = float2s{{x, y}};
}
