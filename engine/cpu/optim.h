// Optimiser steps in one pass over the parameters and their state.

void KERNEL(sgd)(long n, float *restrict param, const float *restrict grad, float *restrict v, float lr, float momentum,
                   float decay, int first) {
    if (!v) {
#pragma omp simd
        for (long i = 0; i < n; i++) param[i] = fmadd(-lr, fmadd(decay, param[i], grad[i]), param[i]);
    } else if (first) {
#pragma omp simd
        for (long i = 0; i < n; i++) {
            float g = fmadd(decay, param[i], grad[i]);
            v[i] = g;
            param[i] = fmadd(-lr, g, param[i]);
        }
    } else {
#pragma omp simd
        for (long i = 0; i < n; i++) {
            float g = fmadd(momentum, v[i], fmadd(decay, param[i], grad[i]));
            v[i] = g;
            param[i] = fmadd(-lr, g, param[i]);
        }
    }
}

// step = lr/(1-b1^t), rc2 = 1/(1-b2^t); a1 = 1-b1, a2 = 1-b2 (rounded once);
// shrink = 1 - lr*weight decay for AdamW, decay = weight decay for Adam.
void KERNEL(adam)(long n, float *restrict param, const float *restrict grad, float *restrict m, float *restrict v,
                    float shrink, float decay, float b1, float a1, float b2, float a2, float step,
                    float rc2, float eps) {
#pragma omp simd
    for (long i = 0; i < n; i++) {
        float p = param[i] * shrink, g = fmadd(decay, p, grad[i]);
        float mi = fmadd(b1, m[i], a1 * g), vi = fmadd(b2, v[i], a2 * g * g);
        m[i] = mi;
        v[i] = vi;
        param[i] = p - step * mi / (vsqrt(vi * rc2) + eps);
    }
}
