package cuda

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"clipinspector/engine/cuda/probe"
)

// ErrNoDevice says that the GPU asked for is not at hand; the text says what to do.
var ErrNoDevice = errors.New("no such device")

// What the kernels and the smallest useful program need.
const (
	minDriver     = 12010 // PTX 8.1
	minCapability = 80    // bf16 and TF32 on tensor cores
	minMemory     = 3 << 30
)

// ParseDevice reads "cuda" (the first GPU) or "cuda:N".
func ParseDevice(name string) (int, error) {
	if name == "cuda" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(name, "cuda:"))
	if err != nil || n < 0 || !strings.HasPrefix(name, "cuda:") {
		return 0, fmt.Errorf("device %q: want cuda or cuda:N, N counting from 0", name)
	}
	return n, nil
}

// Check reports why GPU i cannot be used, and what to do about it. It works in every build.
func Check(i int) (probe.Device, error) {
	d, err := probe.Find(i)
	switch {
	case err != nil:
		return d, fmt.Errorf("cuda:%d: %w: there is no working NVIDIA driver (%w): install one, version 530 or newer, or use --device cpu",
			i, ErrNoDevice, err)
	case d.Driver < minDriver:
		return d, fmt.Errorf("cuda:%d: %w: the NVIDIA driver is too old: it knows CUDA %s, 12.1 is needed (driver 530 or newer)",
			i, ErrNoDevice, version(d.Driver))
	case d.Name == "":
		return d, fmt.Errorf("cuda:%d: %w: the driver sees %d (CUDA_VISIBLE_DEVICES may hide others)", i, ErrNoDevice, d.Count)
	case 10*d.Major+d.Minor < minCapability:
		return d, fmt.Errorf("cuda:%d: %w: %s has compute capability %d.%d, 8.0 or newer is needed (Ampere): use --device cpu",
			i, ErrNoDevice, d.Name, d.Major, d.Minor)
	case d.Memory < minMemory:
		return d, fmt.Errorf("cuda:%d: %w: %s has %.1f GB of memory, %.1f are needed: use --device cpu", i, ErrNoDevice, d.Name,
			float64(d.Memory)/1e9, float64(minMemory)/1e9)
	}
	return d, nil
}

func version(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }
