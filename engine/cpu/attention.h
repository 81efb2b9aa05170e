// One head of one image's attention, forward and backward.
//
// The trick: q, k and v are read where they lie, as strided matrices inside the rows of qkv (ld = 3W), and the S x S
// scores live in a scratch that stays in the second-level cache between the products. The rows are divided by their sums
// after the product with v, which has fewer columns. The backward pass computes the probabilities again from the saved
// logarithms instead of keeping S x S numbers per head. Short sequences are multiplied without packing: the left operand
// is read number by number at any stride and the right one lies in rows, k and v being transposed for the two products that
// want it.
static long padded(long s) { return (s + 15) / 16 * 16; }

enum { SHORT = 64 }; // positions up to which products need no packing

long KERNEL(attention_scratch)(long s) { return 2 * s * padded(s) + padded(s) + (s <= SHORT ? 256 * padded(s) : 0); }

// rows x vecs*LANES numbers of c = alpha*a·b. a is read at strides ai, ak, b in rows.
INLINE void block(int rows, int vecs, long k, float alpha, const float *restrict a, long ai, long ak, const float *restrict b, long ldb,
                  float *restrict c, long ldc) {
    vec sum[6][3];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int j = 0; j < vecs; j++) sum[i][j] = (vec){0};
#pragma GCC unroll 1
    for (long p = 0; p < k; p++, a += ak, b += ldb) {
        vec v[3];
#pragma GCC unroll 3
        for (int j = 0; j < vecs; j++) v[j] = *(const vec *)(b + LANES * j);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            vec x = splat(a[i * ai]);
#pragma GCC unroll 3
            for (int j = 0; j < vecs; j++) sum[i][j] = vfmadd(x, v[j], sum[i][j]);
        }
    }
    vec by = splat(alpha);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) // as gemm does it, to the sign of a zero
#pragma GCC unroll 3
        for (int j = 0; j < vecs; j++) sum[i][j] = vfmadd(by, sum[i][j], (vec){0});
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int j = 0; j < vecs; j++) *(vec *)(c + i * ldc + LANES * j) = sum[i][j];
}

// Not inlined: inside of other loops gcc keeps the sums on the stack.
static __attribute__((noinline)) void blocks(int rows, int vecs, long k, float alpha, const float *a, long ai, long ak,
                                             const float *b, long ldb, float *c, long ldc) {
#define CASE(r, v)                                              \
    case 8 * v + r:                                             \
        block(r, v, k, alpha, a, ai, ak, b, ldb, c, ldc);       \
        break
    switch (8 * vecs + rows) {
        CASE(1, 1);
        CASE(2, 1);
        CASE(3, 1);
        CASE(4, 1);
        CASE(5, 1);
        CASE(6, 1);
        CASE(1, 2);
        CASE(2, 2);
        CASE(3, 2);
        CASE(4, 2);
        CASE(5, 2);
        CASE(6, 2);
        CASE(1, 3);
        CASE(2, 3);
        CASE(3, 3);
        CASE(4, 3);
    }
#undef CASE
}

// c = alpha*a·b, n a multiple of LANES. Blocks are two registers wide, and three where one would be left alone; rows are cut
// into blocks as equal as can be. A block of few sums waits for its own.
static void small(long m, long n, long k, float alpha, const float *a, long ai, long ak, const float *b, long ldb, float *c,
                  long ldc) {
    for (long j = 0, vecs; j < n; j += vecs * LANES) {
        vecs = n - j == 3 * LANES ? 3 : n - j >= 2 * LANES ? 2 : 1;
        long high = vecs == 3 ? 4 : 6;
        for (long i = 0, left = (m + high - 1) / high, rows; i < m; i += rows, left--) {
            rows = (m - i + left - 1) / left;
            blocks(rows, vecs, k, alpha, a + i * ai, ai, ak, b + j, ldb, c + i * ldc + j, ldc);
        }
    }
}

// Whether a head's products need no packing; either way gives the same bits.
static int is_short(long s, long d) { return FUSED && s <= SHORT && d % LANES == 0 && d <= 256; }

void KERNEL(attention)(long s, long w, long d, int causal, const float *qkv, float *o, float *lse, float *scratch) {
    int packs = !is_short(s, d);
    long ld = packs ? padded(s) : (s + LANES - 1) / LANES * LANES;
    const float *q = qkv, *k = qkv + w, *v = qkv + 2 * w;
    float *p = scratch, *inverse = scratch + s * ld, *t = inverse + padded(s), scale = 1.0f / sqrtf((float)d);
    if (packs) KERNEL(gemm)(0, 1, s, s, d, scale, q, 3 * w, k, 3 * w, NULL, p, ld);
    else {
        transpose(s, d, k, 3 * w, t, ld);
        small(s, ld, d, scale, q, 3 * w, 1, t, ld, p, ld);
    }
    attention_softmax(s, ld, causal, p, lse, inverse);
    if (packs) KERNEL(gemm)(0, 0, s, d, s, 1, p, ld, v, 3 * w, NULL, o, w);
    else small(s, d, s, 1, p, ld, 1, v, 3 * w, o, w);
    scale_rows(s, d, w, inverse, o);
}

void KERNEL(attention_grad)(long s, long w, long d, int causal, const float *qkv, const float *o, const float *lse,
                            const float *go, float *dqkv, float *scratch) {
    int packs = !is_short(s, d);
    long ld = packs ? padded(s) : (s + LANES - 1) / LANES * LANES;
    const float *q = qkv, *k = qkv + w, *v = qkv + 2 * w;
    float *p = scratch, *dp = p + s * ld, *delta = dp + s * ld, *t = delta + padded(s), scale = 1.0f / sqrtf((float)d);
    float *dq = dqkv, *dk = dqkv + w, *dv = dqkv + 2 * w;
    if (packs) KERNEL(gemm)(0, 1, s, s, d, scale, q, 3 * w, k, 3 * w, NULL, p, ld);
    else {
        transpose(s, d, k, 3 * w, t, ld);
        small(s, ld, d, scale, q, 3 * w, 1, t, ld, p, ld);
    }
    attention_exp(s, ld, causal, lse, p);
    if (packs) {
        KERNEL(gemm)(1, 0, s, d, s, 1, p, ld, go, w, NULL, dv, 3 * w); // dv = Pᵀ·do
        KERNEL(gemm)(0, 1, s, s, d, 1, go, w, v, 3 * w, NULL, dp, ld); // dP = do·vᵀ
    } else {
        small(s, d, s, 1, p, 1, ld, go, w, dv, 3 * w);
        transpose(s, d, v, 3 * w, t, ld);
        small(s, ld, d, 1, go, w, 1, t, ld, dp, ld);
    }
    for (long i = 0; i < s; i++) delta[i] = row_dot(d, o + i * w, go + i * w);
    attention_ds(s, ld, scale, p, delta, dp);
    if (packs) {
        KERNEL(gemm)(0, 0, s, d, s, 1, dp, ld, k, 3 * w, NULL, dq, 3 * w); // dq = dS·k
        KERNEL(gemm)(1, 0, s, d, s, 1, dp, ld, q, 3 * w, NULL, dk, 3 * w); // dk = dSᵀ·q
    } else {
        small(s, d, s, 1, dp, ld, 1, k, 3 * w, dq, 3 * w);
        small(s, d, s, 1, dp, 1, ld, q, 3 * w, dk, 3 * w);
    }
}
