package tables

import (
	"bytes"
	"fmt"
	"strings"

	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// writeLaTeX writes the tables as tabulars for the booktabs package.
func writeLaTeX(buf *bytes.Buffer, sum *stats.Summary) {
	fmt.Fprintf(buf, "%% %s; needs \\usepackage{booktabs}\n", oneLine(sum.Suite))
	for _, line := range notes(sum) {
		fmt.Fprintf(buf, "%% %s\n", line)
	}
	if len(sum.Detectors) > 0 {
		fmt.Fprintf(buf, "%% %s\n", legend(sum))
		fmt.Fprintf(buf, "\n%% Detection\n")
		detectorGrid(sum, false).latex(buf)
		fmt.Fprintf(buf, "\n%% Detection, clean models and backdoors that fire (ASR >= %g)\n", store.FiringASR)
		detectorGrid(sum, true).latex(buf)
	}
	if len(sum.Attacks) > 0 {
		fmt.Fprintf(buf, "\n%% Models by attack\n")
		attackGrid(sum).latex(buf)
	}
	if len(sum.Repairs) > 0 {
		fmt.Fprintf(buf, "\n%% Repair. %s\n", repairLegend)
		repairGrid(sum).latex(buf)
	}
	if len(sum.By) == 0 {
		for _, d := range sum.Detectors {
			if d.Models > 0 {
				fmt.Fprintf(buf, "\n%% %s: correct verdicts by dataset and attack\n", d.Name)
				matrixGrid(d).latex(buf)
			}
		}
	}
}

func (g grid) latex(buf *bytes.Buffer) {
	row := func(cells []string) {
		for i, text := range cells {
			if i > 0 {
				buf.WriteString(" & ")
			}
			buf.WriteString(latexEscape.Replace(text))
		}
		buf.WriteString(" \\\\\n")
	}
	fmt.Fprintf(buf, "\\begin{tabular}{%s%s}\n\\toprule\n",
		strings.Repeat("l", g.left), strings.Repeat("r", len(g.head)-g.left))
	row(g.head)
	buf.WriteString("\\midrule\n")
	for _, cells := range g.rows {
		row(cells)
	}
	buf.WriteString("\\bottomrule\n\\end{tabular}\n")
}

var latexEscape = strings.NewReplacer(
	`\`, `\textbackslash{}`, `{`, `\{`, `}`, `\}`, `$`, `\$`, `&`, `\&`, `#`, `\#`, `_`, `\_`, `%`, `\%`,
	`~`, `\textasciitilde{}`, `^`, `\textasciicircum{}`, `>=`, `$\ge$`, dash, `--`,
	// a bracket after \\ would be read as its argument
	`[`, `{[}`, `]`, `{]}`,
)
