package cuda

import (
	"sync"

	"clipinspector/engine/cuda/kernels"
)

// kernelsVersion identifies the sources of the kernels by 8 hexadecimal digits.
var kernelsVersion = sync.OnceValue(func() string { return kernels.Hash()[:8] })
