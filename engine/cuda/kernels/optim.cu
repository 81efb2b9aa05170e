// Optimisers, in place. The learning rate comes from a schedule on the device at a step counted there, so that a captured
// graph can be replayed without the host.
#include "device.cuh"

// rate returns the learning rate of a step: the schedule's last once it has run out.
__device__ inline float rate(const float *step, const float *schedule, i64 n) {
    i64 i = (i64)step[0];
    return schedule[i < n ? i : n - 1];
}

KERNEL(256, sgd)(float *param, const float *grad, float *v, const float *step, const float *schedule, i64 n, i64 steps, double momentum,
                 double decay) {
    i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
    if (i >= n) return;
    float g = grad[i] + (float)decay * param[i];
    if (v) {
        if (step[0] > 0) g += (float)momentum * v[i];
        v[i] = g;
    }
    param[i] -= rate(step, schedule, steps) * g;
}

// The corrections 1-beta^t are the same for all: one thread a block computes them in double.
KERNEL(256, adam)(float *param, const float *grad, float *m, float *v, const float *step, const float *schedule, i64 n, i64 steps,
                  double beta1, double beta2, double eps, double decay, i64 decoupled) {
    __shared__ float correction[2];
    if (threadIdx.x == 0) {
        double t = (double)step[0] + 1;
        correction[0] = (float)(1 - pow(beta1, t));
        correction[1] = (float)(1 - pow(beta2, t));
    }
    __syncthreads();
    i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
    if (i >= n) return;
    float lr = rate(step, schedule, steps), p = param[i], g = grad[i];
    if (decoupled) p *= 1.0f - lr * (float)decay;
    else g += (float)decay * p;
    float mi = (float)beta1 * m[i] + (float)(1 - beta1) * g;
    float vi = (float)beta2 * v[i] + (float)(1 - beta2) * g * g;
    m[i] = mi;
    v[i] = vi;
    param[i] = p - lr * (mi / correction[0]) / (sqrtf(vi / correction[1]) + (float)eps);
}
