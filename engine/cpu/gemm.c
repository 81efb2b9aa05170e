// A matrix product of our own: for short sums, where OpenBLAS loses a fifth of its time to packing, and for machines
// without OpenBLAS.
//
// The trick: only b is packed, into strips of as many columns as a few registers hold, k after k; a is read where it lies,
// six or eight rows at a time, since its rows are few lines of cache while k is short. A strip of b (in parts of KC)
// stays in the first-level cache while the rows pass. Frozen weights are packed once. Every number of c is one chain of
// additions in the order of k, so that its bits depend neither on tiles nor on the width of registers.
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math")
#include "ci.h"
#include <stdlib.h>
#include <string.h>

enum { MC = 96, KC = 384, MAXSTRIP = 48, MAXROWS = 8 };
typedef float vec256 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float vec512 __attribute__((vector_size(64), aligned(4), may_alias));

#define CAT2(a, b) a##b
#define CAT(a, b) CAT2(a, b)
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define V3 __attribute__((target("avx2,fma")))
#define V4 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,prefer-vector-width=512")))
#else
#define V3
#define V4
#endif

// 12 of 16 registers hold sums.
#define VEC vec256
#define VECS 2
#define ROWS 6
#define PANEL panel_v3
#define TARGET V3
#include "panel.h"

// 24 of 32.
#define VEC vec512
#define VECS 3
#define ROWS 8
#define PANEL panel_v4
#define TARGET V4
#include "panel.h"

// Any other processor.
#define VEC vec256
#define VECS 1
#define ROWS 4
#define PANEL panel_base
#define TARGET
#include "panel.h"

typedef void (*panel_t)(int rows, int first, int last, long k, float alpha, const float *a, long lda, const float *b,
                        const float *bias, float *c, long ldc);
typedef struct {
    panel_t run;
    int rows, strip;
} panel;

static panel choose(void) {
    int level = ci_simd_level();
    if (level >= 3) return (panel){panel_v4, 8, panel_v4_strip};
    if (level == 2) return (panel){panel_v3, 6, panel_v3_strip};
    return (panel){panel_base, 4, panel_base_strip};
}

long ci_gemm_strip(void) { return choose().strip; }

// Strips [from, to) of op(b), k x n: strip s holds columns s*strip.. of all k rows, zero behind column n.
KERNEL void ci_gemm_pack(long strip, int tb, long from, long to, long n, long k, const float *restrict b, long ldb,
                         float *restrict packed) {
    for (long s = from; s < to; s++) {
        float *restrict y = packed + s * strip * k;
        long j0 = s * strip, m = n - j0 < strip ? n - j0 : strip;
        if (m < strip) memset(y, 0, strip * k * sizeof(float));
        if (tb)
            for (long p0 = 0; p0 < k; p0 += 16)
                for (long j = 0; j < m; j++)
                    for (long p = p0; p < p0 + 16 && p < k; p++) y[p * strip + j] = b[(j0 + j) * ldb + p];
        else
            for (long p = 0; p < k; p++) memcpy(y + p * strip, b + p * ldb + j0, m * sizeof(float));
    }
}

void ci_gemm_packed(long m, long n, long k, float alpha, const float *a, long lda, const float *packed,
                    const float *bias, float *c, long ldc) {
    static const float zeros[MAXSTRIP];
    panel p = choose();
    for (long i0 = 0; i0 < m; i0 += MC) {
        long mc = m - i0 < MC ? m - i0 : MC;
        for (long k0 = 0; k0 == 0 || k0 < k; k0 += KC) {
            long kc = k - k0 < KC ? k - k0 : KC;
            int first = k0 == 0, last = k0 + KC >= k;
            for (long j = 0; j < n; j += p.strip) {
                const float *b = packed + j * k + k0 * p.strip, *add = bias ? bias + j : zeros;
                long nc = n - j < p.strip ? n - j : p.strip;
                float edge[MAXROWS * MAXSTRIP], padded[MAXSTRIP];
                if (nc < p.strip && bias) {
                    memset(padded, 0, sizeof padded);
                    memcpy(padded, add, nc * sizeof(float));
                    add = padded;
                }
                for (long i = i0; i < i0 + mc; i += p.rows) {
                    long rows = i0 + mc - i < p.rows ? i0 + mc - i : p.rows;
                    const float *ai = a + i * lda + k0;
                    float *ci = c + i * ldc + j;
                    if (nc == p.strip) {
                        p.run(rows, first, last, kc, alpha, ai, lda, b, add, ci, ldc);
                        continue;
                    }
                    // The last strip goes through a full one, since c ends here.
                    memset(edge, 0, sizeof edge);
                    if (!first)
                        for (long r = 0; r < rows; r++) memcpy(edge + r * p.strip, ci + r * ldc, nc * sizeof(float));
                    p.run(rows, first, last, kc, alpha, ai, lda, b, add, edge, p.strip);
                    for (long r = 0; r < rows; r++) memcpy(ci + r * ldc, edge + r * p.strip, nc * sizeof(float));
                }
            }
        }
    }
}

// Scratch of a thread, kept for its life.
static __thread float *scratch;
static __thread long held;

void ci_sgemm_own(int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
                  const float *bias, float *c, int ldc) {
    long strip = ci_gemm_strip(), strips = (n + strip - 1) / strip, nb = strips * strip * k, want = nb + (ta ? (long)m * k : 0);
    if (want > held) {
        free(scratch);
        scratch = malloc(want * sizeof(float));
        if (!scratch) abort();
        held = want;
    }
    ci_gemm_pack(strip, tb, 0, strips, n, k, b, ldb, scratch);
    if (ta) { // rows of op(a), which a holds as columns
        float *t = scratch + nb;
        for (long p0 = 0; p0 < k; p0 += 16)
            for (long i = 0; i < m; i++)
                for (long p = p0; p < p0 + 16 && p < k; p++) t[i * k + p] = a[p * (long)lda + i];
        a = t, lda = k;
    }
    ci_gemm_packed(m, n, k, alpha, a, lda, scratch, bias, c, ldc);
}
