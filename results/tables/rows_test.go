package tables

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"github.com/parquet-go/parquet-go"

	"clipinspector/results/internal/sample"
	"clipinspector/results/stats"
	"clipinspector/results/store"
)

func readParquet[T any](t *testing.T, raw []byte) []T {
	t.Helper()
	rows, err := parquet.Read[T](bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// Parquet holds what CSV holds, row by row.
func TestParquetHasTheFiguresOfCSV(t *testing.T) {
	s := sample.Open(t)
	sample.Fill(t, s)
	sum, err := stats.Summarise(s, "synthetic", []string{"attack"})
	if err != nil {
		t.Fatal(err)
	}
	var columns, text bytes.Buffer
	if err := Render(&columns, sum, "parquet"); err != nil {
		t.Fatal(err)
	}
	if err := Render(&text, sum, "csv"); err != nil {
		t.Fatal(err)
	}
	want, err := csv.NewReader(&text).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	got := readParquet[figureLine](t, columns.Bytes())
	if len(got) != len(want)-1 || len(got) == 0 {
		t.Fatalf("%d rows, want the %d of CSV", len(got), len(want)-1)
	}
	for i, r := range got {
		figure := func(n stats.Num) string {
			if !n.Defined() {
				return ""
			}
			return digits(n)
		}
		w := want[i+1]
		for _, x := range [][2]string{{r.Detector, w[1]}, {r.Scope, w[2]}, {r.Name, w[3]}, {strconv.Itoa(r.Models), w[4]}, {strconv.Itoa(r.Correct), w[5]}, {strconv.Itoa(r.Unsure), w[6]},
			{figure(r.Accuracy), w[7]}, {figure(r.AUROC), w[10]}, {figure(r.FPRHigh), w[18]}, {figure(r.Seconds), w[22]}} {
			if x[0] != x[1] {
				t.Errorf("row %d: %q, want %q", i, x[0], x[1])
			}
		}
	}
}

// Each cell is a row, in JSON and in Parquet alike, and the rows of classes add up to what the
// store has.
func TestCellsAreRows(t *testing.T) {
	s := sample.Open(t)
	sample.Fill(t, s)
	models, err := s.Models("synthetic")
	if err != nil {
		t.Fatal(err)
	}
	detections, err := s.Detections("synthetic")
	if err != nil {
		t.Fatal(err)
	}
	classes := 0
	for _, d := range detections {
		classes += len(d.Result.Classes)
	}
	for what, want := range map[string]int{"models": len(models), "detections": len(detections), "classes": classes} {
		var text, columns bytes.Buffer
		if err := RenderRows(&text, s, "synthetic", what, "json"); err != nil {
			t.Fatal(err)
		}
		if err := RenderRows(&columns, s, "synthetic", what, "parquet"); err != nil {
			t.Fatal(err)
		}
		var rows []map[string]any
		if err := json.Unmarshal(text.Bytes(), &rows); err != nil {
			t.Fatal(err)
		}
		got := 0
		switch what {
		case "models":
			got = len(readParquet[modelLine](t, columns.Bytes()))
		case "detections":
			got = len(readParquet[detectionLine](t, columns.Bytes()))
		case "classes":
			got = len(readParquet[classLine](t, columns.Bytes()))
		}
		if len(rows) != want || got != want || want == 0 {
			t.Errorf("%s: %d rows of JSON and %d of Parquet, want %d", what, len(rows), got, want)
		}
	}
	var columns bytes.Buffer
	if err := RenderRows(&columns, s, "synthetic", "detections", "parquet"); err != nil {
		t.Fatal(err)
	}
	for i, l := range readParquet[detectionLine](t, columns.Bytes()) {
		d := detections[i]
		if l.Detection != d.Cell.Key || d.State == store.Finished && fmt.Sprint(float64(l.Index)) != fmt.Sprint(d.Result.Index) {
			t.Errorf("row %d: %s with the index %v, want %s with %v", i, l.Detection, l.Index, d.Cell.Key, d.Result.Index)
		}
	}
	for _, bad := range [][2]string{{"cells", "json"}, {"models", "csv"}} {
		if err := RenderRows(&bytes.Buffer{}, s, "synthetic", bad[0], bad[1]); err == nil {
			t.Errorf("%v were rendered", bad)
		}
	}
}
