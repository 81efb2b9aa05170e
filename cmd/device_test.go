package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// asCommand makes the test's program the command: what it says and its exit status are then a
// process's.
const asCommand = "CLIPINSPECTOR_TEST_AS_COMMAND"

// measuring makes the test's program run the command in a process of its own and write what that
// cost into the file it names. A process inherits the peak of memory of the one that started it,
// and a test's is large.
const measuring = "CLIPINSPECTOR_TEST_MEASURE"

func TestMain(m *testing.M) {
	if path := os.Getenv(measuring); path != "" {
		os.Exit(measured(path))
	}
	if os.Getenv(asCommand) != "" {
		Execute()
	}
	os.Exit(m.Run())
}

// driver stands in for NVIDIA's library. It has one GPU, of which it says what the environment
// says.
const driver = `
#include <stdlib.h>
#include <string.h>
static int given(const char *name, int otherwise) { const char *s = getenv(name); return s ? atoi(s) : otherwise; }
int cuInit(unsigned flags) { return given("FAKE_INIT", 0); }
int cuDriverGetVersion(int *v) { *v = given("FAKE_CUDA", 12080); return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *device, int i) { *device = i; return 0; }
int cuDeviceGetName(char *name, int n, int device) { strncpy(name, "Fake GPU", n); return 0; }
int cuDeviceGetAttribute(int *v, int which, int device) {
    int c = given("FAKE_CAPABILITY", 90);
    *v = which == 75 ? c / 10 : c % 10;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)given("FAKE_GIB", 80) << 30; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "no CUDA-capable device is detected"; return 0; }
`

// Whatever is wrong with the GPU that was asked for is one line and exit status 3, and doctor says
// the same and ends well.
func TestMissingDevices(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc to make a driver with")
	}
	library := func(source string) (dir string) {
		dir = t.TempDir()
		c := exec.Command(gcc, "-shared", "-fPIC", "-x", "c", "-o", filepath.Join(dir, "libcuda.so.1"), "-")
		c.Stdin = strings.NewReader(source)
		if text, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return dir
	}
	working, empty, broken := library(driver), library(""), t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "libcuda.so.1"), []byte("no library"), 0o644); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(driver string, env []string, args ...string) (out, said string, status int) {
		c := exec.Command(self, args...)
		c.Dir = t.TempDir()
		c.Env = append(append(os.Environ(), asCommand+"=1", "LD_LIBRARY_PATH="+driver), env...)
		var stdout, stderr bytes.Buffer
		c.Stdout, c.Stderr = &stdout, &stderr
		var exit *exec.ExitError
		if err := c.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return stdout.String(), stderr.String(), c.ProcessState.ExitCode()
	}
	for _, c := range []struct {
		name, driver, device string
		env                  []string
		want                 []string // in the line, and, for the first GPU, in what doctor says
	}{
		{"a library that does not load", broken, "cuda:0", nil, []string{"no working NVIDIA driver", "install one, version 530"}},
		{"a library without functions", empty, "cuda:0", nil, []string{"lacks functions", "install one, version 530"}},
		{"a driver without a device", working, "cuda:0", []string{"FAKE_INIT=100"}, []string{"no CUDA-capable device", "--device cpu"}},
		{"an old driver", working, "cuda:0", []string{"FAKE_CUDA=11040"}, []string{"too old", "CUDA 11.4", "driver 530 or newer"}},
		{"a GPU that is not there", working, "cuda:3", nil, []string{"the driver sees 1", "CUDA_VISIBLE_DEVICES"}},
		{"an old GPU", working, "cuda:0", []string{"FAKE_CAPABILITY=75"}, []string{"Fake GPU", "compute capability 7.5", "--device cpu"}},
		{"a small GPU", working, "cuda:0", []string{"FAKE_GIB=2"}, []string{"Fake GPU", "2.1 GB of memory, 3.2 are needed"}},
		{"a plain build", working, "cuda:0", nil, []string{"./run.sh build-cuda"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, said, status := run(c.driver, c.env, "run", "--device", c.device)
			if status != statusNoDevice || strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, "\n") {
				t.Errorf("status %d, want %d and one line:\n%s", status, statusNoDevice, said)
			}
			findings, _, ended := run(c.driver, c.env, "doctor")
			if ended != 0 {
				t.Errorf("doctor ends with status %d", ended)
			}
			for _, w := range c.want {
				if !strings.Contains(said, w) {
					t.Errorf("the line lacks %q: %s", w, said)
				}
				if c.device == "cuda:0" && !strings.Contains(findings, w) {
					t.Errorf("doctor lacks %q:\n%s", w, findings)
				}
			}
		})
	}
	// With the other build beside it, which no test leaves there, the command becomes that one.
	if err := os.WriteFile(self+"-cuda", []byte("#!/bin/sh\necho other $*\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(self + "-cuda")
	if out, said, status := run(working, nil, "run", "--device", "cuda:0"); status != 7 || out != "other run --device cuda:0\n" {
		t.Errorf("handed over: status %d, %q, %q", status, out, said)
	}
}

func measured(path string) int {
	c := exec.Command(os.Args[0], os.Args[1:]...)
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, measuring+"=") })
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	_ = c.Run() // its exit status tells
	s := c.ProcessState
	text := fmt.Sprintf("%d %d", s.SysUsage().(*syscall.Rusage).Maxrss>>10, s.UserTime()+s.SystemTime())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return s.ExitCode()
}
