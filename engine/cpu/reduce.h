// Sums over nests of strided loops.
//
// The trick: rows are added in single precision in blocks of 64, vectorised over the columns, and the blocks in double,
// so that sums of many thousand rows stay exact to a few ulp at the price of plain float code. The order depends on the
// shapes alone.

enum { COLUMNS = 256, BLOCK = 64 };

INLINE long offset(const ci_nest *g, int dims, long row) {
    long o = 0;
    for (int k = dims - 1; k >= 0; k--) {
        o += row % g->n[k] * g->a[k];
        row /= g->n[k];
    }
    return o;
}

void KERNEL(sum_columns)(const ci_nest *g, long n, const float *restrict x, double alpha, float *restrict y) {
    long rows = 1;
    for (int k = 0; k < g->dims; k++) rows *= g->n[k];
    double total[COLUMNS];
    float part[COLUMNS];
    for (long c0 = 0; c0 < n; c0 += COLUMNS) {
        long m = n - c0 < COLUMNS ? n - c0 : COLUMNS;
        for (long c = 0; c < m; c++) total[c] = 0;
        for (long r0 = 0; r0 < rows; r0 += BLOCK) {
            long r1 = r0 + BLOCK < rows ? r0 + BLOCK : rows;
            for (long c = 0; c < m; c++) part[c] = 0;
            for (long r = r0; r < r1; r++) {
                const float *restrict row = x + c0 + offset(g, g->dims, r);
#pragma omp simd
                for (long c = 0; c < m; c++) part[c] += row[c];
            }
#pragma omp simd
            for (long c = 0; c < m; c++) total[c] += part[c];
        }
        for (long c = 0; c < m; c++) y[c0 + c] = (float)(alpha * total[c]);
    }
}

double KERNEL(sum_all)(const ci_nest *g, long from, long to, long lo, long hi, const float *restrict x) {
    double total = 0;
    for (long r = from; r < to; r++) {
        const float *restrict row = x + offset(g, g->dims - 1, r);
        for (long c0 = lo; c0 < hi; c0 += 1024) {
            long c1 = c0 + 1024 < hi ? c0 + 1024 : hi;
            total += row_sum(c1 - c0, row + c0);
        }
    }
    return total;
}

// Columns [lo, hi) of y = 0, then row i of x added to row index[i].
void KERNEL(scatter_add)(long n, long w, long vocab, const float *restrict index, const float *restrict x,
                           float *restrict y, long lo, long hi) {
    for (long v = 0; v < vocab; v++) memset(y + v * w + lo, 0, (hi - lo) * sizeof(float));
    for (long i = 0; i < n; i++) {
        float *restrict to = y + (long)index[i] * w;
        const float *restrict from = x + i * w;
#pragma omp simd
        for (long c = lo; c < hi; c++) to[c] += from[c];
    }
}
