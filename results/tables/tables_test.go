package tables

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"

	"clipinspector/results/internal/sample"
	"clipinspector/results/stats"
)

func TestTablesAreAsTheGoldenFiles(t *testing.T) {
	s := sample.Open(t)
	sample.Fill(t, s)
	for _, by := range [][]string{nil, {"model.shots", "detector.epsilon"}} {
		sum, err := stats.Summarise(s, "synthetic", by)
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range Formats {
			var buf bytes.Buffer
			if err := Render(&buf, sum, format); err != nil {
				t.Fatal(err)
			}
			name := "table"
			if by != nil {
				name = "table-by"
			}
			sample.Golden(t, filepath.Join("testdata", name+"."+format), buf.Bytes())
		}
	}
	if err := Render(&bytes.Buffer{}, &stats.Summary{}, "word"); err == nil {
		t.Error("an unknown format was taken")
	}
}

func TestJSONHasNoNaNAndReadsBack(t *testing.T) {
	s := sample.Open(t)
	sample.Fill(t, s)
	sum, err := stats.Summarise(s, "synthetic", []string{"attack"})
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := Render(&buf, sum, "json"); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Detectors []struct {
			Name          string
			By            struct{ Attack string }
			AUROC         *float64
			AUROCInterval stats.Interval `json:"auroc_interval"`
			TPR           stats.Num
			FiringOnly    map[string]any `json:"firing_only"`
		}
		Attacks map[string]map[string]*float64
	}
	if err := json.Unmarshal(buf.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	first := back.Detectors[0]
	if first.By.Attack != "badnets" || first.AUROC != nil || first.AUROCInterval.Defined() || first.TPR != 1 || len(first.FiringOnly) != 14 {
		t.Errorf("%+v", first)
	}
	if back.Attacks["clean"]["asr_mean"] != nil || *back.Attacks["wanet"]["psnr"] != 30.25 {
		t.Errorf("%v", back.Attacks)
	}
}
