package world

import (
	"fmt"
	"runtime"
	"strings"

	"clipinspector/engine"
	"clipinspector/engine/cpu"
	"clipinspector/engine/cuda"
)

// ErrNoDevice says that the device asked for is not at hand.
var ErrNoDevice = cuda.ErrNoDevice

// OpenEngine opens a device: "cpu", with so many threads (0: all cores), or "cuda:N", which may
// name a precision behind a slash (cuda:0/bf16; see SplitDevice).
func OpenEngine(device string, threads int) (engine.Engine, error) {
	name, precision, err := SplitDevice(device)
	if err != nil {
		return nil, err
	}
	if name == "cpu" {
		return opened(cpu.New(cpu.Options{Threads: threads}))
	}
	n, err := cuda.ParseDevice(name)
	if err != nil {
		return nil, err
	}
	return opened(cuda.New(n, precision))
}

// opened drops an engine that could not be made, so that a caller's nil check sees it.
func opened[E engine.Engine](e E, err error) (engine.Engine, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}

// SplitDevice returns the name and the precision of a device; the empty device is "cpu". The CPU
// computes in float32 alone.
func SplitDevice(device string) (name string, precision cuda.Precision, err error) {
	name, text, _ := strings.Cut(device, "/")
	if precision, err = cuda.ParsePrecision(text); err != nil {
		return "", "", fmt.Errorf("device %s: %w", device, err)
	}
	switch {
	case name == "" || name == "cpu":
		if text != "" && precision != cuda.FP32 {
			return "", "", fmt.Errorf("device %s: the CPU computes in fp32", device)
		}
		return "cpu", cuda.FP32, nil
	case name == "cuda" || strings.HasPrefix(name, "cuda:"):
		return name, precision, nil
	}
	return "", "", fmt.Errorf("device %s: %w: known are cpu and cuda:N", device, ErrNoDevice)
}

// share says how many workers of how many threads use the cores: as asked for, and by default two
// threads a worker: measured on two cores, one worker took 14.6 s where two single-threaded ones
// took 19.5 s, since the Go scheduler takes a processor away from a lone thread in a long call to
// C. A GPU is given one worker. No result depends on it.
func Share(device string, workers, threads int) (w, each int) {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	if workers <= 0 && strings.HasPrefix(device, "cuda") {
		workers = 1
	}
	if workers <= 0 {
		workers = max(1, threads/2)
	}
	return workers, max(1, threads/workers)
}
