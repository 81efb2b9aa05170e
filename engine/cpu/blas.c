// OpenBLAS, opened at run time, and the tile of a matrix product around it.
//
// The trick: the library picks its kernels once, when it is loaded, and old versions pick slow ones on processors they do
// not know. So the kind is chosen here from what the processor can do, before loading. The library itself stays
// single-threaded: the engine runs tiles in parallel.
#define _GNU_SOURCE
#include "ci.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*sgemm_t)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                        const float *b, int ldb, float beta, float *c, int ldc);
static sgemm_t sgemm;
static const char *config, *core = "";

int ci_simd_level(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
        return __builtin_cpu_supports("avx512bf16") ? 4 : 3;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return 2;
#endif
    return 1;
}

const char *ci_blas_core(void) { return core; }

const char *ci_blas_load(int level, char *err, int errlen) {
    static const char *names[] = {"libopenblas.so.0", "libopenblas.so", "libopenblasp.so.0", "libopenblasp.so",
                                  "libopenblas64.so.0", "libopenblas.dylib"};
    if (config) return config;
    // With AVX2 alone "Zen" and "Haswell" give the same bits at the same speed (measured on Zen 3: 80-93 GFLOP/s a core);
    // Haswell it is, so that Intel's and AMD's machines share a fingerprint. A user's own choice stands.
    if (level >= 4) setenv("OPENBLAS_CORETYPE", "Cooperlake", 0);
    else if (level == 3) setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
    else if (level == 2) setenv("OPENBLAS_CORETYPE", "Haswell", 0);
    setenv("OPENBLAS_NUM_THREADS", "1", 1); // no idle threads of its own
    snprintf(err, errlen, "not found");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        void *lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (!lib) continue;
        sgemm_t f = (sgemm_t)dlsym(lib, "cblas_sgemm");
        void (*threads)(int) = (void (*)(int))dlsym(lib, "openblas_set_num_threads");
        char *(*conf)(void) = (char *(*)(void))dlsym(lib, "openblas_get_config");
        char *(*name)(void) = (char *(*)(void))dlsym(lib, "openblas_get_corename");
        if (!f || !threads || !conf || !name) {
            snprintf(err, errlen, "%s lacks cblas_sgemm or openblas_*", names[i]);
            dlclose(lib);
            continue;
        }
        // 64-bit integer builds take other arguments.
        if (strstr(conf(), "USE64BITINT")) {
            snprintf(err, errlen, "%s is a 64-bit-integer build", names[i]);
            dlclose(lib);
            continue;
        }
        threads(1);
        core = name();
        config = conf();
        sgemm = f;
        return config;
    }
    return NULL;
}

void ci_sgemm(int own, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb,
              float *c, int ldc) {
    if (own) ci_sgemm_own(ta, tb, m, n, k, alpha, a, lda, b, ldb, NULL, c, ldc);
    else sgemm(101, 111 + ta, 111 + tb, m, n, k, alpha, a, lda, b, ldb, 0, c, ldc);
}

void ci_gemm_tile(int own, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                  int ldb, const float *bias, float *c, int ldc) {
    if (own) {
        ci_sgemm_own(ta, tb, m, n, k, alpha, a, lda, b, ldb, bias, c, ldc);
        return;
    }
    // The bias stands where the library would else write zeros before it adds, so it costs nothing.
    if (bias)
        for (long i = 0; i < m; i++) memcpy(c + i * ldc, bias, n * sizeof(float));
    sgemm(101, 111 + ta, 111 + tb, m, n, k, alpha, a, lda, b, ldb, bias ? 1 : 0, c, ldc);
}

void ci_gemm_then(int act, int m, int n, const float *c, const float *x, float *z, int ldc) {
    for (long i = 0; i < m * (long)ldc; i += ldc) {
        if (x) ci_unary_grad(act, n, x + i, c + i, z + i, 0, 0);
        else ci_unary(act, n, c + i, z + i, 0, 0);
    }
}
