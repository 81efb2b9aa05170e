package cmd

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompareMatchesDetectionsByModel(t *testing.T) {
	write := func(text string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "scores.jsonl"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	halving := "0"
	export := func(index, score, backdoored string) string {
		name := strings.Trim(index, `"`)
		return `{"kind":"model","key":"m","result":{"hash":"h"}}
{"kind":"detection","key":"d` + name + `","model":"m","detector":"ci","settings":{"detector":{"name":"ci","halving":` + halving + `},"engine":"` + name + `"},` +
			`"result":{"index":` + index + `,"backdoored":` + backdoored + `,"suspect":1,"image_passes":1` + halving + `0,"classes":[{"score":1},{"score":` + score + `}]}}
`
	}
	a := write(export("1.98", "2", "false"))
	got, err := compareTwo(a, write(export("2.5", "1.75", "true")), 2)
	if want := (change{Detections: 1, Score: 0.25, Index: 0.52, Verdicts: 1, Doubtful: 1, Passes: [2]int64{100, 100}}); err != nil || got.Score != want.Score || got.Verdicts != 1 || got.Doubtful != 1 || got.Passes != want.Passes || got.Index < 0.519 || got.Index > 0.521 {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := compareTwo(a, write(`{"kind":"model","key":"m","result":{"hash":"other"}}`), 2); err == nil {
		t.Error("runs without a model in common compare")
	}
	if _, err := compareTwo(a, write("{"), 2); err == nil {
		t.Error("half a line was read")
	}
	if _, err := compareTwo(a, t.TempDir(), 2); err == nil {
		t.Error("a folder without scores was read")
	}
	// An export writes infinities as strings and what does not exist as null: neither is a nought.
	for _, x := range []struct {
		index, score string // of the other run
		want         change
	}{
		{`"+Inf"`, "null", change{Detections: 1}},
		{`"-Inf"`, "null", change{Detections: 1, Index: math.Inf(1)}},
		{"2.5", "0.5", change{Detections: 1, Index: math.Inf(1), Score: math.Inf(1)}},
		{"null", `"-Inf"`, change{Detections: 1, Index: math.Inf(1), Score: math.Inf(1)}},
	} {
		x.want.Passes = [2]int64{100, 100}
		got, err := compareTwo(write(export(`"+Inf"`, "null", "true")), write(export(x.index, x.score, "true")), 2)
		if err != nil || got != x.want {
			t.Errorf("index +Inf and score null beside %s and %s: %+v, %v; want %+v", x.index, x.score, got, err, x.want)
		}
	}
	both := export("2.5", "1.75", "true")
	halving = "12"
	two := write(both + export("3.5", "2.75", "true"))
	values, by, err := compareBy(two, "halving", 2)
	if want := (change{Detections: 1, Score: 1, Index: 1, Passes: [2]int64{100, 1120}}); err != nil || len(by) != 1 || by[0] != want || values[0] != "0" || values[1] != "12" {
		t.Errorf("%v %+v, %v; want %+v", values, by, err, want)
	}
	if _, _, err := compareBy(two, "keep", 2); err == nil {
		t.Error("a setting that no detector has was compared")
	}
}
