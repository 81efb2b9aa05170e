package tables

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"clipinspector/results/stats"
)

// ComparisonFormats are the formats that RenderComparisons knows.
var ComparisonFormats = []string{"markdown", "json"}

// RenderComparisons writes comparisons in one of ComparisonFormats.
func RenderComparisons(w io.Writer, all []*stats.Comparison, format string) error {
	var buf bytes.Buffer
	switch format {
	case "json":
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(all); err != nil {
			return err
		}
	case "markdown":
		for i, c := range all {
			if i > 0 {
				buf.WriteByte('\n')
			}
			writeComparison(&buf, c)
		}
	default:
		return fmt.Errorf("no format of comparisons is called %q; there are: %s", format, strings.Join(ComparisonFormats, ", "))
	}
	_, err := w.Write(buf.Bytes())
	return err
}

// ComparisonTitle says what is compared with what.
func ComparisonTitle(c *stats.Comparison) string {
	if c.By != "" {
		return fmt.Sprintf("%s %s (A) and %s (B)", c.By, c.A, c.B)
	}
	return fmt.Sprintf("%s (A) and %s (B)", c.A, c.B)
}

// ComparisonLegend says how to read a comparison.
var ComparisonLegend = fmt.Sprintf("p is McNemar's exact two-sided test on the models that only one of the two judged rightly. "+
	"The difference of AUROC is B's less A's; its 95 %% interval is of a paired bootstrap, %d resamples of whole datasets.", stats.Resamples)

// ComparisonNotes are the sentences without which a comparison would be misread.
func ComparisonNotes(c *stats.Comparison) (out []string) {
	if c.Unpaired != [2]int{} {
		out = append(out, fmt.Sprintf("Without a partner, and left out: %d verdicts of A, %d of B.", c.Unpaired[0], c.Unpaired[1]))
	}
	for _, d := range c.Settings {
		out = append(out, fmt.Sprintf("%s differs: %s (A), %s (B).", d.Path, few(d.Values[0]), few(d.Values[1])))
	}
	for _, d := range c.Detectors {
		text := fmt.Sprintf("%s: %d verdicts differ, %d of them with an index within %v of k, and %d suspects; indices differ by at most %.2g",
			d.Detector, d.Verdicts, d.Doubtful, stats.Doubt, d.Suspects, d.Index)
		if c.By != "detector" { // else the scores are of different things
			text += fmt.Sprintf(", scores by %.2g", d.Score)
		}
		if d.Passes[0] != d.Passes[1] {
			text += fmt.Sprintf("; image passes %s (A), %s (B)", thousands(stats.Num(d.Passes[0])), thousands(stats.Num(d.Passes[1])))
		}
		if d.SameModels < d.Pairs {
			text += fmt.Sprintf("; %d of %d pairs are the same model file", d.SameModels, d.Pairs)
		}
		out = append(out, text+".")
	}
	return out
}

// few is a list of values, cut where it gets long.
func few(values []string) string {
	const most = 4
	switch {
	case len(values) == 0:
		return "none"
	case len(values) > most:
		return strings.Join(values[:most], ", ") + fmt.Sprintf(" and %d more", len(values)-most)
	}
	return strings.Join(values, ", ")
}

func writeComparison(buf *bytes.Buffer, c *stats.Comparison) {
	fmt.Fprintf(buf, "# %s\n\n", markdownText(ComparisonTitle(c)))
	for _, line := range ComparisonNotes(c) {
		fmt.Fprintf(buf, "- %s\n", markdownText(line))
	}
	g := grid{left: 1, head: []string{"detector", "pairs", "right A", "right B", "only A", "only B", "p", "AUROC A", "AUROC B", "difference"}}
	for _, d := range c.Detectors {
		g.rows = append(g.rows, []string{d.Detector, strconv.Itoa(d.Pairs), fraction(d.Correct[0], d.Pairs), fraction(d.Correct[1], d.Pairs), strconv.Itoa(d.OnlyA),
			strconv.Itoa(d.OnlyB), PValue(d.P), decimals(d.AUROC[0], 3), decimals(d.AUROC[1], 3), withInterval(d.Difference, d.Interval)})
	}
	buf.WriteByte('\n')
	g.markdown(buf)
	fmt.Fprintf(buf, "\n%s\n", ComparisonLegend)
	if len(c.Changed) == 0 {
		fmt.Fprintf(buf, "\nNo verdict differs.\n")
		return
	}
	fmt.Fprintf(buf, "\n## Models whose verdict differs\n\n")
	g = grid{left: 5, head: []string{"detector", "model", "is", "A says", "B says", "index A", "index B"}}
	for _, x := range c.Changed {
		is := "clean"
		if x.Backdoored {
			is = "backdoored"
		}
		g.rows = append(g.rows, []string{x.Detector, x.Model, is, verdictText(x, 0), verdictText(x, 1), decimals(x.Index[0], 2), decimals(x.Index[1], 2)})
	}
	g.markdown(buf)
}

// PValue is a p-value in two digits.
func PValue(p stats.Num) string { return strconv.FormatFloat(float64(p), 'g', 2, 64) }

func verdictText(x stats.ChangedVerdict, i int) string {
	if x.Right[i] {
		return x.Verdicts[i] + " (right)"
	}
	return x.Verdicts[i] + " (wrong)"
}
