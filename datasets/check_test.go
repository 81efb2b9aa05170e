package datasets

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An outline has the numbers of the published set, and no pictures.
func TestOutlines(t *testing.T) {
	classes := 0
	for _, s := range coopSets {
		ds, ok := Outline(s.name)
		if !ok || ds.Len(Test) != s.counts[2] || ds.Len("other") != 0 {
			t.Fatalf("%s: %v", s.name, ds)
		}
		classes += len(ds.Classes())
		if l := ds.Label(Train, ds.Len(Train)-1); l < 0 || l >= len(ds.Classes()) {
			t.Errorf("%s: label %d", s.name, l)
		}
		if _, err := ds.Image(Train, 0); err == nil {
			t.Errorf("%s: an outline has a picture", s.name)
		}
		if half, err := Subset(ds, All(5)); err != nil || Limit(half, Test, 10).Len(Test) != 10 {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	if classes != 1191 { // 100+37+196+102+101+100+397+47+10+101
		t.Errorf("%d classes in all", classes)
	}
	if _, ok := Outline("mini-dtd"); ok {
		t.Error("mini-dtd is no published set")
	}
}

// The sum is that of Python's json.dump(obj, f, indent=4, separators=(",", ": ")) in CoOp's order; this one was made there.
func TestSplitSumIsPythons(t *testing.T) {
	classes, lists, err := ParseSplit([]byte(`{"train":[["a/1.jpg",0,"cat's"],["b/2.jpg",1,"F-16A/B"]],"val":[],"test":[["a/3.jpg",0,"cat's"]]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := splitSum(classes, lists); got != "f6ccd89a7c637a9522c59220337f24576f881f744364dc06759cf2629416d8e9" {
		t.Errorf("sha256 %s", got)
	}
}

func TestCheck(t *testing.T) {
	root := t.TempDir()
	find := func(name string) Finding {
		t.Helper()
		f, err := Check(Options{Root: root}, name)
		if err != nil || len(f) != 1 {
			t.Fatal(f, err)
		}
		return f[0]
	}
	absent := find("eurosat")
	if notes := strings.Join(absent.Notes, " "); absent.State != Absent || !strings.Contains(notes, "github.com/phelber/EuroSAT") ||
		!strings.Contains(notes, filepath.Join("eurosat", "2750")) || !strings.Contains(notes, "split_zhou_EuroSAT.json") {
		t.Errorf("%+v", absent)
	}
	images := filepath.Join(root, "eurosat", "2750", "Forest")
	if err := os.MkdirAll(images, 0o755); err != nil {
		t.Fatal(err)
	}
	split := map[string][][]any{"train": {}, "val": {}, "test": {}}
	for i := range 3 {
		name := fmt.Sprintf("Forest_%d.jpg", i)
		split["train"] = append(split["train"], []any{"Forest/" + name, 0, "Forest"})
		if i < 2 { // the third is missing
			if err := os.WriteFile(filepath.Join(images, name), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	file := filepath.Join(root, "eurosat", "split_zhou_EuroSAT.json")
	data, err := json.Marshal(split)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	partial := find("eurosat")
	for _, want := range []string{"1 of 10 classes", "2 of 13500 train", "1 pictures that the lists name", "published is 541503a7...8ad2"} {
		if !strings.Contains(strings.Join(partial.Notes, "\n"), want) {
			t.Errorf("%q is not among %q", want, partial.Notes)
		}
	}
	if partial.State != Partial || partial.Counts != [3]int{2, 0, 0} || partial.Classes != 1 {
		t.Errorf("%+v", partial)
	}
	ds, err := Open("eurosat", Options{Root: root})
	if err != nil || len(Incomplete(Limit(ds, Train, 1))) != len(partial.Notes) {
		t.Errorf("through a limit: %q, %v", Incomplete(ds), err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if f := find("eurosat"); f.State != Broken || !strings.Contains(f.Notes[0], "split_zhou_EuroSAT.json") {
		t.Errorf("%+v", f)
	}
	if _, err := Check(Options{Root: root}, "imagenet"); err == nil || !strings.Contains(err.Error(), "caltech101") {
		t.Errorf("an unknown set: %v", err)
	}
	if all, err := Check(Options{Root: root}); err != nil || len(all) != 10 {
		t.Errorf("%d findings, %v", len(all), err)
	}
}

// The published Caltech101 split has the published sum, however the file is laid out.
func TestCaltechSplitIsThePublishedOne(t *testing.T) {
	f, err := Check(Options{Root: realRoot(t, "caltech-101")}, "caltech101")
	if err != nil || f[0].State != Complete {
		t.Errorf("%+v, %v", f, err)
	}
}
