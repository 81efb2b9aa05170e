// Kernels of the CPU engine. All arrays are dense and row-major unless a leading dimension (ld) is given. None of them
// allocates (but gemm, a thread's scratch) or knows of threads: the caller cuts the work into tiles whose shape depends on
// the operands alone.
#ifndef CI_H
#define CI_H

// A kernel is compiled for three levels of x86-64's instruction set, and called with the level as its first argument; see
// kernels.h. Elsewhere there is one level, 2, which is what the compiler was told of the processor.
#define CI_LIST(...) __VA_ARGS__
#ifdef __x86_64__
#define CI_KERNEL(type, name, params, args)                                                           \
    type ci_##name##_v2 params;                                                                       \
    type ci_##name##_v3 params;                                                                       \
    type ci_##name##_v4 params;                                                                       \
    static inline type ci_##name(int simd, CI_LIST params) {                                          \
        return simd == 4 ? ci_##name##_v4 args : simd == 3 ? ci_##name##_v3 args : ci_##name##_v2 args; \
    }
static inline int ci_simd_best(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2")) return 2;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd")
               ? 4
               : 3;
}
#else
#define CI_KERNEL(type, name, params, args) \
    type ci_##name##_v2 params;             \
    static inline type ci_##name(int simd, CI_LIST params) { return ci_##name##_v2 args; }
static inline int ci_simd_best(void) { return 2; }
#endif
// 1 where level 2 has no FMA and does without it, slowly.
static inline int ci_fma_emulated(void) {
#if defined(__FMA__) || defined(__FP_FAST_FMAF)
    return 0;
#else
    return 1;
#endif
}

// gemm.h
enum { CI_STRIP_v2 = 8, CI_STRIP_v3 = 16, CI_STRIP_v4 = 48 }; // columns of a packed strip
enum { CI_ROWS_v2 = 4, CI_ROWS_v3 = 6, CI_ROWS_v4 = 8 };      // rows that are best a divisor of m below
// Strips [from, to) of op(b) [k,n]; all of them take strip * k numbers each.
CI_KERNEL(void, gemm_pack, (int tb, long from, long to, long n, long k, const float *b, long ldb, float *packed),
          (tb, from, to, n, k, b, ldb, packed))
// c = alpha*a·b + bias (or NULL), b packed from its first strip on.
CI_KERNEL(void, gemm_packed,
          (long m, long n, long k, float alpha, const float *a, long lda, const float *packed, const float *bias, float *c, long ldc),
          (m, n, k, alpha, a, lda, packed, bias, c, ldc))
// c = alpha*op(a)·op(b) + bias (or NULL).
CI_KERNEL(void, gemm,
          (int ta, int tb, long m, long n, long k, float alpha, const float *a, long lda, const float *b, long ldb,
           const float *bias, float *c, long ldc),
          (ta, tb, m, n, k, alpha, a, lda, b, ldb, bias, c, ldc))
// The limit of all products: n rounds of as many fmadd as registers hold sums; returns the operations.
CI_KERNEL(double, fma_loop, (long n, float *sink), (n, sink))
// z = act(c), or where x is given z = act'(x)*c, all with the same leading dimension.
CI_KERNEL(void, gemm_then, (int act, long m, long n, const float *c, const float *x, float *z, long ldc),
          (act, m, n, c, x, z, ldc))

// elementwise.h
enum { CI_NONE, CI_AFFINE, CI_CLAMP, CI_QUICKGELU, CI_GELU, CI_RELU, CI_TANH, CI_SIGMOID, CI_EXP, CI_LOG, CI_ABS, CI_SIGN,
       CI_SQUARE, CI_SQRT, CI_RECIPROCAL };
enum { CI_COPY, CI_ADD, CI_SUB, CI_MUL, CI_DIV, CI_MAXIMUM, CI_MINIMUM, CI_EQUAL, CI_GREATER_EQUAL };
enum { CI_DIMS = 8 };
typedef struct { // a loop nest: sizes and strides of two operands; the output is dense. The last dimension is innermost.
    int dims;
    long n[CI_DIMS], a[CI_DIMS], b[CI_DIMS];
} ci_nest;
CI_KERNEL(void, unary, (int f, long n, const float *x, float *y, float p, float q), (f, n, x, y, p, q))
CI_KERNEL(void, unary_grad, (int f, long n, const float *x, const float *dy, float *dx, float p, float q),
          (f, n, x, dy, dx, p, q))
// Rows [from, to) of the nest's outer dimensions, columns [lo, hi) of its innermost.
CI_KERNEL(void, binary,
          (int f, const ci_nest *g, long from, long to, long lo, long hi, const float *a, const float *b, float *y),
          (f, g, from, to, lo, hi, a, b, y))

// reduce.h
// y[c] = alpha * sum of x over a nest of offsets (g->a), c in [0, n): columns lie side by side.
CI_KERNEL(void, sum_columns, (const ci_nest *g, long n, const float *x, double alpha, float *y), (g, n, x, alpha, y))
// The sum of x over a nest (g->a) whose innermost dimension has stride 1; rows [from, to) of its outer dimensions.
CI_KERNEL(double, sum_all, (const ci_nest *g, long from, long to, long lo, long hi, const float *x),
          (g, from, to, lo, hi, x))
CI_KERNEL(void, scatter_add,
          (long n, long w, long vocab, const float *index, const float *x, float *y, long lo, long hi),
          (n, w, vocab, index, x, y, lo, hi))

// norm.h
CI_KERNEL(void, layernorm,
          (long rows, long w, const float *x, const float *residual, const float *gamma, const float *beta, float eps, float *y,
           float *stats, float *h),
          (rows, w, x, residual, gamma, beta, eps, y, stats, h))
CI_KERNEL(void, layernorm_grad,
          (long rows, long w, const float *h, const float *gamma, const float *stats, const float *dy, const float *dh, float *dx),
          (rows, w, h, gamma, stats, dy, dh, dx))
CI_KERNEL(void, layernorm_param_grad,
          (long rows, long w, long lo, long hi, const float *h, const float *stats, const float *dy, float *dgamma, float *dbeta),
          (rows, w, lo, hi, h, stats, dy, dgamma, dbeta))
CI_KERNEL(void, normalize, (long rows, long w, const float *x, float *y, float *norm), (rows, w, x, y, norm))
CI_KERNEL(void, normalize_grad, (long rows, long w, const float *y, const float *norm, const float *dy, float *dx),
          (rows, w, y, norm, dy, dx))

// softmax.h
CI_KERNEL(void, softmax, (long rows, long w, const float *x, float *y), (rows, w, x, y))
CI_KERNEL(void, softmax_grad, (long rows, long w, const float *y, const float *dy, float *dx), (rows, w, y, dy, dx))
CI_KERNEL(void, cross_entropy, (long rows, long w, const float *x, const float *label, float *loss),
          (rows, w, x, label, loss))
CI_KERNEL(void, cross_entropy_grad,
          (long rows, long w, const float *x, const float *label, const float *dloss, float *dx),
          (rows, w, x, label, dloss, dx))

// attention.h
CI_KERNEL(long, attention_scratch, (long s), (s)) // numbers of scratch that one call needs
CI_KERNEL(void, attention, (long s, long w, long d, int causal, const float *qkv, float *o, float *lse, float *scratch),
          (s, w, d, causal, qkv, o, lse, scratch))
CI_KERNEL(void, attention_grad,
          (long s, long w, long d, int causal, const float *qkv, const float *o, const float *lse, const float *go, float *dqkv,
           float *scratch),
          (s, w, d, causal, qkv, o, lse, go, dqkv, scratch))

// image.h
CI_KERNEL(void, grid_sample,
          (long c, long h, long w, long points, long from, long to, const float *x, const float *grid, float *y),
          (c, h, w, points, from, to, x, grid, y))
CI_KERNEL(void, grid_sample_dx, (long h, long w, long points, const float *grid, const float *dy, float *dx),
          (h, w, points, grid, dy, dx))
CI_KERNEL(void, grid_sample_dgrid,
          (long images, long c, long h, long w, long points, long from, long to, const float *x, const float *grid,
           const float *dy, float *dgrid),
          (images, c, h, w, points, from, to, x, grid, dy, dgrid))
CI_KERNEL(long, crop_scratch, (long h, long w, long m, long n), (h, w, m, n)) // numbers of scratch that one call needs
// A box of all c planes of one image, scaled to m x n pixels.
CI_KERNEL(void, crop,
          (long c, long h, long w, long m, long n, const float *x, const float *box, float *y, float *scratch),
          (c, h, w, m, n, x, box, y, scratch))
CI_KERNEL(void, permute, (const ci_nest *g, long from, long to, const float *x, float *y), (g, from, to, x, y))

// optim.h
CI_KERNEL(void, sgd,
          (long n, float *param, const float *grad, float *v, float lr, float momentum, float decay, int first),
          (n, param, grad, v, lr, momentum, decay, first))
CI_KERNEL(void, adam,
          (long n, float *param, const float *grad, float *m, float *v, float shrink, float decay, float b1, float a1, float b2,
           float a2, float step, float rc2, float eps),
          (n, param, grad, m, v, shrink, decay, b1, a1, b2, a2, step, rc2, eps))
#endif
