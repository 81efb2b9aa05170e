package plots

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/results/internal/sample"
	"clipinspector/results/store"
)

// drawn draws all figures of a suite of as many sets and classes, by two detectors.
func drawn(t *testing.T, sets, classes int, set, class func(i int) string) []*Figure {
	t.Helper()
	s := sample.Open(t)
	var models []store.ModelCell
	var detections []store.DetectionCell
	for i := range sets {
		for j, attack := range []string{"clean", "badnets"} {
			m := store.ModelCell{Key: fmt.Sprint("m", i, attack), Dataset: set(i), Attack: attack, Learner: "coop", Seed: 1, Order: 2*i + j}
			models = append(models, m)
			for k, name := range []string{"ci", "neural-cleanse"} {
				detections = append(detections, store.DetectionCell{Key: m.Key + name, ModelKey: m.Key, Detector: name, Order: 2*m.Order + k,
					Settings: map[string]any{"detector": map[string]any{"k": 2}}})
			}
		}
	}
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	try(s.Plan(store.Suite{Name: "s"}, models, detections))
	for i, m := range models {
		r := store.ModelResult{Classes: classes, ACC: 0.125, ASR: math.NaN(), Target: -1, PSNR: 20, SSIM: 0.9}
		if m.Attack != "clean" {
			r.Backdoored, r.Target, r.ASR = true, 1, 0.15+0.8*float64(i%3)/2
		}
		try(s.FinishModel(m.Key, "w", r))
	}
	for i, d := range detections {
		r := store.DetectionResult{Index: float64(i % 5), Backdoored: i%5 > 2, Suspect: 1, ImagePasses: 10, Seconds: 1}
		for c := range classes {
			r.Classes = append(r.Classes, store.ClassScore{Class: c, Loss: float64(c%7) / 7, ASR: float64(c%11) / 11, Index: float64(c%23)*0.6 - 11})
		}
		try(s.FinishDetection(d.Key, "w", r))
	}
	d, err := Read(s, "s")
	try(err)
	cases, err := d.Cases(nil)
	try(err)
	for i := range cases {
		for c := range classes {
			cases[i].Classes = append(cases[i].Classes, class(c))
		}
		cases[i].Explained = []Explained{{ExplanationRow: store.ExplanationRow{Result: store.ExplanationResult{Class: 1, Strongest: "patch", PSNR: 21.5}},
			Says: "a patch of about 3 x 3 pixels", Before: image.NewGray(image.Rect(0, 0, 8, 8)), Trigger: image.NewGray(image.Rect(0, 0, 8, 8))}}
	}
	figures, _ := Figures(d, cases)
	if len(figures) < 7 {
		t.Fatalf("got %d figures, want at least 7", len(figures))
	}
	return figures
}

// Pictures end, and are of a size that can be looked at, for names of any length and script and for
// any number of classes and sets; SVG is XML and its text is text.
func TestPicturesOfAnything(t *testing.T) {
	plain := func(i int) string { return fmt.Sprint("set ", i) }
	long := func(i int) string { return fmt.Sprintf("folder:%s%d", strings.Repeat("x", 150), i) }
	other := func(i int) string {
		return []string{"日本語", "كلب", "🦊", "red<i>&amp;", "a\x1b[31m\x00b", "Žluťoučký"}[i%6] + fmt.Sprint(i/6)
	}
	for _, c := range []struct {
		name          string
		sets, classes int
		set, class    func(int) string
	}{
		{"two-classes", 1, 2, plain, plain}, {"ten-of-ten", 10, 10, plain, plain}, {"forty-sets", 40, 10, long, plain},
		{"hundred-classes", 2, 100, plain, plain}, {"four-hundred-classes", 1, 400, plain, long}, {"long", 2, 8, long, long}, {"scripts", 6, 12, other, other},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && c.classes*c.sets > 150 {
				t.Skip("a large one")
			}
			for _, f := range drawn(t, c.sets, c.classes, c.set, c.class) {
				if !finite(float64(f.width)) || !finite(float64(f.height)) || f.width > 45*72 || f.height > 60*72 {
					t.Errorf("%s is %v by %v points", f.Name, f.width, f.height)
					continue
				}
				var svg, picture bytes.Buffer
				if err := errors.Join(f.WriteSVG(&svg), f.WritePNG(&picture)); err != nil {
					t.Fatal(err)
				}
				if _, err := png.DecodeConfig(bytes.NewReader(picture.Bytes())); err != nil {
					t.Errorf("%s: %v", f.Name, err)
				}
				text := svg.String()
				for d := xml.NewDecoder(&svg); ; {
					if _, err := d.Token(); err == io.EOF {
						break
					} else if err != nil {
						t.Fatalf("%s.svg is not XML: %v", f.Name, err)
					}
				}
				if strings.Contains(text, "NaN") {
					t.Errorf("%s.svg has NaN", f.Name)
				}
				if f.Name == "explanations" && (!strings.Contains(text, "said: a patch of about 3 x 3 pixels") || !strings.Contains(text, "recovered trigger<") ||
					strings.Contains(text, "with the recovered one<")) {
					t.Errorf("%s.svg lacks what was said, or a picture, or has a column of nothing", f.Name)
				}
				if c.name == "scripts" && f.Name == "indices" && !(strings.Contains(text, "日本語") && strings.Contains(text, `\x1b[31m\x00`)) {
					t.Errorf("%s.svg lacks names", f.Name)
				}
				if folder := os.Getenv("PLOTS_TEST_OUT"); folder != "" {
					if err := os.WriteFile(filepath.Join(folder, c.name+"-"+f.Name+".png"), picture.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// A letter that no font here has is written as its number: it leaves a mark, of some width.
func TestNoLetterVanishes(t *testing.T) {
	s := style(8, false)
	h := s.Handler.(letters)
	for _, name := range []string{"日", "كلب", "🦊", "\U000f0000", "\x1b"} {
		for _, p := range h.pieces(name, s.Font) {
			for _, r := range p.text {
				if !has(p.face.Face, r) {
					t.Errorf("%q: no font has %q of %q", name, r, p.text)
				}
			}
		}
		if s.Width(name) <= 0 {
			t.Errorf("%q has no width", name)
		}
	}
	if got := shortened(s, 60, strings.Repeat("界", 100)+"1"); !strings.HasSuffix(got, "1") || s.Width(got) > 60 {
		t.Errorf("shortened to %q, %v wide, want at most 60", got, s.Width(got))
	}
}
