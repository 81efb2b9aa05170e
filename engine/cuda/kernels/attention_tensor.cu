// Attention and its gradient on tensor cores, for heads of up to 64 columns, a multiple of four; what is missing to 64 is zero. As in
// attention.cu no S x S matrix is in memory (Dao, FlashAttention-2). Operands of products are bf16 or TF32, sums float.
//
// A warp owns 16 queries (in the second gradient kernel 16 keys), whose numbers stay in its registers, and goes through the other
// side 16 rows at a time, of which the block keeps a tile in shared memory. With g = lane/4 and t = lane%4 mma leaves the sums
// of rows g, g+8 and columns 2t, 2t+1 with a thread. Of an operand a thread holds quads, four of 16 numbers along the dimension
// that is summed: two registers of one mma.m16n8k16 on bf16, four of two mma.m16n8k8 on TF32. Which four is free as
// long as both operands agree:
//   - in scores the columns 4t..4t+3: neighbours in memory,
//   - in outputs the tile's rows 2t, 2t+1, 2t+8, 2t+9, which is where the scores are: they go into the next product as they lie.
// In shared memory 16 rows lie together, as rows and as columns of quads, PITCHes apart that send the quads of a load to
// different banks.
#include "device.cuh"

#define ROW_PITCH 20
#define COLUMN_PITCH (64 + 8 / (int)sizeof(T))
#define LOG2E 1.4426950408889634f

template <class T> struct __align__(4 * sizeof(T)) quad { u32 v[sizeof(T)]; };

// 16 rows of R operands by row and of C operands by column.
template <class T, int R, int C> struct rows16 { quad<T> rows[R][16 * ROW_PITCH], columns[C][4 * COLUMN_PITCH]; };

// The same of queries and do, with what else is known of a query: its lse (for powers of 2) and D.
template <class T> struct queries16 : rows16<T, 2, 2> { float2s known[16]; };

__device__ inline void quad_of(quad<bf16> &q, float4s f) { q.v[0] = bf16x2(f.v[0], f.v[1]), q.v[1] = bf16x2(f.v[2], f.v[3]); }

__device__ inline void quad_of(quad<float> &q, float4s f) {
    for (int k = 0; k < 4; k++) q.v[k] = tf32(f.v[k]);
}

// transpose turns four columns of four rows into four rows of four columns.
__device__ inline void transpose(quad<bf16> x[4]) {
    quad<bf16> y[4];
    for (int c = 0; c < 4; c++) {
        for (int k = 0; k < 2; k++) {
            u32 a = x[2 * k].v[c / 2], b = x[2 * k + 1].v[c / 2];
            y[c].v[k] = c % 2 ? a >> 16 | (b & 0xffff0000u) : (a & 0xffffu) | b << 16;
        }
    }
    for (int c = 0; c < 4; c++) x[c] = y[c];
}

__device__ inline void transpose(quad<float> x[4]) {
    for (int c = 0; c < 4; c++) {
        for (int k = 0; k < c; k++) {
            u32 a = x[c].v[k];
            x[c].v[k] = x[k].v[c], x[k].v[c] = a;
        }
    }
}

// mma adds to c, 16 x 8, the product over 16 of which threads hold quads: lo of row g, hi of row g+8, b of column g.
__device__ inline void mma(float c[4], quad<bf16> lo, quad<bf16> hi, quad<bf16> b) {
    mma_bf16(c, lo.v[0], hi.v[0], lo.v[1], hi.v[1], b.v[0], b.v[1]);
}

__device__ inline void mma(float c[4], quad<float> lo, quad<float> hi, quad<float> b) {
    mma_tf32(c, lo.v[0], hi.v[0], lo.v[1], hi.v[1], b.v[0], b.v[1]);
    mma_tf32(c, lo.v[2], hi.v[2], lo.v[3], hi.v[3], b.v[2], b.v[3]);
}

// fetch reads four neighbours, or gives zeros where they are not `there`.
template <class T> __device__ inline quad<T> fetch(const void *p, u32 i, bool there, bool half) {
    if (!there) return quad<T>();
    if (sizeof(T) == 2 && half) return *(const quad<T> *)((const bf16 *)p + i);
    quad<T> q;
    quad_of(q, load4(p, i, half));
    return q;
}

// A warp's place: numbers of qkv, of o and of lse where its head begins, its 16 rows from `first` on, those of the block from `block`.
// An operand has fewer than 2^31 numbers.
struct warp_place {
    u32 width, row, qkv, o, lse;
    int g, t, block, first;
};

__device__ inline warp_place find_place(u32 s, u32 heads, u32 d) {
    warp_place w;
    u32 head = blockIdx.y, image = blockIdx.z;
    w.width = heads * d, w.row = 3 * w.width;
    w.qkv = image * s * w.row + head * d, w.o = image * s * w.width + head * d, w.lse = (image * heads + head) * s;
    w.g = threadIdx.x % 32 / 4, w.t = threadIdx.x % 4;
    w.block = (int)(blockIdx.x * (blockDim.x / 2)), w.first = w.block + (int)(threadIdx.x / 32 * 16);
    return w;
}

// own reads the warp's rows, zeros beyond s and d.
template <class T>
__device__ inline void own(quad<T> a[4][2], const void *p, u32 at, u32 step, warp_place w, int s, int d, bool half) {
#pragma unroll
    for (int c = 0; c < 4; c++) {
        for (int u = 0; u < 2; u++) {
            int i = w.first + w.g + 8 * u, from = 16 * c + 4 * w.t;
            a[c][u] = fetch<T>(p, at + i * step + from, i < s && from < d, half);
        }
    }
}

// An operand to copy to shared memory: where its rows are, as which one it goes there by row and by column; -1 is neither.
struct operand {
    const void *p;
    u32 at, step;
    bool half;
    int row, column;
};

template <class T, class Rows> __device__ inline void put(Rows &to, operand a, quad<T> x[4], int t, int k) {
    for (int u = 0; u < 4 && a.row >= 0; u++) to.rows[a.row][(2 * t + u % 2 + u / 2 * 8) * ROW_PITCH + k] = x[u];
    if (a.column < 0) return;
    transpose(x);
    for (int u = 0; u < 4; u++) to.columns[a.column][t * COLUMN_PITCH + 4 * k + u] = x[u];
}

// stage copies `tile` rows of two operands from `from` on to shared memory, zeros beyond s and d. A thread has eight loads under way.
template <class T, class Rows> __device__ inline void stage(Rows *to, operand a, operand b, int from, int tile, int s, int d) {
    for (int e = threadIdx.x; e < 4 * tile; e += blockDim.x) {
        int k = e % 16, t = e / 16 % 4;
        quad<T> x[4], y[4];
        for (int u = 0; u < 4; u++) {
            int row = from + e / 64 * 16 + 2 * t + u % 2 + u / 2 * 8;
            x[u] = fetch<T>(a.p, a.at + row * a.step + 4 * k, row < s && 4 * k < d, a.half);
            y[u] = fetch<T>(b.p, b.at + row * b.step + 4 * k, row < s && 4 * k < d, b.half);
        }
        put<T>(to[e / 64], a, x, t, k);
        put<T>(to[e / 64], b, y, t, k);
    }
}

// scores: c, 16 x 16 in two halves = a·bᵀ for 16 rows b of a tile.
template <class T> __device__ inline void scores(float c[2][4], const quad<T> a[4][2], const quad<T> *b, warp_place w) {
    for (int n = 0; n < 2; n++) {
        for (int e = 0; e < 4; e++) c[n][e] = 0;
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
        for (int n = 0; n < 2; n++) mma(c[n], a[k][0], a[k][1], b[(8 * n + w.g) * ROW_PITCH + 4 * k + w.t]);
    }
}

// outputs: c, 16 x 64, += p·b for scores p, 16 x 16, and 16 rows of a tile that lies as columns.
template <class T> __device__ inline void outputs(float c[8][4], const float p[2][4], const quad<T> *b, warp_place w) {
    quad<T> lo, hi;
    quad_of(lo, float4s{{p[0][0], p[0][1], p[1][0], p[1][1]}});
    quad_of(hi, float4s{{p[0][2], p[0][3], p[1][2], p[1][3]}});
#pragma unroll
    for (int n = 0; n < 8; n++) mma(c[n], lo, hi, b[w.t * COLUMN_PITCH + 8 * n + w.g]);
}

// give writes c times a factor for each of the thread's rows.
__device__ inline void give(const float c[8][4], float lo, float hi, void *p, u32 at, u32 step, warp_place w, int s, int d, bool half) {
#pragma unroll
    for (int u = 0; u < 2; u++) {
        int i = w.first + w.g + 8 * u;
        if (i >= s) continue;
#pragma unroll
        for (int n = 0; n < 8; n++) {
            int k = 8 * n + 2 * w.t;
            if (k < d) store2(p, at + i * step + k, c[n][2 * u] * (u ? hi : lo), c[n][2 * u + 1] * (u ? hi : lo), half);
        }
    }
}

// Queries take keys in steps of 64, so that the outputs are rescaled to a new maximum once for 64. half: qkv, o.
template <class T>
__device__ inline void attend(const void *qkv, void *o, float *lse, int s, int heads, int d, float scale, bool causal, int tile, int half) {
    typedef rows16<T, 1, 1> keys16;
    DYNAMIC_SHARED(keys16, keys);
    warp_place w = find_place(s, heads, d);
    quad<T> q[4][2];
    own<T>(q, qkv, w.qkv, w.row, w, s, d, sizeof(T) == 2);
    float acc[8][4] = {{0}}, peak[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, to2 = scale * LOG2E;
    int seen[2]; // keys that a row sees
    for (int u = 0; u < 2; u++) seen[u] = causal && w.first + w.g + 8 * u < s ? w.first + w.g + 8 * u + 1 : s;
    // A warp without queries helps to copy.
    int end = w.first >= s ? 0 : causal && w.first + 16 < s ? w.first + 16 : s;
    int last = w.block + (int)blockDim.x / 2;
    if (!causal || last > s) last = s;
    for (int j0 = 0; j0 < last; j0 += tile) {
        __syncthreads();
        stage<T>(keys, operand{qkv, w.qkv + w.width, w.row, sizeof(T) == 2, 0, -1},
                 operand{qkv, w.qkv + 2 * w.width, w.row, sizeof(T) == 2, -1, 0}, j0, tile, s, d);
        __syncthreads();
        int stop = end - j0 < tile ? end - j0 : tile;
        for (int j = 0; j < stop; j += 64) {
            float x[8][4], top[2] = {peak[0], peak[1]};
#pragma unroll
            for (int u = 0; u < 4; u++) {
                if (j + 16 * u >= stop) continue;
                scores<T>(x + 2 * u, q, keys[j / 16 + u].rows[0], w);
                for (int e = 0; e < 8; e++) {
                    float &v = x[2 * u + e / 4][e % 4];
                    if (j0 + j + 16 * u + e / 4 * 8 + 2 * w.t + e % 2 >= seen[e / 2 % 2]) v = -INFINITY;
                    top[e / 2 % 2] = fmaxf(top[e / 2 % 2], v);
                }
            }
            // Key 0 is in the first step and seen by every query, so that top is a number.
            for (int u = 0; u < 2; u++) {
                top[u] = warp_max(top[u], 2);
                float keep = ex2((peak[u] - top[u]) * to2);
                peak[u] = top[u];
                sum[u] *= keep;
#pragma unroll
                for (int n = 0; n < 8; n++) acc[n][2 * u] *= keep, acc[n][2 * u + 1] *= keep;
            }
            float base[2] = {peak[0] * to2, peak[1] * to2};
#pragma unroll
            for (int u = 0; u < 4; u++) {
                if (j + 16 * u >= stop) continue;
                for (int e = 0; e < 8; e++) {
                    float &v = x[2 * u + e / 4][e % 4];
                    v = ex2(v * to2 - base[e / 2 % 2]);
                    sum[e / 2 % 2] += v;
                }
                outputs<T>(acc, x + 2 * u, keys[j / 16 + u].columns[0], w);
            }
        }
    }
    for (int u = 0; u < 2; u++) {
        sum[u] = warp_sum(sum[u], 2);
        int i = w.first + w.g + 8 * u;
        if (w.t == 0 && i < s) lse[w.lse + i] = peak[u] * scale + logf(sum[u]);
    }
    give(acc, 1.0f / sum[0], 1.0f / sum[1], o, w.o, w.width, w, s, d, half & 2);
}

// dq as in attention.cu, and D for the other kernel. half: qkv, o, do, dqkv.
template <class T>
__device__ inline void attend_grad_q(const void *qkv, const void *o, const float *lse, const void *dO, void *dqkv, float *delta, int s,
                                     int heads, int d, float scale, bool causal, int tile, int half) {
    typedef rows16<T, 2, 1> keys16;
    DYNAMIC_SHARED(keys16, keys);
    warp_place w = find_place(s, heads, d);
    quad<T> q[4][2], g[4][2];
    own<T>(q, qkv, w.qkv, w.row, w, s, d, sizeof(T) == 2);
    own<T>(g, dO, w.o, w.width, w, s, d, half & 4);
    float acc[8][4] = {{0}}, mean[2], l[2], to2 = scale * LOG2E;
    int seen[2];
    for (int u = 0; u < 2; u++) {
        int i = w.first + w.g + 8 * u;
        float part = 0;
        for (int c = 4 * w.t; c < d && i < s; c += 16) {
            float4s a = load4(o, w.o + i * w.width + c, half & 2), b = load4(dO, w.o + i * w.width + c, half & 4);
            for (int k = 0; k < 4; k++) part += a.v[k] * b.v[k];
        }
        mean[u] = warp_sum(part, 2);
        if (w.t == 0 && i < s) delta[w.lse + i] = mean[u];
        l[u] = i < s ? lse[w.lse + i] * LOG2E : 0.0f;
        seen[u] = causal && i < s ? i + 1 : s;
    }
    int end = w.first >= s ? 0 : causal && w.first + 16 < s ? w.first + 16 : s;
    int last = w.block + (int)blockDim.x / 2;
    if (!causal || last > s) last = s;
    for (int j0 = 0; j0 < last; j0 += tile) {
        __syncthreads();
        stage<T>(keys, operand{qkv, w.qkv + w.width, w.row, sizeof(T) == 2, 0, 0},
                 operand{qkv, w.qkv + 2 * w.width, w.row, sizeof(T) == 2, 1, -1}, j0, tile, s, d);
        __syncthreads();
        int stop = end - j0 < tile ? end - j0 : tile;
        for (int j = 0; j < stop; j += 16) {
            float x[2][4], y[2][4];
            scores<T>(x, q, keys[j / 16].rows[0], w);
            scores<T>(y, g, keys[j / 16].rows[1], w);
            for (int e = 0; e < 8; e++) {
                int u = e / 2 % 2;
                float &v = x[e / 4][e % 4];
                v = j0 + j + e / 4 * 8 + 2 * w.t + e % 2 < seen[u] ? ex2(v * to2 - l[u]) * (y[e / 4][e % 4] - mean[u]) : 0.0f;
            }
            outputs<T>(acc, x, keys[j / 16].columns[0], w);
        }
    }
    give(acc, scale, scale, dqkv, w.qkv, w.row, w, s, d, half & 8);
}

// dk and dv: the warp's rows are keys, and the scores lie transposed. Queries beyond s are zero and add nothing.
template <class T>
__device__ inline void attend_grad_kv(const void *qkv, const float *lse, const void *dO, void *dqkv, const float *delta, int s, int heads,
                                      int d, float scale, bool causal, int tile, int half) {
    DYNAMIC_SHARED(queries16<T>, queries);
    warp_place w = find_place(s, heads, d);
    quad<T> k[4][2], v[4][2];
    own<T>(k, qkv, w.qkv + w.width, w.row, w, s, d, sizeof(T) == 2);
    own<T>(v, qkv, w.qkv + 2 * w.width, w.row, w, s, d, sizeof(T) == 2);
    float dk[8][4] = {{0}}, dv[8][4] = {{0}}, to2 = scale * LOG2E;
    int seer = causal ? w.first + w.g : -8; // the first query that sees the thread's first key
    for (int i0 = causal ? w.block : 0; i0 < s; i0 += tile) {
        __syncthreads();
        stage<T>(queries, operand{qkv, w.qkv, w.row, sizeof(T) == 2, 0, 0}, operand{dO, w.o, w.width, (half & 4) != 0, 1, 1}, i0, tile, s, d);
        for (int e = threadIdx.x; e < tile; e += blockDim.x) {
            queries[e / 16].known[e % 16] = i0 + e < s ? float2s{{lse[w.lse + i0 + e] * LOG2E, delta[w.lse + i0 + e]}} : float2s{{0, 0}};
        }
        __syncthreads();
        int stop = w.first >= s ? 0 : s - i0 < tile ? s - i0 : tile;
        for (int i = causal && w.first > i0 ? w.first - i0 : 0; i < stop; i += 16) {
            const queries16<T> &them = queries[i / 16];
            float x[2][4], y[2][4];
            scores<T>(x, k, them.rows[0], w);
            for (int e = 0; e < 8; e++) {
                int at = e / 4 * 8 + 2 * w.t + e % 2;
                float &p = x[e / 4][e % 4];
                p = i0 + i + at < seer + e / 2 % 2 * 8 ? 0.0f : ex2(p * to2 - them.known[at].v[0]);
            }
            outputs<T>(dv, x, them.columns[1], w);
            scores<T>(y, v, them.rows[1], w);
            for (int e = 0; e < 8; e++) {
                float &ds = y[e / 4][e % 4];
                ds = x[e / 4][e % 4] * (ds - them.known[e / 4 * 8 + 2 * w.t + e % 2].v[1]);
            }
            outputs<T>(dk, y, them.columns[0], w);
        }
    }
    give(dk, scale, scale, dqkv, w.qkv + w.width, w.row, w, s, d, half & 8);
    give(dv, 1.0f, 1.0f, dqkv, w.qkv + 2 * w.width, w.row, w, s, d, half & 8);
}

// A block has at most 256 threads, in attention_grad_kv 192. With bf16 the bound is twice that: it leaves each thread as
// many registers as let two blocks share a multiprocessor.
KERNEL(512, attention_bf16)(const void *qkv, void *o, float *lse, i64 s, i64 heads, i64 d, double scale, i64 causal, i64 tile, i64 half) {
    attend<bf16>(qkv, o, lse, (int)s, (int)heads, (int)d, (float)scale, causal, (int)tile, (int)half);
}

KERNEL(256, attention_tf32)(const void *qkv, void *o, float *lse, i64 s, i64 heads, i64 d, double scale, i64 causal, i64 tile, i64 half) {
    attend<float>(qkv, o, lse, (int)s, (int)heads, (int)d, (float)scale, causal, (int)tile, (int)half);
}

KERNEL(512, attention_grad_q_bf16)(const void *qkv, const void *o, const float *lse, const void *dO, void *dqkv, float *delta, i64 s,
                                   i64 heads, i64 d, double scale, i64 causal, i64 tile, i64 half) {
    attend_grad_q<bf16>(qkv, o, lse, dO, dqkv, delta, (int)s, (int)heads, (int)d, (float)scale, causal, (int)tile, (int)half);
}

KERNEL(256, attention_grad_q_tf32)(const void *qkv, const void *o, const float *lse, const void *dO, void *dqkv, float *delta, i64 s,
                                   i64 heads, i64 d, double scale, i64 causal, i64 tile, i64 half) {
    attend_grad_q<float>(qkv, o, lse, dO, dqkv, delta, (int)s, (int)heads, (int)d, (float)scale, causal, (int)tile, (int)half);
}

KERNEL(384, attention_grad_kv_bf16)(const void *qkv, const float *lse, const void *dO, void *dqkv, const float *delta, i64 s, i64 heads,
                                    i64 d, double scale, i64 causal, i64 tile, i64 half) {
    attend_grad_kv<bf16>(qkv, lse, dO, dqkv, delta, (int)s, (int)heads, (int)d, (float)scale, causal, (int)tile, (int)half);
}

KERNEL(192, attention_grad_kv_tf32)(const void *qkv, const float *lse, const void *dO, void *dqkv, const float *delta, i64 s, i64 heads,
                                    i64 d, double scale, i64 causal, i64 tile, i64 half) {
    attend_grad_kv<float>(qkv, lse, dO, dqkv, delta, (int)s, (int)heads, (int)d, (float)scale, causal, (int)tile, (int)half);
}

#undef ROW_PITCH
#undef COLUMN_PITCH
#undef LOG2E
