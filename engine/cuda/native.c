//go:build cuda

#include "native.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cublaslt.h"

struct native {
    void *driver, *library;
    int (*begin)(void *, int), (*end)(void *, void **), (*instantiate)(void **, void *, unsigned long long);
    int (*launch)(void *, void *), (*free_exec)(void *), (*free_graph)(void *);
    int (*host_alloc)(void **, size_t), (*host_free)(void *), (*set_attribute)(void *, int, int), (*describe)(int, const char **);

    lt_handle handle;
    size_t (*version)(void);
    int (*create)(lt_handle *), (*destroy)(lt_handle);
    int (*desc_create)(lt_desc *, int, int), (*desc_set)(lt_desc, int, const void *, size_t), (*desc_destroy)(lt_desc);
    int (*layout_create)(lt_layout *, int, uint64_t, uint64_t, int64_t), (*layout_set)(lt_layout, int, const void *, size_t);
    int (*layout_destroy)(lt_layout);
    int (*pref_create)(lt_preference *), (*pref_set)(lt_preference, int, const void *, size_t), (*pref_destroy)(lt_preference);
    int (*heuristic)(lt_handle, lt_desc, lt_layout, lt_layout, lt_layout, lt_layout, lt_preference, int, lt_result *, int *);
    int (*matmul)(lt_handle, lt_desc, const void *, const void *, lt_layout, const void *, lt_layout, const void *, const void *, lt_layout,
                  void *, lt_layout, const lt_algo *, void *, size_t, void *);
    const char *(*status)(int);
};

struct product {
    lt_desc desc;
    lt_layout a, b, y;
    lt_algo algo;
    product_spec spec;
    uint64_t workspace;
    size_t bytes;
};

// find looks a function up and notes the first that is missing.
static void *find(void *lib, const char *name, const char **missing) {
    void *f = dlsym(lib, name);
    if (!f && !*missing) *missing = name;
    return f;
}

native *native_open(char *why, size_t n) {
    native *d = calloc(1, sizeof *d);
    const char *missing = 0;
    if (!d || !(d->driver = dlopen("libcuda.so.1", RTLD_NOW))) {
        snprintf(why, n, "%s", d ? dlerror() : "no memory");
        free(d);
        return 0;
    }
    d->begin = find(d->driver, "cuStreamBeginCapture_v2", &missing);
    d->end = find(d->driver, "cuStreamEndCapture", &missing);
    d->instantiate = find(d->driver, "cuGraphInstantiateWithFlags", &missing);
    d->launch = find(d->driver, "cuGraphLaunch", &missing);
    d->free_exec = find(d->driver, "cuGraphExecDestroy", &missing);
    d->free_graph = find(d->driver, "cuGraphDestroy", &missing);
    d->host_alloc = find(d->driver, "cuMemAllocHost_v2", &missing);
    d->host_free = find(d->driver, "cuMemFreeHost", &missing);
    d->set_attribute = find(d->driver, "cuFuncSetAttribute", &missing);
    d->describe = find(d->driver, "cuGetErrorString", &missing);
    if (missing) {
        snprintf(why, n, "the driver has no %s: it is too old", missing);
        native_close(d);
        return 0;
    }
    return d;
}

size_t native_open_library(native *d, const char *file, char *why, size_t n) {
    static const char *const usual[] = {"libcublasLt.so.13", "libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.13",
                                        "/usr/local/cuda/lib64/libcublasLt.so.12"};
    const char *missing = 0;
    void *lib = 0;
    if (file) lib = dlopen(file, RTLD_NOW);
    for (size_t i = 0; !file && !lib && i < sizeof usual / sizeof *usual; i++) lib = dlopen(usual[i], RTLD_NOW);
    if (!lib) {
        snprintf(why, n, "%s", dlerror());
        return 0;
    }
    d->version = find(lib, "cublasLtGetVersion", &missing);
    d->create = find(lib, "cublasLtCreate", &missing);
    d->destroy = find(lib, "cublasLtDestroy", &missing);
    d->desc_create = find(lib, "cublasLtMatmulDescCreate", &missing);
    d->desc_set = find(lib, "cublasLtMatmulDescSetAttribute", &missing);
    d->desc_destroy = find(lib, "cublasLtMatmulDescDestroy", &missing);
    d->layout_create = find(lib, "cublasLtMatrixLayoutCreate", &missing);
    d->layout_set = find(lib, "cublasLtMatrixLayoutSetAttribute", &missing);
    d->layout_destroy = find(lib, "cublasLtMatrixLayoutDestroy", &missing);
    d->pref_create = find(lib, "cublasLtMatmulPreferenceCreate", &missing);
    d->pref_set = find(lib, "cublasLtMatmulPreferenceSetAttribute", &missing);
    d->pref_destroy = find(lib, "cublasLtMatmulPreferenceDestroy", &missing);
    d->heuristic = find(lib, "cublasLtMatmulAlgoGetHeuristic", &missing);
    d->matmul = find(lib, "cublasLtMatmul", &missing);
    d->status = find(lib, "cublasLtGetStatusString", &missing);
    int code = 0;
    if (missing) snprintf(why, n, "it has no %s: it is too old", missing);
    else if ((code = d->create(&d->handle))) snprintf(why, n, "cublasLtCreate: %s", d->status(code));
    if (missing || code) {
        dlclose(lib);
        return 0;
    }
    d->library = lib;
    return d->version();
}

void native_close(native *d) {
    if (d->library) d->destroy(d->handle), dlclose(d->library);
    if (d->driver) dlclose(d->driver);
    free(d);
}

const char *native_error(native *d, int code) {
    const char *s = 0;
    return d->describe(code, &s) == 0 && s ? s : "unknown error";
}

const char *native_status(native *d, int code) { return d->status(code); }

int native_pinned(native *d, void **p, size_t bytes) { return d->host_alloc(p, bytes); }
int native_free_pinned(native *d, void *p) { return d->host_free(p); }

int native_shared(native *d, void *function, int bytes) {
    return d->set_attribute(function, 8 /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */, bytes);
}

int native_begin(native *d, void *stream) { return d->begin(stream, 1 /* CU_STREAM_CAPTURE_MODE_THREAD_LOCAL */); }

int native_end(native *d, void *stream, void **exec) {
    void *graph = 0;
    int code = d->end(stream, &graph);
    if (code) return code;
    code = d->instantiate(exec, graph, 0);
    d->free_graph(graph);
    return code;
}

int native_launch(native *d, void *graph, void *stream) { return d->launch(graph, stream); }
int native_free_graph(native *d, void *graph) { return d->free_exec(graph); }

// alignment is the largest power of two up to 256 at which a matrix and all that follow it in the batch begin.
static uint32_t alignment(uint64_t p, int64_t stride, int half) {
    uint64_t bits = p | (uint64_t)stride * (half ? 2 : 4) | 256;
    return (uint32_t)(bits & -bits);
}

// The library's matrices are column-major, so that a row-major one is its transpose there: yᵀ = op(b)ᵀ·op(a)ᵀ. Its first operand is
// b and its second a, and a bias for each column of y is one for each row of yᵀ, which is what its epilogue adds.
product *native_product(native *d, const product_spec *s, uint64_t workspace, size_t bytes, char *why, size_t n) {
    product *p = calloc(1, sizeof *p);
    lt_preference pref = 0;
    int code = 0;
    if (!p) return snprintf(why, n, "no memory"), (product *)0;
    p->spec = *s, p->workspace = workspace, p->bytes = bytes;
#define TRY(call) (code ? code : (code = (call)))
    int compute = s->half_a || s->exact ? LT_COMPUTE_32F : LT_COMPUTE_32F_FAST_TF32;
    int type_a = s->half_a ? LT_R_16BF : LT_R_32F, type_b = s->half_b ? LT_R_16BF : LT_R_32F, type_y = s->half_y ? LT_R_16BF : LT_R_32F;
    int32_t trans_a = s->trans_a, trans_b = s->trans_b;
    TRY(d->desc_create(&p->desc, compute, LT_R_32F));
    TRY(d->desc_set(p->desc, LT_DESC_TRANSA, &trans_b, sizeof trans_b));
    TRY(d->desc_set(p->desc, LT_DESC_TRANSB, &trans_a, sizeof trans_a));
    if (s->bias) {
        int32_t epilogue = LT_EPILOGUE_BIAS;
        TRY(d->desc_set(p->desc, LT_DESC_EPILOGUE, &epilogue, sizeof epilogue));
        TRY(d->desc_set(p->desc, LT_DESC_BIAS_POINTER, &s->bias, sizeof s->bias));
    }
    TRY(s->trans_b ? d->layout_create(&p->b, type_b, s->k, s->n, s->k) : d->layout_create(&p->b, type_b, s->n, s->k, s->n));
    TRY(s->trans_a ? d->layout_create(&p->a, type_a, s->m, s->k, s->m) : d->layout_create(&p->a, type_a, s->k, s->m, s->k));
    TRY(d->layout_create(&p->y, type_y, s->n, s->m, s->n));
    if (s->batch > 1) {
        int32_t batch = (int32_t)s->batch;
        int64_t stride_y = s->m * s->n;
        TRY(d->layout_set(p->a, LT_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
        TRY(d->layout_set(p->b, LT_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
        TRY(d->layout_set(p->y, LT_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
        TRY(d->layout_set(p->a, LT_LAYOUT_STRIDED_BATCH_OFFSET, &s->stride_a, sizeof s->stride_a));
        TRY(d->layout_set(p->b, LT_LAYOUT_STRIDED_BATCH_OFFSET, &s->stride_b, sizeof s->stride_b));
        TRY(d->layout_set(p->y, LT_LAYOUT_STRIDED_BATCH_OFFSET, &stride_y, sizeof stride_y));
    }
    uint64_t room = bytes;
    // In-place reduction of split sums is left out: the workspace keeps their order.
    uint32_t schemes = LT_REDUCTION_COMPUTE_TYPE | LT_REDUCTION_OUTPUT_TYPE;
    uint32_t align_a = alignment(s->a, s->batch > 1 ? s->stride_a : 0, s->half_a);
    uint32_t align_b = alignment(s->b, s->batch > 1 ? s->stride_b : 0, s->half_b);
    uint32_t align_y = alignment(s->y, s->batch > 1 ? s->m * s->n : 0, s->half_y);
    TRY(d->pref_create(&pref));
    TRY(d->pref_set(pref, LT_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room));
    TRY(d->pref_set(pref, LT_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes));
    TRY(d->pref_set(pref, LT_PREF_MIN_ALIGNMENT_A_BYTES, &align_b, sizeof align_b));
    TRY(d->pref_set(pref, LT_PREF_MIN_ALIGNMENT_B_BYTES, &align_a, sizeof align_a));
    TRY(d->pref_set(pref, LT_PREF_MIN_ALIGNMENT_C_BYTES, &align_y, sizeof align_y));
    TRY(d->pref_set(pref, LT_PREF_MIN_ALIGNMENT_D_BYTES, &align_y, sizeof align_y));
    lt_result best;
    int found = 0;
    TRY(d->heuristic(d->handle, p->desc, p->b, p->a, p->y, p->y, pref, 1, &best, &found));
    if (pref) d->pref_destroy(pref);
    if (!code && !found) code = LT_STATUS_NOT_SUPPORTED;
    if (code) {
        snprintf(why, n, "%s", d->status(code));
        native_free_product(d, p);
        return 0;
    }
    p->algo = best.algo;
    return p;
}

int native_multiply(native *d, product *p, void *stream) {
    const product_spec *s = &p->spec;
    float zero = 0;
    return d->matmul(d->handle, p->desc, &s->alpha, (const void *)(uintptr_t)s->b, p->b, (const void *)(uintptr_t)s->a, p->a, &zero,
                     (const void *)(uintptr_t)s->y, p->y, (void *)(uintptr_t)s->y, p->y, &p->algo, (void *)(uintptr_t)p->workspace,
                     p->bytes, stream);
}

void native_free_product(native *d, product *p) {
    if (p->desc) d->desc_destroy(p->desc);
    if (p->a) d->layout_destroy(p->a);
    if (p->b) d->layout_destroy(p->b);
    if (p->y) d->layout_destroy(p->y);
    free(p);
}
