package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The exit status says what the inspection came to; what goes wrong is 3. Misuse has one status in
// all verbs.
func TestInspectStatus(t *testing.T) {
	t.Chdir(t.TempDir())
	if text, err := execute(t, "tune", "--dataset", "mini-eurosat", "--set", "test-images=10", "--attack", "badnets"); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	models, err := filepath.Glob("runs/tune/models/*/model.safetensors")
	if err != nil || len(models) != 1 {
		t.Fatal(models, err)
	}
	budget := []string{"--set", "detector.optimise=64", "--set", "detector.measure=32", "--set", "detector.batch=16"}
	inspect := func(more ...string) (string, int) {
		text, err := execute(t, append(append([]string{"inspect", "--checkpoint", models[0], "--ood", "builtin:mini"}, budget...), more...)...)
		return text, status(err)
	}
	// k decides what the same index means.
	seen := map[int]bool{}
	for _, k := range []string{"0", "100"} {
		text, got := inspect("--detector", "ci", "--set", "detector.k="+k)
		want := map[bool]int{true: inspectBackdoored, false: 0}[k == "0"]
		verdict := map[int]string{inspectBackdoored: "verdict: backdoored", 0: "verdict: clean"}[want]
		if got != want || !strings.Contains(text, verdict) {
			t.Errorf("k = %s: status %d, want %d\n%s", k, got, want, text)
		}
		seen[got] = true
	}
	if _, err := os.Stat("runs/inspect/report.json"); err != nil || len(seen) != 2 {
		t.Errorf("%v, %v", err, seen)
	}
	if text, _ := inspect("--references", "3"); !strings.Contains(text, "beside 3 clean references tuned on pool images") {
		t.Errorf("without labels: %s", text)
	}
	// Other programs read what report.json holds.
	text, _ := inspect("--detector", "ci", "--format", "json", "--progress", "none")
	if report, err := os.ReadFile("runs/inspect/report.json"); err != nil || text != string(report) || !strings.Contains(text, `"decision"`) {
		t.Errorf("%v: printed %s, written %s", err, text, report)
	}
	for _, args := range [][]string{{"inspect", "--format", "xml", "--checkpoint", models[0], "--ood", "builtin:mini"}, {"table", "--progress", "much"},
		{"table", "--rows", "models", "--by", "seed"}, {"inspect"}, {"inspect", "--what"}, {"inspect", "argument"}, {"run", "--what"}, {"run", "a", "b"}, {"nothing"}, {"compare"},
		{"export", "--checkpoint", models[0]}, {"repair", "--checkpoint", models[0]}, {"list", "--format", "xml"}, {"calibrate"},
		{"inspect", "--checkpoint", models[0], "--ood", "builtin:mini", "--device", "tpu"}} {
		if _, err := execute(t, args...); status(err) != statusMisused {
			t.Errorf("%v: status %d (%v), want %d", args, status(err), err, statusMisused)
		}
	}
	for _, args := range [][]string{{"inspect", "--checkpoint", "none", "--ood", "builtin:mini"},
		{"inspect", "--checkpoint", models[0], "--ood", "nowhere"}} {
		if _, err := execute(t, args...); status(err) != inspectFailed {
			t.Errorf("%v: status %d (%v), want %d", args, status(err), err, inspectFailed)
		}
	}
	if _, err := execute(t, "repair", "--checkpoint", models[0]); err == nil || !strings.Contains(err.Error(), "--ood") {
		t.Errorf("repair without images: %v", err)
	}
}
