package experiments

import (
	"os"
	"path/filepath"
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
	export := func(index, score, backdoored string) string {
		return `{"kind":"model","key":"m","result":{"hash":"h"}}
{"kind":"detection","key":"d` + index + `","model":"m","detector":"ci","settings":{"detector":{"name":"ci"},"engine":"` + index + `"},` +
			`"result":{"index":` + index + `,"backdoored":` + backdoored + `,"classes":[{"score":1},{"score":` + score + `}]}}
`
	}
	a := write(export("1.98", "2", "false"))
	got, err := Compare(a, write(export("2.5", "1.75", "true")), 2)
	if want := (Difference{1, 0.25, 0.52, 1, 1}); err != nil || got.Score != want.Score || got.Verdicts != 1 || got.Doubtful != 1 || got.Index < 0.519 || got.Index > 0.521 {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := Compare(a, write(`{"kind":"model","key":"m","result":{"hash":"other"}}`), 2); err == nil {
		t.Error("runs without a model in common compare")
	}
	if _, err := Compare(a, write("{"), 2); err == nil {
		t.Error("half a line was read")
	}
	if _, err := Compare(a, t.TempDir(), 2); err == nil {
		t.Error("a folder without scores was read")
	}
}
