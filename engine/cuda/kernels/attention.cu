// Attention and its gradient in float arithmetic, without an S x S matrix in memory (Dao et al., FlashAttention): keys and
// values pass by in tiles of 32 through shared memory while each query keeps a running maximum, sum and output.
//
// A warp takes four queries (in the second gradient kernel four keys): for the scores its lanes are the keys of the tile, for
// the output they are the columns. The gradient recomputes the probabilities from lse, once by queries for dq and once by
// keys for dk and dv, so that every number has one owner and nothing is atomic. Heads of up to 256 columns.
#include "device.cuh"

#define TILE 32
#define PER_WARP 4
#define CHUNKS 8 // of 32 columns

// A head's view of qkv [B,S,3W]: block (x: tile, y: head, z: image).
#define HEAD()                                                              \
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, own = warp * PER_WARP; \
    i64 width = heads * d, row = 3 * width;                                 \
    i64 head = blockIdx.y, image = blockIdx.z, first = (i64)blockIdx.x * TILE; \
    i64 q0 = image * s * row + head * d, o0 = image * s * width + head * d, l0 = (image * heads + head) * s; \
    int pitch = (int)d + 1

// rows copies TILE rows of d numbers from p[at + (from+i)*step] to shared memory, zeros beyond s.
__device__ inline void rows(float *to, int pitch, const void *p, i64 at, i64 step, i64 from, i64 s, i64 d, bool half) {
    for (int e = threadIdx.x; e < TILE * d; e += 256) {
        int i = e / (int)d, c = e % (int)d;
        to[i * pitch + c] = from + i < s ? load(p, at + (from + i) * step + c, half) : 0.0f;
    }
}

__device__ inline float dot(const float *a, const float *b, int d) {
    float s = 0;
    for (int c = 0; c < d; c++) s += a[c] * b[c];
    return s;
}

// half: qkv, o.
KERNEL(256, attention)(const void *qkv, void *o, float *lse, i64 s, i64 heads, i64 d, double scale, i64 causal, i64 half) {
    DYNAMIC_SHARED(float, shared);
    HEAD();
    float *q = shared, *k = q + TILE * pitch, *v = k + TILE * pitch;
    rows(q, pitch, qkv, q0, row, first, s, d, half & 1);
    float acc[PER_WARP][CHUNKS] = {{0}}, peak[PER_WARP], sum[PER_WARP];
    for (int u = 0; u < PER_WARP; u++) peak[u] = -INFINITY, sum[u] = 0;
    i64 end = causal && first + TILE < s ? first + TILE : s;
    for (i64 j0 = 0; j0 < end; j0 += TILE) {
        __syncthreads();
        rows(k, pitch, qkv, q0 + width, row, j0, s, d, half & 1);
        rows(v, pitch, qkv, q0 + 2 * width, row, j0, s, d, half & 1);
        __syncthreads();
        for (int u = 0; u < PER_WARP; u++) {
            i64 i = first + own + u, j = j0 + lane;
            bool seen = j < s && (!causal || j <= i);
            float score = seen ? (float)scale * dot(q + (own + u) * pitch, k + lane * pitch, (int)d) : -INFINITY;
            float top = fmaxf(peak[u], warp_max(score));
            // Key 0 is in the first tile and seen by every query, so that top is a number from then on.
            float p = seen ? expf(score - top) : 0.0f, keep = expf(peak[u] - top);
            peak[u] = top;
            sum[u] = sum[u] * keep + warp_sum(p);
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) acc[u][c] *= keep;
            for (int t = 0; t < TILE; t++) {
                float pt = __shfl_sync(FULL, p, t);
#pragma unroll
                for (int c = 0; c < CHUNKS; c++) {
                    if (32 * c + lane < d) acc[u][c] += pt * v[t * pitch + 32 * c + lane];
                }
            }
        }
    }
    for (int u = 0; u < PER_WARP; u++) {
        i64 i = first + own + u;
        if (i >= s) continue;
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            if (32 * c + lane < d) store(o, o0 + i * width + 32 * c + lane, acc[u][c] / sum[u], half & 2);
        }
        if (lane == 0) lse[l0 + i] = peak[u] + logf(sum[u]);
    }
}

// With P = exp(scale*q·kᵀ - lse), dP = do·vᵀ and D_i = sum(do_i*o_i): dS = P*(dP - D) and dq = scale*dS·k. half: qkv, o, do, dqkv.
KERNEL(256, attention_grad_q)(const void *qkv, const void *o, const float *lse, const void *dO, void *dqkv, i64 s, i64 heads, i64 d,
                              double scale, i64 causal, i64 half) {
    DYNAMIC_SHARED(float, shared);
    HEAD();
    float *q = shared, *k = q + TILE * pitch, *v = k + TILE * pitch, *g = v + TILE * pitch;
    rows(q, pitch, qkv, q0, row, first, s, d, half & 1);
    rows(g, pitch, dO, o0, width, first, s, d, half & 4);
    float acc[PER_WARP][CHUNKS] = {{0}}, delta[PER_WARP], l[PER_WARP];
    __syncthreads();
    for (int u = 0; u < PER_WARP; u++) {
        i64 i = first + own + u;
        float part = 0;
        for (int c = lane; c < d && i < s; c += 32) part += g[(own + u) * pitch + c] * load(o, o0 + i * width + c, half & 2);
        delta[u] = warp_sum(part);
        l[u] = i < s ? lse[l0 + i] : 0.0f;
    }
    i64 end = causal && first + TILE < s ? first + TILE : s;
    for (i64 j0 = 0; j0 < end; j0 += TILE) {
        __syncthreads();
        rows(k, pitch, qkv, q0 + width, row, j0, s, d, half & 1);
        rows(v, pitch, qkv, q0 + 2 * width, row, j0, s, d, half & 1);
        __syncthreads();
        for (int u = 0; u < PER_WARP; u++) {
            i64 i = first + own + u, j = j0 + lane;
            float ds = 0;
            if (i < s && j < s && (!causal || j <= i)) {
                float p = expf((float)scale * dot(q + (own + u) * pitch, k + lane * pitch, (int)d) - l[u]);
                ds = (float)scale * p * (dot(g + (own + u) * pitch, v + lane * pitch, (int)d) - delta[u]);
            }
            for (int t = 0; t < TILE; t++) {
                float dt = __shfl_sync(FULL, ds, t);
#pragma unroll
                for (int c = 0; c < CHUNKS; c++) {
                    if (32 * c + lane < d) acc[u][c] += dt * k[t * pitch + 32 * c + lane];
                }
            }
        }
    }
    for (int u = 0; u < PER_WARP; u++) {
        i64 i = first + own + u;
        if (i >= s) continue;
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            if (32 * c + lane < d) store(dqkv, q0 + i * row + 32 * c + lane, acc[u][c], half & 8);
        }
    }
}

// dk = scale*dSᵀ·q and dv = Pᵀ·do: the warp's four are keys here, and queries pass by.
KERNEL(256, attention_grad_kv)(const void *qkv, const void *o, const float *lse, const void *dO, void *dqkv, i64 s, i64 heads, i64 d,
                               double scale, i64 causal, i64 half) {
    DYNAMIC_SHARED(float, shared);
    HEAD();
    float *k = shared, *v = k + TILE * pitch, *q = v + TILE * pitch, *g = q + TILE * pitch, *delta = g + TILE * pitch;
    rows(k, pitch, qkv, q0 + width, row, first, s, d, half & 1);
    rows(v, pitch, qkv, q0 + 2 * width, row, first, s, d, half & 1);
    float dk[PER_WARP][CHUNKS] = {{0}}, dv[PER_WARP][CHUNKS] = {{0}};
    for (i64 i0 = causal ? first : 0; i0 < s; i0 += TILE) {
        __syncthreads();
        rows(q, pitch, qkv, q0, row, i0, s, d, half & 1);
        rows(g, pitch, dO, o0, width, i0, s, d, half & 4);
        __syncthreads();
        for (int u = 0; u < PER_WARP; u++) {
            i64 i = i0 + own + u;
            float part = 0;
            for (int c = lane; c < d && i < s; c += 32) part += g[(own + u) * pitch + c] * load(o, o0 + i * width + c, half & 2);
            part = warp_sum(part);
            if (lane == 0) delta[own + u] = part;
        }
        __syncthreads();
        for (int u = 0; u < PER_WARP; u++) {
            i64 i = i0 + lane, j = first + own + u;
            float p = 0, ds = 0;
            if (i < s && j < s && (!causal || j <= i)) {
                p = expf((float)scale * dot(k + (own + u) * pitch, q + lane * pitch, (int)d) - lse[l0 + i]);
                ds = (float)scale * p * (dot(v + (own + u) * pitch, g + lane * pitch, (int)d) - delta[lane]);
            }
            for (int t = 0; t < TILE; t++) {
                float pt = __shfl_sync(FULL, p, t), dt = __shfl_sync(FULL, ds, t);
#pragma unroll
                for (int c = 0; c < CHUNKS; c++) {
                    if (32 * c + lane >= d) continue;
                    dk[u][c] += dt * q[t * pitch + 32 * c + lane];
                    dv[u][c] += pt * g[t * pitch + 32 * c + lane];
                }
            }
        }
    }
    for (int u = 0; u < PER_WARP; u++) {
        i64 j = first + own + u;
        if (j >= s) continue;
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            if (32 * c + lane >= d) continue;
            store(dqkv, q0 + width + j * row + 32 * c + lane, dk[u][c], half & 8);
            store(dqkv, q0 + 2 * width + j * row + 32 * c + lane, dv[u][c], half & 8);
        }
    }
}

#undef HEAD
#undef TILE
#undef PER_WARP
#undef CHUNKS
