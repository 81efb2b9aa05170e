#include <stdint.h>

// y = alpha*op(a)·op(b) + bias; see cuda.Product. Returns 1 when there is no memory.
int host_product(const void *a, const void *b, const void *bias, void *y, int64_t batch, int64_t m, int64_t n, int64_t k, int64_t sa,
                 int64_t sb, int ta, int tb, int ha, int hb, int hy, float alpha, int exact);
