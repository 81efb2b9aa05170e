package datasets

import (
	"context"
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"clipinspector/internal/miniworld"
)

func TestEveryRegisteredSetIsDescribed(t *testing.T) {
	names := Names()
	if len(names) != len(coopSets)+len(miniworld.Names())+1 { // mini-all
		t.Errorf("%d sets registered: %v", len(names), names)
	}
	for _, name := range names {
		family, doc, err := Describe(name)
		if err != nil || family == "" || doc == "" || strings.Contains(doc, "\n") {
			t.Errorf("%s: family %q, doc %q, %v", name, family, doc, err)
		}
	}
	if _, _, err := Describe("nothing"); err == nil {
		t.Error("unknown set described")
	}
	for _, s := range coopSets {
		if strings.Count(s.template, "{}") != 1 {
			t.Errorf("%s: template %q", s.name, s.template)
		}
	}
}

func TestAbsentDataIsOneHelpfulLine(t *testing.T) {
	o := Options{Root: t.TempDir()}
	for _, s := range coopSets {
		ds, err := Open(s.name, o)
		if err == nil || ds != nil {
			t.Fatalf("%s opened from an empty folder", s.name)
		}
		for _, want := range []string{s.name, s.folder, RootEnv, "DATASETS.md"} {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %q lacks %q", s.name, err, want)
			}
		}
	}
	for _, name := range []string{"imagenet-ood", "folder:nowhere", "dataset:dtd", "nothing", ""} {
		if p, err := OpenPool(name, o); err == nil || p != nil {
			t.Errorf("pool %q opened", name)
		}
	}
	for _, name := range []string{"folder:nowhere", "nothing", "", "folder:"} {
		if d, err := Open(name, o); err == nil || d != nil {
			t.Errorf("dataset %q opened", name)
		}
	}
}

func TestMiniSetsFollowTheContract(t *testing.T) {
	seen := map[string]string{}
	for _, name := range miniworld.Names() {
		ds, err := Open(name, Options{Size: 16})
		if err != nil {
			t.Fatal(err)
		}
		k := len(ds.Classes())
		for split, per := range map[Split]int{Train: miniTrainPerClass, Val: miniValPerClass, Test: miniTestPerClass, "other": 0} {
			if ds.Len(split) != per*k {
				t.Errorf("%s %s: %d pictures of %d classes", name, split, ds.Len(split), k)
			}
		}
		last := ds.Len(Test) - 1
		if ds.Label(Test, 0) != 0 || ds.Label(Test, last) != k-1 {
			t.Errorf("%s: labels %d to %d", name, ds.Label(Test, 0), ds.Label(Test, last))
		}
		a, err := ds.Image(Test, last)
		b, _ := ds.Image(Test, last)
		if err != nil || a.Width != 16 || !slices.Equal(a.Pix, b.Pix) {
			t.Errorf("%s: picture %v, repeatable %v", name, err, slices.Equal(a.Pix, b.Pix))
		}
		if _, err := ds.Image(Test, last+1); err == nil {
			t.Errorf("%s: picture beyond the end", name)
		}
		for _, o := range []Options{{Size: 16}, {Size: 16, Seed: 1}, {Size: 32}} {
			other, _ := Open(name, o)
			if old, dup := seen[other.Fingerprint()]; dup {
				t.Errorf("fingerprint of %s %v repeats %s", name, o, old)
			}
			seen[other.Fingerprint()] = fmt.Sprint(name, o)
		}
	}
}

func TestRenderedPools(t *testing.T) {
	for _, name := range []string{"mini", "textures", "noise"} {
		p, err := OpenPool(name, Options{Size: 16, PoolLen: 7})
		if err != nil || p.Len() != 7 || p.Name() != name {
			t.Fatalf("%s: %v", name, err)
		}
		a, _ := p.Image(3)
		b, _ := p.Image(3)
		c, _ := p.Image(4)
		if !slices.Equal(a.Pix, b.Pix) || slices.Equal(a.Pix, c.Pix) || a.Width != 16 {
			t.Errorf("%s: pictures do not repeat or do not differ", name)
		}
		if _, err := p.Image(7); err == nil {
			t.Errorf("%s: picture beyond the end", name)
		}
	}
}

// writePNG writes a small picture whose content depends on shade.
func writePNG(t *testing.T, path string, shade uint8) {
	t.Helper()
	img := NewRGB(12, 10)
	for i := range img.Pix {
		img.Pix[i] = shade
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, img.NRGBA()); err != nil {
		t.Fatal(err)
	}
}

func TestFolderSplitsFiftyTwentyThirty(t *testing.T) {
	root := t.TempDir()
	for c, class := range []string{"tea_cup", "apple"} {
		for i := range 10 {
			writePNG(t, filepath.Join(root, "set", class, fmt.Sprintf("%02d.png", i)), uint8(20*i+c))
		}
	}
	writePNG(t, filepath.Join(root, "set", ".hidden", "a.png"), 1)
	ds, err := Open("folder:set", Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if got := [3]int{ds.Len(Train), ds.Len(Val), ds.Len(Test)}; got != [3]int{10, 4, 6} {
		t.Errorf("splits %v", got)
	}
	if !slices.Equal(ds.Classes(), []string{"apple", "tea_cup"}) || PromptName(ds.Classes()[1]) != "tea cup" {
		t.Errorf("classes %q", ds.Classes())
	}
	again, _ := Open(filepath.Join(root, "set"), Options{})
	if again.Fingerprint() != ds.Fingerprint() {
		t.Error("the same files have two fingerprints")
	}
	images, labels, err := LoadSplit(context.Background(), ds, Test, nil, 8, nil)
	if err != nil || len(labels) != 6 || !slices.Equal(images.Shape(), []int{6, 3, 8, 8}) {
		t.Fatalf("loaded %v %v, %v", images.Shape(), labels, err)
	}
	pool, err := OpenPool("folder:set", Options{Root: root})
	if err != nil || pool.Len() != 20 {
		t.Fatalf("pool of %v, %v", pool, err)
	}
	kept, out := ExcludeOverlap(pool, []string{"Apples", "cup"})
	if kept.Len() != 0 || !slices.Equal(out, []string{"apple", "tea_cup"}) {
		t.Errorf("kept %d, left out %q", kept.Len(), out)
	}
	if err := os.WriteFile(filepath.Join(root, "set", "apple", "00.png"), []byte("not a picture"), 0o644); err != nil {
		t.Fatal(err)
	}
	pool, _ = OpenPool("folder:set", Options{Root: root})
	_, err = pool.Image(0)
	if err == nil || !strings.Contains(err.Error(), "00.png") || strings.Contains(err.Error(), "\n") {
		t.Errorf("damaged picture: %v", err)
	}
	changed, _ := Open("folder:set", Options{Root: root})
	if changed.Fingerprint() == ds.Fingerprint() {
		t.Error("a changed file does not change the fingerprint")
	}
}

func TestOverlapIsByWords(t *testing.T) {
	for _, c := range []struct {
		name, class string
		want        bool
	}{
		{"African_crocodile", "crocodile", true}, {"cougar", "cougar_face", true}, {"bassoon", "bass", false},
		{"seahorse", "sea_horse", true}, {"binoculars", "binocular", true}, {"sports_car", "car_side", false},
		{"canoe", "ant", false}, {"grand_piano", "grand_piano", true}, {"hourglass", "glas", false},
		{"German_short-haired_pointer", "german_shorthaired", true}, {"hotdog", "hot_dog", true},
	} {
		if got := overlap(words(c.name), words(c.class)); got != c.want {
			t.Errorf("%s against %s: %v, want %v", c.name, c.class, got, c.want)
		}
	}
}

func TestSubsetAndLimits(t *testing.T) {
	ds := labelled{4, map[Split][]int{Train: {0, 1, 2, 3, 3}, Test: {0, 0, 0, 0, 1, 3, 3, 2}}}
	sub, err := Subset(ds, []int{3, 0})
	if err != nil {
		t.Fatal(err)
	}
	if got := Labels(sub, Test, nil); !slices.Equal(got, []int{1, 1, 1, 1, 0, 0}) || len(sub.Classes()) != 2 {
		t.Errorf("subset labels %v", got)
	}
	if img, _ := sub.Image(Test, 4); img.Height != 8+3 || img.Width != 9+5 {
		t.Errorf("subset picture %d x %d is not picture 5 of label 3", img.Width, img.Height)
	}
	for _, bad := range [][]int{{}, {4}, {-1}, {1, 1}} {
		if _, err := Subset(ds, bad); err == nil {
			t.Errorf("classes %v accepted", bad)
		}
	}
	if got := Labels(Limit(ds, Test, 5), Test, nil); !slices.Equal(got, []int{0, 0, 1, 3, 2}) {
		t.Errorf("limit 5: labels %v", got)
	}
	if Limit(ds, Test, 3).Len(Train) != 5 || Limit(ds, Test, 100).Len(Test) != 8 || Limit(ds, Test, 0).Len(Test) != 0 {
		t.Error("limits touch other splits, or lose or keep pictures")
	}
	if Limit(ds, Test, 3).Fingerprint() == ds.Fingerprint() || sub.Fingerprint() == ds.Fingerprint() {
		t.Error("a selection keeps the fingerprint")
	}
}

func TestLoadDoesNotDependOnThreads(t *testing.T) {
	get := func(i int) (*RGB, error) { return hashPicture(20+i, 40-i), nil }
	load := func(threads int) []float32 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
		images, err := load(context.Background(), get, []int{3, 1, 3, 9, 0, 2}, 16, TrainView(5, 7, 0.08))
		if err != nil {
			t.Fatal(err)
		}
		return images.Data().([]float32)
	}
	one, four := load(1), load(4)
	if !slices.Equal(one, four) {
		t.Error("one and four threads give different pixels")
	}
	n := 3 * 16 * 16
	if slices.Equal(one[:n], one[2*n:3*n]) {
		t.Error("the same picture twice gives the same random crop")
	}
}

func TestLoadReportsTheFirstFailure(t *testing.T) {
	get := func(i int) (*RGB, error) {
		if i >= 50 {
			return nil, fmt.Errorf("picture %d", i)
		}
		return hashPicture(8, 8), nil
	}
	for range 20 {
		if _, err := load(context.Background(), get, All(100), 8, nil); err == nil || err.Error() != "picture 50" {
			t.Fatalf("got %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := load(ctx, get, All(3), 8, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := load(context.Background(), get, nil, 8, nil); err == nil {
		t.Error("nothing to load accepted")
	}
}
