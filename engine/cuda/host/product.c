// What stands in for cuBLASLt: products of float32 operands that are used as they are, rounded to TF32, or held as bf16,
// with float accumulation in the order of k.
#include "product.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static float bits(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint32_t raw(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

// Rounds to 10 bits of mantissa, to nearest, ties away from zero, as tensor cores' cvt.rna does.
static float tf32(float f) {
    uint32_t u = raw(f);
    if ((u & 0x7f800000u) == 0x7f800000u) return f;
    return bits((u + 0x1000u) & ~0x1fffu);
}

static uint16_t bf16(float f) {
    uint32_t u = raw(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float get(const void *p, int64_t i, int half, int exact) {
    if (half) return bits((uint32_t)((const uint16_t *)p)[i] << 16);
    float f = ((const float *)p)[i];
    return exact ? f : tf32(f);
}

int host_product(const void *a, const void *b, const void *bias, void *y, int64_t batch, int64_t m, int64_t n, int64_t k, int64_t sa,
                 int64_t sb, int ta, int tb, int ha, int hb, int hy, float alpha, int exact) {
    float *pa = malloc(sizeof(float) * (m * k + k * n + n + 1));
    if (!pa) return 1;
    float *pb = pa + m * k, *row = pb + k * n;
    for (int64_t z = 0; z < batch; z++) {
        for (int64_t i = 0; i < m; i++)
            for (int64_t q = 0; q < k; q++) pa[i * k + q] = get(a, z * sa + (ta ? q * m + i : i * k + q), ha, exact);
        for (int64_t q = 0; q < k; q++)
            for (int64_t j = 0; j < n; j++) pb[q * n + j] = get(b, z * sb + (tb ? j * k + q : q * n + j), hb, exact);
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < n; j++) row[j] = 0;
            for (int64_t q = 0; q < k; q++) {
                float v = pa[i * k + q];
                const float *w = pb + q * n;
                for (int64_t j = 0; j < n; j++) row[j] += v * w[j];
            }
            for (int64_t j = 0; j < n; j++) {
                float v = alpha * row[j];
                if (bias) v += get(bias, j, hy, 1);
                if (hy) ((uint16_t *)y)[(z * m + i) * n + j] = bf16(v);
                else ((float *)y)[(z * m + i) * n + j] = v;
            }
        }
    }
    free(pa);
    return 0;
}
