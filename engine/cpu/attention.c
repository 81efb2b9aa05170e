// One head of one image's attention, forward and backward.
//
// The trick: q, k and v are read where they lie, as strided matrices inside the rows of qkv (ld = 3W), and the S x S
// scores live in a scratch that stays in the second-level cache between the products. The rows are divided by their sums
// after the product with v, which has fewer columns. The backward pass computes the probabilities again from the saved
// logarithms instead of keeping S x S numbers per head.
#include "ci.h"
#include <math.h>

static long padded(long s) { return (s + 15) / 16 * 16; }

long ci_attention_scratch(long s) { return 2 * s * padded(s) + padded(s); }

void ci_attention(int own, long s, long w, long d, int causal, const float *qkv, float *o, float *lse, float *scratch) {
    long ld = padded(s);
    float *p = scratch, *inverse = scratch + s * ld, scale = 1.0f / sqrtf((float)d);
    ci_sgemm(own, 0, 1, s, s, d, scale, qkv, 3 * w, qkv + w, 3 * w, 0, p, ld);
    ci_attention_softmax(s, ld, causal, p, lse, inverse);
    ci_sgemm(own, 0, 0, s, d, s, 1, p, ld, qkv + 2 * w, 3 * w, 0, o, w);
    ci_scale_rows(s, d, w, inverse, o);
}

void ci_attention_grad(int own, long s, long w, long d, int causal, const float *qkv, const float *o, const float *lse,
                       const float *go, float *dqkv, float *scratch) {
    long ld = padded(s);
    const float *q = qkv, *k = qkv + w, *v = qkv + 2 * w;
    float *p = scratch, *dp = p + s * ld, *delta = dp + s * ld, scale = 1.0f / sqrtf((float)d);
    ci_sgemm(own, 0, 1, s, s, d, scale, q, 3 * w, k, 3 * w, 0, p, ld);
    ci_attention_exp(s, ld, causal, lse, p);
    ci_sgemm(own, 1, 0, s, d, s, 1, p, ld, go, w, 0, dqkv + 2 * w, 3 * w); // dv = Pᵀ·do
    ci_sgemm(own, 0, 1, s, s, d, 1, go, w, v, 3 * w, 0, dp, ld);           // dP = do·vᵀ
    ci_attention_delta(s, d, w, o, go, delta);
    ci_attention_ds(s, ld, scale, p, delta, dp);
    ci_sgemm(own, 0, 0, s, d, s, 1, dp, ld, k, 3 * w, 0, dqkv, 3 * w);     // dq = dS·k
    ci_sgemm(own, 1, 0, s, d, s, 1, dp, ld, q, 3 * w, 0, dqkv + w, 3 * w); // dk = dSᵀ·q
}
