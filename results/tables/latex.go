package tables

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/rivo/uniseg"

	"clipinspector/internal/printable"
	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// writeLaTeX writes the tables as tabulars for the booktabs package.
func writeLaTeX(buf *bytes.Buffer, sum *stats.Summary) {
	fmt.Fprintf(buf, "%% %s; needs \\usepackage{booktabs}\n", printable.Text(sum.Suite))
	for _, line := range notes(sum) {
		fmt.Fprintf(buf, "%% %s\n", printable.Text(line))
	}
	if len(sum.Detectors) > 0 {
		fmt.Fprintf(buf, "%% %s\n", Legend(sum))
		fmt.Fprintf(buf, "\n%% Detection\n")
		detectorGrid(sum, false).latex(buf)
		fmt.Fprintf(buf, "\n%% Detection, clean models and backdoors that fire (ASR >= %g)\n", store.FiringASR)
		detectorGrid(sum, true).latex(buf)
	}
	if len(sum.Attacks) > 0 {
		fmt.Fprintf(buf, "\n%% Models by attack\n")
		attackGrid(sum).latex(buf)
	}
	if len(sum.Explanations) > 0 {
		fmt.Fprintf(buf, "\n%% Which kind of trigger. %s\n", explanationLegend)
		explanationGrid(sum).latex(buf)
	}
	if len(sum.Repairs) > 0 {
		fmt.Fprintf(buf, "\n%% Repair. %s\n", repairLegend)
		repairGrid(sum).latex(buf)
	}
	if len(sum.By) == 0 {
		for _, d := range sum.Detectors {
			if d.Models > 0 {
				fmt.Fprintf(buf, "\n%% %s: correct verdicts by dataset and attack\n", printable.Text(d.Name))
				matrixGrid(d).latex(buf)
			}
		}
	}
}

// What the width of a table is judged by: the text width of LaTeX's article with 10 pt and what a
// character and the space between columns take in \footnotesize, in points.
const (
	textWidth, characterWidth, columnSpace = 345.0, 4.6, 6.0
	longName                               = 28 // characters of a line of a name; longer ones are broken
)

// latex writes the table in as many parts, one below the other, as the width of a page asks for.
// Each begins with the columns of names.
func (g grid) latex(buf *bytes.Buffer) {
	width := make([]float64, len(g.head))
	for _, cells := range append([][]string{g.head}, g.rows...) {
		for j, text := range cells {
			n := uniseg.StringWidth(printable.Text(text))
			if j < g.left {
				n = min(n, longName)
			}
			width[j] = max(width[j], float64(n)*characterWidth+columnSpace)
		}
	}
	names := 0.0
	for _, w := range width[:g.left] {
		names += w
	}
	for from := g.left; from < len(g.head); {
		to, total := from, names
		for to < len(g.head) && (to == from || total+width[to] <= textWidth) {
			total += width[to]
			to++
		}
		if from > g.left {
			buf.WriteString("\n\\medskip\n")
		}
		g.latexPart(buf, from, to)
		from = to
	}
}

// latexPart writes the columns of names and those of numbers in [from, to).
func (g grid) latexPart(buf *bytes.Buffer, from, to int) {
	row := func(cells []string) {
		for i, text := range slices.Concat(cells[:g.left], cells[from:to]) {
			if i > 0 {
				buf.WriteString(" & ")
			}
			if text = printable.Text(text); i < g.left {
				buf.WriteString(latexName(text))
			} else {
				buf.WriteString(latexEscape.Replace(text))
			}
		}
		buf.WriteString(" \\\\\n")
	}
	fmt.Fprintf(buf, "{\\footnotesize\\setlength{\\tabcolsep}{3pt}\\noindent\n\\begin{tabular}{%s%s}\n\\toprule\n",
		strings.Repeat("l", g.left), strings.Repeat("r", to-from))
	row(g.head)
	buf.WriteString("\\midrule\n")
	for _, cells := range g.rows {
		row(cells)
	}
	buf.WriteString("\\bottomrule\n\\end{tabular}\\par}\n")
}

// latexName breaks a long name into lines, a table of one column.
func latexName(text string) string {
	if uniseg.StringWidth(text) <= longName {
		return latexEscape.Replace(text)
	}
	var lines []string
	line, width := "", 0
	for g := uniseg.NewGraphemes(text); g.Next(); {
		if width += g.Width(); width > longName {
			lines, line, width = append(lines, latexEscape.Replace(line)), "", g.Width()
		}
		line += g.Str()
	}
	return `\begin{tabular}[t]{@{}l@{}}` + strings.Join(append(lines, latexEscape.Replace(line)), ` \\ `) + `\end{tabular}`
}

var latexEscape = strings.NewReplacer(
	`\`, `\textbackslash{}`, `{`, `\{`, `}`, `\}`, `$`, `\$`, `&`, `\&`, `#`, `\#`, `_`, `\_`, `%`, `\%`,
	`~`, `\textasciitilde{}`, `^`, `\textasciicircum{}`, `>=`, `$\ge$`, `<=`, `$\le$`, `<`, `$<$`, `>`, `$>$`, `|`, `$|$`, "--", "-{}-", dash, `--`,
	// a bracket after \\ would be read as its argument
	`[`, `{[}`, `]`, `{]}`,
)
