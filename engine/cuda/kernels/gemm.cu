// Matrix products in plain float arithmetic, for a machine whose driver is there but whose cuBLAS is not, and for precision
// fp32 without it. A block computes 64 x 64 numbers of y from tiles of 16 in shared memory, a thread 4 x 4 of them.
#include "device.cuh"

// y = alpha*op(a)·op(b) + bias for blockIdx.z-th product; see engine.MatMul. Element (i,k) of op(a) lies at i*ai + k*ak, element
// (k,j) of op(b) at k*bk + j*bj. half: a, b, y.
KERNEL(256, gemm)(const void *a, const void *b, const float *bias, void *y, i64 m, i64 n, i64 kk, i64 ai, i64 ak, i64 bk, i64 bj,
                  i64 strideA, i64 strideB, double alpha, i64 half) {
    __shared__ float ta[16][65], tb[16][65];
    int tid = threadIdx.x, tx = tid % 16, ty = tid / 16;
    i64 row0 = (i64)blockIdx.x * 64, col0 = (i64)blockIdx.y * 64, z = blockIdx.z;
    float acc[4][4] = {{0}};
    for (i64 k0 = 0; k0 < kk; k0 += 16) {
        for (int e = tid; e < 1024; e += 256) {
            // neighbours in memory are read by neighbouring threads, whichever way the operand lies
            int k = ak == 1 ? e % 16 : e / 64, i = ak == 1 ? e / 16 : e % 64;
            ta[k][i] = row0 + i < m && k0 + k < kk ? load(a, z * strideA + (row0 + i) * ai + (k0 + k) * ak, half & 1) : 0.0f;
            k = bj == 1 ? e / 64 : e % 16, i = bj == 1 ? e % 64 : e / 16;
            tb[k][i] = col0 + i < n && k0 + k < kk ? load(b, z * strideB + (k0 + k) * bk + (col0 + i) * bj, half & 2) : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < 16; k++) {
            float p[4], q[4];
            for (int u = 0; u < 4; u++) p[u] = ta[k][ty + 16 * u], q[u] = tb[k][tx + 16 * u];
            for (int u = 0; u < 4; u++) {
                for (int v = 0; v < 4; v++) acc[u][v] += p[u] * q[v];
            }
        }
        __syncthreads();
    }
    for (int u = 0; u < 4; u++) {
        for (int v = 0; v < 4; v++) {
            i64 i = row0 + ty + 16 * u, j = col0 + tx + 16 * v;
            if (i < m && j < n) store(y, (z * m + i) * n + j, (float)alpha * acc[u][v] + (bias ? bias[j] : 0.0f), half & 4);
        }
    }
}
