//go:build !cuda

package cuda

import (
	"fmt"
	"os"
	"syscall"
)

// Built tells whether this program can open a GPU.
const Built = false

// New reports that this program cannot open a GPU.
func New(device int, p Precision) (*Engine, error) {
	if _, err := Check(device); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("cuda:%d: %w: this build has no CUDA engine: type ./run.sh build-cuda", device, ErrNoDevice)
}

// HandOver replaces this process by the build with a CUDA engine that lies beside it, under the
// same arguments. It returns only when that cannot be: no such build, or GPU `device` is of no use.
func HandOver(device int) error {
	if _, err := Check(device); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cuda:%d: finding this program: %w", device, err)
	}
	other := self + "-cuda"
	if _, err := os.Stat(other); err != nil {
		return fmt.Errorf("cuda:%d: %w: this build has no CUDA engine and %s is not there: type ./run.sh build-cuda", device, ErrNoDevice, other)
	}
	err = syscall.Exec(other, append([]string{other}, os.Args[1:]...), os.Environ())
	return fmt.Errorf("cuda:%d: %w: starting %s: %w", device, ErrNoDevice, other, err)
}
