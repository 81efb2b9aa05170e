// Package probe asks whether an NVIDIA driver is there, without needing one. A program that is
// linked with the driver's library does not even start without it.
package probe

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdio.h>

// probe fills version, count and the properties of device i, and returns 0, or 1 with a reason.
static int probe(int i, int *version, int *count, char *name, int *major, int *minor, size_t *memory, char *why, int n) {
    void *lib = dlopen("libcuda.so.1", RTLD_NOW);
    if (!lib) return snprintf(why, n, "%s", dlerror()), 1;
    int (*init)(unsigned) = dlsym(lib, "cuInit"), (*get_version)(int *) = dlsym(lib, "cuDriverGetVersion");
    int (*get_count)(int *) = dlsym(lib, "cuDeviceGetCount"), (*get)(int *, int) = dlsym(lib, "cuDeviceGet");
    int (*get_name)(char *, int, int) = dlsym(lib, "cuDeviceGetName"), (*attribute)(int *, int, int) = dlsym(lib, "cuDeviceGetAttribute");
    int (*total)(size_t *, int) = dlsym(lib, "cuDeviceTotalMem_v2"), (*describe)(int, const char **) = dlsym(lib, "cuGetErrorString");
    if (!init || !get_version || !get_count || !get || !get_name || !attribute || !total || !describe)
        return snprintf(why, n, "libcuda.so.1 lacks functions of the driver"), 1;
    int device, code = init(0);
    if (!code) code = get_version(version);
    if (!code) code = get_count(count);
    if (!code && i < *count) {
        code = get(&device, i);
        if (!code) code = get_name(name, 256, device);
        if (!code) code = attribute(major, 75, device);
        if (!code) code = attribute(minor, 76, device);
        if (!code) code = total(memory, device);
    }
    if (!code) return 0;
    const char *text = 0;
    if (describe(code, &text) || !text) text = "unknown error";
    snprintf(why, n, "%s (%d)", text, code);
    return 1;
}
*/
import "C"

import "errors"

// Device is a GPU as its driver sees it.
type Device struct {
	Name         string
	Major, Minor int   // compute capability
	Memory       int64 // bytes
	Driver       int   // newest CUDA version that the driver knows, 12010 for 12.1
	Count        int   // devices in all
}

// Find describes device i. With none of that number, Name is empty. The error says why there is no
// driver.
func Find(i int) (Device, error) {
	var version, count, major, minor C.int
	var memory C.size_t
	var name, why [256]C.char
	if C.probe(C.int(i), &version, &count, &name[0], &major, &minor, &memory, &why[0], C.int(len(why))) != 0 {
		return Device{}, errors.New(C.GoString(&why[0]))
	}
	return Device{C.GoString(&name[0]), int(major), int(minor), int64(memory), int(version), int(count)}, nil
}
