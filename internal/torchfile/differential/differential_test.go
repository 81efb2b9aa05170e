package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Each of 900 hostile files is read as the PyTorch of CLIPINSPECTOR_PYTHON reads it, or refused;
// see differential.py for more of them.
func TestAsPyTorch(t *testing.T) {
	python := os.Getenv("CLIPINSPECTOR_PYTHON")
	if python == "" {
		t.Skip("CLIPINSPECTOR_PYTHON is not set: torch.load was not asked")
	}
	if err := exec.Command(python, "-c", "import torch, numpy").Run(); err != nil {
		t.Skipf("%s has no torch and numpy: %v", python, err)
	}
	reader := filepath.Join(t.TempDir(), "reader")
	if out, err := exec.Command("go", "build", "-o", reader, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(python, "differential.py", "--reader", reader, "--files", "900", "--seed", "7").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
