// One head of one image's attention, forward and backward.
//
// The trick: q, k and v are read where they lie, as strided matrices inside the rows of qkv (ld = 3W), and the S x S
// scores live in a scratch that stays in the second-level cache between the products. The rows are divided by their sums
// after the product with v, which has fewer columns. The backward pass computes the probabilities again from the saved
// logarithms instead of keeping S x S numbers per head. Short sequences are multiplied by a kernel of our own, because
// calling the library costs as much as the products themselves: it needs no packing, since the left operand is read number
// by number at any stride and the right one lies in rows, k and v being transposed for the two products that want it.
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math")
#include "ci.h"
#include <math.h>

static long padded(long s) { return (s + 15) / 16 * 16; }

enum { SHORT = 64 }; // positions up to which the kernel of our own is used

long ci_attention_scratch(long s) { return 2 * s * padded(s) + padded(s) + (s <= SHORT ? 256 * padded(s) : 0); }

typedef float vec __attribute__((vector_size(32), aligned(4), may_alias));

// rows x 8*vecs numbers of c = a·b. a is read at strides ai, ak, b in rows.
INLINE void block(int rows, int vecs, long k, const float *a, long ai, long ak, const float *b, long ldb, float *c,
                  long ldc) {
    vec sum[6][2];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vecs; j++) sum[i][j] = (vec){0};
    for (long p = 0; p < k; p++) {
        vec b0 = *(const vec *)(b + p * ldb), b1 = vecs == 2 ? *(const vec *)(b + p * ldb + 8) : b0;
        for (int i = 0; i < rows; i++) {
            float x = a[i * ai + p * ak];
            sum[i][0] += x * b0;
            if (vecs == 2) sum[i][1] += x * b1;
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vecs; j++) *(vec *)(c + i * ldc + 8 * j) = sum[i][j];
}

// c = a·b, n a multiple of 8. Rows are cut into blocks as equal as can be: a block of few rows waits for its own sums.
KERNEL static void small(long m, long n, long k, const float *a, long ai, long ak, const float *b, long ldb, float *c,
                         long ldc) {
    for (long j = 0; j < n; j += 16) {
        int wide = n - j >= 16;
        for (long i = 0, left = (m + 5) / 6, rows; i < m; i += rows, left--) {
            rows = (m - i + left - 1) / left;
            switch (rows) {
#define ROWS(r)                                                                              \
    case r:                                                                                  \
        if (wide) block(r, 2, k, a + i * ai, ai, ak, b + j, ldb, c + i * ldc + j, ldc);      \
        else block(r, 1, k, a + i * ai, ai, ak, b + j, ldb, c + i * ldc + j, ldc);           \
        break
                ROWS(1);
                ROWS(2);
                ROWS(3);
                ROWS(4);
                ROWS(5);
                ROWS(6);
#undef ROWS
            }
        }
    }
}

// t = the transpose of s x d numbers at stride ld, times scale, with columns s..n zero.
KERNEL static void transpose(long s, long d, long ld, const float *restrict x, float scale, long n, float *restrict t) {
    for (long c = 0; c < d; c++) {
        for (long j = 0; j < s; j++) t[c * n + j] = scale * x[j * ld + c];
        for (long j = s; j < n; j++) t[c * n + j] = 0;
    }
}

void ci_attention(int own, long s, long w, long d, int causal, const float *qkv, float *o, float *lse, float *scratch) {
    long ld = padded(s);
    float *p = scratch, *inverse = scratch + s * ld, scale = 1.0f / sqrtf((float)d);
    if (s <= SHORT && d % 8 == 0 && d <= 256) {
        ld = (s + 7) / 8 * 8;
        inverse = scratch + s * ld;
        float *kt = inverse + padded(s);
        transpose(s, d, 3 * w, qkv + w, scale, ld, kt);
        small(s, ld, d, qkv, 3 * w, 1, kt, ld, p, ld);
        ci_attention_softmax(s, ld, causal, p, lse, inverse);
        small(s, d, s, p, ld, 1, qkv + 2 * w, 3 * w, o, w);
        ci_scale_rows(s, d, w, inverse, o);
        return;
    }
    ci_sgemm(own, 0, 1, s, s, d, scale, qkv, 3 * w, qkv + w, 3 * w, p, ld);
    ci_attention_softmax(s, ld, causal, p, lse, inverse);
    ci_sgemm(own, 0, 0, s, d, s, 1, p, ld, qkv + 2 * w, 3 * w, o, w);
    ci_scale_rows(s, d, w, inverse, o);
}

void ci_attention_grad(int own, long s, long w, long d, int causal, const float *qkv, const float *o, const float *lse,
                       const float *go, float *dqkv, float *scratch) {
    long ld = padded(s);
    const float *q = qkv, *k = qkv + w, *v = qkv + 2 * w;
    float *p = scratch, *dp = p + s * ld, *delta = dp + s * ld, scale = 1.0f / sqrtf((float)d);
    if (s <= SHORT && d % 8 == 0 && d <= 256) {
        ld = (s + 7) / 8 * 8;
        dp = p + s * ld, delta = dp + s * ld;
        float *t = delta + padded(s);
        transpose(s, d, 3 * w, k, scale, ld, t);
        small(s, ld, d, q, 3 * w, 1, t, ld, p, ld);
        ci_attention_exp(s, ld, causal, lse, p);
        small(s, d, s, p, 1, ld, go, w, dqkv + 2 * w, 3 * w);
        transpose(s, d, 3 * w, v, 1, ld, t);
        small(s, ld, d, go, w, 1, t, ld, dp, ld);
        ci_attention_delta(s, d, w, o, go, delta);
        ci_attention_ds(s, ld, scale, p, delta, dp);
        small(s, d, s, dp, ld, 1, k, 3 * w, dqkv, 3 * w);
        small(s, d, s, dp, 1, ld, q, 3 * w, dqkv + w, 3 * w);
        return;
    }
    ci_sgemm(own, 0, 1, s, s, d, scale, q, 3 * w, k, 3 * w, p, ld);
    ci_attention_exp(s, ld, causal, lse, p);
    ci_sgemm(own, 1, 0, s, d, s, 1, p, ld, go, w, dqkv + 2 * w, 3 * w); // dv = Pᵀ·do
    ci_sgemm(own, 0, 1, s, s, d, 1, go, w, v, 3 * w, dp, ld);           // dP = do·vᵀ
    ci_attention_delta(s, d, w, o, go, delta);
    ci_attention_ds(s, ld, scale, p, delta, dp);
    ci_sgemm(own, 0, 0, s, d, s, 1, dp, ld, k, 3 * w, dqkv, 3 * w);     // dq = dS·k
    ci_sgemm(own, 1, 0, s, d, s, 1, dp, ld, q, 3 * w, dqkv + w, 3 * w); // dk = dSᵀ·q
}
