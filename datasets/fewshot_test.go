package datasets

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestPyRandomEqualsCPython(t *testing.T) {
	var rows []struct {
		Seed    int64
		Bits    []uint32
		Samples []struct {
			N, K int
			Want []int
		}
		After uint32 `json:"after_2000"`
	}
	fixture(t, "pyrandom.json", &rows)
	if len(rows) < 5 {
		t.Fatal("fixtures are cut short")
	}
	for _, row := range rows {
		r := newPyRandom(row.Seed)
		for i, want := range row.Bits {
			if got := r.uint32(); got != want {
				t.Errorf("seed %d: word %d is %d, want %d", row.Seed, i, got, want)
			}
		}
		for _, s := range row.Samples {
			if got := r.sample(s.N, s.K); !slices.Equal(got, s.Want) {
				t.Errorf("seed %d: sample(range(%d), %d) = %v, want %v", row.Seed, s.N, s.K, got, s.Want)
			}
		}
		r = newPyRandom(row.Seed)
		for range 2000 {
			r.uint32()
		}
		if got := r.uint32(); got != row.After {
			t.Errorf("seed %d: word 2000 is %d, want %d", row.Seed, got, row.After)
		}
	}
}

// labelled is a dataset of labels without pictures.
type labelled struct {
	classes int
	labels  map[Split][]int
}

func (d labelled) Name() string                       { return "labelled" }
func (d labelled) Classes() []string                  { return make([]string, d.classes) }
func (d labelled) Template() string                   { return "{}" }
func (d labelled) Len(s Split) int                    { return len(d.labels[s]) }
func (d labelled) Label(s Split, i int) int           { return d.labels[s][i] }
func (d labelled) Fingerprint() string                { return fmt.Sprint(d.labels) }
func (d labelled) Image(s Split, i int) (*RGB, error) { return hashPicture(9+i, 8+d.labels[s][i]), nil }

// runs decodes "34x2 9": two runs of 34 pictures of one label, then one of 9.
func runs(t *testing.T, text string) (labels []int, classes int) {
	for _, word := range strings.Fields(text) {
		size, times, _ := strings.Cut(word, "x")
		n, err := strconv.Atoi(size)
		m := 1
		if err == nil && times != "" {
			m, err = strconv.Atoi(times)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range m {
			labels = append(labels, slices.Repeat([]int{classes}, n)...)
			classes++
		}
	}
	return labels, classes
}

func join(x []int) string { return strings.Trim(fmt.Sprint(x), "[]") }

// allSamples hashes the samples of 1, 2, 4, 8, 16 shots with seeds 1, 2, 3.
func allSamples(t *testing.T, ds Dataset) string {
	var lines []string
	for _, shots := range []int{1, 2, 4, 8, 16} {
		for seed := 1; seed <= 3; seed++ {
			train, val, err := FewShot(ds, shots, seed)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("%d %d %s %s", shots, seed, join(train), join(val)))
		}
	}
	s := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(s[:])
}

type published struct{ Dataset, Train, Val, SHA256 string }

// The fixture holds how many pictures each label has, in the order of CoOp's split files, and the
// sha256 of the index lists that linzhiqiu/cross_modal_adaptation publishes
// (indices/<dataset>/shot_<n>-seed_<s>.json).
func TestFewShotEqualsPublishedSamples(t *testing.T) {
	var rows []published
	fixture(t, "fewshot.json", &rows)
	if len(rows) != 9 {
		t.Fatalf("%d sets, want nine", len(rows))
	}
	for _, row := range rows {
		train, k := runs(t, row.Train)
		val, _ := runs(t, row.Val)
		if allSamples(t, labelled{k, map[Split][]int{Train: train, Val: val}}) != row.SHA256 {
			t.Errorf("%s: samples differ from the published ones", row.Dataset)
		}
	}
}

func TestFewShotTakesWholeSmallClassesInOrder(t *testing.T) {
	ds := labelled{3, map[Split][]int{Train: {2, 2, 0, 1, 0, 0, 2}, Val: {1, 0}}}
	train, val, err := FewShot(ds, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(train) != 7 || train[6] != 3 {
		t.Errorf("train %v: want three of label 2, three of label 0, then the only picture of label 1", train)
	}
	if !slices.Equal(val, []int{0, 1}) {
		t.Errorf("val %v, want all in order", val)
	}
	if _, _, err := FewShot(ds, 0, 1); err == nil {
		t.Error("0 shots accepted")
	}
}
