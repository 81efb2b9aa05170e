package tables

import (
	"bytes"
	"encoding/csv"
	"slices"
	"strconv"
	"strings"

	"clipinspector/internal/printable"
	"clipinspector/results/stats"
)

// writeCSV writes one row per detector (and group) and scope: all models,
// firing only, one dataset, one attack. Numbers keep all their digits; what does
// not exist is empty. pools names the settings that differ within the row, partial
// says what a merged suite lacks.
func writeCSV(buf *bytes.Buffer, sum *stats.Summary) error {
	w := csv.NewWriter(buf)
	head := append([]string(nil), sum.By...)
	head = append(head, "detector", "scope", "name", "models", "correct", "cannot_tell",
		"accuracy", "accuracy_lo", "accuracy_hi", "auroc", "auroc_lo", "auroc_hi",
		"tpr", "tpr_lo", "tpr_hi", "fpr", "fpr_lo", "fpr_hi", "target_correct", "reached", "image_passes", "seconds", "pools", "partial")
	records := [][]string{head}
	for _, d := range sum.Detectors {
		pools := poolsText(sum.Pools, d.Pools)
		add := func(scope, name string, f stats.Figures) {
			var r []string
			for _, v := range d.By {
				if v.Value == nil {
					r = append(r, "")
					continue
				}
				r = append(r, stats.ValueText(v.Value))
			}
			r = append(r, d.Name, scope, name, strconv.Itoa(f.Models), strconv.Itoa(f.Correct), strconv.Itoa(f.Unsure))
			for _, n := range []stats.Num{
				f.Accuracy, f.AccuracyInterval[0], f.AccuracyInterval[1], f.AUROC, f.AUROCInterval[0], f.AUROCInterval[1],
				f.TPR, f.TPRInterval[0], f.TPRInterval[1], f.FPR, f.FPRInterval[0], f.FPRInterval[1],
				f.TargetCorrect, f.Reached, f.ImagePasses, f.Seconds,
			} {
				r = append(r, digits(n))
			}
			r = append(r, pools, sum.Partial)
			records = append(records, r)
		}
		for _, s := range scopes(d) {
			add(s.scope, s.name, s.figures)
		}
	}
	for _, r := range records {
		for i := range r {
			r[i] = csvCell(r[i])
		}
	}
	return w.WriteAll(records)
}

// scope is a part of a row's models: all, those that fire, of one dataset, of one attack.
type scope struct {
	scope, name string
	figures     stats.Figures
}

func scopes(d stats.DetectorFigures) []scope {
	all := []scope{{"all", "", d.Figures}, {"firing_only", "", d.FiringOnly}}
	for _, e := range d.ByDataset {
		all = append(all, scope{"dataset", e.Name, e.Value})
	}
	for _, e := range d.ByAttack {
		all = append(all, scope{"attack", e.Name, e.Value})
	}
	return all
}

// poolsText lists settings that differ within a row, with their values: "shots=8|16
// detector.epsilon=0.1|0.2".
func poolsText(of ...stats.Object[[]any]) string {
	var out []string
	for _, e := range slices.Concat(of...) {
		var values []string
		for _, v := range e.Value {
			values = append(values, stats.ValueText(v))
		}
		out = append(out, e.Name+"="+strings.Join(values, "|"))
	}
	return strings.Join(out, " ")
}

// csvCell is a cell that no spreadsheet takes for a formula: a text that begins like one gets a
// quote before it. Numbers stay numbers.
func csvCell(text string) string {
	text = printable.Text(text)
	if _, err := strconv.ParseFloat(text, 64); err == nil || !strings.ContainsAny(text[:min(1, len(text))], "=+-@") {
		return text
	}
	return "'" + text
}

func digits(n stats.Num) string {
	if !n.Defined() {
		return ""
	}
	return strconv.FormatFloat(float64(n), 'g', -1, 64)
}
