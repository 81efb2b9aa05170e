package tables

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
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
		for _, format := range Formats[:4] { // Parquet: see TestParquet
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
	if first.By.Attack != "badnets" || first.AUROC != nil || first.AUROCInterval.Defined() || first.TPR != 1 || len(first.FiringOnly) != 15 {
		t.Errorf("%+v", first)
	}
	if back.Attacks["clean"]["asr_mean"] != nil || *back.Attacks["wanet"]["psnr"] != 30.25 {
		t.Errorf("%v", back.Attacks)
	}
}

// Names of strangers are text in every format: no HTML, no formula, no command, no escape sequence,
// no new cell.
func TestNamesAreText(t *testing.T) {
	names := []string{"a<i>b", "=1+1", "+x", "-2+3", "@sum", "\tq", "x|y", "a\x1b[31m", `\input{x}%$#_&^~`, "*b* _c_ `d` [e](f)"}
	g := grid{head: []string{"dataset", "correct"}, left: 1}
	sum := &stats.Summary{By: []string{"dataset"}}
	for _, n := range names {
		g.rows = append(g.rows, []string{n, "-0.5"})
		sum.Detectors = append(sum.Detectors, stats.DetectorFigures{Name: "ci", By: stats.Group{{Name: "dataset", Value: n}},
			Figures: stats.Figures{Accuracy: -0.5}})
	}
	var markdown, latex, csv bytes.Buffer
	g.markdown(&markdown)
	g.latex(&latex)
	if err := writeCSV(&csv, sum); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		format, text string
		has, hasNot  []string
	}{
		{"markdown", markdown.String(), []string{`a\<i>b`, `x\|y`, `a\\x1b`, "\\*b\\* \\_c\\_ \\`d\\` \\[e](f)", "-0.5 |"}, []string{"\x1b"}},
		{"latex", latex.String(), []string{`a$<$i$>$b`, `x$|$y`, `\textbackslash{}input\{x\}\%\$\#\_\&\textasciicircum{}\textasciitilde{}`}, []string{"\x1b", `\input`}},
		{"csv", csv.String(), []string{"\n'=1+1,", "\n'+x,", "\n'-2+3,", "\n'@sum,", ",-0.5,"}, []string{"\n=", "\n+", "\n-", "\n@", "\n\t", "\x1b", "'-0.5"}},
	} {
		for _, want := range c.has {
			if !strings.Contains(c.text, want) {
				t.Errorf("%s lacks %q:\n%s", c.format, want, c.text)
			}
		}
		for _, bad := range c.hasNot {
			if strings.Contains(c.text, bad) {
				t.Errorf("%s has %q:\n%s", c.format, bad, c.text)
			}
		}
	}
}

// No line of a LaTeX table is wider than the text of an article; the parts together have all
// columns.
func TestLaTeXFitsThePage(t *testing.T) {
	g := grid{head: []string{"dataset"}, left: 1, rows: [][]string{{strings.Repeat("long-name/", 20)}}}
	for i := range 30 {
		g.head, g.rows[0] = append(g.head, fmt.Sprintf("column%d", i)), append(g.rows[0], "0.940 [0.838, 0.979]")
	}
	var b bytes.Buffer
	g.latex(&b)
	if n := strings.Count(b.String(), "0.940"); n != 30 {
		t.Errorf("got %d values, want 30", n)
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if n := strings.Count(line, "0.940"); n > 2 { // beside a name of 28 characters
			t.Errorf("%d intervals in one line: %s", n, line)
		}
	}
}

// What differs within a row, and what a merged suite lacks, is said in every format.
func TestWarningsAreInEveryFormat(t *testing.T) {
	sum := &stats.Summary{Suite: "s", Partial: "partial: 1 of 3 shards are not there (2)",
		Pools:     stats.Object[[]any]{{Name: "shots", Value: []any{8, 16}}, {Name: "learner.name", Value: []any{"coop", "maple"}}},
		Detectors: []stats.DetectorFigures{{Name: "ci", Pools: stats.Object[[]any]{{Name: "detector.epsilon", Value: []any{1, 2, 3, 4, 5, 6, 7}}}}}}
	for format, want := range map[string][]string{
		"markdown": {"Note: partial: 1 of 3 shards are not there (2).",
			"Note: rows pool models of shots 8 and 16, of learner.name coop and maple: --by shots,learner.name tells all of them apart.",
			"Note: a row of ci pools detections of detector.epsilon from 1 to 7 (7 values): --by detector.epsilon tells them apart."},
		"latex": {"% Note: partial", "% Note: rows pool models of shots 8 and 16", "% Note: a row of ci pools"},
		"csv":   {",pools,partial\n", ",shots=8|16 learner.name=coop|maple detector.epsilon=1|2|3|4|5|6|7,partial: 1 of 3 shards are not there (2)\n"},
		"json":  {`"partial": "partial: 1 of 3`, `"learner.name": [`, `"detector.epsilon": [`},
	} {
		var b bytes.Buffer
		if err := Render(&b, sum, format); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s lacks %q:\n%s", format, w, b.String())
			}
		}
	}
}
