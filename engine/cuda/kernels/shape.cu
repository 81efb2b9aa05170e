// Moving numbers: strided copies (slice, pad, concat, permute, broadcast), gather and scatter.
#include "device.cuh"

KERNEL(256, zero)(float *y, i64 n) {
    i64 i = 4 * ((i64)blockIdx.x * 256 + threadIdx.x);
    float4s z = {{0, 0, 0, 0}};
    if (i + 4 <= n) {
        store4(y, i, z, false);
        return;
    }
    for (; i < n; i++) y[i] = 0;
}

// y[yFrom + at·sy] = x[xFrom + at·sx] for all places `at` of a box. shape holds rank dimensions, then sx, then sy. A thread
// takes v neighbours along the last dimension; with v = 4 both sides lie there at multiples of 4, y with stride 1, x with
// stride 1 or 0. Reads of a transposition are scattered, writes never are.
KERNEL(256, copy_strided)(const float *x, float *y, i64 n, i64 xFrom, i64 yFrom, const i64 *shape, i64 rank, i64 v) {
    i64 i = v * ((i64)blockIdx.x * 256 + threadIdx.x);
    if (i >= n) return;
    u32 rest = (u32)i;
    i64 ix = xFrom, iy = yFrom;
    for (int k = (int)rank - 1; k >= 0; k--) {
        u32 d = (u32)shape[k], at = rest % d;
        rest /= d;
        ix += at * shape[rank + k];
        iy += at * shape[2 * rank + k];
    }
    if (v == 1) {
        y[iy] = x[ix];
        return;
    }
    float4s p;
    if (shape[2 * rank - 1]) p = load4(x, ix, false);
    else p.v[0] = p.v[1] = p.v[2] = p.v[3] = x[ix];
    store4(y, iy, p, false);
}

// y [n,w]: row i is row index[i] of table [rows,w]. A block copies part of a row.
KERNEL(256, gather)(const float *table, const float *index, float *y, i64 rows, i64 w, i64 *fault) {
    i64 i = blockIdx.x, c = (i64)blockIdx.y * 256 + threadIdx.x;
    int row = index_of(index[i], rows, fault);
    if (c < w) y[i * w + c] = row < 0 ? 0.0f : table[row * w + c];
}

// y [rows,w] = 0 plus row i of x [n,w] at row index[i]. The rows that meet in one place are added in the order of i and
// without atomics: a block owns a row of y and looks through all indices, 256 at a time in shared memory.
KERNEL(256, scatter_add)(const float *index, const float *x, float *y, i64 n, i64 rows, i64 w, i64 *fault) {
    __shared__ int tile[256];
    i64 row = blockIdx.x, c = (i64)blockIdx.y * 256 + threadIdx.x;
    float sum = 0;
    for (i64 from = 0; from < n; from += 256) {
        i64 i = from + threadIdx.x;
        __syncthreads();
        tile[threadIdx.x] = i < n ? index_of(index[i], rows, fault) : -1;
        __syncthreads();
        if (c < w) {
            for (int k = 0; k < 256; k++) {
                if (tile[k] == row) sum += x[(from + k) * w + c];
            }
        }
    }
    if (c < w) y[row * w + c] = sum;
}
