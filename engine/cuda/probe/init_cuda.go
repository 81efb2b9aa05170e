//go:build cuda

package probe

import (
	"fmt"
	"os"
)

// gorgonia.org/cu ends the process with its own words when the driver does not start. This package
// comes first by name and needs less, so that it is initialised before, and says what to do.
func init() {
	if _, err := Find(0); err != nil {
		fmt.Fprintf(os.Stderr, "clip-inspector: there is no working NVIDIA driver (%v): this is the build for GPUs; use the plain one, or install driver 530 or newer\n", err)
		os.Exit(3)
	}
}
