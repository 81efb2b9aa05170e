// A matrix product of our own, which serves a transformer's products better than OpenBLAS: that one packs both operands
// in every call.
//
// The trick: only b is packed, into strips of as many columns as a few registers hold, k after k, and frozen weights are
// packed once. a is read where it lies, six or eight rows at a time. k is cut into parts: a part of a strip stays in the
// first-level cache while MC rows pass, a part of these rows in the second-level one while the strips do, and the next
// strip is on its way. Sums wait in c between parts: every number of c is one chain of additions in the order of k, so
// that its bits depend neither on tiles and parts nor on the width of registers.
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math")
#include "ci.h"
#include <stdlib.h>
#include <string.h>

enum { MC = 120, KC = 384, LINE = 16, MAXSTRIP = 48, MAXROWS = 8 };
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
    int rows, strip, kc; // kc: the longest part of a sum that is done at a time
} panel;

static panel choose(void) {
    int level = ci_simd_level();
    if (level >= 3) return (panel){panel_v4, 8, panel_v4_strip, KC / 2};
    if (level == 2) return (panel){panel_v3, 6, panel_v3_strip, KC};
    return (panel){panel_base, 4, panel_base_strip, KC};
}

long ci_gemm_strip(void) { return choose().strip; }
long ci_gemm_rows(void) { return choose().rows; }

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
    long cuts = (k + p.kc - 1) / p.kc, part = cuts ? (k + cuts - 1) / cuts : 1;
    int ahead = n * k > 1 << 16; // less than that stays in the second-level cache
    for (long i0 = 0; i0 < m; i0 += MC) {
        long mc = m - i0 < MC ? m - i0 : MC, panels = (mc + p.rows - 1) / p.rows;
        for (long k0 = 0; k0 == 0 || k0 < k; k0 += part) {
            long kc = k - k0 < part ? k - k0 : part;
            int first = k0 == 0, last = k0 + part >= k;
            const float *ai = a + i0 * lda + k0;
            // While a strip is used, the next one (or the next part's first) is fetched, a share of it with every panel.
            long share = ahead ? (kc * p.strip / LINE + panels - 1) / panels * LINE : 0;
            for (long j = 0; j < n; j += p.strip) {
                const float *b = packed + j * k + k0 * p.strip, *add = bias ? bias + j : zeros;
                const float *next = j + p.strip < n ? b + p.strip * k : packed + (k0 + kc) * p.strip;
                long nc = n - j < p.strip ? n - j : p.strip;
                float edge[MAXROWS * MAXSTRIP], padded[MAXSTRIP];
                if (nc < p.strip && bias) {
                    memset(padded, 0, sizeof padded);
                    memcpy(padded, add, nc * sizeof(float));
                    add = padded;
                }
                for (long i = 0; i < mc; i += p.rows, next += share) {
                    long rows = mc - i < p.rows ? mc - i : p.rows;
                    float *ci = c + (i0 + i) * ldc + j;
                    for (long q = 0; q < share; q += LINE) __builtin_prefetch(next + q, 0, 2);
                    if (nc == p.strip) {
                        p.run(rows, first, last, kc, alpha, ai + i * lda, lda, b, add, ci, ldc);
                        continue;
                    }
                    // The last strip goes through a full one, since c ends here.
                    memset(edge, 0, sizeof edge);
                    if (!first)
                        for (long r = 0; r < rows; r++) memcpy(edge + r * p.strip, ci + r * ldc, nc * sizeof(float));
                    p.run(rows, first, last, kc, alpha, ai + i * lda, lda, b, add, edge, p.strip);
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
