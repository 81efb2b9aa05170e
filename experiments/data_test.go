package experiments

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/datasets"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/internal/experimentstest"
)

// paint writes n one-coloured pictures for each class into a folder, lighter by the given amount.
func paint(t *testing.T, folder string, n int, lighter uint8, classes ...string) {
	t.Helper()
	for c, class := range classes {
		for i := range n {
			img := datasets.NewRGB(16, 16)
			for k := range img.Pix {
				img.Pix[k] = uint8(40*c+3*i) + lighter
			}
			if err := os.MkdirAll(filepath.Join(folder, class), 0o755); err != nil {
				t.Fatal(err)
			}
			f, err := os.Create(filepath.Join(folder, class, fmt.Sprintf("%02d.png", i)))
			if err != nil {
				t.Fatal(err)
			}
			if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(f, img.NRGBA()); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// folderSuite is clean and one attack on a folder, one detector, and a folder as the pool.
func folderSuite(clip, folder, pool string) string {
	return fmt.Sprintf(`
name: tiny
clip: %s
seeds: [1]
datasets: [{name: "folder:%s"}]
shots: 2
learner: {name: coop, context: 2}
tuning: {epochs: 2, batch: 4, optimizer: adam, rate: 0.01, weight-decay: 0}
attacks: [clean, badnets]
pool: {name: "folder:%s", images: 12}
ood: {name: "folder:%s", images: 8}
detectors: [{name: ci, optimise: 8, measure: 4, batch: 4}]
`, clip, folder, pool, pool)
}

var colours = []string{"red", "green", "blue", "yellow", "violet"}

// Where pictures lie decides nothing: same target, model, verdict, and the same bytes of the
// export. Nor can results of pictures that are gone pass for those of pictures that are there.
func TestAFolderIsWhatLiesInIt(t *testing.T) {
	clip := experimentstest.TinyCLIP(t)
	place := func() (set, pool string) {
		dir := t.TempDir()
		set, pool = filepath.Join(dir, "set"), filepath.Join(dir, "pool")
		paint(t, set, 8, 0, colours...)
		paint(t, pool, 4, 7, "one", "two", "three")
		return set, pool
	}
	set, pool := place()
	out := t.TempDir()
	f := experimentstest.Read(t, suite.Parse, folderSuite(clip, set, pool))
	want := runTiny(t, f, Options{Out: out})
	otherSet, otherPool := place()
	elsewhere := experimentstest.Read(t, suite.Parse, folderSuite(clip, otherSet, otherPool))
	if got := runTiny(t, elsewhere, Options{Out: t.TempDir()}); !bytes.Equal(got, want) {
		t.Errorf("another path, another export: %s", experimentstest.FirstDifference(got, want))
	}
	// In one store they are the same cells, though the second folder has another name.
	renamed := filepath.Join(filepath.Dir(otherSet), "renamed")
	if err := os.Rename(otherSet, renamed); err != nil {
		t.Fatal(err)
	}
	if got := runTiny(t, experimentstest.Read(t, suite.Parse, folderSuite(clip, renamed, otherPool)), Options{Out: out}); !bytes.Equal(got, want) {
		t.Errorf("a renamed folder, another export: %s", experimentstest.FirstDifference(got, want))
	}
	checkAttempts(t, out, 1, 1)

	// Other pictures of the same number of bytes.
	paint(t, set, 8, 30, colours...)
	var report strings.Builder
	got := runTiny(t, f, Options{Out: out, Report: &report})
	if bytes.Equal(got, want) {
		t.Error("pictures were replaced, and the results stayed")
	}
	if !strings.Contains(report.String(), "2 models in the store are of other pictures") {
		t.Errorf("not said: %s", report.String())
	}
	if fresh := runTiny(t, f, Options{Out: t.TempDir()}); !bytes.Equal(got, fresh) {
		t.Errorf("differs from a fresh folder: %s", experimentstest.FirstDifference(got, fresh))
	}
}

// All pictures that cannot be read are listed before anything is computed, and what is left out is
// said and kept.
func TestARunListsAllBrokenPictures(t *testing.T) {
	set, pool, out := filepath.Join(t.TempDir(), "set"), t.TempDir(), t.TempDir()
	paint(t, set, 8, 0, colours...)
	paint(t, pool, 4, 7, "one", "two", "three")
	for i := range 8 {
		if err := os.WriteFile(filepath.Join(set, "red", fmt.Sprintf("%02d.png", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(set, "blue", "x.heic"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := experimentstest.Read(t, suite.Parse, folderSuite(experimentstest.TinyCLIP(t), set, pool))
	_, err := Run(context.Background(), f, Options{Out: out})
	// Two shots and three test pictures of the class.
	if err == nil || strings.Count(err.Error(), filepath.Join(set, "red")) != 5 || strings.Contains(err.Error(), "run again") {
		t.Fatalf("got %v", err)
	}
	paint(t, set, 8, 0, colours...)
	var report strings.Builder
	runTiny(t, f, Options{Out: out, Report: &report})
	if n := strings.Count(report.String(), "left out: 1 .heic files"); n != 1 {
		t.Errorf("said %d times: %s", n, report.String())
	}
	s := experimentstest.Store(t, filepath.Join(out, StoreFile))
	suites, err := s.Suites()
	if err != nil || !strings.Contains(fmt.Sprint(suites[0].Settings["left-out"]), "1 .heic files") {
		t.Errorf("in the store: %v, %v", suites[0].Settings["left-out"], err)
	}
}

// The same pictures under two paths are one set, which is said.
func TestTheSameSetTwice(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		paint(t, filepath.Join(dir, name), 8, 0, colours...)
	}
	paint(t, filepath.Join(dir, "pool"), 4, 7, "one", "two", "three")
	text := strings.Replace(folderSuite(experimentstest.TinyCLIP(t), filepath.Join(dir, "a"), filepath.Join(dir, "pool")), `"}]`,
		fmt.Sprintf(`"}, {name: "folder:%s"}]`, filepath.Join(dir, "b")), 1)
	p, err := NewPlan(world.New(), experimentstest.Read(t, suite.Parse, text), "engine")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Models) != 2 || len(p.same) != 1 || !strings.Contains(p.same[0], "/b holds the same pictures as folder:"+dir+"/a:") {
		t.Errorf("%d models, %q", len(p.Models), p.same)
	}
}
