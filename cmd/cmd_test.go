package cmd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/experiments"
)

// execute runs the command in a fresh working folder and returns what it prints.
func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c := Command()
	var b strings.Builder
	c.SetOut(&b)
	c.SetErr(&b)
	c.SetArgs(args)
	err := c.ExecuteContext(t.Context())
	return b.String(), err
}

func TestVerbsWriteBelowTheirOwnFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	if text, err := execute(t, "tune", "--dataset", "mini-dtd", "--set", "tuning.epochs=1", "--set", "test-images=20"); err != nil ||
		!strings.Contains(text, filepath.Join("runs", "tune", "models")) {
		t.Fatalf("%v\n%s", err, text)
	}
	if _, err := execute(t, "run", "--set", "datasets=[mini-dtd]", "--set", "attacks=[clean]", "--set", "detectors=[]", "--set", "name=own",
		"--set", "tuning.epochs=1", "--set", "test-images=20"); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"table.md", "table.json", "scores.jsonl", experiments.StoreFile} {
		if _, err := os.Stat(filepath.Join("runs", "own", file)); err != nil {
			t.Error(err)
		}
	}
	entries, err := os.ReadDir("runs")
	if err != nil || len(entries) != 2 {
		t.Errorf("%v %v", entries, err)
	}
	if text, err := execute(t, "export", "--out", "runs/own"); err != nil || strings.Count(text, "\n") != 1 {
		t.Errorf("%v\n%s", err, text)
	}
	if text, err := execute(t, "table", "--out", "runs/own", "--rows", "models"); err != nil || strings.Count(text, `"acc": 0.`) != 1 {
		t.Errorf("%v\n%s", err, text)
	}
	if text, err := execute(t, "table", "--out", "runs/own", "--rows", "detections", "--format", "parquet"); err != nil || !strings.HasPrefix(text, "PAR1") {
		t.Errorf("%v\n%.100q", err, text)
	}
	if text, err := execute(t, "export", "--out", "runs/own", "--mlflow", "mlruns"); err != nil || !strings.Contains(text, "1 runs of the suite own") {
		t.Errorf("%v\n%s", err, text)
	}
	for _, file := range []string{"meta.yaml", "*/meta.yaml", "*/params/tuning.epochs", "*/metrics/acc", "*/tags/mlflow.runName", "*/artifacts/model.safetensors"} {
		if found, err := filepath.Glob(filepath.Join("mlruns", "*", file)); err != nil || len(found) != 1 {
			t.Errorf("%s: %v, %v", file, found, err)
		}
	}
	if _, err := execute(t, "table"); err == nil || !strings.Contains(err.Error(), filepath.Join("runs", "mini")) {
		t.Errorf("table without a run: %v", err)
	}
}

func TestHelpTeaches(t *testing.T) {
	for _, verb := range []string{"run", "calibrate", "tune", "table", "plot", "export", "list", "pretrain", "bench", "doctor", "inspect", "repair"} {
		if text, err := execute(t, verb, "--help"); err != nil || !strings.Contains(text, "Usage:") {
			t.Errorf("%s: %v\n%s", verb, err, text)
		}
	}
	for _, kind := range listKinds {
		if text, err := execute(t, "list", kind, "--format", "json"); err != nil || !strings.Contains(text, `"name"`) {
			t.Errorf("list %s: %v\n%s", kind, err, text)
		}
	}
}

func TestCalibrationsAreCounted(t *testing.T) {
	config := filepath.Join("..", "configs", "calibrate-mini.yaml")
	text, err := execute(t, "calibrate", config, "--dry-run", "--trials", "4", "--set", "seeds=[101]")
	if err != nil || !strings.Contains(text, "25 models, 400 detections") {
		t.Errorf("%v\n%s", err, text)
	}
	if _, err := execute(t, "calibrate", config, "--dry-run", "--set", "seeds=[1]"); err == nil {
		t.Error("an evaluation seed was taken")
	}
}

func TestStatus(t *testing.T) {
	_, err := execute(t, "run", "--device", "cuda:0", "--out", t.TempDir())
	for want, err := range map[int]error{0: nil, 1: fmt.Errorf("x"), statusNoDevice: err, statusInterrupted: errInterrupted} {
		if got := status(err); got != want {
			t.Errorf("%v: status %d, want %d", err, got, want)
		}
	}
}

// What cannot be printed is no success: a full disk behind the standard output ends a verb with
// status 1.
func TestAFullDiskIsNoSuccess(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	defer full.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"list"}, {"run", "--dry-run"}, {"--version"}} {
		var said strings.Builder
		c := exec.Command(self, args...)
		c.Env, c.Stdout, c.Stderr = append(os.Environ(), asCommand+"=1"), full, &said
		if err := c.Run(); c.ProcessState.ExitCode() != statusFailed || !strings.Contains(said.String(), "no space left") {
			t.Errorf("%v: got %v, %q, want status %d and the reason", args, err, said.String(), statusFailed)
		}
	}
}

func TestCompletionsAndVersion(t *testing.T) {
	for want, args := range map[string][]string{
		"pixel-backdoor":  {"__complete", "inspect", "--detector", ""},
		"latex":           {"__complete", "table", "--format", ""},
		"cuda:0":          {"__complete", "run", "--device", ""},
		"clip-inspector ": {"--version"},
	} {
		if text, err := execute(t, args...); err != nil || !strings.Contains(text, want) {
			t.Errorf("%v: got %q, %v, want %s in it", args, text, err, want)
		}
	}
}

// A name that a store has may lead nowhere else.
func TestMLflowNamesStayInTheirFolder(t *testing.T) {
	for name, want := range map[string]string{"../../x": "__.._x", "..": "_", "a/b": "a_b", ".hidden": "_hidden", "tuning.epochs": "tuning.epochs"} {
		if got := mlflowName.ReplaceAllString(name, "_"); got != want || !filepath.IsLocal(got) {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}
