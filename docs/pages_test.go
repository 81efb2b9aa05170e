// Package docs_test holds the pages to what they say: links lead somewhere, tables are tables,
// commands exist.
package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// root is the project's folder.
const root = ".."

// page is a Markdown file.
type page struct {
	path  string // below root
	lines []line
}

// line is one line of a page. Code is true inside a fenced or indented block.
type line struct {
	n    int
	text string
	code bool
}

func (p page) at(l line) string { return fmt.Sprintf("%s:%d", p.path, l.n) }

// pages reads all pages but history, which nobody promises anything about.
func pages(t *testing.T) []page {
	t.Helper()
	var out []page
	paths, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"docs", "configs", "python", "examples", "experiments"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) || d != nil && d.Name() == "history" {
				return fs.SkipDir
			}
			if err == nil && strings.HasSuffix(path, ".md") {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		short, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, page{short, split(string(data))})
	}
	return out
}

func split(text string) []line {
	var out []line
	fenced, blank, indented := false, true, false
	for i, s := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(s)
		if strings.HasPrefix(trimmed, "```") {
			fenced = !fenced
			out = append(out, line{i + 1, s, true})
			continue
		}
		indented = strings.HasPrefix(s, "    ") && (blank || indented)
		out = append(out, line{i + 1, s, fenced || indented})
		blank = trimmed == ""
	}
	return out
}

var (
	linked     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	unlettered = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchor is the name that a heading gets on the usual hosts.
func anchor(heading string) string {
	s := unlettered.ReplaceAllString(strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#"))), "")
	return strings.ReplaceAll(s, " ", "-")
}

func TestLinksLeadSomewhere(t *testing.T) {
	anchors := map[string][]string{}
	all := pages(t)
	for _, p := range all {
		for _, l := range p.lines {
			if !l.code && strings.HasPrefix(l.text, "#") {
				anchors[p.path] = append(anchors[p.path], anchor(l.text))
			}
		}
	}
	for _, p := range all {
		for _, l := range p.lines {
			if l.code {
				continue
			}
			for _, m := range linked.FindAllStringSubmatch(l.text, -1) {
				target, fragment, _ := strings.Cut(m[1], "#")
				if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
					continue
				}
				path := p.path
				if target != "" {
					path = filepath.Join(filepath.Dir(p.path), target)
				}
				if _, err := os.Stat(filepath.Join(root, path)); err != nil {
					t.Errorf("%s: the link %s leads to no file", p.at(l), m[1])
				} else if fragment != "" && strings.HasSuffix(path, ".md") && !slices.Contains(anchors[path], fragment) {
					t.Errorf("%s: the link %s leads to no heading of %s", p.at(l), m[1], path)
				}
			}
		}
	}
}

var separator = regexp.MustCompile(`^\s*\|(\s*:?-+:?\s*\|)+\s*$`)

// A table is a heading row, a separating row and rows of as many cells each.
func TestTablesAreTables(t *testing.T) {
	cells := func(s string) int {
		s = strings.ReplaceAll(s, `\|`, "")
		return strings.Count(strings.Trim(strings.TrimSpace(s), "|"), "|") + 1
	}
	for _, p := range pages(t) {
		want, row := 0, 0
		for _, l := range p.lines {
			if l.code || !strings.HasPrefix(strings.TrimSpace(l.text), "|") {
				row = 0
				continue
			}
			row++
			got := cells(l.text)
			if row == 1 {
				want = got
			}
			if row == 2 && !separator.MatchString(l.text) {
				t.Errorf("%s: the second row of a table separates, want |---|, got %q", p.at(l), l.text)
			}
			if got != want {
				t.Errorf("%s: a row of %d cells in a table of %d", p.at(l), got, want)
			}
		}
	}
}

// Prose is read by people: at most 100 characters a line. Tables, code and lines with a link may be
// longer.
func TestLinesOfProseAreShort(t *testing.T) {
	for _, p := range pages(t) {
		for _, l := range p.lines {
			if l.code || strings.HasPrefix(strings.TrimSpace(l.text), "|") || strings.Contains(l.text, "](") || strings.Contains(l.text, "://") {
				continue
			}
			if n := utf8.RuneCountInString(l.text); n > 100 {
				t.Errorf("%s: %d characters, want at most 100", p.at(l), n)
			}
		}
	}
}

// Each suite that comes with the program says at its head how it is run and what it costs, in lines
// that fit a screen.
func TestSuitesSayWhatTheyCost(t *testing.T) {
	var suites []string
	for _, pattern := range []string{"configs/*.yaml", "configs/ablations/*.yaml"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		suites = append(suites, paths...)
	}
	if len(suites) < 30 {
		t.Fatalf("got %d suites, want 30 at least", len(suites))
	}
	for _, path := range suites {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		short := strings.TrimPrefix(path, root+"/")
		lines := strings.Split(string(data), "\n")
		for i, l := range lines {
			if n := utf8.RuneCountInString(l); n > 100 {
				t.Errorf("%s:%d: %d characters, want at most 100", short, i+1, n)
			}
		}
		head := lines[:slices.IndexFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "#") })]
		for _, want := range []string{"# ./run.sh ", "# Cost: "} {
			if !slices.ContainsFunc(head, func(l string) bool { return strings.HasPrefix(l, want) }) {
				t.Errorf("%s: its head has no line %q", short, want)
			}
		}
	}
}

// Every package says what it is: its comment begins with its name.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	said := map[string]bool{} // by folder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name == "testdata" || path != root && strings.HasPrefix(name, ".")) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		said[dir] = said[dir] || strings.HasPrefix(file.Doc.Text(), "Package "+file.Name.Name+" ") || file.Name.Name == "main" && file.Doc != nil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(said) < 40 {
		t.Errorf("got %d packages, want 40 at least", len(said))
	}
	for _, dir := range slices.Sorted(maps.Keys(said)) {
		if !said[dir] {
			t.Errorf("%s: no comment that begins with Package and its name", strings.TrimPrefix(dir, root+"/"))
		}
	}
}

// commands are the lines of a page's code blocks, without prompts; lines that a backslash continues
// are one.
func (p page) commands() (out []line) {
	continued := false
	for _, l := range p.lines {
		if !l.code {
			continued = false
			continue
		}
		s := strings.TrimPrefix(strings.TrimSpace(l.text), "$ ")
		if continued {
			out[len(out)-1].text += " " + s
		} else {
			out = append(out, line{l.n, s, true})
		}
		last := &out[len(out)-1].text
		*last, continued = strings.CutSuffix(*last, "\\")
	}
	return out
}

var span = regexp.MustCompile("`([^`]+)`")

// spans are the pieces of code within a page's prose and tables. A piece may go on in the next
// line.
func (p page) spans() (out []line) {
	for i := 0; i < len(p.lines); i++ {
		if p.lines[i].code || !strings.Contains(p.lines[i].text, "`") {
			continue
		}
		text, last := p.lines[i].text, i
		for strings.Count(text, "`")%2 == 1 && last+1 < len(p.lines) && !p.lines[last+1].code && strings.TrimSpace(p.lines[last+1].text) != "" {
			last++
			text += " " + strings.TrimSpace(p.lines[last].text)
		}
		for _, m := range span.FindAllStringSubmatch(text, -1) {
			out = append(out, line{p.lines[i].n, m[1], true})
		}
		i = last
	}
	return out
}

// words splits a command as a shell would: quotes group, an unquoted # begins a comment, && and ;
// begin another command.
func words(s string) [][]string {
	var all [][]string
	var now []string
	var word strings.Builder
	started, quote := false, rune(0)
	end := func() {
		if started {
			now = append(now, word.String())
			word.Reset()
			started = false
		}
	}
	for _, r := range s {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, started = r, true
		case r == '#' && !started:
			end()
			return append(all, now)
		case unicode.IsSpace(r):
			end()
		case r == ';' || r == '&' || r == '|' || r == '>':
			end()
			if len(now) > 0 {
				all = append(all, now)
			}
			now = nil
		default:
			word.WriteRune(r)
			started = true
		}
	}
	end()
	if len(now) > 0 {
		all = append(all, now)
	}
	return all
}

// Each `go test ./package -run Name` of a page names tests that there are.
func TestTheTestsThatPagesNameExist(t *testing.T) {
	count := 0
	for _, p := range pages(t) {
		for _, l := range append(p.commands(), p.spans()...) {
			for _, command := range words(l.text) {
				command = slices.DeleteFunc(command, func(w string) bool { return strings.HasPrefix(w, "CLIPINSPECTOR_") })
				if len(command) < 2 || command[0] != "go" || command[1] != "test" {
					continue
				}
				count++
				if err := namesTests(command[2:]); err != nil {
					t.Errorf("%s: %v", p.at(l), err)
				}
			}
		}
	}
	if count < 45 {
		t.Errorf("got %d commands, want 45 at least: the pages are not read rightly", count)
	}
}

func namesTests(args []string) error {
	var dirs []string
	run := ""
	for i := 0; i < len(args); i++ {
		name, value, given := strings.Cut(args[i], "=")
		switch {
		case strings.HasPrefix(args[i], "./"):
			dirs = append(dirs, args[i])
		case slices.Contains([]string{"-run", "-bench", "-fuzz"}, name):
			if !given && i+1 < len(args) {
				i++
				value = args[i]
			}
			run = value
		}
	}
	if run == "" || run == "." || run == "^$" {
		return existing(dirs)
	}
	first, _, _ := strings.Cut(run, "/")
	pattern, err := regexp.Compile(strings.ReplaceAll(first, `\|`, "|"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		names, err := tests(dir)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(names, pattern.MatchString) {
			return nil
		}
	}
	return fmt.Errorf("no test of %s matches %q", strings.Join(dirs, " "), run)
}

func existing(dirs []string) error {
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(root, strings.TrimSuffix(dir, "..."))); err != nil {
			return err
		}
	}
	return nil
}

// tests are the names of the tests, benchmarks, examples and fuzz targets of a package, or with
// /... of those below it.
func tests(dir string) ([]string, error) {
	dir, below := strings.CutSuffix(dir, "/...")
	var names []string
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && !below && path != filepath.Join(root, dir) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				names = append(names, f.Name.Name)
			}
		}
		return nil
	})
	return names, err
}
