// LayerNorm with the residual sum in front of it, its gradients, and normalisation to unit length.
//
// A warp takes a row, so that no barrier is needed. Rows of up to 1024 numbers in multiples of 128, which are all widths of
// CLIP, are read once and kept in registers (the kernels _128); others are read again for each pass.
#include "device.cuh"

#define ROW()                                                \
    i64 r = (i64)blockIdx.x * 8 + threadIdx.x / 32;          \
    int lane = threadIdx.x % 32;                             \
    if (r >= rows) return;                                   \
    i64 at = r * w

// h = x (+ residual), y = (h-mean)*rstd*gamma + beta. The variance is taken around the mean: no cancellation. half: x, y.
KERNEL(256, layernorm)(const void *x, const float *gamma, const float *beta, const float *residual, void *y, float *stats,
                       float *h, i64 rows, i64 w, double eps, i64 half) {
    ROW();
    bool hx = half & 1, hy = half & 2;
    float sum = 0;
    for (i64 i = lane; i < w; i += 32) {
        float v = load(x, at + i, hx);
        if (residual) v += residual[at + i];
        if (h) h[at + i] = v;
        sum += v;
    }
    float mean = warp_sum(sum) / (float)w, var = 0;
    for (i64 i = lane; i < w; i += 32) {
        float v = load(x, at + i, hx) + (residual ? residual[at + i] : 0.0f) - mean;
        var += v * v;
    }
    float rstd = rsqrtf(warp_sum(var) / (float)w + (float)eps);
    for (i64 i = lane; i < w; i += 32) {
        float v = load(x, at + i, hx) + (residual ? residual[at + i] : 0.0f);
        store(y, at + i, (v - mean) * rstd * gamma[i] + beta[i], hy);
    }
    if (lane == 0) stats[2 * r] = mean, stats[2 * r + 1] = rstd;
}

KERNEL(256, layernorm_128)(const void *x, const float *gamma, const float *beta, const float *residual, void *y, float *stats,
                           float *h, i64 rows, i64 w, double eps, i64 half) {
    ROW();
    bool hx = half & 1, hy = half & 2;
    float4s v[8];
    float sum = 0;
#pragma unroll
    for (int c = 0; c < 8; c++) {
        int i = 128 * c + 4 * lane;
        if (i >= w) continue;
        v[c] = load4(x, at + i, hx);
        if (residual) {
            float4s u = load4(residual, at + i, false);
            for (int k = 0; k < 4; k++) v[c].v[k] += u.v[k];
        }
        if (h) store4(h, at + i, v[c], false);
        for (int k = 0; k < 4; k++) sum += v[c].v[k];
    }
    float mean = warp_sum(sum) / (float)w, var = 0;
#pragma unroll
    for (int c = 0; c < 8; c++) {
        if (128 * c >= w) continue;
        for (int k = 0; k < 4; k++) var += (v[c].v[k] - mean) * (v[c].v[k] - mean);
    }
    float rstd = rsqrtf(warp_sum(var) / (float)w + (float)eps);
#pragma unroll
    for (int c = 0; c < 8; c++) {
        int i = 128 * c + 4 * lane;
        if (i >= w) continue;
        float4s g = load4(gamma, i, false), b = load4(beta, i, false);
        for (int k = 0; k < 4; k++) v[c].v[k] = (v[c].v[k] - mean) * rstd * g.v[k] + b.v[k];
        store4(y, at + i, v[c], hy);
    }
    if (lane == 0) stats[2 * r] = mean, stats[2 * r + 1] = rstd;
}

// With g = dy*gamma and n = (h-mean)*rstd: dx = rstd*(g - mean(g) - n*mean(g*n)) + dh. half: dy.
KERNEL(256, layernorm_grad)(const float *h, const float *gamma, const float *stats, const void *dy, const float *dh, float *dx,
                            i64 rows, i64 w, i64 half) {
    ROW();
    float mean = stats[2 * r], rstd = stats[2 * r + 1], sg = 0, sgn = 0;
    for (i64 i = lane; i < w; i += 32) {
        float g = load(dy, at + i, half & 1) * gamma[i];
        sg += g;
        sgn += g * (h[at + i] - mean) * rstd;
    }
    sg = warp_sum(sg) / (float)w;
    sgn = warp_sum(sgn) / (float)w;
    for (i64 i = lane; i < w; i += 32) {
        float g = load(dy, at + i, half & 1) * gamma[i];
        dx[at + i] = rstd * (g - sg - (h[at + i] - mean) * rstd * sgn) + (dh ? dh[at + i] : 0.0f);
    }
}

KERNEL(256, layernorm_grad_128)(const float *h, const float *gamma, const float *stats, const void *dy, const float *dh, float *dx,
                                i64 rows, i64 w, i64 half) {
    ROW();
    float mean = stats[2 * r], rstd = stats[2 * r + 1], sg = 0, sgn = 0;
    float4s g[8], n[8];
#pragma unroll
    for (int c = 0; c < 8; c++) {
        int i = 128 * c + 4 * lane;
        if (i >= w) continue;
        float4s d = load4(dy, at + i, half & 1), m = load4(gamma, i, false), v = load4(h, at + i, false);
        for (int k = 0; k < 4; k++) {
            g[c].v[k] = d.v[k] * m.v[k];
            n[c].v[k] = (v.v[k] - mean) * rstd;
            sg += g[c].v[k];
            sgn += g[c].v[k] * n[c].v[k];
        }
    }
    sg = warp_sum(sg) / (float)w;
    sgn = warp_sum(sgn) / (float)w;
#pragma unroll
    for (int c = 0; c < 8; c++) {
        int i = 128 * c + 4 * lane;
        if (i >= w) continue;
        float4s d = {{0, 0, 0, 0}};
        if (dh) d = load4(dh, at + i, false);
        for (int k = 0; k < 4; k++) d.v[k] += rstd * (g[c].v[k] - sg - n[c].v[k] * sgn);
        store4(dx, at + i, d, false);
    }
}

// dgamma and dbeta of `per` rows starting at blockIdx.y*per, at out[part*2*w..]: a block 32 columns, its 8 warps every eighth row.
KERNEL(256, layernorm_param_grad)(const float *h, const float *stats, const float *dy, float *out, i64 rows, i64 w, i64 per) {
    __shared__ float part[2][8][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    i64 c = (i64)blockIdx.x * 32 + lane, from = (i64)blockIdx.y * per, to = from + per < rows ? from + per : rows;
    float g = 0, b = 0;
    if (c < w) {
        for (i64 r = from + warp; r < to; r += 8) {
            float d = dy[r * w + c];
            g += d * (h[r * w + c] - stats[2 * r]) * stats[2 * r + 1];
            b += d;
        }
    }
    part[0][warp][lane] = g;
    part[1][warp][lane] = b;
    __syncthreads();
    if (warp < 2 && c < w) {
        float sum = 0;
        for (int k = 0; k < 8; k++) sum += part[warp][k][lane];
        out[(2 * (i64)blockIdx.y + warp) * w + c] = sum;
    }
}

// layernorm_param_sum adds the parts in their order.
KERNEL(256, layernorm_param_sum)(const float *parts, float *dgamma, float *dbeta, i64 count, i64 w) {
    i64 c = (i64)blockIdx.x * 256 + threadIdx.x;
    if (c >= w) return;
    float g = 0, b = 0;
    for (i64 k = 0; k < count; k++) {
        g += parts[2 * k * w + c];
        b += parts[(2 * k + 1) * w + c];
    }
    dgamma[c] = g;
    dbeta[c] = b;
}

// y = x/|x|, |x| = max(sqrt(sum x²), 1e-12).
KERNEL(256, normalize)(const float *x, float *y, float *norm, i64 rows, i64 w) {
    ROW();
    float sum = 0;
    for (i64 i = lane; i < w; i += 32) sum += x[at + i] * x[at + i];
    float n = fmaxf(sqrtf(warp_sum(sum)), 1e-12f);
    for (i64 i = lane; i < w; i += 32) y[at + i] = x[at + i] / n;
    if (lane == 0) norm[r] = n;
}

// dx = (dy - y*sum(y*dy))/norm.
KERNEL(256, normalize_grad)(const float *y, const float *norm, const float *dy, float *dx, i64 rows, i64 w) {
    ROW();
    float sum = 0;
    for (i64 i = lane; i < w; i += 32) sum += y[at + i] * dy[at + i];
    sum = warp_sum(sum);
    for (i64 i = lane; i < w; i += 32) dx[at + i] = (dy[at + i] - y[at + i] * sum) / norm[r];
}

#undef ROW
