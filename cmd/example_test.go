package cmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A module of somebody else's that imports this package is the command with its own attack, without an edit here.
func TestAModuleOfItsOwnAddsAnAttack(t *testing.T) {
	if testing.Short() {
		t.Skip("it links another program")
	}
	program := filepath.Join(t.TempDir(), "own-attack")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir, build.Env = "../examples/own-attack", append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	text, err := exec.Command(program, "list", "attacks").Output()
	if err != nil || !strings.Contains(string(text), "\n  stripes ") || !strings.Contains(string(text), "\n  badnets ") {
		t.Errorf("got %v\n%s\nwant stripes beside the project's own attacks", err, text)
	}
}
