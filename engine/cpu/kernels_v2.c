// Any processor. On x86-64 without FMA fmadd is emulated, exactly and some forty times slower.
enum { LANES = 4, VECS = 2, ROWS = 4 };
#define VARIANT v2
#include "kernels.h"
