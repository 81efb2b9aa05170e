package kernels

import (
	"os"
	"strings"
	"testing"
)

func TestPTXIsOfTheseSources(t *testing.T) {
	ptx, err := os.ReadFile("kernels.ptx")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(ptx), "\n")
	if want := "// sources " + Hash(); line != want {
		t.Errorf("kernels.ptx begins with %q, want %q: type ./run.sh build-cuda --ptx", line, want)
	}
	for _, name := range Names() {
		if !strings.Contains(string(ptx), ".entry "+name+"(") {
			t.Errorf("kernels.ptx has no kernel %s", name)
		}
	}
}
