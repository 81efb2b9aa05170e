package datasets

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const goodSplit = `{"train": [["a/1.jpg", 1, "cat"], ["b/2.jpg", 0, "dog_house"]], "val": [["a/3.jpg", 1, "cat"]],
	"test": [["c/4.jpg", 2, "emu"]]}`

func TestParseSplitKeepsOrderAndNames(t *testing.T) {
	classes, lists, err := parseSplit([]byte(goodSplit))
	if err != nil || !slices.Equal(classes, []string{"dog_house", "cat", "emu"}) {
		t.Fatalf("%q, %v", classes, err)
	}
	if got := lists[Train]; len(got) != 2 || got[0].Path != "a/1.jpg" || got[0].Label != 1 || len(lists[Val]) != 1 {
		t.Errorf("lists %v", lists)
	}
}

func TestParseSplitRefusesHostileFiles(t *testing.T) {
	for _, c := range []struct{ what, file string }{
		{"no JSON", `x`},
		{"a list", `[]`},
		{"nothing", `{}`},
		{"two fields", `{"train": [["a.jpg", 0]]}`},
		{"four fields", `{"train": [["a.jpg", 0, "x", 1]]}`},
		{"null label", `{"train": [["a.jpg", null, "x"]]}`},
		{"null item", `{"train": [null]}`},
		{"half a label", `{"train": [["a.jpg", 0.5, "x"]]}`},
		{"negative label", `{"train": [["a.jpg", -1, "x"]]}`},
		{"huge label", `{"train": [["a.jpg", 2000000000, "x"]]}`},
		{"gap", `{"train": [["a.jpg", 1, "x"]]}`},
		{"two names", `{"train": [["a.jpg", 0, "x"], ["b.jpg", 0, "y"]]}`},
		{"no name", `{"train": [["a.jpg", 0, ""]]}`},
		{"parent", `{"train": [["../a.jpg", 0, "x"]]}`},
		{"inner parent", `{"train": [["b/../a.jpg", 0, "x"]]}`},
		{"absolute", `{"train": [["/etc/passwd", 0, "x"]]}`},
		{"zero byte", `{"train": [["a\u0000.jpg", 0, "x"]]}`},
		{"empty path", `{"train": [["", 0, "x"]]}`},
		{"trailing data", goodSplit + `{}`},
	} {
		if _, _, err := parseSplit([]byte(c.file)); err == nil {
			t.Errorf("%s: accepted", c.what)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %q", c.what, err)
		}
	}
}

func FuzzParseSplit(f *testing.F) {
	f.Add([]byte(goodSplit))
	f.Add([]byte(`{"train": [["../a.jpg", 0, "x"]]}`))
	f.Add([]byte(`{"train": [["a.jpg", 1e3, "x"]], "test": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		classes, lists, err := parseSplit(data)
		if err == nil {
			sound(t, classes, lists)
		}
	})
}

// sound checks what every list of a set promises; newFiles looks at the paths.
func sound(t *testing.T, classes []string, lists map[Split][]Item) {
	t.Helper()
	if len(classes) == 0 || slices.Contains(classes, "") {
		t.Errorf("classes %q", classes)
	}
	for _, list := range lists {
		for _, it := range list {
			if it.Label < 0 || it.Label >= len(classes) {
				t.Errorf("label %d of %d", it.Label, len(classes))
			}
			if full := filepath.Join("/root/images", it.Path); checkPath(it.Path) == nil && !strings.HasPrefix(full, "/root/images") {
				t.Errorf("path %q leaves the folder", it.Path)
			}
		}
	}
}

func FuzzAircraft(f *testing.F) {
	folder := f.TempDir()
	f.Add([]byte("707-320\n727-200\n"), []byte("0034309 707-320\n0034958 727-200\n"))
	f.Add([]byte("\xff\xfea\x00"), []byte("../../x a\n"))
	f.Fuzz(func(t *testing.T, variants, list []byte) {
		for name, data := range map[string][]byte{"variants.txt": variants, "images_variant_train.txt": list, "images_variant_val.txt": list, "images_variant_test.txt": list} {
			if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if classes, lists, err := readAircraft(folder); err == nil {
			sound(t, classes, lists)
		}
	})
}

// writeTree writes text files below a folder.
func writeTree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPartialCopyKeepsWhatIsThere(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root, map[string]string{"dtd/split_zhou_DescribableTextures.json": goodSplit})
	writePNG(t, filepath.Join(root, "dtd/images/a/1.jpg"), 10) // the ending does not decide the format
	ds, err := openCoOp(coopSets[slices.IndexFunc(coopSets, func(s coopSet) bool { return s.name == "dtd" })], root)
	if err != nil {
		t.Fatal(err)
	}
	files := ds
	if ds.Len(Train) != 1 || ds.Len(Test) != 0 || len(ds.Classes()) != 3 || files.missing != 3 || files.complete() {
		t.Errorf("%d train, %d classes, %d missing, complete %v", ds.Len(Train), len(ds.Classes()), files.missing, files.complete())
	}
	if img, err := ds.Image(Train, 0); err != nil || img.Width != 12 {
		t.Errorf("picture: %v", err)
	}
}

func TestAircraftReadsVariants(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{
		"fgvc_aircraft/variants.txt":             "707-320\nF/A-18\n\n",
		"fgvc_aircraft/images_variant_train.txt": "0000001 F/A-18\n0000002 707-320\n",
		"fgvc_aircraft/images_variant_val.txt":   "0000003 707-320\n",
		"fgvc_aircraft/images_variant_test.txt":  "0000004 F/A-18\r\n",
	}
	writeTree(t, root, files)
	for _, id := range []string{"1", "2", "3", "4"} {
		writePNG(t, filepath.Join(root, "fgvc_aircraft/images/000000"+id+".jpg"), 7)
	}
	ds, err := Open("fgvc-aircraft", Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ds.Classes(), []string{"707-320", "F/A-18"}) || !slices.Equal(Labels(ds, Train, nil), []int{1, 0}) ||
		ds.Label(Test, 0) != 1 || ds.(*fileSet).missing != 0 {
		t.Errorf("classes %q, train labels %v", ds.Classes(), Labels(ds, Train, nil))
	}
	writeTree(t, root, map[string]string{"fgvc_aircraft/images_variant_val.txt": "../x 707-320\n"})
	if _, err := Open("fgvc-aircraft", Options{Root: root}); err == nil {
		t.Error("a path that leaves the folder is accepted")
	}
	writeTree(t, root, map[string]string{"fgvc_aircraft/images_variant_val.txt": "0000003 Zeppelin\n"})
	if _, err := Open("fgvc-aircraft", Options{Root: root}); err == nil || !strings.Contains(err.Error(), "Zeppelin") {
		t.Errorf("unknown variant: %v", err)
	}
}
