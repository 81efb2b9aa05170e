// Package examples tests what docs/extending.md promises to those who add something.
package examples

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// goTool runs the go command in a folder, without a network.
func goTool(t *testing.T, dir string, args ...string) string {
	t.Helper()
	c := exec.Command("go", args...)
	c.Dir, c.Env = dir, append(os.Environ(), "GOPROXY=off")
	text, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, text)
	}
	return string(text)
}

// A module of somebody else's that imports package cmd is the command with its own attack, without
// an edit here.
func TestAModuleOfItsOwnAddsAnAttack(t *testing.T) {
	if testing.Short() {
		t.Skip("it links another program")
	}
	program := filepath.Join(t.TempDir(), "own-attack")
	goTool(t, "own-attack", "build", "-o", program, ".")
	text, err := exec.Command(program, "list", "attacks").Output()
	if err != nil || !strings.Contains(string(text), "\n  stripes ") || !strings.Contains(string(text), "\n  badnets ") {
		t.Errorf("got %v\n%s\nwant stripes beside the project's own attacks", err, text)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// contract names the tests of a package that run over everything registered.
func contract(t *testing.T, dir string) (names []string) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		for _, f := range strings.Split(read(t, path), "\nfunc ")[1:] {
			if name := regexp.MustCompile(`^Test\w+`).FindString(f); name != "" && strings.Contains(f, "\n\tforEach(t, ") {
				names = append(names, name)
			}
		}
	}
	return names
}

// A new attack without chance and a new detector are one file each. The contracts find them and
// hold, and no other file is touched: the compiler is shown the file as if it lay there.
func TestANewAttackAndANewDetectorAreOneFileEach(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the contracts again")
	}
	detector, _, _ := strings.Cut(read(t, "../inspector/example_test.go"), "// What docs/extending.md shows")
	for _, add := range []struct {
		file, text  string
		name, tests string // tests is the package whose contract it must hold
	}{
		{"attacks/stripes.go", strings.NewReplacer("package main", "package attacks", "\t\"clipinspector/attacks\"\n", "", "attacks.", "").
			Replace(read(t, "own-attack/stripes.go")), "stripes", "attacks"},
		{"baselines/universal.go", strings.NewReplacer("package inspector_test", "package baselines", "\t\"os\"\n\t\"strings\"\n\t\"testing\"\n", "",
			`"universal"`, `"universal-2"`).Replace(detector), "universal-2", "inspector"},
	} {
		t.Run(add.name, func(t *testing.T) {
			there, err := filepath.Abs(filepath.Join("..", add.file))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(there); err == nil {
				t.Fatalf("%s is there already: the test shows nothing", add.file)
			}
			here, overlay := filepath.Join(t.TempDir(), "new.go"), filepath.Join(t.TempDir(), "overlay.json")
			shown, err := json.Marshal(map[string]any{"Replace": map[string]string{there: here}})
			if err != nil {
				t.Fatal(err)
			}
			for path, text := range map[string][]byte{here: []byte(add.text), overlay: shown} {
				if err := os.WriteFile(path, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			tests := contract(t, filepath.Join("..", add.tests))
			if len(tests) < 5 {
				t.Fatalf("%s has the contract tests %v, want five at least", add.tests, tests)
			}
			got := goTool(t, "..", "test", "-v", "-overlay", overlay, "-skip", "TestAnAttackIsOneSmallFile", "-run", "^("+strings.Join(tests, "|")+")$/^"+add.name+"$",
				"./"+add.tests)
			for _, name := range tests {
				if want := "--- PASS: " + name + "/" + add.name + " "; name != "TestAnAttackIsOneSmallFile" && !strings.Contains(got, want) {
					t.Errorf("got\n%s\nwant %q in it", got, want)
				}
			}
		})
	}
}
