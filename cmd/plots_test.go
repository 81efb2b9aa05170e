package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/experiments"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/internal/experimentstest"
	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// plotted draws a folder's suites and returns the files by name, and what was said.
func plotted(t *testing.T, out string, models ...string) (map[string][]byte, string) {
	t.Helper()
	var said strings.Builder
	if err := plotSuites(t.Context(), &said, out, "", models); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(out, plotFolder("tiny"), "*"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, p := range paths {
		if files[filepath.Base(p)], err = os.ReadFile(p); err != nil {
			t.Fatal(err)
		}
	}
	return files, said.String()
}

func TestPlotsAreTheSameBytesAndSayWhatTheTableSays(t *testing.T) {
	out := t.TempDir()
	run(t, experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t))), out)
	files, said := plotted(t, out)
	for _, name := range []string{"roc", "accuracy-by-dataset", "accuracy-by-attack", "models", "indices", "losses", "thresholds", "gallery"} {
		if !bytes.HasPrefix(files[name+".png"], []byte("\x89PNG")) || !bytes.Contains(files[name+".svg"], []byte("</svg>")) {
			t.Errorf("%s is missing:\n%s", name, said)
		}
		if !strings.Contains(said, filepath.Join(out, plotFolder("tiny"), name+".png")) {
			t.Errorf("%s is not named:\n%s", name, said)
		}
	}
	if !strings.Contains(said, "not drawn: sweep: no setting varies") {
		t.Error(said)
	}
	again, _ := plotted(t, out)
	for name, want := range files {
		if !bytes.Equal(again[name], want) {
			t.Errorf("%s: other bytes the second time", name)
		}
	}
	s := experimentstest.Store(t, filepath.Join(out, experiments.StoreFile))
	sum, err := stats.Summarise(s, "tiny", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range sum.Detectors {
		for file, text := range map[string]string{
			"roc.svg":                fmt.Sprintf("AUROC %.3f [%.3f, %.3f]", d.AUROC, d.AUROCInterval[0], d.AUROCInterval[1]),
			"accuracy-by-attack.svg": fmt.Sprintf("%s, %d/%d in all", d.Name, d.Correct, d.Models),
		} {
			if !bytes.Contains(files[file], []byte(text)) {
				t.Errorf("%s does not say %q", file, text)
			}
		}
	}
	// A model of one's own choice, and one that is not there.
	if files, _ := plotted(t, out, "mini-dtd/badclip"); !bytes.Contains(files["indices.svg"], []byte("badclip, mini-dtd, seed 1")) ||
		bytes.Contains(files["indices.svg"], []byte("badnets, mini")) {
		t.Error("--model shows another model")
	}
	if err := plotSuites(t.Context(), &strings.Builder{}, out, "", []string{"mini-dtd/sig"}); err == nil || !strings.Contains(err.Error(), `"mini-dtd/sig"`) {
		t.Errorf("a model that is not there: %v", err)
	}
}

func TestSweepsAreDrawn(t *testing.T) {
	out := t.TempDir()
	run(t, experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t)), "detectors=[{name: ci, optimise: 16, measure: 8, batch: 8}]",
		"sweep.detectors.ci.epsilon=[0.02, 0.05]", "sweep.learner=[coop, cocoop]"), out)
	files, said := plotted(t, out)
	for _, name := range []string{"sweep-detector.epsilon", "sweep-learner.name"} {
		if files[name+".png"] == nil {
			t.Errorf("%s is missing:\n%s", name, said)
		}
	}
	if !strings.Contains(said, "not drawn: roc: the suite sweeps learner.name, detector.epsilon") {
		t.Error(said)
	}
	if !bytes.Contains(files["sweep-learner.name.svg"], []byte(">cocoop<")) {
		t.Error("the values of the setting are not named")
	}
}

// The names of classes are in the results: figures have them after the pictures are gone, in any
// script, and a folder is called by its own name.
func TestClassNamesAreInTheResults(t *testing.T) {
	data, out := filepath.Join(t.TempDir(), "a<i>b"), t.TempDir()
	classes := []string{"red", "green", "日本語", "<b>"}
	for c, class := range classes {
		if err := os.MkdirAll(filepath.Join(data, class), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			img := image.NewGray(image.Rect(0, 0, 16, 16))
			for k := range img.Pix {
				img.Pix[k] = uint8(60*c + 5*i + k%3)
			}
			var b bytes.Buffer
			if err := errors.Join(png.Encode(&b, img), os.WriteFile(filepath.Join(data, class, fmt.Sprint(i, ".png")), b.Bytes(), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(t, experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t)), fmt.Sprintf("datasets=[{name: %q}]", "folder:"+data),
		"attacks=[badnets]", "detectors=[{name: ci, optimise: 16, measure: 8, batch: 8}]"), out)
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	files, _ := plotted(t, out)
	for _, want := range []string{"日本語", "&lt;b&gt;", "green", "badnets, folder:a&lt;i&gt;b#"} {
		if !bytes.Contains(files["indices.svg"], []byte(want)) {
			t.Errorf("indices.svg does not say %q", want)
		}
	}
}

func TestPlotsOfNothing(t *testing.T) {
	if err := plotSuites(t.Context(), &strings.Builder{}, t.TempDir(), "", nil); err == nil || !strings.Contains(err.Error(), "run a suite into this folder first") {
		t.Errorf("no store: %v", err)
	}
	// Planned, nothing computed.
	out := t.TempDir()
	p, err := experiments.NewPlan(world.New(), experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t))), "engine")
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(filepath.Join(out, experiments.StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Store(s, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if files, said := plotted(t, out); len(files) != 0 || !strings.Contains(said, "not drawn: models: no model is finished") {
		t.Errorf("%d files\n%s", len(files), said)
	}
}

// A report is one file with the tables, the figures and every model, which loads nothing, and has
// the same bytes each time.
func TestReportIsOneFile(t *testing.T) {
	out := t.TempDir()
	run(t, experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t))), out)
	path := filepath.Join(out, reportFile)
	var pages [2][]byte
	for i := range pages {
		if err := writeReport(t.Context(), &strings.Builder{}, out, "", path); err != nil {
			t.Fatal(err)
		}
		var err error
		if pages[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	page := pages[0]
	if !bytes.Equal(page, pages[1]) {
		t.Error("other bytes the second time")
	}
	for what, want := range map[string]int{
		`<details class="page">`:     6,
		`<table id="models"`:         1,
		`alt="ROC of the detectors`:  1,
		`alt="True triggers beside`:  1,
		`alt="planted trigger: `:     4,
		`alt="with the trigger: `:    4,
		`alt="recovered by ci: `:     4,
		`clip-inspector run suite.y`: 7,
		`<script>`:                   1,
		`http-equiv="Content-Securi`: 1,
	} {
		if got := bytes.Count(page, []byte(what)); got < want {
			t.Errorf("%s: %d times, want %d at least", what, got, want)
		}
	}
	for _, tag := range []string{"<link", "src=\"/", "src=\"http", "@import", "url("} {
		if bytes.Contains(page, []byte(tag)) {
			t.Errorf("the report loads something: %s", tag)
		}
	}
}
