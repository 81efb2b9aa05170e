// LayerNorm with its gradients, and scaling to unit length.
//
// The trick: a few rows at a time, which stay in the first-level cache over the two or three passes that accuracy asks for
// (mean first, then the variance of the centred row), with vectorised reductions. While the lanes of one row are added up,
// the next one is under way. The residual is added in the first pass.
enum { TOGETHER = 4 };

void KERNEL(layernorm)(long rows, long w, const float *restrict x, const float *restrict residual,
                         const float *restrict gamma, const float *restrict beta, float eps, float *restrict y,
                         float *restrict stats, float *restrict h) {
    for (long r0 = 0; r0 < rows; r0 += TOGETHER) {
        long r1 = r0 + TOGETHER < rows ? r0 + TOGETHER : rows;
        const float *in = x;
        if (residual) {
            float *to = h ? h : y; // where nobody keeps h, y holds it until the last pass
            for (long r = r0; r < r1; r++) {
                const float *restrict xr = x + r * w, *restrict rr = residual + r * w;
                float *restrict hr = to + r * w, s[16] = {0};
                EACH16(w, float v = xr[i] + rr[i]; hr[i] = v; s[l] += v;);
                stats[2 * r] = fold16(s) / w;
            }
            in = to;
        } else
            for (long r = r0; r < r1; r++) stats[2 * r] = row_sum(w, x + r * w) / w;
        for (long r = r0; r < r1; r++) {
            const float *row = in + r * w;
            float q[16] = {0}, mean = stats[2 * r];
            EACH16(w, float v = row[i] - mean; q[l] = fmadd(v, v, q[l]););
            stats[2 * r + 1] = 1.0f / sqrtf(fold16(q) / w + eps);
        }
        for (long r = r0; r < r1; r++) {
            const float *row = in + r * w;
            float *out = y + r * w, mean = stats[2 * r], rstd = stats[2 * r + 1];
#pragma omp simd
            for (long i = 0; i < w; i++) out[i] = fmadd((row[i] - mean) * rstd, gamma[i], beta[i]);
        }
        if (h && !residual) memcpy(h + r0 * w, x + r0 * w, (r1 - r0) * w * sizeof(float));
    }
}

// dx = rstd*(g - mean(g) - n*mean(g*n)) + dh with g = dy*gamma, n = (h-mean)*rstd.
void KERNEL(layernorm_grad)(long rows, long w, const float *restrict h, const float *restrict gamma,
                              const float *restrict stats, const float *restrict dy, const float *restrict dh,
                              float *restrict dx) {
    for (long r = 0; r < rows; r++) {
        const float *restrict hr = h + r * w, *restrict dr = dy + r * w;
        float *restrict out = dx + r * w;
        float mean = stats[2 * r], rstd = stats[2 * r + 1], a[16] = {0}, b[16] = {0};
        EACH16(w, float g = dr[i] * gamma[i], n = (hr[i] - mean) * rstd; a[l] += g; b[l] = fmadd(g, n, b[l]););
        float sg = fold16(a) / w, sgn = fold16(b) / w;
        if (dh) {
            const float *restrict er = dh + r * w;
#pragma omp simd
            for (long i = 0; i < w; i++)
                out[i] = fmadd(rstd, fmadd((hr[i] - mean) * rstd, -sgn, fmadd(dr[i], gamma[i], -sg)), er[i]);
        } else {
#pragma omp simd
            for (long i = 0; i < w; i++) out[i] = rstd * fmadd((hr[i] - mean) * rstd, -sgn, fmadd(dr[i], gamma[i], -sg));
        }
    }
}

// Columns [lo, hi), at most 64 of them, over all rows.
void KERNEL(layernorm_param_grad)(long rows, long w, long lo, long hi, const float *restrict h,
                                    const float *restrict stats, const float *restrict dy, float *restrict dgamma,
                                    float *restrict dbeta) {
    double gamma[64] = {0}, beta[64] = {0};
    long m = hi - lo;
    for (long r0 = 0; r0 < rows; r0 += 64) {
        float g[64] = {0}, b[64] = {0};
        for (long r = r0; r < r0 + 64 && r < rows; r++) {
            const float *restrict hr = h + r * w + lo, *restrict dr = dy + r * w + lo;
            float mean = stats[2 * r], rstd = stats[2 * r + 1];
#pragma omp simd
            for (long i = 0; i < m; i++) {
                g[i] = fmadd(dr[i], (hr[i] - mean) * rstd, g[i]);
                b[i] += dr[i];
            }
        }
        for (long i = 0; i < m; i++) {
            gamma[i] += g[i];
            beta[i] += b[i];
        }
    }
    for (long i = 0; i < m; i++) {
        dgamma[lo + i] = (float)gamma[i];
        dbeta[lo + i] = (float)beta[i];
    }
}

void KERNEL(normalize)(long rows, long w, const float *restrict x, float *restrict y, float *restrict norm) {
    for (long r = 0; r < rows; r++) {
        const float *restrict row = x + r * w;
        float *restrict out = y + r * w;
        float n = sqrtf(row_dot(w, row, row));
        n = n < 1e-12f ? 1e-12f : n;
        float f = 1.0f / n;
#pragma omp simd
        for (long i = 0; i < w; i++) out[i] = row[i] * f;
        norm[r] = n;
    }
}

void KERNEL(normalize_grad)(long rows, long w, const float *restrict y, const float *restrict norm,
                              const float *restrict dy, float *restrict dx) {
    for (long r = 0; r < rows; r++) {
        const float *restrict yr = y + r * w, *restrict dr = dy + r * w;
        float *restrict out = dx + r * w;
        float s = row_dot(w, yr, dr), f = 1.0f / norm[r];
#pragma omp simd
        for (long i = 0; i < w; i++) out[i] = fmadd(yr[i], -s, dr[i]) * f;
    }
}
