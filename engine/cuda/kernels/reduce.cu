// Sums over some dimensions, largest elements along one.
//
// The order of every sum is fixed by the shapes: threads add with a fixed stride, a tree joins them, and long sums are cut
// into a number of parts that depends on the shapes alone, which a second launch adds in their order.
#include "device.cuh"

// place returns the offset of element i of a box of rank dimensions with strides.
__device__ inline i64 place(u32 i, const i64 *dims, const i64 *strides, i64 rank) {
    i64 p = 0;
    for (int k = (int)rank - 1; k >= 0; k--) {
        u32 d = (u32)dims[k];
        p += (i64)(i % d) * strides[k];
        i /= d;
    }
    return p;
}

// y[part*outer + o] = alpha * the sum of x over part `part` of the m summed places; a block an output. shape holds the kept
// dimensions and their strides in x, then the summed dimensions and theirs. For sums along memory.
KERNEL(256, sum_inner)(const float *x, float *y, i64 outer, i64 m, i64 per, double alpha, const i64 *shape, i64 kept, i64 summed) {
    __shared__ float warps[8];
    i64 o = blockIdx.x, from = (i64)blockIdx.y * per, to = from + per < m ? from + per : m;
    const i64 *s = shape + 2 * kept;
    const float *base = x + place((u32)o, shape, shape + kept, kept);
    float sum = 0;
    for (i64 j = from + threadIdx.x; j < to; j += 256) sum += base[place((u32)j, s, s + summed, summed)];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        sum = 0;
        for (int k = 0; k < 8; k++) sum += warps[k];
        y[blockIdx.y * outer + o] = (float)(alpha * sum);
    }
}

// The same with 32 neighbouring outputs a block, whose 8 warps take every eighth summed place. For sums across memory.
KERNEL(256, sum_outer)(const float *x, float *y, i64 outer, i64 m, i64 per, double alpha, const i64 *shape, i64 kept, i64 summed) {
    __shared__ float part[8][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    i64 o = (i64)blockIdx.x * 32 + lane, from = (i64)blockIdx.y * per, to = from + per < m ? from + per : m;
    const i64 *s = shape + 2 * kept;
    float sum = 0;
    if (o < outer) {
        const float *base = x + place((u32)o, shape, shape + kept, kept);
        for (i64 j = from + warp; j < to; j += 8) sum += base[place((u32)j, s, s + summed, summed)];
    }
    part[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && o < outer) {
        sum = 0;
        for (int k = 0; k < 8; k++) sum += part[k][lane];
        y[blockIdx.y * outer + o] = (float)(alpha * sum);
    }
}

// y [outer,inner] and index: the largest of x [outer,n,inner] along the middle, the first of equals.
KERNEL(256, max_axis)(const float *x, float *y, float *index, i64 outer, i64 n, i64 inner) {
    i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
    if (i >= outer * inner) return;
    const float *p = x + i / inner * n * inner + i % inner;
    i64 best = 0;
    for (i64 k = 1; k < n; k++) {
        if (p[k * inner] > p[best * inner]) best = k;
    }
    y[i] = p[best * inner];
    index[i] = (float)best;
}

// dx [outer,n,inner]: dy at the place that index names, 0 elsewhere.
KERNEL(256, max_axis_grad)(const float *index, const float *dy, float *dx, i64 outer, i64 n, i64 inner) {
    i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
    if (i >= outer * n * inner) return;
    i64 o = i / (n * inner), k = i / inner % n, at = o * inner + i % inner;
    dx[i] = (float)k == index[at] ? dy[at] : 0.0f;
}

// index [rows]: the place of the largest of each row, the first of equals. A warp a row.
KERNEL(256, argmax)(const float *x, float *index, i64 rows, i64 w) {
    i64 r = (i64)blockIdx.x * 8 + threadIdx.x / 32;
    if (r >= rows) return;
    int best = -1;
    float v = 0;
    for (int i = threadIdx.x % 32; i < w; i += 32) {
        float u = x[r * w + i];
        if (best < 0 || u > v) v = u, best = i;
    }
    best = warp_first(v, best);
    if (threadIdx.x % 32 == 0) index[r] = (float)best;
}
