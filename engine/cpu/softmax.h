// Softmax in all its places: by itself, inside cross entropy, inside attention.
//
// The trick: a row is read three times while it sits in the first-level cache (largest, exponentials and their sum,
// scaling), each time in a vectorised loop. The rows of attention are padded to whole vectors, so that no scalar
// remainder is left: at 26 or 50 positions that remainder would cost as much as the rest.

// y = exp(x - m) of a row, which may be x; returns the sum.
INLINE float row_exp(long n, const float *x, float m, float *y) {
    float s[16] = {0};
    EACH16(n, float e = vexp(x[i] - m); y[i] = e; s[l] += e;);
    return fold16(s);
}

void KERNEL(softmax)(long rows, long w, const float *restrict x, float *restrict y) {
    for (long r = 0; r < rows; r++) {
        const float *restrict row = x + r * w;
        float *restrict out = y + r * w;
        float f = 1.0f / row_exp(w, row, row_max(w, row), out);
#pragma omp simd
        for (long i = 0; i < w; i++) out[i] *= f;
    }
}

void KERNEL(softmax_grad)(long rows, long w, const float *restrict y, const float *restrict dy, float *restrict dx) {
    for (long r = 0; r < rows; r++) {
        const float *restrict yr = y + r * w, *restrict dr = dy + r * w;
        float *restrict out = dx + r * w;
        float s = row_dot(w, yr, dr);
#pragma omp simd
        for (long i = 0; i < w; i++) out[i] = yr[i] * (dr[i] - s);
    }
}

void KERNEL(cross_entropy)(long rows, long w, const float *restrict x, const float *restrict label,
                             float *restrict loss) {
    for (long r = 0; r < rows; r++) {
        const float *row = x + r * w;
        float m = row_max(w, row), s[16] = {0};
        EACH16(w, s[l] += vexp(row[i] - m););
        loss[r] = m - row[(long)label[r]] + vlog(fold16(s));
    }
}

void KERNEL(cross_entropy_grad)(long rows, long w, const float *restrict x, const float *restrict label,
                                  const float *restrict dloss, float *restrict dx) {
    for (long r = 0; r < rows; r++) {
        const float *restrict row = x + r * w;
        float *restrict out = dx + r * w;
        float s = row_exp(w, row, row_max(w, row), out);
        // 1 - p of the label is the sum of the others: no cancellation where the label is nearly certain.
        long t = (long)label[r];
        float f = dloss[r] / s;
        out[t] = 0;
        float others = row_sum(w, out);
#pragma omp simd
        for (long i = 0; i < w; i++) out[i] *= f;
        out[t] = -others * f;
    }
}

// Columns s..ld and hidden positions of the scores. All rows at once: a load of numbers that were just stored piece by piece
// waits until they lie in the cache.
INLINE void attention_hide(long s, long ld, int causal, float *restrict p) {
    for (long i = 0; i < s; i++)
        for (long j = causal ? i + 1 : s; j < ld; j++) p[i * ld + j] = -INFINITY;
}

// Rows of scores become exponentials relative to the row's largest; inverse[i] is one over their sum. What is hidden becomes
// zero. The logarithms come last, many at a time.
static void attention_softmax(long s, long ld, int causal, float *restrict p, float *restrict lse,
                                 float *restrict inverse) {
    attention_hide(s, ld, causal, p);
    for (long i = 0; i < s; i++) lse[i] = row_max(ld, p + i * ld);
    for (long i = 0; i < s; i++) {
        float *restrict row = p + i * ld;
        inverse[i] = row_exp(ld, row, lse[i], row);
    }
#pragma omp simd
    for (long i = 0; i < s; i++) {
        lse[i] += vlog(inverse[i]);
        inverse[i] = 1.0f / inverse[i];
    }
}

// Rows of scores become probabilities, given the logarithms of the rows' sums.
static void attention_exp(long s, long ld, int causal, const float *restrict lse, float *restrict p) {
    attention_hide(s, ld, causal, p);
    for (long i = 0; i < s; i++) {
        float *restrict row = p + i * ld, l = lse[i];
#pragma omp simd
        for (long j = 0; j < ld; j++) row[j] = vexp(row[j] - l);
    }
}

// dp becomes the gradient of the unscaled scores: scale * p * (dp - delta of the row).
static void attention_ds(long s, long ld, float scale, const float *restrict p, const float *restrict delta,
                            float *restrict dp) {
    for (long i = 0; i < s; i++) {
        const float *restrict pr = p + i * ld;
        float *restrict dr = dp + i * ld, t = delta[i];
#pragma omp simd
        for (long j = 0; j < ld; j++) dr[j] = scale * pr[j] * (dr[j] - t); // behind s nobody looks
    }
}

static void scale_rows(long s, long d, long ld, const float *restrict factor, float *restrict x) {
    for (long i = 0; i < s; i++) {
        float f = factor[i];
#pragma omp simd
        for (long c = 0; c < d; c++) x[i * ld + c] *= f;
    }
}
