package cpu

import (
	"syscall"
	"unsafe"
)

// largePages asks Linux for pages of 2 MB in the place of 4 KB: packed weights of hundreds of
// megabytes are read in every pass, and looking up small pages takes as long as reading them. It is
// a wish; nothing depends on it.
func largePages(x []float32) {
	const page = 2 << 20
	begin := uintptr(unsafe.Pointer(unsafe.SliceData(x)))
	skip := -begin & (page - 1)
	if size := 4 * uintptr(len(x)); size >= skip+page {
		inner := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(x)), skip)), (size-skip)&^(page-1))
		_ = syscall.Madvise(inner, syscall.MADV_HUGEPAGE)
	}
}
