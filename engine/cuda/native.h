// What gorgonia.org/cu lacks: stream capture, graph launch, pinned memory, large shared memory, and cuBLASLt. Everything is opened
// at run time, so that nothing of it is needed to build, and cuBLAS 12 and 13 serve alike.
#include <stddef.h>
#include <stdint.h>

typedef struct native native;   // the libraries and a workspace for products
typedef struct product product; // a prepared matrix product

// native_open opens libcuda, which must be there, and returns NULL with a reason when it is too old. native_open_library opens
// cuBLASLt: a file name, or NULL for the usual names. It returns the version, 0 with a reason when there is none.
native *native_open(char *why, size_t n);
size_t native_open_library(native *, const char *file, char *why, size_t n);
void native_close(native *);

// These return 0, or a CUresult; native_error describes one.
const char *native_error(native *, int code);
int native_pinned(native *, void **p, size_t bytes);
int native_free_pinned(native *, void *p);
int native_shared(native *, void *function, int bytes);
int native_begin(native *, void *stream);
int native_end(native *, void *stream, void **graph);
int native_launch(native *, void *graph, void *stream);
int native_free_graph(native *, void *graph);

// One product y = alpha*op(a)·op(b) + bias over row-major operands; see Product in driver.go.
typedef struct {
    uint64_t a, b, bias, y;
    int64_t batch, m, n, k, stride_a, stride_b;
    int trans_a, trans_b, half_a, half_b, half_y, exact;
    float alpha;
} product_spec;

// native_product chooses an algorithm; it returns NULL with a reason when the library has none.
product *native_product(native *, const product_spec *, uint64_t workspace, size_t bytes, char *why, size_t n);
// native_multiply submits it and returns 0 or a cublasStatus_t, which native_status describes.
int native_multiply(native *, product *, void *stream);
const char *native_status(native *, int code);
void native_free_product(native *, product *);
