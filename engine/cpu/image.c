// Bilinear sampling with its gradients, and permuted copies.
//
// The trick: gradients are gathered without atomics by giving each task all contributions to its part of the output, one
// plane of dx or a range of points of dgrid, in a fixed order.
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math")
#include "ci.h"
#include <math.h>

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
KERNEL void ci_grid_sample(long c, long h, long w, long points, long from, long to, const float *restrict x,
                           const float *restrict grid, float *restrict y) {
    for (long p = from; p < to; p++) {
        corners q = around(grid[2 * p], grid[2 * p + 1], h, w);
        for (long k = 0; k < c; k++) {
            const float *plane = x + k * h * w;
            float s = 0;
            for (int i = 0; i < 4; i++)
                if (q.at[i] >= 0) s += q.wx[i & 1] * q.wy[i >> 1] * plane[q.at[i]];
            y[k * points + p] = s;
        }
    }
}

// One plane of dx.
KERNEL void ci_grid_sample_dx(long h, long w, long points, const float *restrict grid, const float *restrict dy,
                              float *restrict dx) {
    for (long i = 0; i < h * w; i++) dx[i] = 0;
    for (long p = 0; p < points; p++) {
        corners q = around(grid[2 * p], grid[2 * p + 1], h, w);
        for (int i = 0; i < 4; i++)
            if (q.at[i] >= 0) dx[q.at[i]] += dy[p] * q.wx[i & 1] * q.wy[i >> 1];
    }
}

// Points [from, to) of dgrid, summed over the images that share the grid.
KERNEL void ci_grid_sample_dgrid(long images, long c, long h, long w, long points, long from, long to,
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
KERNEL void ci_permute(const ci_nest *g, long from, long to, const float *restrict x, float *restrict y) {
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
