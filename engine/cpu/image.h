// Bilinear sampling with its gradients, crops, and permuted copies.
//
// The trick: gradients are gathered without atomics by giving each task all contributions to its part of the output, one
// plane of dx or a range of points of dgrid, in a fixed order.

typedef struct {
    long at[4]; // place in the plane, -1 outside
    float wx[2], wy[2];
} corners;

INLINE corners around(float gx, float gy, long h, long w) {
    corners c;
    float px = (gx + 1.0f) * (0.5f * (w - 1)), py = (gy + 1.0f) * (0.5f * (h - 1));
    float x0 = floorf(px), y0 = floorf(py);
    c.wx[1] = px - x0;
    c.wx[0] = 1.0f - c.wx[1];
    c.wy[1] = py - y0;
    c.wy[0] = 1.0f - c.wy[1];
    for (int i = 0; i < 4; i++) {
        float x = x0 + (i & 1), y = y0 + (i >> 1);
        c.at[i] = x >= 0 && y >= 0 && x < w && y < h ? (long)y * w + (long)x : -1;
    }
    return c;
}

// Points [from, to) of all c planes of one image.
void KERNEL(grid_sample)(long c, long h, long w, long points, long from, long to, const float *restrict x,
                           const float *restrict grid, float *restrict y) {
    for (long p = from; p < to; p++) {
        corners q = around(grid[2 * p], grid[2 * p + 1], h, w);
        for (long k = 0; k < c; k++) {
            const float *plane = x + k * h * w;
            float s = 0;
            for (int i = 0; i < 4; i++)
                if (q.at[i] >= 0) s = fmadd(q.wx[i & 1] * q.wy[i >> 1], plane[q.at[i]], s);
            y[k * points + p] = s;
        }
    }
}

// One plane of dx.
void KERNEL(grid_sample_dx)(long h, long w, long points, const float *restrict grid, const float *restrict dy,
                              float *restrict dx) {
    for (long i = 0; i < h * w; i++) dx[i] = 0;
    for (long p = 0; p < points; p++) {
        corners q = around(grid[2 * p], grid[2 * p + 1], h, w);
        for (int i = 0; i < 4; i++)
            if (q.at[i] >= 0) dx[q.at[i]] = fmadd(dy[p], q.wx[i & 1] * q.wy[i >> 1], dx[q.at[i]]);
    }
}

// Points [from, to) of dgrid, summed over the images that share the grid.
void KERNEL(grid_sample_dgrid)(long images, long c, long h, long w, long points, long from, long to,
                                 const float *restrict x, const float *restrict grid, const float *restrict dy,
                                 float *restrict dgrid) {
    float sx = 0.5f * (w - 1), sy = 0.5f * (h - 1);
    for (long p = from; p < to; p++) {
        corners q = around(grid[2 * p], grid[2 * p + 1], h, w);
        double gx = 0, gy = 0;
        for (long k = 0; k < images * c; k++) {
            const float *plane = x + k * h * w;
            float d = dy[k * points + p];
            for (int i = 0; i < 4; i++)
                if (q.at[i] >= 0) {
                    float v = d * plane[q.at[i]];
                    gx += (i & 1 ? v : -v) * q.wy[i >> 1];
                    gy += (i >> 1 ? v : -v) * q.wx[i & 1];
                }
        }
        dgrid[2 * p] = (float)(gx * sx);
        dgrid[2 * p + 1] = (float)(gy * sy);
    }
}

// Rows [from, to) of a dense y, read from x at the nest's strides (g->a).
void KERNEL(permute)(const ci_nest *g, long from, long to, const float *restrict x, float *restrict y) {
    int last = g->dims - 1;
    long n = g->n[last], s = g->a[last];
    for (long row = from; row < to; row++) {
        long o = 0, rest = row;
        for (int k = last - 1; k >= 0; k--) {
            o += rest % g->n[k] * g->a[k];
            rest /= g->n[k];
        }
        const float *restrict px = x + o;
        float *restrict py = y + row * n;
        if (s == 1)
            for (long i = 0; i < n; i++) py[i] = px[i];
        else
            for (long i = 0; i < n; i++) py[i] = px[i * s];
    }
}

// At most so many of n pixels' neighbours have a weight where a line of at most `length` pixels is scaled to n.
INLINE long most_taps(long length, long n) { return (long)(4.0 * (length > n ? (double)length / n : 1.0)) + 2; }

INLINE float cubic(float x) {
    x = fabsf(x);
    float inner = fmadd(fmadd(1.5f, x, -2.5f), x * x, 1.0f), outer = fmadd(fmadd(fmadd(-0.5f, x, 2.5f), x, -4.0f), x, 2.0f);
    return x < 1.0f ? inner : x < 2.0f ? outer : 0.0f;
}

// The k weights, `step` apart, of pixel i of n to which a line of `length` pixels is scaled, zero after the last; returns the
// first pixel that they are of. The centre's whole part is kept apart, so that its fraction is exact at any place.
INLINE long taps(long i, long n, long length, long k, float *weight, long step) {
    long twice = (2 * i + 1) * length, at = twice / (2 * n);
    float rest = (float)(twice % (2 * n)) / (float)(2 * n);
    float wide = length > n ? (float)length / (float)n : 1.0f;
    long first = at + (long)floorf(rest - 2.0f * wide + 0.5f), last = at + (long)floorf(rest + 2.0f * wide + 0.5f);
    if (first < 0) first = 0;
    if (last > length) last = length;
    if (last > first + k) last = first + k;
    float sum = 0;
    for (long x = first; x < last; x++) {
        float v = cubic(((float)(x - at) + 0.5f - rest) / wide);
        weight[(x - first) * step] = v;
        sum += v;
    }
    for (long t = 0; t < k; t++) weight[t * step] = t < last - first ? weight[t * step] / sum : 0.0f;
    return first;
}

long KERNEL(crop_scratch)(long h, long w, long m, long n) {
    long kx = most_taps(w, n), ky = most_taps(h, m);
    return kx * n + ky + w + kx + n;
}

// Rows are added up first, so that the sums run along them; then each row is scaled, all its pixels' first weights, then all
// their second ones, and so on.
void KERNEL(crop)(long c, long h, long w, long m, long n, const float *restrict x, const float *restrict box, float *restrict y,
                    float *restrict scratch) {
    long left = (long)box[0], top = (long)box[1], width = (long)box[2], height = (long)box[3];
    long kx = most_taps(w, n), ky = most_taps(h, m);
    float *across = scratch, *down = across + kx * n, *line = down + ky;
    int *first = (int *)(line + w + kx);
    for (long j = 0; j < n; j++) {
        long at = box[4] != 0 ? n - 1 - j : j;
        first[at] = (int)taps(j, n, width, kx, across + at, n);
    }
    for (long t = 0; t < kx; t++) line[width + t] = 0; // what weights of zero meet
    for (long i = 0; i < m; i++) {
        long above = taps(i, m, height, ky, down, 1);
        for (long k = 0; k < c; k++) {
            const float *rows = x + (k * h + top + above) * w + left;
            for (long s = 0; s < width; s++) line[s] = down[0] * rows[s];
            for (long t = 1; t < ky && above + t < height; t++)
                for (long s = 0; s < width; s++) line[s] = fmadd(down[t], rows[t * w + s], line[s]);
            float *to = y + (k * m + i) * n;
            for (long j = 0; j < n; j++) to[j] = across[j] * line[first[j]];
            for (long t = 1; t < kx; t++)
                for (long j = 0; j < n; j++) to[j] = fmadd(across[t * n + j], line[first[j] + t], to[j]);
        }
    }
}
