package docs_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"clipinspector/cmd"
	"clipinspector/experiments/suite"
)

// The page of settings is what the program says.
func TestSettingsAreThoseOfTheProgram(t *testing.T) {
	c := cmd.Command()
	var want strings.Builder
	c.SetOut(&want)
	c.SetArgs([]string{"list", "--format", "markdown"})
	if err := c.Execute(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("settings.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want.String() {
		t.Error("docs/settings.md is not what the program prints: type  ./run.sh list --format markdown > docs/settings.md")
	}
}

// Each command of a page's code blocks is one that the program takes: verb, flags and arguments are
// there, the suite that it names exists, and its overrides fit. Nothing is run.
func TestCommandsOfPagesAreTaken(t *testing.T) {
	own := runShVerbs(t)
	count := 0
	all := append(pages(t), heads(t)...)
	files := map[string]string{} // a page may go on with what another had its reader write
	for _, p := range all {
		maps.Copy(files, p.files())
	}
	for _, p := range all {
		defined := p.defined()
		for _, l := range p.commands() {
			for _, command := range words(l.text) {
				args, ok := program(command)
				if !ok {
					continue
				}
				count++
				if len(args) > 0 && slices.Contains(own, args[0]) || len(args) == 0 {
					continue
				}
				if slices.ContainsFunc(args, func(a string) bool { return slices.ContainsFunc(defined, func(n string) bool { return names(a, n) }) }) {
					continue // something that the page itself adds; see TestTheExtensionsOfThePageWork
				}
				if err := taken(args, files); err != nil {
					t.Errorf("%s: %s\n\t%v", p.at(l), strings.Join(command, " "), err)
				}
			}
		}
	}
	if count < 50 {
		t.Errorf("got %d commands in all pages, want 50 at least: the pages are not read rightly", count)
	}
}

// heads are the comments at the heads of suites, as pages of commands.
func heads(t *testing.T) (out []page) {
	t.Helper()
	for _, pattern := range []string{"configs/*.yaml", "configs/ablations/*.yaml"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			p := page{path: path}
			for i, s := range strings.Split(string(text), "\n") {
				comment, ok := strings.CutPrefix(s, "#")
				if !ok {
					break
				}
				p.lines = append(p.lines, line{i + 1, comment, true})
			}
			out = append(out, p)
		}
	}
	return out
}

// names tells whether an argument names something: as a word of its own.
func names(argument, name string) bool {
	return regexp.MustCompile(`(^|[^A-Za-z0-9-])` + regexp.QuoteMeta(name) + `($|[^A-Za-z0-9-])`).MatchString(argument)
}

// runShVerbs are what run.sh does itself.
func runShVerbs(t *testing.T) (own []string) {
	text, err := os.ReadFile(filepath.Join(root, "run.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+)\)$`).FindAllStringSubmatch(string(text), -1) {
		own = append(own, m[1])
	}
	if !slices.Contains(own, "test") {
		t.Fatalf("got the verbs %v of run.sh, want test among them", own)
	}
	return own
}

// program is the arguments of a command that calls the program, perhaps after words of the shell
// and variables.
func program(command []string) (args []string, ok bool) {
	for len(command) > 0 && (slices.Contains([]string{"do", "then", "time", "nice", "exec"}, command[0]) || variable.MatchString(command[0])) {
		command = command[1:]
	}
	if len(command) == 0 || !slices.Contains([]string{"./run.sh", "clip-inspector", "bin/clip-inspector"}, command[0]) {
		return nil, false
	}
	return command[1:], true
}

var variable = regexp.MustCompile(`^[A-Z_]+=`)

// taken says why the program would not take the arguments. Suites that are no files of the project
// are looked up in files.
func taken(args []string, files map[string]string) error {
	all := cmd.Command()
	all.InitDefaultCompletionCmd()
	c, rest, err := all.Find(args)
	if err != nil {
		return err
	}
	if !c.HasParent() {
		if len(rest) == 1 && (rest[0] == "--help" || rest[0] == "--version") {
			return nil
		}
		return fmt.Errorf("no verb is called %q", rest)
	}
	c.InitDefaultHelpFlag()
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if help, _ := c.Flags().GetBool("help"); help {
		return nil
	}
	rest = c.Flags().Args()
	if err := c.ValidateArgs(rest); err != nil {
		return err
	}
	if err := c.ValidateRequiredFlags(); err != nil {
		return err
	}
	sets, err := c.Flags().GetStringArray("set")
	if err != nil || !slices.Contains([]string{"run", "calibrate", "tune", "submit"}, c.Name()) {
		return nil // a verb without suites
	}
	path := "configs/mini.yaml"
	if len(rest) > 0 {
		path = rest[0]
	}
	if strings.Contains(path, "$") || strings.Contains(strings.Join(sets, ""), "$") {
		return nil // the shell fills it in
	}
	if c.Flags().Changed("trials") {
		sets = append(sets, "search.trials="+c.Flags().Lookup("trials").Value.String())
	}
	text, ok := files[path]
	if !ok {
		read, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return err
		}
		text = string(read)
	}
	path = filepath.Join(root, path)
	if c.Name() == "calibrate" {
		_, err = suite.ParseSearch(path, []byte(text), sets)
		return err
	}
	file, err := suite.Parse(path, []byte(text), sets)
	if err == nil && c.Name() == "tune" {
		var seed int
		if seed, err = c.Flags().GetInt("seed"); err == nil {
			_, err = suite.One(file, c.Flags().Lookup("dataset").Value.String(), c.Flags().Lookup("attack").Value.String(), seed)
		}
	}
	return err
}

// block is a fenced block of a page.
type block struct {
	n        int
	language string
	text     string
}

func (p page) blocks() (out []block) {
	var now *block
	for _, l := range p.lines {
		mark, fence := strings.CutPrefix(strings.TrimSpace(l.text), "```")
		switch {
		case fence && now == nil:
			now = &block{n: l.n, language: mark}
		case fence:
			out = append(out, *now)
			now = nil
		case now != nil:
			now.text += l.text + "\n"
		}
	}
	return out
}

var titled = regexp.MustCompile(`^(?:#|//) (\S+\.(?:yaml|go))\n`)

// files are the blocks whose first line is a comment with a file's name: what the reader is asked
// to write.
func (p page) files() map[string]string {
	out := map[string]string{}
	for _, b := range p.blocks() {
		if m := titled.FindStringSubmatch(b.text); m != nil {
			out[m[1]] = b.text
		}
	}
	return out
}

var registered = regexp.MustCompile(`Name: +"([a-z0-9-]+)",\n\s*Doc:`)

// defined are the names of attacks and detectors that a page's Go blocks register, or that its own
// examples do.
func (p page) defined() (out []string) {
	for _, b := range p.blocks() {
		for _, m := range registered.FindAllStringSubmatch(b.text, -1) {
			if b.language == "go" {
				out = append(out, m[1])
			}
		}
	}
	return out
}

// A block of YAML is a suite, or a part of one that fits configs/mini.yaml.
func TestSnippetsOfYAMLAreSuites(t *testing.T) {
	for _, p := range pages(t) {
		defined := p.defined()
		for _, b := range p.blocks() {
			if b.language != "yaml" || strings.Contains(b.text, "apiVersion:") {
				continue
			}
			if slices.ContainsFunc(defined, func(n string) bool { return names(b.text, n) }) {
				continue
			}
			text := b.text
			whole := strings.Contains("\n"+text, "\nclip:") || strings.Contains("\n"+text, "\nextends:")
			if !whole {
				text = "extends: mini.yaml\nname: snippet\n" + text
			}
			if strings.Contains("\n"+text, "\nsearch:") { // calibration starts from no calibration
				text = strings.Replace(text, "extends: mini.yaml", "extends: calibrate-mini.yaml", 1)
			}
			path := filepath.Join(root, "configs", "snippet.yaml")
			if m := titled.FindStringSubmatch(b.text); m != nil {
				path = filepath.Join(root, m[1])
			}
			if _, err := suite.Parse(path, []byte(text), nil); err != nil {
				t.Errorf("%s:%d: %v", p.path, b.n, err)
			}
		}
	}
}

// A block of Go is quoted from a file of the project, letter by letter, or is a file that
// TestTheExtensionsOfThePageWork builds.
func TestSnippetsOfGoAreQuoted(t *testing.T) {
	var sources []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			text, err := os.ReadFile(path)
			sources = append(sources, string(text))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages(t) {
		for _, b := range p.blocks() {
			if b.language != "go" || titled.MatchString(b.text) {
				continue
			}
			if !slices.ContainsFunc(sources, func(s string) bool { return strings.Contains(s, strings.TrimSpace(b.text)) }) {
				t.Errorf("%s:%d: no file of the project has this block of Go", p.path, b.n)
			}
		}
	}
}

// built builds a module like examples/own-attack with files of its own and returns the path of the
// program.
func built(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	project, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(root, "examples", "own-attack", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = strings.Replace(string(text), "clipinspector => ../..", "clipinspector => "+project, 1)
	}
	for name, text := range files {
		if strings.HasSuffix(name, ".yaml") {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "clip-inspector")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod -trimpath -buildvcs=false")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	return program
}

// What pages ask their readers to write builds, and the program with it takes the commands of the
// page.
func TestTheExtensionsOfThePageWork(t *testing.T) {
	if testing.Short() {
		t.Skip("it links a program for each page")
	}
	for _, p := range pages(t) {
		files := p.files()
		defined := p.defined()
		if len(defined) == 0 {
			continue
		}
		program1 := built(t, files)
		dir := t.TempDir()
		if err := os.CopyFS(filepath.Join(dir, "configs"), os.DirFS(filepath.Join(root, "configs"))); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if strings.HasSuffix(name, ".yaml") {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, l := range p.commands() {
			for _, command := range words(l.text) {
				args, ok := program(command)
				if !ok || len(args) == 0 || !slices.Contains([]string{"run", "tune", "list"}, args[0]) {
					continue
				}
				switch args[0] {
				case "run":
					args = append(args, "--dry-run")
				case "tune":
					args = append(args, "--help")
				}
				c := exec.Command(program1, args...)
				c.Dir = dir
				if text, err := c.CombinedOutput(); err != nil {
					t.Errorf("%s: %s: %v\n%s", p.at(l), strings.Join(args, " "), err, text)
				}
			}
		}
	}
}

var durations = regexp.MustCompile(`\b(\d+h)?(\d+m)?\d+(\.\d+)?(ms|s)\b|\b\d+m\d+s\b`)

// The tutorial's commands, typed one after the other, print what it shows, but for times. It takes
// minutes: CLIPINSPECTOR_DOCS=run.
func TestTheTutorialPrintsWhatItShows(t *testing.T) {
	if os.Getenv("CLIPINSPECTOR_DOCS") != "run" {
		t.Skip("CLIPINSPECTOR_DOCS=run types every command of the tutorial")
	}
	text, err := os.ReadFile("tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	p := page{"docs/tutorial.md", split(string(text))}
	plain, err := filepath.Abs(filepath.Join(t.TempDir(), "clip-inspector"))
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", plain, "./cmd/clip-inspector")
	build.Dir = root
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	own := built(t, p.files())
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "configs"), os.DirFS(filepath.Join(root, "configs"))); err != nil {
		t.Fatal(err)
	}
	scripts := map[string]string{"run.sh": "#!/bin/sh\nexec " + plain + " \"$@\"\n", "own.sh": "#!/bin/sh\nexec " + own + " \"$@\"\n"}
	for name, text := range p.files() {
		scripts[name] = text
	}
	for name, text := range scripts {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var said string
	for _, l := range p.lines {
		if !l.code {
			continue
		}
		s := strings.TrimSpace(l.text)
		if command, ok := strings.CutPrefix(s, "$ "); ok {
			command = strings.Replace(command, "go run . ", "../../own.sh ", 1)
			c := exec.Command("sh", "-c", command)
			c.Dir = dir
			out, err := c.CombinedOutput()
			if failed := (*exec.ExitError)(nil); errors.As(err, &failed) && failed.ExitCode() == 1 {
				err = nil // a verdict
			}
			if err != nil {
				t.Fatalf("%s: %s: %v\n%s", p.at(l), command, err, out)
			}
			said = durations.ReplaceAllString(string(out), "T")
			_, _ = io.WriteString(os.Stderr, "typed: "+command+"\n")
			continue
		}
		if strings.HasPrefix(s, "```") {
			said = "" // another block shows another command's output, or a file
		}
		if said == "" || s == "" || s == "..." {
			continue
		}
		if want := durations.ReplaceAllString(s, "T"); !strings.Contains(said, want) {
			t.Errorf("%s: the page shows %q; the command printed\n%s", p.at(l), want, said)
		}
	}
}
