package datasets

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// realRoot returns the folder of real photographs, or skips the test when it lacks the wanted one.
func realRoot(t testing.TB, folder string) string {
	t.Helper()
	root := cmp.Or(os.Getenv(RootEnv), filepath.Join("..", defaultRoot)) // tests run in the package's folder
	if _, err := os.Stat(filepath.Join(root, folder)); err != nil {
		t.Skipf("no real photographs: %s has no folder %s; set %s to a folder laid out as CoOp's", root, folder, RootEnv)
	}
	return root
}

func TestRealSets(t *testing.T) {
	for _, c := range []struct {
		name, folder, class0 string
		classes              int
		counts               [3]int
	}{
		{"caltech101", "caltech-101", "face", 100, [3]int{4128, 1649, 2465}},
		{"dtd", "dtd", "banded", 10, [3]int{600, 240, 360}},                                            // ten of 47 classes
		{"stanford-cars", "stanford_cars", "2000 AM General Hummer SUV", 196, [3]int{6509, 409, 1226}}, // the training half
	} {
		t.Run(c.name, func(t *testing.T) {
			root := realRoot(t, c.folder)
			ds, err := Open(c.name, Options{Root: root})
			if err != nil {
				t.Fatal(err)
			}
			full := coopSets[slices.IndexFunc(coopSets, func(s coopSet) bool { return s.name == c.name })]
			if ds.(*fileSet).complete() { // a user's full copy
				c.classes, c.counts = full.classes, full.counts
			}
			if len(ds.Classes()) != c.classes || ds.Classes()[0] != c.class0 {
				t.Errorf("%d classes, the first %q", len(ds.Classes()), ds.Classes()[0])
			}
			if got := [3]int{ds.Len(Train), ds.Len(Val), ds.Len(Test)}; got != c.counts {
				t.Errorf("counts %v, want %v", got, c.counts)
			}
			if want := c.classes == full.classes && c.counts == full.counts; ds.(*fileSet).complete() != want {
				t.Errorf("complete is %v", !want)
			}
			for i := 0; i < ds.Len(Test); i += 300 {
				if img, err := ds.Image(Test, i); err != nil || min(img.Width, img.Height) < 64 {
					t.Errorf("test picture %d: %v", i, err)
				}
			}
		})
	}
}

func TestCaltechSamplesEqualPublished(t *testing.T) {
	ds, err := Open("caltech101", Options{Root: realRoot(t, "caltech-101")})
	if err != nil {
		t.Fatal(err)
	}
	var rows []published
	fixture(t, "fewshot.json", &rows)
	if allSamples(t, ds) != rows[0].SHA256 {
		t.Error("samples differ from the published ones")
	}
}

func TestImageNetPoolWithoutCaltechClasses(t *testing.T) {
	root := realRoot(t, "imagenet-ood")
	pool, err := OpenPool("imagenet-ood", Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	ds, err := Open("caltech101", Options{Root: realRoot(t, "caltech-101")})
	if err != nil {
		t.Fatal(err)
	}
	kept, out := ExcludeOverlap(pool, ds.Classes())
	t.Logf("%d of %d stay; left out: %q", kept.Len(), pool.Len(), out)
	for _, name := range []string{"African_crocodile", "accordion", "flamingo", "electric_guitar", "sax", "cock"} {
		if !slices.Contains(out, name) {
			t.Errorf("%s stays", name)
		}
	}
	for i := range kept.Len() {
		if name := kept.(Named).ImageName(i); slices.Contains(out, name) {
			t.Errorf("%s stays at %d", name, i)
		}
	}
	if img, err := kept.Image(0); err != nil || img.Width != 224 || kept.Fingerprint() == pool.Fingerprint() {
		t.Errorf("first picture: %v", err)
	}
}
