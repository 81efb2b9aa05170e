package datasets

import (
	"context"
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

// The sum is that of Python's json.dump(obj, f, indent=4, separators=(",", ": ")) in CoOp's order;
// this one was made there.
func TestSplitSumIsPythons(t *testing.T) {
	classes, lists, err := parseSplit([]byte(`{"train":[["a/1.jpg",0,"cat's"],["b/2.jpg",1,"F-16A/B"]],"val":[],"test":[["a/3.jpg",0,"cat's"]]}`))
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
		f, err := Check(context.Background(), Options{Root: root}, nil, name)
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
	if notes := strings.Join(partial.Notes, "\n"); !strings.Contains(notes, "2 pictures cannot be read") || !strings.Contains(notes, "Forest_1.jpg: not a JPEG") {
		t.Errorf("pictures that cannot be read: %q", partial.Notes)
	}
	for _, want := range []string{"1 of 10 classes", "2 of 13500 train", "1 pictures that the lists name", "published is 541503a7...8ad2"} {
		if !strings.Contains(strings.Join(partial.Notes, "\n"), want) {
			t.Errorf("%q is not among %q", want, partial.Notes)
		}
	}
	if partial.State != Partial || partial.Counts != [3]int{2, 0, 0} || partial.Classes != 1 {
		t.Errorf("%+v", partial)
	}
	ds, err := Open("eurosat", Options{Root: root})
	if err != nil || len(Incomplete(Limit(ds, Train, 1))) != len(partial.Notes)-3 {
		t.Errorf("through a limit: %q, %v", Incomplete(ds), err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if f := find("eurosat"); f.State != Broken || !strings.Contains(f.Notes[0], "split_zhou_EuroSAT.json") {
		t.Errorf("%+v", f)
	}
	if _, err := Check(context.Background(), Options{Root: root}, nil, "imagenet"); err == nil || !strings.Contains(err.Error(), "caltech101") {
		t.Errorf("an unknown set: %v", err)
	}
	if all, err := Check(context.Background(), Options{Root: root}, nil); err != nil || len(all) != 10 {
		t.Errorf("%d findings, %v", len(all), err)
	}
}

// The published Caltech101 split has the published sum, however the file is laid out.
func TestCaltechSplitIsThePublishedOne(t *testing.T) {
	f, err := Check(context.Background(), Options{Root: realRoot(t, "caltech-101")}, nil, "caltech101")
	if err != nil || f[0].State != Complete {
		t.Errorf("%+v, %v", f, err)
	}
}

// layOut writes eurosat with the given split file, and eight pictures of each class with the given
// ending in a folder below it.
func layOut(t *testing.T, images, ending string, split []byte) (root string) {
	t.Helper()
	root = t.TempDir()
	for c, class := range []string{"red", "green"} {
		for i := range 8 {
			writePNG(t, filepath.Join(root, "eurosat", images, class, fmt.Sprintf("%d%s", i, ending)), uint8(9*i+c))
		}
	}
	if split != nil {
		if err := os.WriteFile(filepath.Join(root, "eurosat", "split_zhou_EuroSAT.json"), split, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// listOf is a split file of those pictures.
func listOf(t *testing.T, path func(class string, i int) string, label func(c int) any) []byte {
	t.Helper()
	lists := map[string][][]any{}
	for c, class := range []string{"red", "green"} {
		for i := range 8 {
			s := []string{"train", "train", "train", "train", "val", "val", "test", "test"}[i]
			lists[s] = append(lists[s], []any{path(class, i), label(c), class})
		}
	}
	data, err := json.MarshalIndent(lists, "", "    ")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What is there and what is missing is said in one line, for the ways in which downloads and
// unpacking go wrong.
func TestWhatIsThereInstead(t *testing.T) {
	slash := func(class string, i int) string { return fmt.Sprintf("%s/%d.png", class, i) }
	number := func(c int) any { return c }
	list := listOf(t, slash, number)
	for _, c := range []struct {
		what, images, ending string
		split                []byte
		want                 string
	}{
		{"no split file", "2750", ".png", nil, "16 pictures are in"},
		{"another case", "2750", ".PNG", list, "the list has red/0.png, there is 2750/red/0.PNG"},
		{"one folder deeper", "EuroSAT/2750", ".png", list, "EuroSAT/2750: move them to"},
		{"other pictures", "2750/dogs", "_dog.png", list, "there are 16 other pictures, the first 2750/dogs/green/0_dog.png"},
		{"an empty split file", "2750", ".png", []byte{}, "is empty"},
		{"a web page", "2750", ".png", []byte("<!DOCTYPE html><title>Virus scan warning</title>"), "is a web page"},
		{"a git-lfs pointer", "2750", ".png", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"), "git lfs pull"},
		{"half a split file", "2750", ".png", list[:len(list)/2], "is no JSON text at byte"},
		{"labels as text", "2750", ".png", listOf(t, slash, func(c int) any { return fmt.Sprint(c) }), `the label is "0": want a whole number`},
	} {
		_, err := Open("eurosat", Options{Root: layOut(t, c.images, c.ending, c.split)})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", c.what, err, c.want)
		}
	}
	// What Windows writes is read.
	for what, text := range map[string][]byte{
		"backslashes": listOf(t, func(class string, i int) string { return fmt.Sprintf(`%s\%d.png`, class, i) }, number),
		"a mark":      append([]byte("\xef\xbb\xbf"), list...),
		"UTF-16":      utf16LE(list),
	} {
		ds, err := Open("eurosat", Options{Root: layOut(t, "2750", ".png", text)})
		if err != nil || ds.Len(Train) != 8 || ds.Len(Val) != 4 || ds.Len(Test) != 4 {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A class whose pictures are gone is refused by name.
	root := layOut(t, "2750", ".png", list)
	if err := os.RemoveAll(filepath.Join(root, "eurosat", "2750", "red")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("eurosat", Options{Root: root}); err == nil || !strings.Contains(err.Error(), "without a training picture") || !strings.Contains(err.Error(), ": red:") {
		t.Errorf("a class without pictures: %v", err)
	}
	f, err := Check(context.Background(), Options{Root: root}, nil, "eurosat")
	if err != nil || f[0].State != Partial || !strings.Contains(strings.Join(f[0].Notes, "\n"), "without a training picture: red") {
		t.Errorf("%+v, %v", f, err)
	}
}

func utf16LE(text []byte) []byte {
	out := []byte("\xff\xfe")
	for _, b := range text {
		out = append(out, b, 0)
	}
	return out
}

// A folder is looked through as well: every picture is decoded, and all that are damaged are
// listed.
func TestCheckOfAFolder(t *testing.T) {
	root := t.TempDir()
	shades(t, root, 4, "green", "red")
	f, err := Check(context.Background(), Options{}, nil, "folder:"+root)
	if err != nil || f[0].State != Complete || f[0].Counts != [3]int{4, 2, 2} || len(f[0].Notes) != 0 {
		t.Errorf("%+v, %v", f, err)
	}
	for i := range 2 {
		if err := os.WriteFile(filepath.Join(root, "red", fmt.Sprintf("%02d.png", i)), []byte("<html>"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err = Check(context.Background(), Options{}, nil, "folder:"+root)
	notes := strings.Join(f[0].Notes, "\n")
	if err != nil || f[0].State != Partial || strings.Count(notes, "is a web page") != 2 || !strings.HasPrefix(notes, "2 pictures cannot be read\n") {
		t.Errorf("%+v, %v", f, err)
	}
}
