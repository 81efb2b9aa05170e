// Optimiser steps in one pass over the parameters and their state.
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math")
#include "ci.h"
#include "vecmath.h"

KERNEL void ci_sgd(long n, float *restrict param, const float *restrict grad, float *restrict v, float lr, float momentum,
                   float decay, int first) {
    if (!v) {
#pragma omp simd
        for (long i = 0; i < n; i++) param[i] -= lr * (grad[i] + decay * param[i]);
    } else if (first) {
#pragma omp simd
        for (long i = 0; i < n; i++) {
            float g = grad[i] + decay * param[i];
            v[i] = g;
            param[i] -= lr * g;
        }
    } else {
#pragma omp simd
        for (long i = 0; i < n; i++) {
            float g = momentum * v[i] + (grad[i] + decay * param[i]);
            v[i] = g;
            param[i] -= lr * g;
        }
    }
}

// step = lr/(1-b1^t), rc2 = 1/(1-b2^t); a1 = 1-b1, a2 = 1-b2 (rounded once);
// shrink = 1 - lr*weight decay for AdamW, decay = weight decay for Adam.
KERNEL void ci_adam(long n, float *restrict param, const float *restrict grad, float *restrict m, float *restrict v,
                    float shrink, float decay, float b1, float a1, float b2, float a2, float step,
                    float rc2, float eps) {
#pragma omp simd
    for (long i = 0; i < n; i++) {
        float p = param[i] * shrink, g = grad[i] + decay * p;
        float mi = b1 * m[i] + a1 * g, vi = b2 * v[i] + a2 * g * g;
        m[i] = mi;
        v[i] = vi;
        param[i] = p - step * mi / (vsqrt(vi * rc2) + eps);
    }
}
