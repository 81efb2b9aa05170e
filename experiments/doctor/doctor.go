// Package doctor looks at a machine and says what this program will find there, and what to do
// about what is missing.
package doctor

import (
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"clipinspector/datasets"
	"clipinspector/engine/cpu"
	"clipinspector/engine/cuda"
	"clipinspector/internal/files"
	"clipinspector/internal/memory"
)

// finding is one thing that was looked at.
type finding struct {
	What   string
	State  string // what is there
	Remedy string // what to do; empty when nothing need be done
	Needed bool   // nothing works without it
}

// examine looks at the machine, the folder of real data and the output folder.
func examine(out string) []finding {
	return append([]finding{processor(), kernels(), free(), tool("go", "version"), tool("gcc", "--version"), gpu(), output(out)}, data()...)
}

// Print writes the findings, and returns an error when something is missing that nothing works
// without.
func Print(w io.Writer, out string) error {
	var missing []string
	for _, f := range examine(out) {
		mark := "ok"
		if f.Remedy != "" {
			mark = "--"
			if f.Needed {
				mark = "!!"
				missing = append(missing, f.What)
			}
		}
		if _, err := fmt.Fprintf(w, "%s  %-14s %s\n", mark, f.What, f.State); err != nil {
			return err
		}
		if f.Remedy != "" {
			if _, err := fmt.Fprintf(w, "    %-14s %s\n", "", f.Remedy); err != nil {
				return err
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("this machine lacks: %s", strings.Join(missing, ", "))
	}
	return nil
}

func processor() finding {
	name := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for _, line := range strings.Split(string(text), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				name = strings.TrimSpace(v)
				break
			}
		}
	}
	return finding{What: "processor", State: fmt.Sprintf("%s, %d cores", name, runtime.NumCPU())}
}

func kernels() finding {
	f := finding{What: "kernels"}
	e, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		return finding{What: "kernels", State: err.Error(), Remedy: "the CPU engine does not start: report this", Needed: true}
	}
	defer e.Close()
	f.State = e.SIMD() + " (" + e.Fingerprint() + ")"
	f.Remedy = e.Warning()
	return f
}

func free() finding {
	bytes := memory.Free()
	if bytes == math.MaxInt64 {
		return finding{What: "memory", State: "unknown"}
	}
	f := finding{What: "memory", State: fmt.Sprintf("%.1f GB available", float64(bytes)/1e9)}
	if bytes < 1e9 {
		f.Remedy = "the mini suite wants about 1 GB: close other programs, or use --threads 1"
	}
	return f
}

func tool(name string, args ...string) finding {
	path, err := exec.LookPath(name)
	if err != nil {
		return finding{What: name, State: "not found", Remedy: "only needed to build: ./run.sh says how to install it"}
	}
	text, err := exec.Command(path, args...).Output()
	line, _, _ := strings.Cut(string(text), "\n")
	if err != nil {
		line = path + " does not run: " + err.Error()
	}
	return finding{What: name, State: line}
}

func gpu() finding {
	f := finding{What: "GPU"}
	d, err := cuda.Check(0)
	if err != nil {
		f.State, f.Remedy = err.Error(), "everything runs on the CPU"
		return f
	}
	f.State = fmt.Sprintf("%d x %s, %.0f GB, compute capability %d.%d, driver for CUDA %d.%d", d.Count, d.Name, float64(d.Memory)/1e9,
		d.Major, d.Minor, d.Driver/1000, d.Driver%1000/10)
	switch self, err := os.Executable(); {
	case cuda.Built:
		e, err := cuda.New(0, cuda.TF32)
		if err != nil {
			f.Remedy = err.Error()
			return f
		}
		defer e.Close()
		f.State, f.Remedy = f.State+": "+e.Fingerprint(), e.Warning()
	case err == nil:
		if _, err := os.Stat(self + "-cuda"); err != nil {
			f.Remedy = "to use it type ./run.sh build-cuda, then --device cuda:0"
			return f
		}
		f.State += ": use it by --device cuda:0 (and see clip-inspector-cuda doctor)"
	}
	return f
}

func output(out string) finding {
	f := finding{What: "output", State: out + " can be written"}
	if err := files.Writable(out); err != nil {
		f.State, f.Needed = err.Error(), true
		f.Remedy = "choose another folder by --out"
	}
	return f
}

func data() []finding {
	root := datasets.Root()
	if abs, err := filepath.Abs(root); err == nil {
		root = abs
	}
	var have, lack []string
	for _, name := range datasets.Names() {
		family, _, err := datasets.Describe(name)
		if err != nil || family == "mini" {
			continue
		}
		if _, err := datasets.Open(name, datasets.Options{}); err == nil {
			have = append(have, name)
		} else {
			lack = append(lack, name)
		}
	}
	f := finding{What: "real data", State: fmt.Sprintf("%s: %s", root, orNone(have))}
	if len(have) == 0 {
		f.Remedy = "only needed beyond the mini world: lay datasets out as CoOp's DATASETS.md says and set " + datasets.RootEnv
	}
	out := []finding{f}
	if len(lack) > 0 {
		out = append(out, finding{What: "", State: "not there: " + strings.Join(lack, ", ")})
	}
	pool, err := datasets.OpenPool("imagenet-ood", datasets.Options{})
	if err != nil {
		return append(out, finding{What: "OOD pool", State: "imagenet-ood is not there; the mini world has a pool of its own"})
	}
	return append(out, finding{What: "OOD pool", State: fmt.Sprintf("imagenet-ood: %d pictures", pool.Len())})
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "no dataset"
	}
	return strings.Join(list, ", ")
}
