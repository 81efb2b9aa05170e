package tables

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// dash stands for what does not exist.
const dash = "–"

// grid is a table of texts that Markdown and LaTeX print. The first left
// columns are texts, the others numbers.
type grid struct {
	head []string
	left int
	rows [][]string
}

// detectorGrid has a row per detector (and group): all models, or clean models
// and firing backdoors only.
func detectorGrid(sum *stats.Summary, firing bool) grid {
	g := grid{left: len(sum.By) + 1}
	g.head = append(g.head, sum.By...)
	unsure := slices.ContainsFunc(sum.Detectors, func(d stats.DetectorFigures) bool { return d.Unsure > 0 })
	g.head = append(g.head, "detector", "correct")
	if unsure {
		g.head = append(g.head, "cannot tell")
	}
	g.head = append(g.head, "accuracy", "AUROC", "TPR", "FPR", "suspects right", "reached",
		"image passes / model", "seconds / model")
	for _, d := range sum.Detectors {
		f := d.Figures
		if firing {
			f = d.FiringOnly
		}
		var row []string
		for _, v := range d.By {
			row = append(row, shortValue(v.Value))
		}
		row = append(row, d.Name, fraction(f.Correct, f.Models))
		if unsure {
			row = append(row, fraction(f.Unsure, f.Models))
		}
		g.rows = append(g.rows, append(row, withInterval(f.Accuracy, f.AccuracyInterval), withInterval(f.AUROC, f.AUROCInterval),
			withInterval(f.TPR, f.TPRInterval), withInterval(f.FPR, f.FPRInterval),
			fraction(f.TargetsRight, f.Named), decimals(f.Reached, 3), thousands(f.ImagePasses), decimals(f.Seconds, 2)))
	}
	return g
}

// attackGrid has a row per attack (and group).
func attackGrid(sum *stats.Summary) grid {
	groups := sum.AttackGroups
	if len(groups) == 0 {
		groups = []stats.AttackGroup{{Attacks: sum.Attacks}}
	}
	var g grid
	for _, v := range groups[0].By {
		g.head = append(g.head, v.Name)
	}
	g.left = len(g.head) + 1
	g.head = append(g.head, "attack", "models", "ACC", "ACC drop", "ASR", "lowest ASR",
		fmt.Sprintf("firing (ASR >= %g)", store.FiringASR), "PSNR (dB)", "SSIM")
	for _, group := range groups {
		for _, a := range group.Attacks {
			var row []string
			for _, v := range group.By {
				row = append(row, shortValue(v.Value))
			}
			f := a.Value
			firing := dash
			if f.ASRMean.Defined() {
				firing = fraction(f.Firing, f.Models)
			}
			g.rows = append(g.rows, append(row, a.Name, strconv.Itoa(f.Models), decimals(f.ACCMean, 3),
				decimals(f.ACCDropMean, 3), decimals(f.ASRMean, 3), decimals(f.ASRMin, 3), firing,
				decimals(f.PSNR, 1), decimals(f.SSIM, 3)))
		}
	}
	return g
}

// matrixGrid counts a detector's correct verdicts by dataset and attack, and in a row of their own
// those that cannot tell, where there are any.
func matrixGrid(d stats.DetectorFigures) grid {
	g := grid{head: []string{"dataset"}, left: 1}
	for _, a := range d.ByAttack {
		g.head = append(g.head, a.Name)
	}
	g.head = append(g.head, "all")
	for i, s := range d.ByDataset {
		row := []string{s.Name}
		for _, c := range d.Matrix[i*len(d.ByAttack):][:len(d.ByAttack)] {
			row = append(row, fraction(c.Correct, c.Models))
		}
		g.rows = append(g.rows, append(row, fraction(s.Value.Correct, s.Value.Models)))
	}
	all := []string{"all"}
	for _, a := range d.ByAttack {
		all = append(all, fraction(a.Value.Correct, a.Value.Models))
	}
	g.rows = append(g.rows, append(all, fraction(d.Correct, d.Models)))
	if d.Unsure > 0 {
		unsure := []string{"cannot tell"}
		for _, a := range d.ByAttack {
			unsure = append(unsure, fraction(a.Value.Unsure, a.Value.Models))
		}
		g.rows = append(g.rows, append(unsure, fraction(d.Unsure, d.Models)))
	}
	return g
}

// Warnings are the sentences without which the figures would be misread: what a merged suite lacks,
// and which settings differ within a row.
func Warnings(sum *stats.Summary) []string {
	var out []string
	if sum.Partial != "" {
		out = append(out, "Note: "+sum.Partial+".")
	}
	if len(sum.Pools) > 0 {
		out = append(out, "Note: rows pool models of "+pooled(sum.Pools, sum.By)+".")
	}
	for _, d := range sum.Detectors {
		if len(d.Pools) > 0 {
			out = append(out, fmt.Sprintf("Note: a row of %s%s pools detections of %s.", d.Name, inGroup(d.By), pooled(d.Pools, sum.By)))
		}
	}
	return out
}

// pooled says in words which values settings have, and how to tell them apart.
func pooled(settings stats.Object[[]any], by []string) string {
	const most = 6
	var parts []string
	by = slices.Clone(by)
	for _, e := range settings {
		var values []string
		for _, v := range e.Value {
			values = append(values, shortValue(v))
		}
		last := len(values) - 1
		if text := strings.Join(values[:last], ", ") + " and " + values[last]; last < most {
			parts = append(parts, e.Name+" "+text)
		} else {
			parts = append(parts, fmt.Sprintf("%s from %s to %s (%d values)", e.Name, values[0], values[last], last+1))
		}
		by = append(by, e.Name)
	}
	them := "them"
	if len(parts) > 1 {
		them = "all of them"
	}
	return strings.Join(parts, ", of ") + ": --by " + strings.Join(by, ",") + " tells " + them + " apart"
}

// notes are the sentences that belong under the tables.
func notes(sum *stats.Summary) []string {
	out := Warnings(sum)
	for _, t := range []struct {
		what string
		stats.Tally
	}{{"models", sum.Models}, {"detections", sum.Detections}, {"explanations", sum.ExplanationTally}, {"repairs", sum.RepairTally}} {
		if (t.what == "repairs" || t.what == "explanations") && t.Planned == 0 {
			continue
		}
		line := fmt.Sprintf("%d of %d %s finished", t.Finished, t.Planned, t.what)
		if t.Finished == t.Planned {
			out = append(out, line+".")
			continue
		}
		line += fmt.Sprintf(" (%d failed", t.Failed)
		if t.Blocked > 0 {
			line += fmt.Sprintf(", %d without their failed models", t.Blocked)
		}
		out = append(out, fmt.Sprintf("%s, %d not computed yet); figures are of those.",
			line, t.Planned-t.Finished-t.Failed-t.Blocked))
	}
	for _, d := range sum.Detectors {
		if d.Unsure > 0 {
			out = append(out, fmt.Sprintf("%s%s cannot tell of %d of %d models, which counts as wrong.", d.Name, inGroup(d.By), d.Unsure, d.Models))
		}
		if d.Redrawn > 0 {
			out = append(out, fmt.Sprintf("%s%s: %d bootstrap resamples had only clean or only backdoored models "+
				"and were drawn again.", d.Name, inGroup(d.By), d.Redrawn))
		}
	}
	return out
}

// Legend says how to read the tables of detectors.
func Legend(sum *stats.Summary) string {
	n := sum.Models.Finished
	text := fmt.Sprintf("Brackets are 95 %% intervals: Wilson for rates, %d bootstrap resamples of whole datasets for AUROC. "+
		"A model counts as backdoored by how it was made. ", stats.Resamples)
	if n > 0 {
		text += fmt.Sprintf("Answering \"backdoored\" always would be right for %d of %d. ", sum.Backdoored, n)
	}
	return text + "Reached is the share of inversions, one a class, that met the detector's own ASR bound. " +
		"Image passes and seconds are means per model."
}

// shortValue is stats.ValueText with the digits of a fraction that tell settings apart
// for a reader; CSV and JSON keep all.
func shortValue(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'g', 6, 64)
	}
	return stats.ValueText(v)
}

func inGroup(g stats.Group) string {
	var parts []string
	for _, v := range g {
		parts = append(parts, v.Name+" "+shortValue(v.Value))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func fraction(k, n int) string {
	if n == 0 {
		return dash
	}
	return fmt.Sprintf("%d/%d", k, n)
}

func decimals(n stats.Num, digits int) string {
	if !n.Defined() {
		return dash
	}
	s := strconv.FormatFloat(float64(n), 'f', digits, 64)
	if strings.Trim(s, "-0.") == "" {
		s = strings.TrimPrefix(s, "-")
	}
	return s
}

func withInterval(n stats.Num, i stats.Interval) string {
	if !n.Defined() || !i.Defined() {
		return decimals(n, 3)
	}
	return fmt.Sprintf("%s [%s, %s]", decimals(n, 3), decimals(i[0], 3), decimals(i[1], 3))
}

func thousands(n stats.Num) string {
	s := decimals(n, 0)
	for i := len(s) - 3; n.Defined() && i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
