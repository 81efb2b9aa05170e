package experiments

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"clipinspector/engine"
	"clipinspector/engine/cpu"
)

// ErrNoDevice says that the device asked for is not at hand.
var ErrNoDevice = errors.New("no such device")

// OpenEngine opens a device: "cpu", with so many threads (0: all cores). "cuda" is for a build that has such an engine.
func OpenEngine(device string, threads int) (engine.Engine, error) {
	switch {
	case device == "" || device == "cpu":
		return cpu.New(cpu.Options{Threads: threads})
	case device == "cuda" || strings.HasPrefix(device, "cuda:"):
		return nil, fmt.Errorf("device %s: %w: this build has no CUDA engine; use --device cpu", device, ErrNoDevice)
	}
	return nil, fmt.Errorf("device %s: %w: known are cpu and cuda:N", device, ErrNoDevice)
}

// share says how many workers of how many threads use the cores: as asked for, and by default two threads a worker: measured on
// two cores, one worker took 14.6 s where two single-threaded ones took 19.5 s, since the Go scheduler takes a processor away from a
// lone thread in a long call to C. No result depends on it.
func share(workers, threads int) (w, each int) {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	if workers <= 0 {
		workers = max(1, threads/2)
	}
	return workers, max(1, threads/workers)
}
