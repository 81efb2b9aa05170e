// Softmax, cross-entropy and the margin loss, with their gradients. A warp takes a row; the largest element is subtracted
// before the exponential.
#include "device.cuh"

#define ROW()                                                \
    i64 r = (i64)blockIdx.x * 8 + threadIdx.x / 32;          \
    int lane = threadIdx.x % 32;                             \
    if (r >= rows) return;                                   \
    x += r * w

// log_sum_exp returns the row's largest element and the logarithm of sum(exp(x - peak)).
__device__ inline float log_sum_exp(const float *x, i64 w, int lane, float *peak) {
    float m = -INFINITY, sum = 0;
    for (i64 i = lane; i < w; i += 32) m = fmaxf(m, x[i]);
    m = warp_max(m);
    for (i64 i = lane; i < w; i += 32) sum += expf(x[i] - m);
    *peak = m;
    return logf(warp_sum(sum));
}

KERNEL(256, softmax)(const float *x, float *y, i64 rows, i64 w) {
    ROW();
    float m = -INFINITY, sum = 0;
    for (i64 i = lane; i < w; i += 32) m = fmaxf(m, x[i]);
    m = warp_max(m);
    for (i64 i = lane; i < w; i += 32) sum += expf(x[i] - m);
    sum = warp_sum(sum);
    for (i64 i = lane; i < w; i += 32) y[r * w + i] = expf(x[i] - m) / sum;
}

// dx = y*(dy - sum(y*dy)); x is y here.
KERNEL(256, softmax_grad)(const float *x, const float *dy, float *dx, i64 rows, i64 w) {
    ROW();
    float sum = 0;
    for (i64 i = lane; i < w; i += 32) sum += x[i] * dy[r * w + i];
    sum = warp_sum(sum);
    for (i64 i = lane; i < w; i += 32) dx[r * w + i] = x[i] * (dy[r * w + i] - sum);
}

KERNEL(256, cross_entropy)(const float *x, const float *label, float *loss, i64 rows, i64 w, i64 *fault) {
    ROW();
    float peak, lse = log_sum_exp(x, w, lane, &peak);
    int t = index_of(label[r], w, fault);
    if (lane == 0) loss[r] = t < 0 ? 0.0f : lse + (peak - x[t]);
}

KERNEL(256, cross_entropy_grad)(const float *x, const float *label, const float *dloss, float *dx, i64 rows, i64 w, i64 *fault) {
    ROW();
    float peak, lse = log_sum_exp(x, w, lane, &peak), d = dloss[r];
    int t = index_of(label[r], w, fault);
    for (i64 i = lane; i < w; i += 32) dx[r * w + i] = (expf(x[i] - peak - lse) - (i == t ? 1.0f : 0.0f)) * d;
}

// other returns the place of the largest element beside t, the first of equals.
__device__ inline int other(const float *x, i64 w, int lane, int t) {
    int best = -1;
    float v = 0;
    for (int i = lane; i < w; i += 32) {
        if (i != t && (best < 0 || x[i] > v)) v = x[i], best = i;
    }
    return warp_first(v, best);
}

KERNEL(256, margin)(const float *x, const float *label, float *loss, i64 rows, i64 w, double alpha, i64 *fault) {
    ROW();
    int t = index_of(label[r], w, fault), o = other(x, w, lane, t);
    if (lane == 0) loss[r] = t < 0 || o < 0 ? 0.0f : fmaxf(0.0f, (float)alpha + x[o] - x[t]);
}

KERNEL(256, margin_grad)(const float *x, const float *label, const float *dloss, float *dx, i64 rows, i64 w, double alpha, i64 *fault) {
    ROW();
    int t = index_of(label[r], w, fault), o = other(x, w, lane, t);
    float d = t >= 0 && o >= 0 && (float)alpha + x[o] - x[t] > 0 ? dloss[r] : 0.0f;
    for (i64 i = lane; i < w; i += 32) dx[r * w + i] = i == o ? d : i == t ? -d : 0.0f;
}

#undef ROW
