// Patch embedding's rearrangement and its transpose, bilinear sampling and its gradients, crops.
#include "device.cuh"

// pixel returns where number i of the patches [b,(h/p)(w/p),c,p,p] lies in the image [b,c,h,w].
__device__ inline i64 pixel(u32 i, u32 c, u32 h, u32 w, u32 p) {
    u32 x = i % p, y = i / p % p, k = i / (p * p) % c, patch = i / (p * p * c);
    u32 pw = w / p, ph = h / p, px = patch % pw, py = patch / pw % ph, b = patch / (pw * ph);
    return (((i64)b * c + k) * h + py * p + y) * w + px * p + x;
}

// half: the patches.
KERNEL(256, patchify)(const float *image, void *patches, i64 n, i64 c, i64 h, i64 w, i64 p, i64 half) {
    i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
    if (i < n) store(patches, i, image[pixel((u32)i, (u32)c, (u32)h, (u32)w, (u32)p)], half & 1);
}

KERNEL(256, unpatchify)(const void *patches, float *image, i64 n, i64 c, i64 h, i64 w, i64 p, i64 half) {
    i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
    if (i < n) image[pixel((u32)i, (u32)c, (u32)h, (u32)w, (u32)p)] = load(patches, i, half & 1);
}

// point is a place of the grid in pixels: the pixel up and left of it and the distances from that.
struct point { int x0, y0; float fx, fy; };

// A grid's coordinate -1 is the centre of the first pixel, 1 that of the last. Far outside there is no pixel: what lies
// beyond is moved next to the border, where the weights meet only pixels outside.
__device__ inline point locate(float gx, float gy, i64 h, i64 w) {
    float px = (gx + 1.0f) * (0.5f * (float)(w - 1)), py = (gy + 1.0f) * (0.5f * (float)(h - 1));
    if (!(px > -2.0f)) px = -2.0f; // also what is no number
    if (!(py > -2.0f)) py = -2.0f;
    px = fminf(px, (float)w + 1.0f);
    py = fminf(py, (float)h + 1.0f);
    point p = {(int)floorf(px), (int)floorf(py), 0, 0};
    p.fx = px - (float)p.x0;
    p.fy = py - (float)p.y0;
    return p;
}

__device__ inline bool inside(int x, int y, i64 h, i64 w) { return x >= 0 && y >= 0 && x < w && y < h; }

// y [b,c,m]: x [b,c,h,w] at the m points of the image's grid, or of the one that all share (grids = 1).
KERNEL(256, grid_sample)(const float *x, const float *grid, float *y, i64 b, i64 c, i64 h, i64 w, i64 m, i64 grids) {
    i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
    if (i >= b * m) return;
    i64 image = i / m, j = i % m, g = 2 * (grids == 1 ? j : i);
    point p = locate(grid[g], grid[g + 1], h, w);
    for (i64 k = 0; k < c; k++) {
        const float *plane = x + (image * c + k) * h * w;
        float s = 0;
        for (int q = 0; q < 4; q++) {
            int px = p.x0 + (q & 1), py = p.y0 + (q >> 1);
            float weight = (q & 1 ? p.fx : 1.0f - p.fx) * (q >> 1 ? p.fy : 1.0f - p.fy);
            if (inside(px, py, h, w)) s += weight * plane[(i64)py * w + px];
        }
        y[(image * c + k) * m + j] = s;
    }
}

// dx. Many points may add to one pixel: a thread owns a row of pixels of an image and goes through all points in their order,
// so that nothing is atomic and the order is that of the points. The points are read 128 at a time into shared memory.
KERNEL(128, grid_sample_grad_x)(const float *grid, const float *dy, float *dx, i64 c, i64 h, i64 w, i64 m, i64 grids) {
    __shared__ point tile[128];
    i64 image = blockIdx.y, row = (i64)blockIdx.x * 128 + threadIdx.x;
    const float *g = grid + (grids == 1 ? 0 : image * m * 2);
    if (row < h) {
        for (i64 k = 0; k < c; k++) {
            for (i64 px = 0; px < w; px++) dx[((image * c + k) * h + row) * w + px] = 0;
        }
    }
    for (i64 from = 0; from < m; from += 128) {
        i64 j = from + threadIdx.x;
        __syncthreads();
        point none = {-9, -9, 0, 0};
        tile[threadIdx.x] = j < m ? locate(g[2 * j], g[2 * j + 1], h, w) : none;
        __syncthreads();
        if (row >= h) continue;
        for (int t = 0; t < 128; t++) {
            point p = tile[t];
            int below = (int)row - p.y0;
            if (below != 0 && below != 1) continue;
            float wy = below ? p.fy : 1.0f - p.fy;
            for (i64 k = 0; k < c; k++) {
                float d = dy[(image * c + k) * m + from + t] * wy;
                float *line = dx + ((image * c + k) * h + row) * w;
                if (p.x0 >= 0 && p.x0 < w) line[p.x0] += d * (1.0f - p.fx);
                if (p.x0 + 1 >= 0 && p.x0 + 1 < w) line[p.x0 + 1] += d * p.fx;
            }
        }
    }
}

// dgrid: a thread a point; where all images share the grid it adds over the images in their order.
KERNEL(256, grid_sample_grad_grid)(const float *x, const float *grid, const float *dy, float *dgrid, i64 b, i64 c, i64 h, i64 w, i64 m,
                                   i64 grids) {
    i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
    if (i >= grids * m) return;
    i64 j = i % m, first = grids == 1 ? 0 : i / m, last = grids == 1 ? b - 1 : first;
    point p = locate(grid[2 * i], grid[2 * i + 1], h, w);
    float dgx = 0, dgy = 0;
    for (i64 image = first; image <= last; image++) {
        for (i64 k = 0; k < c; k++) {
            const float *plane = x + (image * c + k) * h * w;
            float d = dy[(image * c + k) * m + j];
            for (int q = 0; q < 4; q++) {
                int px = p.x0 + (q & 1), py = p.y0 + (q >> 1);
                if (!inside(px, py, h, w)) continue;
                float v = d * plane[(i64)py * w + px];
                dgx += v * (q & 1 ? 1.0f : -1.0f) * (q >> 1 ? p.fy : 1.0f - p.fy);
                dgy += v * (q >> 1 ? 1.0f : -1.0f) * (q & 1 ? p.fx : 1.0f - p.fx);
            }
        }
    }
    dgrid[2 * i] = dgx * (0.5f * (float)(w - 1));
    dgrid[2 * i + 1] = dgy * (0.5f * (float)(h - 1));
}

// taps are the pixels of a line that one pixel of its scaled copy is made of: those from `first` to before `last`. Pixel first+k
// has the weight cubic((k - centre) / wide) / sum.
struct taps { i64 first, last; float centre, wide, sum; };

__device__ inline float cubic(float x) {
    x = fabsf(x);
    if (x < 1.0f) return (1.5f * x - 2.5f) * x * x + 1.0f;
    return x < 2.0f ? ((-0.5f * x + 2.5f) * x - 4.0f) * x + 2.0f : 0.0f;
}

// Pixel i of n to which `length` pixels are scaled. The centre's whole part is kept apart: its fraction is exact at any place.
__device__ inline taps taps_of(i64 i, i64 n, i64 length) {
    i64 twice = (2 * i + 1) * length, at = twice / (2 * n);
    float rest = (float)(twice % (2 * n)) / (float)(2 * n);
    taps t;
    t.wide = length > n ? (float)length / (float)n : 1.0f;
    t.first = at + (i64)floorf(rest - 2.0f * t.wide + 0.5f);
    t.last = at + (i64)floorf(rest + 2.0f * t.wide + 0.5f);
    if (t.first < 0) t.first = 0;
    if (t.last > length) t.last = length;
    t.centre = (float)(at - t.first) + (rest - 0.5f);
    t.sum = 0;
    for (i64 k = 0; k < t.last - t.first; k++) t.sum += cubic(((float)k - t.centre) / t.wide);
    return t;
}

// y [b,c,m,n]: box [left, top, width, height, mirrored] of each image of x [b,c,h,w], scaled. A thread makes a pixel; the weights
// are computed where they are needed, since there are about 4 x 4. Of a box that is not inside the image nothing is read.
KERNEL(256, crop)(const float *x, const float *boxes, float *y, i64 total, i64 c, i64 h, i64 w, i64 m, i64 n, i64 *fault) {
    i64 i = (i64)blockIdx.x * 256 + threadIdx.x;
    if (i >= total) return;
    i64 column = i % n, row = i / n % m, plane = i / (n * m);
    const float *box = boxes + 5 * (plane / c);
    if (!(box[0] >= 0 && box[1] >= 0 && box[2] >= 1 && box[3] >= 1 && box[0] + box[2] <= (float)w && box[1] + box[3] <= (float)h)) {
        *fault = 1; // every thread would write the same
        y[i] = 0;
        return;
    }
    taps down = taps_of(row, m, (i64)box[3]), across = taps_of(box[4] != 0 ? n - 1 - column : column, n, (i64)box[2]);
    const float *corner = x + (plane * h + (i64)box[1] + down.first) * w + (i64)box[0] + across.first;
    float sum = 0;
    for (i64 p = 0; p < down.last - down.first; p++) {
        float line = 0;
        for (i64 q = 0; q < across.last - across.first; q++) line += cubic(((float)q - across.centre) / across.wide) * corner[p * w + q];
        sum += cubic(((float)p - down.centre) / down.wide) * line;
    }
    y[i] = sum / (down.sum * across.sum);
}
