// Elementwise functions and their derivatives, broadcasting functions of two arguments, conversions.
//
// Bound by memory: a thread takes four neighbours with one load each, and the function is chosen by a branch that the
// whole grid takes alike.
#include "device.cuh"

// The numbering is that of engine.Func.
enum { AFFINE, CLAMP, QUICK_GELU, GELU, RELU, TANH, SIGMOID, EXP, LOG, ABS, SIGN, SQUARE, SQRT, RECIPROCAL,
       ADD, SUB, MUL, DIV, MAXIMUM, MINIMUM, EQUAL, GREATER_EQUAL };

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// phi is the standard normal distribution's cumulative distribution function.
__device__ inline float phi(float x) { return 0.5f * erfcf(-0.70710678118654752f * x); }

__device__ inline float sign_of(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f; }

// p and q are Alpha and Beta of AFFINE, Lo and Hi of CLAMP.
__device__ inline float function(int f, float x, float p, float q) {
    switch (f) {
    case AFFINE: return p * x + q;
    case CLAMP: return x < p ? p : x > q ? q : x;
    case QUICK_GELU: return x * sigmoid(1.702f * x);
    case GELU: return x * phi(x);
    case RELU: return x < 0 ? 0.0f : x;
    case TANH: return tanhf(x);
    case SIGMOID: return sigmoid(x);
    case EXP: return expf(x);
    case LOG: return logf(x);
    case ABS: return fabsf(x);
    case SIGN: return sign_of(x);
    case SQUARE: return x * x;
    case SQRT: return sqrtf(x);
    default: return 1.0f / x;
    }
}

__device__ inline float derivative(int f, float x, float p, float q) {
    float s;
    switch (f) {
    case AFFINE: return p;
    case CLAMP: return x < p || x > q ? 0.0f : 1.0f;
    case QUICK_GELU: s = sigmoid(1.702f * x); return s + 1.702f * x * s * (1.0f - s);
    case GELU: return phi(x) + x * expf(-0.5f * x * x) * 0.39894228040143268f;
    case RELU: return x > 0 ? 1.0f : 0.0f;
    case TANH: s = tanhf(x); return 1.0f - s * s;
    case SIGMOID: s = sigmoid(x); return s * (1.0f - s);
    case EXP: return expf(x);
    case LOG: return 1.0f / x;
    case ABS: return sign_of(x);
    case SIGN: return 0.0f;
    case SQUARE: return 2.0f * x;
    case SQRT: return 0.5f / sqrtf(x);
    default: return -1.0f / (x * x);
    }
}

__device__ inline float function2(int f, float a, float b) {
    switch (f) {
    case ADD: return a + b;
    case SUB: return a - b;
    case MUL: return a * b;
    case DIV: return a / b;
    case MAXIMUM: return a != a || a > b ? a : b;
    case MINIMUM: return a != a || a < b ? a : b;
    case EQUAL: return a == b ? 1.0f : 0.0f;
    default: return a >= b ? 1.0f : 0.0f;
    }
}

// y = f(x). half: x, y.
KERNEL(256, unary)(const void *x, void *y, i64 n, i64 f, double p, double q, i64 half) {
    i64 i = 4 * ((i64)blockIdx.x * 256 + threadIdx.x);
    bool hx = half & 1, hy = half & 2;
    if (i + 4 <= n) {
        float4s v = load4(x, i, hx);
        for (int k = 0; k < 4; k++) v.v[k] = function((int)f, v.v[k], (float)p, (float)q);
        store4(y, i, v, hy);
        return;
    }
    for (; i < n; i++) store(y, i, function((int)f, load(x, i, hx), (float)p, (float)q), hy);
}

// dx = f'(x)*dy. half: x, dy, dx.
KERNEL(256, unary_grad)(const void *x, const void *dy, void *dx, i64 n, i64 f, double p, double q, i64 half) {
    i64 i = 4 * ((i64)blockIdx.x * 256 + threadIdx.x);
    bool hx = half & 1, hd = half & 2, ho = half & 4;
    if (i + 4 <= n) {
        float4s v = load4(x, i, hx), d = load4(dy, i, hd);
        for (int k = 0; k < 4; k++) v.v[k] = derivative((int)f, v.v[k], (float)p, (float)q) * d.v[k];
        store4(dx, i, v, ho);
        return;
    }
    for (; i < n; i++) store(dx, i, derivative((int)f, load(x, i, hx), (float)p, (float)q) * load(dy, i, hd), ho);
}

// cast copies n numbers between storage types. half: x, y.
KERNEL(256, cast)(const void *x, void *y, i64 n, i64 half) {
    i64 i = 4 * ((i64)blockIdx.x * 256 + threadIdx.x);
    if (i + 4 <= n) {
        store4(y, i, load4(x, i, half & 1), half & 2);
        return;
    }
    for (; i < n; i++) store(y, i, load(x, i, half & 1), half & 2);
}

// y = f(a, b) with broadcasting. shape holds rank dimensions, then a's strides, then b's; 0 where repeated. A thread takes
// v neighbours along the last dimension, 4 where that divides it and where both operands lie there at multiples of 4 with
// stride 1 or 0, else 1.
KERNEL(256, binary)(const float *a, const float *b, float *y, i64 n, i64 f, const i64 *shape, i64 rank, i64 v) {
    i64 i = v * ((i64)blockIdx.x * 256 + threadIdx.x);
    if (i >= n) return;
    u32 rest = (u32)i, last = (u32)rank - 1;
    i64 ia = 0, ib = 0;
    for (int k = (int)last; k >= 0; k--) {
        u32 d = (u32)shape[k], at = rest % d;
        rest /= d;
        ia += at * shape[rank + k];
        ib += at * shape[2 * rank + k];
    }
    if (v == 1) {
        y[i] = function2((int)f, a[ia], b[ib]);
        return;
    }
    float4s p, q;
    if (shape[rank + last]) p = load4(a, ia, false);
    else p.v[0] = p.v[1] = p.v[2] = p.v[3] = a[ia];
    if (shape[2 * rank + last]) q = load4(b, ib, false);
    else q.v[0] = q.v[1] = q.v[2] = q.v[3] = b[ib];
    for (int k = 0; k < 4; k++) p.v[k] = function2((int)f, p.v[k], q.v[k]);
    store4(y, i, p, false);
}
