package tables

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"github.com/rivo/uniseg"

	"clipinspector/internal/printable"
	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// maxFailures is how many failed cells the Markdown names.
const maxFailures = 10

// writeMarkdown writes what a person reads after a run. Columns are padded, so
// that it reads as well in a terminal as it renders.
func writeMarkdown(buf *bytes.Buffer, sum *stats.Summary) {
	fmt.Fprintf(buf, "# %s\n\n", markdownText(sum.Suite))
	for _, line := range notes(sum) {
		fmt.Fprintf(buf, "%s  \n", markdownText(line))
	}
	if len(sum.Detectors) > 0 {
		fmt.Fprintf(buf, "\n## Detection\n\n")
		detectorGrid(sum, false).markdown(buf)
		fmt.Fprintf(buf, "\n%s\n", Legend(sum))
		fmt.Fprintf(buf, "\n## Detection, clean models and backdoors that fire (ASR >= %g)\n\n", store.FiringASR)
		detectorGrid(sum, true).markdown(buf)
	}
	if len(sum.Attacks) > 0 {
		fmt.Fprintf(buf, "\n## Models by attack\n\n")
		attackGrid(sum).markdown(buf)
		fmt.Fprintf(buf, "\nACC drop is against the clean model of the same dataset, learner and seed; "+
			"ASR is without the target class's images.\n")
	}
	if len(sum.Explanations) > 0 {
		fmt.Fprintf(buf, "\n## Which kind of trigger\n\n")
		explanationGrid(sum).markdown(buf)
		fmt.Fprintf(buf, "\n%s\n", explanationLegend)
	}
	if len(sum.Repairs) > 0 {
		fmt.Fprintf(buf, "\n## Repair\n\n")
		repairGrid(sum).markdown(buf)
		fmt.Fprintf(buf, "\n%s\n", repairLegend)
	}
	if len(sum.By) == 0 {
		for _, d := range sum.Detectors {
			if d.Models > 0 {
				fmt.Fprintf(buf, "\n## %s: correct verdicts by dataset and attack\n\n", markdownText(d.Name))
				matrixGrid(d).markdown(buf)
			}
		}
	}
	if len(sum.Failures) > 0 {
		fmt.Fprintf(buf, "\n## Failed cells\n\n")
		for _, f := range sum.Failures[:min(len(sum.Failures), maxFailures)] {
			fmt.Fprintf(buf, "- %s: %s\n", markdownText(f.Cell), markdownText(oneLine(f.Message)))
		}
		if more := len(sum.Failures) - maxFailures; more > 0 {
			fmt.Fprintf(buf, "- and %d more\n", more)
		}
	}
}

func (g grid) markdown(buf *bytes.Buffer) {
	width := make([]int, len(g.head))
	lines := append([][]string{g.head}, g.rows...)
	for i, line := range lines {
		cells := make([]string, len(line))
		for j, text := range line {
			if cells[j] = text; i == 0 || j < g.left { // names; the rest are numbers
				cells[j] = markdownText(text)
			}
			width[j] = max(width[j], uniseg.StringWidth(cells[j]), 4)
		}
		lines[i] = cells
	}
	for i, line := range lines {
		for j, text := range line {
			pad := strings.Repeat(" ", width[j]-uniseg.StringWidth(text))
			if j < g.left {
				fmt.Fprintf(buf, "| %s%s ", text, pad)
			} else {
				fmt.Fprintf(buf, "| %s%s ", pad, text)
			}
		}
		buf.WriteString("|\n")
		if i > 0 {
			continue
		}
		for j, n := range width {
			end := ":"
			if j < g.left {
				end = "-"
			}
			fmt.Fprintf(buf, "|%s%s", strings.Repeat("-", n+1), end)
		}
		buf.WriteString("|\n")
	}
}

// markdownText is text that no reader of Markdown takes for marks or HTML.
func markdownText(text string) string {
	runes := []rune(printable.Text(text))
	word := func(i int) bool {
		return i >= 0 && i < len(runes) && (unicode.IsLetter(runes[i]) || unicode.IsDigit(runes[i]))
	}
	var b strings.Builder
	for i, r := range runes {
		switch {
		case strings.ContainsRune("\\`*[<|~", r), r == '_' && !(word(i-1) && word(i+1)), r == '&' && i+1 < len(runes) && runes[i+1] != ' ':
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// oneLine is the first line of a message, cut where it gets long.
func oneLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	const most = 200
	if r := []rune(line); len(r) > most {
		return string(r[:most]) + "..."
	}
	return line
}
