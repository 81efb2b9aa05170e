// Kernels of the CPU engine. All arrays are dense and row-major unless a leading dimension (ld) is given. None of them
// allocates or knows of threads: the caller cuts the work into tiles whose shape depends on the operands alone.
#ifndef CI_H
#define CI_H

// KERNEL compiles a function for several levels of the instruction set; the loader picks one. (arch=haswell and the like
// must not be used: on AMD the resolver then falls back to the slowest.)
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#if __GNUC__ >= 12
#define KERNEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KERNEL __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define KERNEL
#endif
#define INLINE static inline __attribute__((always_inline))

// blas.c
const char *ci_blas_load(int level, char *err, int errlen); // library's own description, NULL and err when missing
const char *ci_blas_core(void);
int ci_simd_level(void); // 4: x86-64-v4 with bf16, 3: v4, 2: v3, 1: anything else
void ci_sgemm(int own, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
              float *c, int ldc);
// A tile of a product: c = alpha*op(a)·op(b) + bias (or NULL).
void ci_gemm_tile(int own, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                  int ldb, const float *bias, float *c, int ldc);
// z = act(c), or where x is given z = act'(x)*c, all with the same leading dimension.
void ci_gemm_then(int act, int m, int n, const float *c, const float *x, float *z, int ldc);

// gemm.c
long ci_gemm_strip(void); // columns of a packed strip
long ci_gemm_rows(void);  // rows that are best a divisor of m below
// Strips [from, to) of op(b) [k,n]; all of them take strip * k numbers each.
void ci_gemm_pack(long strip, int tb, long from, long to, long n, long k, const float *b, long ldb, float *packed);
// c = alpha*a·b + bias (or NULL), b packed from its first strip on.
void ci_gemm_packed(long m, long n, long k, float alpha, const float *a, long lda, const float *packed,
                    const float *bias, float *c, long ldc);
void ci_sgemm_own(int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
                  const float *bias, float *c, int ldc);

// elementwise.c
enum { CI_NONE, CI_AFFINE, CI_CLAMP, CI_QUICKGELU, CI_GELU, CI_RELU, CI_TANH, CI_SIGMOID, CI_EXP, CI_LOG, CI_ABS, CI_SIGN,
       CI_SQUARE, CI_SQRT, CI_RECIPROCAL };
enum { CI_COPY, CI_ADD, CI_SUB, CI_MUL, CI_DIV, CI_MAXIMUM, CI_MINIMUM, CI_EQUAL, CI_GREATER_EQUAL };
enum { CI_DIMS = 8 };
typedef struct { // a loop nest: sizes and strides of two operands; the output is dense. The last dimension is innermost.
    int dims;
    long n[CI_DIMS], a[CI_DIMS], b[CI_DIMS];
} ci_nest;
void ci_unary(int f, long n, const float *x, float *y, float p, float q);
void ci_unary_grad(int f, long n, const float *x, const float *dy, float *dx, float p, float q);
// Rows [from, to) of the nest's outer dimensions, columns [lo, hi) of its innermost.
void ci_binary(int f, const ci_nest *g, long from, long to, long lo, long hi, const float *a, const float *b, float *y);

// reduce.c
// y[c] = alpha * sum of x over a nest of offsets (g->a), c in [0, n): columns lie side by side.
void ci_sum_columns(const ci_nest *g, long n, const float *x, float alpha, float *y);
// The sum of x over a nest (g->a) whose innermost dimension has stride 1; rows [from, to) of its outer dimensions.
double ci_sum_all(const ci_nest *g, long from, long to, long lo, long hi, const float *x);
void ci_scatter_add(long n, long w, long vocab, const float *index, const float *x, float *y, long lo, long hi);

// norm.c
void ci_layernorm(long rows, long w, const float *x, const float *residual, const float *gamma, const float *beta,
                  float eps, float *y, float *stats, float *h);
void ci_layernorm_grad(long rows, long w, const float *h, const float *gamma, const float *stats, const float *dy,
                       const float *dh, float *dx);
void ci_layernorm_param_grad(long rows, long w, long lo, long hi, const float *h, const float *stats, const float *dy,
                             float *dgamma, float *dbeta);
void ci_normalize(long rows, long w, const float *x, float *y, float *norm);
void ci_normalize_grad(long rows, long w, const float *y, const float *norm, const float *dy, float *dx);

// softmax.c
void ci_softmax(long rows, long w, const float *x, float *y);
void ci_softmax_grad(long rows, long w, const float *y, const float *dy, float *dx);
void ci_cross_entropy(long rows, long w, const float *x, const float *label, float *loss);
void ci_cross_entropy_grad(long rows, long w, const float *x, const float *label, const float *dloss, float *dx);
void ci_attention_softmax(long s, long ld, int causal, float *p, float *lse, float *inverse);
void ci_attention_exp(long s, long ld, int causal, const float *lse, float *p);
void ci_attention_ds(long s, long ld, float scale, const float *p, const float *delta, float *dp);
void ci_attention_delta(long s, long d, long w, const float *o, const float *go, float *delta);
void ci_scale_rows(long s, long d, long ld, const float *factor, float *x);

// attention.c
long ci_attention_scratch(long s); // numbers of scratch that one call needs
void ci_attention(int own, long s, long w, long d, int causal, const float *qkv, float *o, float *lse, float *scratch);
void ci_attention_grad(int own, long s, long w, long d, int causal, const float *qkv, const float *o, const float *lse,
                       const float *go, float *dqkv, float *scratch);

// image.c
void ci_grid_sample(long c, long h, long w, long points, long from, long to, const float *x, const float *grid, float *y);
void ci_grid_sample_dx(long h, long w, long points, const float *grid, const float *dy, float *dx);
void ci_grid_sample_dgrid(long images, long c, long h, long w, long points, long from, long to, const float *x,
                          const float *grid, const float *dy, float *dgrid);
long ci_crop_scratch(long h, long w, long m, long n); // numbers of scratch that one call needs
// A box of all c planes of one image, scaled to m x n pixels.
void ci_crop(long c, long h, long w, long m, long n, const float *x, const float *box, float *y, float *scratch);
void ci_permute(const ci_nest *g, long from, long to, const float *x, float *y);

// optim.c
void ci_sgd(long n, float *param, const float *grad, float *v, float lr, float momentum, float decay, int first);
void ci_adam(long n, float *param, const float *grad, float *m, float *v, float shrink, float decay, float b1, float a1,
             float b2, float a2, float step, float rc2, float eps);
#endif
