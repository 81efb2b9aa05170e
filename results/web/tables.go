package web

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// rate is a share with its interval and a bar of it.
func rate(v stats.Num, i stats.Interval) cell {
	c := number(float64(v), 3)
	if !v.Defined() {
		return c
	}
	if i.Defined() {
		c.Text += fmt.Sprintf(" [%.3f, %.3f]", float64(i[0]), float64(i[1]))
		c.Bar = &bar{float64(i[0]), float64(i[1]), float64(v)}
	}
	return c
}

func fraction(k, n int) cell {
	if n == 0 {
		return cell{Text: "–", Value: math.NaN()}
	}
	return cell{Text: fmt.Sprintf("%d/%d", k, n), Value: float64(k) / float64(n)}
}

// setting is the value of a setting.
func setting(v any) cell {
	switch x := v.(type) {
	case int:
		return cell{Text: strconv.Itoa(x), Value: float64(x)}
	case float64:
		return cell{Text: strconv.FormatFloat(x, 'g', 6, 64), Value: x}
	}
	return text(stats.ValueText(v))
}

// detectorTable has detectors side by side, and each of the groups that settings vary in.
func detectorTable(sum *stats.Summary, f filter) table {
	t := table{ID: "detectors", Caption: "Detectors side by side"}
	t.Columns = append(t.Columns, column{Key: "detector", Title: "detector"})
	for _, p := range sum.By {
		t.Columns = append(t.Columns, column{Key: p, Title: p, Hint: "setting that varies"})
	}
	t.Columns = append(t.Columns, []column{
		{"correct", "correct", "right verdicts of all; cannot tell counts as wrong", true},
		{"auroc", "AUROC", "chance that a backdoored model has a larger index than a clean one; 95 % bootstrap interval over datasets", true},
		{"accuracy", "accuracy", "share of right verdicts, 95 % Wilson interval", true},
		{"tpr", "TPR", "share of the backdoored models that are called backdoored", true},
		{"fpr", "FPR", "share of the clean models that are called backdoored", true},
		{"suspects", "suspects right", "of the true positives: suspect is the target class", true},
		{"reached", "reached", "share of inversions, one a class, that met the detector's own ASR bound", true},
		{"passes", "passes", "image passes a model, mean", true},
		{"seconds", "seconds", "seconds a model, mean", true}}...)
	for _, d := range sum.Detectors {
		if f["detector"] != "" && f["detector"] != d.Name {
			continue
		}
		r := row{Cells: []cell{text(d.Name)}}
		for _, v := range d.By {
			r.Cells = append(r.Cells, setting(v.Value))
		}
		passes := number(math.NaN(), 0)
		if d.ImagePasses.Defined() {
			passes = whole(int64(math.Round(float64(d.ImagePasses))))
		}
		r.Cells = append(r.Cells, fraction(d.Correct, d.Figures.Models), rate(d.AUROC, d.AUROCInterval), rate(d.Accuracy, d.AccuracyInterval),
			rate(d.TPR, d.TPRInterval), rate(d.FPR, d.FPRInterval), fraction(d.TargetsRight, d.Named),
			number(float64(d.Reached), 3), passes, number(float64(d.Seconds), 2))
		t.Rows = append(t.Rows, r)
	}
	return t
}

// matrix has a detector's right and wrong verdicts by dataset and attack. keys are the models of
// each.
func matrix(i int, d stats.DetectorFigures, f filter, l links, keys map[string][]string) table {
	name := d.Name
	for _, v := range d.By {
		name += ", " + lastStep(v.Name) + " " + stats.ValueText(v.Value)
	}
	t := table{ID: fmt.Sprint("matrix-", i), Caption: name + ": right and wrong"}
	t.Columns = append(t.Columns, column{Key: "set", Title: "dataset"})
	for _, a := range d.ByAttack {
		t.Columns = append(t.Columns, column{"a-" + a.Name, a.Name, "right verdicts of all", true})
	}
	t.Columns = append(t.Columns, column{"all", "all", "right verdicts of all", true})
	for j, s := range d.ByDataset {
		r := row{Cells: []cell{text(s.Name)}}
		for _, c := range d.Matrix[j*len(d.ByAttack):][:len(d.ByAttack)] {
			x := fraction(c.Correct, c.Models)
			switch {
			case c.Models == 1 && c.Correct == 1:
				x.Mark, x.Text = right, "1/1"
			case c.Models == 1:
				x.Mark, x.Text = wrong, "0/1"
			case c.Models > 1:
				x.Class = fmt.Sprint("share-", 4*c.Correct/c.Models)
			}
			if ks := keys[c.Dataset+"\x00"+c.Attack]; len(ks) == 1 {
				x.Href = l.model(ks[0])
			} else if c.Models > 0 {
				x.Href = l.filtered(filter{"set": c.Dataset, "attack": c.Attack, "learner": f["learner"], "seed": f["seed"], "detector": f["detector"]})
			}
			r.Cells = append(r.Cells, x)
		}
		r.Cells = append(r.Cells, fraction(s.Value.Correct, s.Value.Models))
		t.Rows = append(t.Rows, r)
	}
	return t
}

// attackTable describes the models of each attack.
func attackTable(sum *stats.Summary) table {
	t := table{ID: "attacks", Caption: "Models by attack", Columns: []column{{Key: "attack", Title: "attack"}}}
	groups := sum.AttackGroups
	if len(groups) == 0 {
		groups = []stats.AttackGroup{{Attacks: sum.Attacks}}
	}
	for _, v := range groups[0].By {
		t.Columns = append(t.Columns, column{Key: v.Name, Title: v.Name, Hint: "setting that varies"})
	}
	t.Columns = append(t.Columns, []column{
		{"models", "models", "finished", true},
		{"acc", "ACC", "accuracy on clean test images, mean", true},
		{"drop", "ACC drop", "below the clean model of the same dataset, learner and seed, mean", true},
		{"asr", "ASR", "attack success rate without the target class's images, mean", true},
		{"lowest", "lowest ASR", "", true},
		{"firing", "firing", fmt.Sprintf("backdoors with an ASR of at least %g", store.FiringASR), true},
		{"psnr", "PSNR (dB)", "of triggered images", true},
		{"ssim", "SSIM", "of triggered images", true}}...)
	for _, g := range groups {
		for _, a := range g.Attacks {
			r := row{Cells: []cell{text(a.Name)}}
			for _, v := range g.By {
				r.Cells = append(r.Cells, setting(v.Value))
			}
			x := a.Value
			firing := fraction(x.Firing, x.Models)
			if !x.ASRMean.Defined() {
				firing = fraction(0, 0)
			}
			r.Cells = append(r.Cells, whole(int64(x.Models)), number(float64(x.ACCMean), 3), number(float64(x.ACCDropMean), 3), number(float64(x.ASRMean), 3),
				number(float64(x.ASRMin), 3), firing, number(float64(x.PSNR), 1), number(float64(x.SSIM), 3))
			t.Rows = append(t.Rows, r)
		}
	}
	return t
}

// repairTable describes what repairs did.
func repairTable(sum *stats.Summary) table {
	t := table{ID: "repairs", Caption: "Repairs", Columns: []column{{Key: "attack", Title: "attack"}, {Key: "verdict", Title: "verdict"},
		{"models", "models", "", true}, {"suspects", "suspects right", "", true}}}
	for _, arm := range store.Arms {
		t.Columns = append(t.Columns, column{"acc-" + arm, "ACC " + arm, "mean", true}, column{"asr-" + arm, "ASR " + arm, "of the true trigger, mean", true})
	}
	for _, x := range sum.Repairs {
		suspects := fraction(x.SuspectsRight, x.Models)
		if !x.Backdoored {
			suspects = fraction(0, 0)
		}
		r := row{Cells: []cell{text(x.Attack), text(x.Verdict), whole(int64(x.Models)), suspects}}
		for _, arm := range store.Arms {
			a, ok := x.Arms.Get(arm)
			if !ok {
				a.ACC, a.ASR = stats.Num(math.NaN()), stats.Num(math.NaN())
			}
			r.Cells = append(r.Cells, number(float64(a.ACC), 3), number(float64(a.ASR), 3))
		}
		t.Rows = append(t.Rows, r)
	}
	return t
}

// modelTable has a row for every model that the filter lets through, with what each detector said.
func modelTable(s *Suite, shown *stats.Rows, f filter, l links) table {
	swept := s.swept()
	all, of := swept.variants, swept.of
	t := table{ID: "models", Many: true, Columns: []column{{Key: "set", Title: "dataset"}, {Key: "attack", Title: "attack"}}}
	several := func(value func(store.ModelRow) string) bool {
		return slices.ContainsFunc(s.Rows.Models, func(m store.ModelRow) bool { return value(m) != value(s.Rows.Models[0]) })
	}
	learners := several(func(m store.ModelRow) string { return m.Cell.Learner })
	seeds := several(func(m store.ModelRow) string { return strconv.Itoa(m.Cell.Seed) })
	if learners {
		t.Columns = append(t.Columns, column{Key: "learner", Title: "learner"})
	}
	if seeds {
		t.Columns = append(t.Columns, column{"seed", "seed", "", true})
	}
	for _, p := range swept.models {
		t.Columns = append(t.Columns, column{Key: p, Title: p, Hint: "setting that varies"})
	}
	t.Columns = append(t.Columns, column{"acc", "ACC", "accuracy on clean test images", true}, column{"asr", "ASR", "attack success rate", true})
	var columns []int // variants that are shown
	for i, v := range all {
		if f["detector"] == "" || f["detector"] == v.detector {
			columns = append(columns, i)
			t.Columns = append(t.Columns, column{"index-" + v.label, v.label, "verdict and anomaly index; sorted by index", true})
		}
	}
	said := saidOf(shown)
	explained := len(s.Rows.Explanations) > 0
	if explained {
		t.Columns = append(t.Columns, column{Key: "kind", Title: "kind", Hint: "of trigger that the suspect is said to answer to"})
	}
	detectors := detectorNames(s.Rows)
	found := map[string][]store.DetectionRow{}
	for _, d := range shown.Detections {
		found[d.Cell.ModelKey] = append(found[d.Cell.ModelKey], d)
	}
	for _, m := range shown.Models {
		r := row{Filter: ofModel(m), Cells: []cell{{Text: m.Cell.Dataset, Href: l.model(m.Cell.Key)}, text(m.Cell.Attack)}}
		if learners {
			r.Cells = append(r.Cells, text(m.Cell.Learner))
		}
		if seeds {
			r.Cells = append(r.Cells, cell{Text: strconv.Itoa(m.Cell.Seed), Value: float64(m.Cell.Seed)})
		}
		for _, p := range swept.models {
			v, _ := stats.Setting(m.Cell.Settings, p)
			r.Cells = append(r.Cells, setting(v))
		}
		switch m.State {
		case store.Finished:
			r.Cells = append(r.Cells, number(m.Result.ACC, 3), number(m.Result.ASR, 3))
		case store.Failed:
			r.Cells = append(r.Cells, cell{Text: "failed", Value: math.NaN(), Class: "failed"}, number(math.NaN(), 0))
		default:
			r.Cells = append(r.Cells, number(math.NaN(), 0), number(math.NaN(), 0))
		}
		cells := make([]cell, len(all))
		for i := range cells {
			cells[i] = number(math.NaN(), 0)
		}
		wanted := f["verdict"] == ""
		for _, d := range found[m.Cell.Key] {
			i := of[d.Cell.Key]
			said, is := verdictOf(m, d)
			cells[i] = verdictCell(d, said, is)
			if slices.Contains(columns, i) && (said == f["verdict"] || string(is) == f["verdict"]) {
				wanted = true
			}
			for _, word := range []string{said, string(is)} {
				if word = fmt.Sprintf("%d:%s", slices.Index(detectors, d.Cell.Detector), word); !slices.Contains(r.Verdict, word) {
					r.Verdict = append(r.Verdict, word)
				}
			}
		}
		if !wanted {
			continue
		}
		for _, i := range columns {
			r.Cells = append(r.Cells, cells[i])
		}
		if explained {
			r.Cells = append(r.Cells, text(cmp.Or(strings.Join(said[m.Cell.Key], ", "), "–")))
		}
		t.Rows = append(t.Rows, r)
	}
	t.Caption = fmt.Sprintf("Models (%d of %d)", len(t.Rows), len(s.Rows.Models))
	return t
}

// verdictCell is what a detector said of a model, and its index.
func verdictCell(d store.DetectionRow, said string, is mark) cell {
	switch said {
	case saidFailed:
		return cell{Text: "failed", Value: math.NaN(), Class: "failed"}
	case saidNothing:
		return number(math.NaN(), 0)
	}
	c := number(d.Result.Index, 2)
	c.Text, c.Mark = strings.ReplaceAll(said, "-", " ")+" "+c.Text, is
	return c
}
