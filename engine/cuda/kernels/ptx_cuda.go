//go:build cuda

package kernels

import _ "embed" // kernels.ptx

//go:embed kernels.ptx
var ptx string

// PTX returns the compiled kernels.
func PTX() string { return ptx }
