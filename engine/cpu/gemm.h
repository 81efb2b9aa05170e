// The matrix product.
//
// The trick: b is packed, into strips of as many columns as a few registers hold, k after k, and frozen weights are
// packed once. a is read ROWS rows at a time, where it lies or from a copy of some rows. k is cut into parts: a part of a
// strip stays in the first-level cache while MC rows pass, a part of these rows in the second-level one while the strips
// do, and the next strip is on its way. Sums wait in c between parts: every number of c is one chain of fmadd in the order
// of k, so that its bits depend neither on tiles and parts nor on the width of registers.
enum { STRIP = VECS * LANES, MC = 120, KC = 384 * 16 / STRIP < 384 ? 384 * 16 / STRIP : 384, LINE = 16 };
_Static_assert((int)STRIP == CAT(CI_STRIP, VARIANT) && (int)ROWS == CAT(CI_ROWS, VARIANT), "the caller cuts other tiles");

// A panel: some rows of c times one strip of a packed b, all in registers. k products are added to what c holds, or to zero
// where first is set. With last set, c = alpha*sum + bias. After every so many products a line of next is fetched.
INLINE void panel_rows(int rows, int first, int last, long k, float alpha, const float *restrict a, long lda,
                       const float *restrict b, const float *restrict bias, float *restrict c, long ldc,
                       const float *next, long every) {
    vec sum[ROWS][VECS];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < VECS; j++) sum[i][j] = first ? (vec){0} : *(const vec *)(c + i * ldc + j * LANES);
#pragma GCC unroll 1
    for (long p = 0; p < k; next += LINE) {
        long end = k - p < every ? k : p + every;
        __builtin_prefetch(next, 0, 2);
#pragma GCC unroll 1
        for (; p < end; p++, b += STRIP) {
            vec v[VECS];
#pragma GCC unroll 4
            for (int j = 0; j < VECS; j++) v[j] = *(const vec *)(b + j * LANES);
#pragma GCC unroll 8
            for (int i = 0; i < rows; i++) {
                vec x = splat(a[i * lda + p]);
#pragma GCC unroll 4
                for (int j = 0; j < VECS; j++) sum[i][j] = vfmadd(x, v[j], sum[i][j]);
            }
        }
    }
    if (last)
#pragma GCC unroll 4
        for (int j = 0; j < VECS; j++) {
            vec v = *(const vec *)(bias + j * LANES);
#pragma GCC unroll 8
            for (int i = 0; i < rows; i++) sum[i][j] = vfmadd(splat(alpha), sum[i][j], v);
        }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < VECS; j++) *(vec *)(c + i * ldc + j * LANES) = sum[i][j];
}

static void panel(int rows, int first, int last, long k, float alpha, const float *a, long lda, const float *b,
                  const float *bias, float *c, long ldc, const float *next, long every) {
#define CASE(r)                                                                                     \
    case r:                                                                                         \
        if (r <= ROWS) panel_rows(r, first, last, k, alpha, a, lda, b, bias, c, ldc, next, every);  \
        break
    switch (rows) {
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
        CASE(7);
        CASE(8);
    }
#undef CASE
}

// The limit of all products: n rounds of the fmadd that a panel holds, from registers alone. Returns the operations.
double KERNEL(fma_loop)(long n, float *sink) {
    vec sum[ROWS][VECS], x = splat(*sink), y = splat(0.5f);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int j = 0; j < VECS; j++) sum[i][j] = splat(i * VECS + j);
#pragma GCC unroll 1
    for (long p = 0; p < n; p++)
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
            for (int j = 0; j < VECS; j++) sum[i][j] = vfmadd(x, y, sum[i][j]);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int j = 0; j < VECS; j++) *sink += sum[i][j][0];
    return 2.0 * LANES * ROWS * VECS * n;
}

#ifdef __AVX2__
typedef float vec8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t pick8 __attribute__((vector_size(32)));

// 8 x 8 numbers in registers: pairs of rows are interleaved number by number, two by two, and by halves.
INLINE void transpose8(const float *x, long ld, float *t, long ldt) {
    vec8 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) a[i] = *(const vec8 *)(x + i * ld);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        b[i] = __builtin_shuffle(a[i], a[i + 1], (pick8){0, 8, 1, 9, 4, 12, 5, 13});
        b[i + 1] = __builtin_shuffle(a[i], a[i + 1], (pick8){2, 10, 3, 11, 6, 14, 7, 15});
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        int p = i / 2 * 4 + i % 2; // 0 1 4 5
        a[2 * i] = __builtin_shuffle(b[p], b[p + 2], (pick8){0, 1, 8, 9, 4, 5, 12, 13});
        a[2 * i + 1] = __builtin_shuffle(b[p], b[p + 2], (pick8){2, 3, 10, 11, 6, 7, 14, 15});
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        *(vec8 *)(t + i * ldt) = __builtin_shuffle(a[i], a[i + 4], (pick8){0, 1, 2, 3, 8, 9, 10, 11});
        *(vec8 *)(t + (i + 4) * ldt) = __builtin_shuffle(a[i], a[i + 4], (pick8){4, 5, 6, 7, 12, 13, 14, 15});
    }
}
#endif

// t = the transpose of rows x cols numbers at stride ld. The last squares reach back into their neighbours.
static void transpose(long rows, long cols, const float *restrict x, long ld, float *restrict t, long ldt) {
#ifdef __AVX2__
    if (rows >= 8 && cols >= 8) {
        for (long i0 = 0; i0 < rows; i0 += 8)
            for (long j0 = 0; j0 < cols; j0 += 8) {
                long i = i0 + 8 <= rows ? i0 : rows - 8, j = j0 + 8 <= cols ? j0 : cols - 8;
                transpose8(x + i * ld + j, ld, t + j * ldt + i, ldt);
            }
        return;
    }
#endif
    for (long j0 = 0; j0 < cols; j0 += 16)
        for (long r = 0; r < rows; r++)
            for (long j = j0; j < j0 + 16 && j < cols; j++) t[j * ldt + r] = x[r * ld + j];
}

// Strips [from, to) of op(b), k x n: strip s holds columns s*STRIP.. of all k rows, zero behind column n.
void KERNEL(gemm_pack)(int tb, long from, long to, long n, long k, const float *b, long ldb, float *packed) {
    for (long s = from; s < to; s++) {
        float *y = packed + s * STRIP * k;
        long j0 = s * STRIP, m = n - j0 < STRIP ? n - j0 : STRIP;
        if (m < STRIP) memset(y, 0, STRIP * k * sizeof(float));
        if (tb)
            transpose(m, k, b + j0 * ldb, ldb, y, STRIP);
        else
            for (long p = 0; p < k; p++) memcpy(y + p * STRIP, b + p * ldb + j0, m * sizeof(float));
    }
}

// Scratch of a thread, kept for its life: packed operands, and rows of a.
static __thread float *scratch, *near;
static __thread long held;

// c = alpha*a·b + bias (or NULL), b packed from its first strip on.
void KERNEL(gemm_packed)(long m, long n, long k, float alpha, const float *a, long lda, const float *packed,
                         const float *bias, float *c, long ldc) {
    static const float zeros[STRIP];
    long cuts = (k + KC - 1) / KC, part = cuts ? (k + cuts - 1) / cuts : 1;
    int ahead = n * k > 1 << 16; // less than that stays in the second-level cache
    for (long i0 = 0; i0 < m; i0 += MC) {
        long mc = m - i0 < MC ? m - i0 : MC, panels = (mc + ROWS - 1) / ROWS;
        for (long k0 = 0; k0 == 0 || k0 < k; k0 += part) {
            long kc = k - k0 < part ? k - k0 : part;
            int first = k0 == 0, last = k0 + part >= k;
            const float *ai = a + i0 * lda + k0;
            long la = lda;
            // Rows that lie a multiple of 4 KB apart would drive each other out of the caches.
            if (kc < lda && n >= 8 * STRIP) {
                if (!near && !(near = malloc(MC * KC * sizeof(float)))) abort();
                for (long i = 0; i < mc; i++) memcpy(near + i * kc, ai + i * lda, kc * sizeof(float));
                ai = near, la = kc;
            }
            // While a strip is used, the next one (or the next part's first) is fetched, a share of it with every panel, and
            // a line of it now and then: many at once would stand in the way of what the panel itself loads.
            long share = ahead ? (kc * STRIP / LINE + panels - 1) / panels * LINE : 0;
            long every = share ? (kc * LINE > share ? kc * LINE / share : 1) : kc;
            for (long j = 0; j < n; j += STRIP) {
                const float *b = packed + j * k + k0 * STRIP, *add = bias ? bias + j : zeros;
                const float *next = j + STRIP < n ? b + STRIP * k : packed + (k0 + kc) * STRIP;
                long nc = n - j < STRIP ? n - j : STRIP;
                float edge[ROWS * STRIP], padded[STRIP];
                if (nc < STRIP && bias) {
                    memset(padded, 0, sizeof padded);
                    memcpy(padded, add, nc * sizeof(float));
                    add = padded;
                }
                for (long i = 0; i < mc; i += ROWS, next += share) {
                    long rows = mc - i < ROWS ? mc - i : ROWS;
                    float *ci = c + (i0 + i) * ldc + j;
                    if (nc == STRIP) {
                        panel(rows, first, last, kc, alpha, ai + i * la, la, b, add, ci, ldc, next, every);
                        continue;
                    }
                    // The last strip goes through a full one, since c ends here.
                    memset(edge, 0, sizeof edge);
                    if (!first)
                        for (long r = 0; r < rows; r++) memcpy(edge + r * STRIP, ci + r * ldc, nc * sizeof(float));
                    panel(rows, first, last, kc, alpha, ai + i * la, la, b, add, edge, STRIP, next, every);
                    for (long r = 0; r < rows; r++) memcpy(ci + r * ldc, edge + r * STRIP, nc * sizeof(float));
                }
            }
        }
    }
}

// c = alpha*op(a)·op(b) + bias (or NULL).
void KERNEL(gemm)(int ta, int tb, long m, long n, long k, float alpha, const float *a, long lda, const float *b, long ldb,
                  const float *bias, float *c, long ldc) {
    long strips = (n + STRIP - 1) / STRIP, nb = strips * STRIP * k, want = nb + (ta ? m * k : 0);
    if (want > held) {
        free(scratch);
        scratch = malloc(want * sizeof(float));
        if (!scratch) abort();
        held = want;
    }
    KERNEL(gemm_pack)(tb, 0, strips, n, k, b, ldb, scratch);
    if (ta) { // rows of op(a), which a holds as columns
        transpose(k, m, a, lda, scratch + nb, k);
        a = scratch + nb, lda = k;
    }
    KERNEL(gemm_packed)(m, n, k, alpha, a, lda, scratch, bias, c, ldc);
}

// z = act(c), or where x is given z = act'(x)*c, all with the same leading dimension.
void KERNEL(gemm_then)(int act, long m, long n, const float *c, const float *x, float *z, long ldc) {
    for (long i = 0; i < m * ldc; i += ldc) {
        if (x) KERNEL(unary_grad)(act, n, x + i, c + i, z + i, 0, 0);
        else KERNEL(unary)(act, n, c + i, z + i, 0, 0);
    }
}
