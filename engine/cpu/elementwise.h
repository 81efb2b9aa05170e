// Element-by-element functions and their derivatives, and functions of two broadcast operands.
//
// The trick: one loop a function, free of branches, which gcc vectorises for each level of the instruction set; the
// function is chosen outside of the loop. Broadcasting is a nest of loops whose compatible dimensions were merged
// beforehand, so that the innermost loop is long and runs over contiguous or constant operands.

#define EACH(expr)                   \
    _Pragma("omp simd") for (long i = 0; i < n; i++) { \
        float v = x[i];              \
        y[i] = (expr);               \
    }                                \
    break

void KERNEL(unary)(int f, long n, const float *restrict x, float *restrict y, float p, float q) {
    switch (f) {
    case CI_AFFINE: EACH(fmadd(v, p, q));
    case CI_CLAMP: EACH((v < p ? p : v) > q ? q : (v < p ? p : v));
    case CI_QUICKGELU: EACH(v / (1.0f + vexp(-1.702f * v)));
    case CI_GELU: EACH(0.5f * v * (1.0f + verf(v * 0.707106781f)));
    case CI_RELU: EACH(v < 0 ? 0 : v);
    case CI_TANH: EACH(vtanh(v));
    case CI_SIGMOID: EACH(vsigmoid(v));
    case CI_EXP: EACH(vexp(v));
    case CI_LOG: EACH(vlog(v));
    case CI_ABS: EACH(fabsf(v));
    case CI_SIGN: EACH(v > 0 ? 1.0f : (v < 0 ? -1.0f : 0.0f));
    case CI_SQUARE: EACH(v * v);
    case CI_SQRT: EACH(sqrtf(v));
    case CI_RECIPROCAL: EACH(1.0f / v);
    }
}

INLINE float quickgelu_slope(float v) {
    float s = vsigmoid(1.702f * v);
    return fmadd(1.702f * v * s, 1.0f - s, s);
}

INLINE float gelu_slope(float v) {
    return fmadd(v * 0.398942280f, vexp(-0.5f * v * v), 0.5f * (1.0f + verf(v * 0.707106781f)));
}

INLINE float tanh_slope(float v) {
    float t = vtanh(v);
    return fmadd(-t, t, 1.0f);
}

INLINE float sigmoid_slope(float v) {
    float s = vsigmoid(v);
    return s * (1.0f - s);
}

#undef EACH
#define EACH(expr)                   \
    _Pragma("omp simd") for (long i = 0; i < n; i++) { \
        float v = x[i], g = dy[i];   \
        (void)v;                     \
        dx[i] = (expr);              \
    }                                \
    break

void KERNEL(unary_grad)(int f, long n, const float *restrict x, const float *restrict dy, float *restrict dx, float p,
                          float q) {
    switch (f) {
    case CI_AFFINE: EACH(g * p);
    case CI_CLAMP: EACH((v < p || v > q) ? 0.0f : g);
    case CI_QUICKGELU: EACH(g * quickgelu_slope(v));
    case CI_GELU: EACH(g * gelu_slope(v));
    case CI_RELU: EACH(v > 0 ? g : 0.0f);
    case CI_TANH: EACH(g * tanh_slope(v));
    case CI_SIGMOID: EACH(g * sigmoid_slope(v));
    case CI_EXP: EACH(g * vexp(v));
    case CI_LOG: EACH(g / v);
    case CI_ABS: EACH(v > 0 ? g : (v < 0 ? -g : 0.0f));
    case CI_SIGN: EACH(0 * g);
    case CI_SQUARE: EACH(2.0f * v * g);
    case CI_SQRT: EACH(0.5f * g / sqrtf(v));
    case CI_RECIPROCAL: EACH(-g / (v * v));
    }
}

#undef EACH

// The innermost loop for each combination of strides 1 and 0, and for any others.
#define INNER(expr)                                                                                              \
    if (sa == 1 && sb == 1) {                                                                                    \
        _Pragma("omp simd") for (long i = 0; i < n; i++) { float u = pa[i], v = pb[i]; (void)v; py[i] = (expr); }         \
    } else if (sa == 1 && sb == 0) {                                                                             \
        float v = pb[0]; (void)v;                                                                                      \
        _Pragma("omp simd") for (long i = 0; i < n; i++) { float u = pa[i]; py[i] = (expr); }                    \
    } else if (sa == 0 && sb == 1) {                                                                             \
        float u = pa[0];                                                                                         \
        _Pragma("omp simd") for (long i = 0; i < n; i++) { float v = pb[i]; (void)v; py[i] = (expr); }                    \
    } else {                                                                                                     \
        for (long i = 0; i < n; i++) { float u = pa[i * sa], v = pb[i * sb]; (void)v; py[i] = (expr); }                   \
    }                                                                                                            \
    break

void KERNEL(binary)(int f, const ci_nest *g, long from, long to, long lo, long hi, const float *restrict a,
                      const float *restrict b, float *restrict y) {
    int last = g->dims - 1;
    long n = hi - lo, sa = g->a[last], sb = g->b[last];
    for (long row = from; row < to; row++) {
        long oa = lo * sa, ob = lo * sb, rest = row;
        for (int k = last - 1; k >= 0; k--) {
            long at = rest % g->n[k];
            rest /= g->n[k];
            oa += at * g->a[k];
            ob += at * g->b[k];
        }
        const float *restrict pa = a + oa, *restrict pb = b + ob;
        float *restrict py = y + row * g->n[last] + lo;
        switch (f) {
        case CI_COPY: INNER(u);
        case CI_ADD: INNER(u + v);
        case CI_SUB: INNER(u - v);
        case CI_MUL: INNER(u * v);
        case CI_DIV: INNER(u / v);
        case CI_MAXIMUM: INNER(u > v ? u : v);
        case CI_MINIMUM: INNER(u < v ? u : v);
        case CI_EQUAL: INNER(u == v ? 1.0f : 0.0f);
        case CI_GREATER_EQUAL: INNER(u >= v ? 1.0f : 0.0f);
        }
    }
}
