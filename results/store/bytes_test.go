package store_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"clipinspector/results/internal/sample"
	"clipinspector/results/store"
)

func TestExportIsTheSameBytes(t *testing.T) {
	a, b := sample.Open(t), sample.Open(t)
	sample.Fill(t, a)
	sample.Fill(t, b)
	store.SetClock(b, func() time.Time { return time.Unix(0, 0) })
	var first, second bytes.Buffer
	for _, err := range []error{a.Export(&first, "synthetic"), b.Export(&second, "synthetic")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	x, y := first.Bytes(), second.Bytes()
	if !bytes.Equal(x, y) {
		t.Fatal("two runs of the same suite exported different bytes")
	}
	lines := strings.Split(strings.TrimSpace(string(x)), "\n")
	if len(lines) != 18+36 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, private := range []string{"seconds", "worker", `"path"`, "out/", "versions", "stack"} {
		if bytes.Contains(x, []byte(private)) {
			t.Errorf("the export tells %q", private)
		}
	}
	sample.Golden(t, "testdata/export.jsonl", x)
}
