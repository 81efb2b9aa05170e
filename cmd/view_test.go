package cmd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"clipinspector/experiments"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/internal/browsertest"
	"clipinspector/internal/experimentstest"
	"clipinspector/results/stats"
	"clipinspector/results/store"
	"clipinspector/results/web"
)

// viewed serves what view serves of folders.
func viewed(t *testing.T, roots ...string) (base string, l *library) {
	t.Helper()
	at, err := listen(0, true)
	if err != nil {
		t.Fatal(err)
	}
	l = newLibrary(io.Discard, roots)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- serve(ctx, at, web.Handler(l, at.Addr().(*net.TCPAddr).Port)) }()
	t.Cleanup(func() { end(); <-ended })
	return "http://" + at.Addr().String(), l
}

func page(t *testing.T, address string) string {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	raw, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v\n%s", address, r.StatusCode, err, raw)
	}
	return string(raw)
}

// gate is a writer that waits until it is opened.
type gate chan struct{}

func (g gate) Write(p []byte) (int, error) { <-g; return len(p), nil }

// While a suite runs its page in a browser follows, without being loaded again.
func TestViewerIsLiveWhileASuiteRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser and runs a suite")
	}
	b := browsertest.Start(t)
	root := t.TempDir()
	out := filepath.Join(root, "tiny")
	base, l := viewed(t, root)
	begin, ended := make(gate), make(chan error, 1)
	f := experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t)), "detectors=[{name: ci, optimise: 16, measure: 8, batch: 8}]")
	go func() {
		_, err := experiments.Run(t.Context(), f, experiments.Options{Out: out, Device: "cpu", Workers: 1, Threads: 2, Report: begin})
		ended <- err
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // planned, and held there
		if s, err := l.Suite(out, "tiny"); err == nil && s.Progress.Open() == 12 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the suite was never planned: %v", err)
		}
	}
	p := b.Open(base+"/suite?"+url.Values{"run": {out}, "suite": {"tiny"}}.Encode(), 1000, "light")
	if text := browsertest.Value[string](p, `document.querySelector(".progress").textContent`); !strings.Contains(text, "0 of 12 cells finished") {
		t.Errorf("at the beginning: %q", text)
	}
	p.Do(chromedp.Evaluate(`window.same = true`, nil))
	close(begin)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	p.Until(`!document.querySelector("progress")`)
	if !browsertest.Value[bool](p, `window.same === true && document.querySelectorAll("#models td.right, #models td.wrong").length === 6`) {
		t.Error("the page was loaded again, or does not show the verdicts")
	}
}

// Every page of a folder can be read, and reading changes no file.
func TestViewingChangesNothing(t *testing.T) {
	root := t.TempDir()
	out := filepath.Join(root, "tiny")
	run(t, experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t))), out)
	sums := func() (all []string) {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			all = append(all, fmt.Sprintf("%s %x", path, sha256.Sum256(raw)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := sums()
	base, l := viewed(t, root)
	q := "run=" + url.QueryEscape(out) + "&suite=tiny"
	if text := page(t, base+"/"); !strings.Contains(text, "6/6") || !strings.Contains(text, "18/18") {
		t.Error(text)
	}
	s, err := l.Suite(out, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/suite?" + q, "/pictures?" + q, "/plot.svg?name=roc&" + q, "/compare?by=detector&a=" + url.QueryEscape(out+": tiny")} {
		page(t, base+path)
	}
	for _, m := range s.Rows.Models {
		text := page(t, base+"/model?"+q+"&key="+m.Cell.Key)
		for _, want := range map[bool][]string{true: {"planted trigger", "with the trigger", "recovered by ci"}, false: {"It is clean."}}[m.Result.Backdoored] {
			if !strings.Contains(text, want) {
				t.Errorf("the page of %s does not show %q", m.Cell.Key, want)
			}
		}
	}
	if after := sums(); !slices.Equal(before, after) {
		t.Errorf("files changed:\n%s\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// The command that a model's page shows makes that model again, and all that was found of it.
func TestTheCommandMakesTheCellAgain(t *testing.T) {
	for _, sets := range [][]string{
		nil,
		{"sweep.tuning.epochs=[1, 2]", "sweep.detectors.ci.epsilon=[0.02, 0.05]", "seeds=[1, 2]"},
		{"sweep.attacks.badnets.share=[0.3, 0.6]"},
	} {
		plan := func(f *suite.File) *experiments.Plan {
			t.Helper()
			p, err := experiments.NewPlan(world.New(), f, "engine")
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		path := filepath.Join(t.TempDir(), "suite.yaml")
		if err := os.WriteFile(path, []byte(experimentstest.TinySuite(experimentstest.TinyCLIP(t))), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := suite.Load(path, sets)
		if err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		planned(t, plan(f), out)
		rows, u := rowsOf(t, out)
		for _, i := range []int{0, len(rows.Models) / 2, len(rows.Models) - 1} {
			m := rows.Models[i]
			command := alone(u, m)
			words := words(t, command)
			var sets []string
			for j, w := range words {
				if w == "--set" {
					sets = append(sets, words[j+1])
				}
			}
			again, err := suite.Load(words[2], sets)
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			p := plan(again)
			if len(p.Models) != 1 || p.Models[0].Cell.Key != m.Cell.Key {
				t.Errorf("%s\nplans %d models, want the model %s alone", command, len(p.Models), m.Cell.Key)
			}
			var want, got []string
			for _, d := range rows.Detections {
				if d.Cell.ModelKey == m.Cell.Key {
					want = append(want, d.Cell.Key)
				}
			}
			for _, d := range p.Detections {
				got = append(got, d.Cell.Key)
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s\nplans the detections %v, want %v", command, got, want)
			}
		}
	}
}

// words are those of a command line as a shell reads it.
func words(t *testing.T, command string) []string {
	t.Helper()
	raw, err := exec.Command("sh", "-c", "for w in "+command+`; do printf '%s\0' "$w"; done`).Output()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
}

// planned writes a plan into a store.
func planned(t *testing.T, p *experiments.Plan, out string) {
	t.Helper()
	s, err := store.Open(filepath.Join(out, experiments.StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Store(s, nil), s.Close()); err != nil {
		t.Fatal(err)
	}
}

func rowsOf(t *testing.T, out string) (*stats.Rows, store.Suite) {
	t.Helper()
	s, suites, err := openSuites(out, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rows, err := stats.Read(s, suites[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	return rows, suites[0]
}

// What somebody else's folder holds costs a line on the page, whatever it is.
func TestFoldersOfStrangersAreNamed(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	put("damaged/results.sqlite", "SQLite format 3\x00 and then something else")
	put("no-json/report.json", "<script>window.owned=1</script>")
	put("no-audit/report.json", `{"decision": ""}`)
	put("by-hand/report.json", `{"decision": "clean", "index": null, "delivered_encoders": {"found": "<script>"}, "suspect": "<b>", "classes": [{"class": "<b>"}], "references": {"p": -1}}`)
	put("by-hand/trigger.png", "no picture")
	put("[a]*/report.json", `{"decision": "backdoored", "index": 1e300, "classes": [{"class": "`+strings.Repeat("x", 5000)+`", "index": 1e300}]}`)
	if err := os.Symlink("/etc", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	base, _ := viewed(t, root)
	text := page(t, base+"/")
	for _, want := range []string{"damaged: ", "no-json: ", "no-audit: ", "by-hand</a>", "[a]*</a>"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
	for _, name := range []string{"by-hand", "[a]*"} {
		if text := page(t, base+"/audit?"+url.Values{"run": {filepath.Join(root, name)}}.Encode()); strings.Contains(text, "<script>") {
			t.Errorf("%s: a text became a script", name)
		}
	}
}
