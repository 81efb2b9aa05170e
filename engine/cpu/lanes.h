// What decides a sum's bits: fmadd, and the 16 lanes that a row's sum runs in.

#if defined(__FMA__) || defined(__FP_FAST_FMAF)
enum { FUSED = 1 }; // the processor multiplies and adds in one instruction
#else
enum { FUSED = 0 };
#endif

// a*b + c, rounded once.
INLINE float fmadd(float a, float b, float c) {
#if defined(__FMA__) || defined(__FP_FAST_FMAF)
    return __builtin_fmaf(a, b, c);
#else
    // The product is exact in double. Its sum with c is rounded to odd (S. Boldo, G. Melquiond, IEEE Trans. Comp. 2008): where
    // it is not exact, to the neighbour whose last bit is set, so that rounding it again to float rounds as if it were exact.
    double p = (double)a * b, s = p + c, t = s - p, e = (p - (s - t)) + (c - t);
    int64_t i;
    memcpy(&i, &s, 8);
    int64_t up = (int64_t)((e > 0) == (s > 0)) * 2 - 1; // away from zero or towards it
    i += (e > 0 || e < 0) && !(i & 1) ? up : 0;
    memcpy(&s, &i, 8);
    return (float)s;
#endif
}

// A vector register.
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#if defined(__FMA__)
#include <immintrin.h>
#endif
INLINE vec vfmadd(vec a, vec b, vec c) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    vec r;
    for (int l = 0; l < LANES; l++) r[l] = fmadd(a[l], b[l], c[l]);
    return r;
#endif
}

INLINE vec splat(float x) { return x - (vec){0}; }

// EACH16 runs statements for the numbers i of a row of n, which may add to lane l of arrays of 16.
#define EACH16(n, ...)                                                          \
    do {                                                                        \
        long i16 = 0;                                                           \
        for (; i16 + 16 <= (n); i16 += 16)                                      \
            _Pragma("omp simd") for (int l = 0; l < 16; l++) {                  \
                long i = i16 + l;                                               \
                __VA_ARGS__                                                     \
            }                                                                   \
        int l16 = 0;                                                            \
        if ((n) - i16 >= 8)                                                     \
            _Pragma("omp simd") for (l16 = 0; l16 < 8; l16++) {                 \
                int l = l16;                                                    \
                long i = i16 + l;                                               \
                __VA_ARGS__                                                     \
            }                                                                   \
        for (int l = l16; l < (n) - i16; l++) {                                 \
            long i = i16 + l;                                                   \
            __VA_ARGS__                                                         \
        }                                                                       \
    } while (0)

typedef float vec4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t pick4 __attribute__((vector_size(16)));

INLINE float fold16(const float *s) {
    const vec4 *v = (const vec4 *)s;
    vec4 u = (v[0] + v[2]) + (v[1] + v[3]);
    u += __builtin_shuffle(u, (pick4){2, 3, 0, 1});
    return u[0] + u[1];
}

INLINE float row_sum(long n, const float *restrict x) {
    float s[16] = {0};
    EACH16(n, s[l] += x[i];);
    return fold16(s);
}

INLINE float row_dot(long n, const float *restrict x, const float *restrict y) {
    float s[16] = {0};
    EACH16(n, s[l] = fmadd(x[i], y[i], s[l]););
    return fold16(s);
}

INLINE float row_max(long n, const float *restrict x) {
    float m[16];
    for (int l = 0; l < 16; l++) m[l] = -INFINITY;
    EACH16(n, m[l] = x[i] > m[l] ? x[i] : m[l];);
    for (int l = 0; l < 8; l++) m[l] = m[l + 8] > m[l] ? m[l + 8] : m[l];
    for (int l = 0; l < 4; l++) m[l] = m[l + 4] > m[l] ? m[l + 4] : m[l];
    for (int l = 0; l < 2; l++) m[l] = m[l + 2] > m[l] ? m[l + 2] : m[l];
    return m[1] > m[0] ? m[1] : m[0];
}
