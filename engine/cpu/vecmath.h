// Functions of one number written so that gcc turns a loop over them into vector code: no branches, no calls, polynomials
// after range reduction. Relative error about 1e-7.

INLINE float bits_float(int32_t i) {
    float f;
    memcpy(&f, &i, 4);
    return f;
}

INLINE int32_t float_bits(float f) {
    int32_t i;
    memcpy(&i, &f, 4);
    return i;
}

// exp(x) = 2^n * exp(r), |r| <= log(2)/2. The power is applied in two halves, so that neither overflows where the result
// does not. Above 90 it is n that is bounded, by the order of floats as integers: one instruction. There r is large, and the
// result infinite anyway.
INLINE float vexp(float x) {
    x = x < -105.0f ? -105.0f : x;
    int32_t most = 0x42b40000, above = float_bits(x); // 90
    float n = fmadd(bits_float(above < most ? above : most), 1.44269504f, 12582912.0f); // 1.5*2^23: rounds in the low bits
    n -= 12582912.0f;
    float r = fmadd(n, -0.693145752f, x);
    r = fmadd(n, -1.42860677e-6f, r);
    float p = 1.37805939e-3f;
    p = fmadd(p, r, 8.37312452e-3f);
    p = fmadd(p, r, 4.16695364e-2f);
    p = fmadd(p, r, 1.66664720e-1f);
    p = fmadd(p, r, 4.99999851e-1f);
    p = fmadd(p, r, 1.0f);
    p = fmadd(p, r, 1.0f);
    int32_t i = (int32_t)n, half = i >> 1;
    return p * bits_float((half + 127) << 23) * bits_float((i - half + 127) << 23);
}

// log(x) = e*log(2) + log(m), m in [sqrt(1/2), sqrt(2)), by the series of log(m) = 2 atanh((m-1)/(m+1)).
INLINE float vlog(float x) {
    int tiny = x < 1.17549435e-38f;
    float y = tiny ? x * 8388608.0f : x;
    int32_t i = float_bits(y) - 0x3f3504f3;
    float e = (float)((i >> 23) - (tiny ? 23 : 0)), m = bits_float((i & 0x7fffff) + 0x3f3504f3);
    float f = m - 1.0f, s = f / (m + 1.0f), q = s * s;
    float p = fmadd(q, 2.0f / 9, 2.0f / 7);
    p = fmadd(p, q, 2.0f / 5);
    p = fmadd(p, q, 2.0f / 3);
    // 2s = f - s*f: f is exact.
    float r = fmadd(s, fmadd(p, q, -f), f);
    r = fmadd(e, 0.693145752f, fmadd(e, 1.42860677e-6f, r));
    r = x > 3.40282347e38f ? x : r;
    r = x == 0.0f ? -INFINITY : r;
    return x >= 0.0f ? r : NAN;
}

// sqrt(x) for x >= 0, without the library's function, whose error reporting keeps gcc from vectorising it: Newton's steps
// for 1/sqrt(x) from a guess of its bits, and a last one for the root itself.
INLINE float vsqrt(float x) {
    float y = bits_float(0x5f3759df - (float_bits(x) >> 1));
    y = y * fmadd(-0.5f * x * y, y, 1.5f);
    y = y * fmadd(-0.5f * x * y, y, 1.5f);
    float s = x * y;
    return fmadd(0.5f * y, fmadd(-s, s, x), s);
}

INLINE float vsigmoid(float x) { return 1.0f / (1.0f + vexp(-x)); }

INLINE float vtanh(float x) {
    float t = fabsf(x), s = x * x;
    float e = vexp(-2.0f * t);
    float big = (1.0f - e) / (1.0f + e);
    float p = -5.70498872745e-3f;
    p = fmadd(p, s, 2.06390887954e-2f);
    p = fmadd(p, s, -5.37397155531e-2f);
    p = fmadd(p, s, 1.33314422036e-1f);
    p = fmadd(p, s, -3.33332819422e-1f);
    float small = fmadd(t * s, p, t);
    float r = t < 0.625f ? small : big;
    return copysignf(r, x);
}

// verf is N. Juffa's: a polynomial near zero, 1 - exp(polynomial) away from it.
INLINE float verf(float x) {
    float t = fabsf(x), s = x * x;
    float r = fmadd(-1.72853470e-5f, t, 3.83197126e-4f);
    float u = fmadd(-3.88396438e-3f, t, 2.42546219e-2f);
    r = fmadd(r, s, u);
    r = fmadd(r, t, -1.06777877e-1f);
    r = fmadd(r, t, -6.34846687e-1f);
    r = fmadd(r, t, -1.28717512e-1f);
    r = fmadd(r, t, -t);
    float big = copysignf(1.0f - vexp(r), x);
    float q = -5.96761703e-4f;
    q = fmadd(q, s, 4.99119423e-3f);
    q = fmadd(q, s, -2.67681349e-2f);
    q = fmadd(q, s, 1.12819925e-1f);
    q = fmadd(q, s, -3.76125336e-1f);
    q = fmadd(q, s, 1.28379166e-1f);
    float small = fmadd(q, x, x);
    return t > 0.927734375f ? big : small;
}
