package cmd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFlagsAreTakenOutWithTheirValues(t *testing.T) {
	got := withoutFlag([]string{"run", "--device", "cpu,cpu", "a.yaml", "--device=cpu,cpu", "--devices"}, "device")
	if want := []string{"run", "a.yaml", "--devices"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Two devices are two processes on one store: the bytes are those of one.
func TestSeveralDevices(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a suite twice")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "tiny.yaml")
	if err := os.WriteFile(config, []byte(`name: tiny
seeds: [1]
clip: builtin:mini
datasets: [{name: mini-pets, classes: 5}]
learner: {name: coop, context: 4}
attacks: [clean, badnets]
detectors: [{name: ci, optimise: 32, measure: 16}]
shots: 2
`), 0o644); err != nil {
		t.Fatal(err)
	}
	export := func(device string) string {
		out := filepath.Join(dir, strings.ReplaceAll(device, ",", "-"))
		for _, args := range [][]string{{"run", config, "--out", out, "--device", device}, {"export", "--out", out}} {
			c := exec.Command(os.Args[0], args...)
			c.Env = append(os.Environ(), asCommand+"=1")
			var said bytes.Buffer
			c.Stderr = &said
			text, err := c.Output()
			if err != nil {
				t.Fatalf("%v: %v: %s", args, err, said.String())
			}
			if args[0] == "export" {
				return string(text)
			}
		}
		return ""
	}
	if one, two := export("cpu"), export("cpu,cpu"); one != two || strings.Count(one, `"finished"`) != 4 {
		t.Errorf("two devices export %d bytes, one exports %d, want the same 4 finished cells", len(two), len(one))
	}
}
