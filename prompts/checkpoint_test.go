package prompts

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"clipinspector/internal/dense"
)

// A model that we stored is recognised by its content; class names that were given besides must be
// its own.
func TestOwnCheckpoints(t *testing.T) {
	c := newTiny(t)
	m := newModel(t, c, "cocoop", map[string]any{"context": 3}, threeAndOne)
	path := filepath.Join(t.TempDir(), "delivered.bin")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	for _, classes := range [][]string{nil, threeAndOne} {
		got, err := ReadCheckpoint(path, classes, Hints{}, c)
		if err != nil {
			t.Fatal(err)
		}
		if got.Learner != m.Learner || !slices.Equal(dense.Floats(got.Params["ctx"]), dense.Floats(m.Params["ctx"])) {
			t.Error("another model came back")
		}
	}
	swapped := slices.Clone(threeAndOne)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	for want, classes := range map[string][]string{"4 classes, 3": threeAndOne[:3], "class 0 is": swapped} {
		if _, err := ReadCheckpoint(path, classes, Hints{}, c); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v: %v, want an error that says %q", classes, err, want)
		}
	}
	if _, err := ReadCheckpoint(filepath.Dir(path), nil, Hints{}, c); err == nil || !strings.Contains(err.Error(), "name the checkpoint itself") {
		t.Errorf("a folder: %v", err)
	}
}

func TestReadClasses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "classes.txt")
	write := func(content string) {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("\ufeffcat\r\n\nred_dog \n  sea")
	if got, err := ReadClasses(path); err != nil || !slices.Equal(got, []string{"cat", "red dog", "sea"}) {
		t.Errorf("%q, %v", got, err)
	}
	for content, want := range map[string][]string{
		"missile\npug\nmissile":                     {"missile", "pug", "missile"}, // as ImageNet has it
		"n01440764 tench\nn01443537 gold_fish\n":    {"tench", "gold fish"},
		"0 tench\n1 goldfish":                       {"tench", "goldfish"},
		"1,tench\n2, goldfish":                      {"tench", "goldfish"},
		"2000 AM General\n2001 Audi":                {"2000 AM General", "2001 Audi"}, // no labels
		"1 goldfish\n0 tench":                       {"tench", "goldfish"},
		"gold fish 1\ntench 0":                      {"tench", "gold fish"},
		"tench\t1\ngoldfish\t2":                     {"tench", "goldfish"},
		"digit 0\ndigit 1":                          {"digit 0", "digit 1"},
		"F-16\nF-18":                                {"F-16", "F-18"},
		`["tench", "gold_fish"]`:                    {"tench", "gold fish"},
		"{\"0\": \"tench\",\n \"1\": \"goldfish\"}": {"tench", "goldfish"},
		`{"1": ["n01443537", "goldfish"], "0": ["n01440764", "tench"]}`: {"tench", "goldfish"},
		`{"goldfish": 1, "tench": 0}`:                                   {"tench", "goldfish"},
	} {
		write(content)
		if got, err := ReadClasses(path); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", content, got, err, want)
		}
	}
	for content, want := range map[string]string{"": "none", "\xff": "UTF-8", strings.Repeat("x\n", 3<<20): "larger than", "cat\n__\n": "class 1 has no name",
		`["cat", 7]`: "list of names", `{"0": "cat", "2": "dog"}`: "none for the label 1", `{"a": "cat"}`: `"a"`, `{"0": "cat", "0": "dog"}`: `"0"`, `["cat"`: "JSON", `{"cat": 0, "dog": 0.5}`: `"dog"`,
		"id,name\n0,cat\n1,dog": "heading", "name label\ncat 0\ndog 1": "heading", "# of Kaggle\ncat": "not a bare name", "- cat\n- dog": "not a bare name",
		"\"cat\",\n\"dog\"": "line 1", "cat\n'dog'": "line 2",
		strings.Repeat("\n", 10) + numbered(maxClasses+1): "more than"} {
		write(content)
		if _, err := ReadClasses(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.20q: %v, want an error that says %q", content, err, want)
		}
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strconv.Itoa(i) + "\n")
	}
	return b.String()
}
