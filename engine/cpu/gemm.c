// A matrix product of our own, for machines without OpenBLAS.
//
// The trick: the classical one. Blocks of both matrices are packed into strips (6 rows of a, 16 columns of b, k after k),
// so that the innermost loop keeps a 6 x 16 block of c in registers and reads both strips in order; the packed blocks of a
// and b fit the second- and third-level caches. About half the speed of OpenBLAS.
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math")
#include "ci.h"
#include <stdlib.h>
#include <string.h>

enum { MR = 6, NR = 16, MC = 96, KC = 256, NC = 1024 };
typedef float vec __attribute__((vector_size(32), aligned(4), may_alias));

// Scratch of a thread, kept for its life.
static __thread float *pack;

INLINE float element(const float *x, int ld, int trans, long row, long col) {
    return trans ? x[col * ld + row] : x[row * ld + col];
}

KERNEL static void block(long k, const float *restrict a, const float *restrict b, float *restrict c) {
    vec c00 = {0}, c01 = {0}, c10 = {0}, c11 = {0}, c20 = {0}, c21 = {0};
    vec c30 = {0}, c31 = {0}, c40 = {0}, c41 = {0}, c50 = {0}, c51 = {0};
    for (long p = 0; p < k; p++, a += MR, b += NR) {
        vec b0 = *(const vec *)b, b1 = *(const vec *)(b + 8);
        c00 += a[0] * b0, c01 += a[0] * b1;
        c10 += a[1] * b0, c11 += a[1] * b1;
        c20 += a[2] * b0, c21 += a[2] * b1;
        c30 += a[3] * b0, c31 += a[3] * b1;
        c40 += a[4] * b0, c41 += a[4] * b1;
        c50 += a[5] * b0, c51 += a[5] * b1;
    }
    vec *y = (vec *)c;
    y[0] = c00, y[1] = c01, y[2] = c10, y[3] = c11, y[4] = c20, y[5] = c21;
    y[6] = c30, y[7] = c31, y[8] = c40, y[9] = c41, y[10] = c50, y[11] = c51;
}

void ci_sgemm_own(int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
                  float beta, float *c, int ldc) {
    if (!pack) pack = malloc((MC * KC + (NC + NR) * KC) * sizeof(float));
    if (!pack) abort();
    float *pa = pack, *pb = pack + MC * KC, tile[MR * NR];
    for (long i = 0; i < m; i++)
        for (long j = 0; j < n; j++) c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
    for (long j0 = 0; j0 < n; j0 += NC) {
        long nc = n - j0 < NC ? n - j0 : NC;
        for (long k0 = 0; k0 < k; k0 += KC) {
            long kc = k - k0 < KC ? k - k0 : KC;
            for (long j = 0; j < nc; j += NR)
                for (long p = 0; p < kc; p++)
                    for (long jj = 0; jj < NR; jj++)
                        pb[j * kc + p * NR + jj] = j + jj < nc ? element(b, ldb, tb, k0 + p, j0 + j + jj) : 0;
            for (long i0 = 0; i0 < m; i0 += MC) {
                long mc = m - i0 < MC ? m - i0 : MC;
                for (long i = 0; i < mc; i += MR)
                    for (long p = 0; p < kc; p++)
                        for (long ii = 0; ii < MR; ii++)
                            pa[i * kc + p * MR + ii] = i + ii < mc ? element(a, lda, ta, i0 + i + ii, k0 + p) : 0;
                for (long j = 0; j < nc; j += NR)
                    for (long i = 0; i < mc; i += MR) {
                        block(kc, pa + i * kc, pb + j * kc, tile);
                        for (long ii = 0; ii < MR && i + ii < mc; ii++) {
                            float *row = c + (i0 + i + ii) * ldc + j0 + j;
                            for (long jj = 0; jj < NR && j + jj < nc; jj++) row[jj] += alpha * tile[ii * NR + jj];
                        }
                    }
            }
        }
    }
}
