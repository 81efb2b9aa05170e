package cuda

import (
	"sync"

	"clipinspector/engine/cuda/kernels"
)

// KernelsVersion identifies the sources of the kernels by 8 hexadecimal digits.
var KernelsVersion = sync.OnceValue(func() string { return kernels.Hash()[:8] })
