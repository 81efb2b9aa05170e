// A panel of a product: PANEL_ROWS rows of c times one strip of a packed b, all in registers. gemm.c includes this file
// once for every kind of register, with VEC (a vector type), VECS (vectors in a strip), ROWS and PANEL (the name) defined.
//
// k numbers are added to what c holds, or to zero where first is set, in the order of k: the sum's bits do not depend on
// where the caller cuts k, m or n. With last set, c = alpha*sum + bias.
enum { CAT(PANEL, _strip) = VECS * sizeof(VEC) / 4 };

INLINE void CAT(PANEL, _rows)(int rows, int first, int last, long k, float alpha, const float *restrict a, long lda,
                              const float *restrict b, const float *restrict bias, float *restrict c, long ldc) {
    enum { LANES = sizeof(VEC) / 4, STRIP = VECS * LANES };
    VEC sum[ROWS][VECS];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < VECS; j++) sum[i][j] = first ? (VEC){0} : *(const VEC *)(c + i * ldc + j * LANES);
#pragma GCC unroll 1
    for (long p = 0; p < k; p++, b += STRIP) {
        VEC v[VECS];
#pragma GCC unroll 4
        for (int j = 0; j < VECS; j++) v[j] = *(const VEC *)(b + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            float x = a[i * lda + p];
#pragma GCC unroll 4
            for (int j = 0; j < VECS; j++) sum[i][j] += x * v[j];
        }
    }
    if (last)
#pragma GCC unroll 4
        for (int j = 0; j < VECS; j++) {
            VEC v = *(const VEC *)(bias + j * LANES);
#pragma GCC unroll 8
            for (int i = 0; i < rows; i++) sum[i][j] = alpha * sum[i][j] + v;
        }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < VECS; j++) *(VEC *)(c + i * ldc + j * LANES) = sum[i][j];
}

TARGET static void PANEL(int rows, int first, int last, long k, float alpha, const float *a, long lda, const float *b,
                         const float *bias, float *c, long ldc) {
#define CASE(r)                                                                                       \
    case r:                                                                                           \
        if (r <= ROWS) CAT(PANEL, _rows)(r, first, last, k, alpha, a, lda, b, bias, c, ldc); \
        break
    switch (rows) {
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
#if ROWS > 6
        CASE(7);
        CASE(8);
#endif
    }
#undef CASE
}
#undef VEC
#undef VECS
#undef ROWS
#undef PANEL
#undef TARGET
