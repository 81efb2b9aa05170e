package tables

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/parquet-go/parquet-go"

	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// Rows are what RenderRows can list: one row a model, a detection, or a class of a detection.
var Rows = []string{"models", "detections", "classes"}

// RowFormats are the formats that RenderRows knows.
var RowFormats = []string{"json", "parquet"}

// modelLine is a model cell as a row. Figures that do not exist are null in JSON and NaN in
// Parquet.
type modelLine struct {
	Suite      string    `json:"suite" parquet:"suite"`
	Model      string    `json:"model" parquet:"model"` // identity of the cell
	Dataset    string    `json:"dataset" parquet:"dataset"`
	Attack     string    `json:"attack" parquet:"attack"`
	Learner    string    `json:"learner" parquet:"learner"`
	Seed       int       `json:"seed" parquet:"seed"`
	State      string    `json:"state" parquet:"state"`
	Message    string    `json:"message" parquet:"message"` // why it failed
	Backdoored bool      `json:"backdoored" parquet:"backdoored"`
	Target     int       `json:"target" parquet:"target"` // -1 for none
	Classes    int       `json:"classes" parquet:"classes"`
	ACC        stats.Num `json:"acc" parquet:"acc"`
	ASR        stats.Num `json:"asr" parquet:"asr"`
	ASROOD     stats.Num `json:"asr_ood" parquet:"asr_ood"`
	PSNR       stats.Num `json:"psnr" parquet:"psnr"`
	SSIM       stats.Num `json:"ssim" parquet:"ssim"`
	Seconds    stats.Num `json:"seconds" parquet:"seconds"`
	Path       string    `json:"path" parquet:"path"`         // below --out
	Settings   string    `json:"settings" parquet:"settings"` // canonical JSON
}

// detectionLine is a detection cell as a row, with what is known of its model.
type detectionLine struct {
	Suite       string    `json:"suite" parquet:"suite"`
	Detection   string    `json:"detection" parquet:"detection"` // identity of the cell
	Model       string    `json:"model" parquet:"model"`
	Dataset     string    `json:"dataset" parquet:"dataset"`
	Attack      string    `json:"attack" parquet:"attack"`
	Learner     string    `json:"learner" parquet:"learner"`
	Seed        int       `json:"seed" parquet:"seed"`
	Detector    string    `json:"detector" parquet:"detector"`
	State       string    `json:"state" parquet:"state"`
	Message     string    `json:"message" parquet:"message"`
	Truth       bool      `json:"truth" parquet:"truth"` // whether the model was made with a backdoor
	Target      int       `json:"target" parquet:"target"`
	Verdict     string    `json:"verdict" parquet:"verdict"` // clean, backdoored, cannot tell; empty where there is none yet
	Why         string    `json:"why" parquet:"why"`         // why the detector cannot tell
	Index       stats.Num `json:"index" parquet:"index"`
	Suspect     int       `json:"suspect" parquet:"suspect"` // -1 for none
	ImagePasses int64     `json:"image_passes" parquet:"image_passes"`
	Seconds     stats.Num `json:"seconds" parquet:"seconds"`
	Path        string    `json:"path" parquet:"path"`
	Settings    string    `json:"settings" parquet:"settings"`
}

// classLine is what one detection found for one class.
type classLine struct {
	Suite     string    `json:"suite" parquet:"suite"`
	Detection string    `json:"detection" parquet:"detection"`
	Model     string    `json:"model" parquet:"model"`
	Detector  string    `json:"detector" parquet:"detector"`
	Class     int       `json:"class" parquet:"class"` // -1 for the model as a whole
	Target    bool      `json:"target" parquet:"target"`
	Index     stats.Num `json:"index" parquet:"index"`
	Score     stats.Num `json:"score" parquet:"score"`
	Loss      stats.Num `json:"loss" parquet:"loss"`
	ASR       stats.Num `json:"asr" parquet:"asr"`
	Norm      stats.Num `json:"norm" parquet:"norm"`
	Reached   bool      `json:"reached" parquet:"reached"`
}

// RenderRows writes the cells of a suite as rows, one of Rows, in one of RowFormats: a JSON array
// of objects, or a Parquet file. Rows are in the order of the plan.
func RenderRows(w io.Writer, s *store.Store, suite, what, format string) error {
	models, err := s.Models(suite)
	if err != nil {
		return err
	}
	detections, err := s.Detections(suite)
	if err != nil {
		return err
	}
	switch what {
	case "models":
		return writeRows(w, modelLines(models), format)
	case "detections":
		return writeRows(w, detectionLines(models, detections), format)
	case "classes":
		return writeRows(w, classLines(models, detections), format)
	}
	return fmt.Errorf("no rows are called %.40q; there are: %s", what, strings.Join(Rows, ", "))
}

func writeRows[T any](w io.Writer, rows []T, format string) error {
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		return e.Encode(rows)
	case "parquet":
		return parquet.Write(w, rows)
	}
	return fmt.Errorf("rows have no format %.40q; there are: %s", format, strings.Join(RowFormats, ", "))
}

// nothing is a figure that does not exist.
var nothing = stats.Num(math.NaN())

// settingsText is the canonical JSON of settings, which came from canonical JSON.
func settingsText(m map[string]any) string {
	raw, err := store.CanonicalJSON(m)
	if err != nil {
		return ""
	}
	return string(raw)
}

func modelLines(models []store.ModelRow) []modelLine {
	lines := []modelLine{}
	for _, m := range models {
		c, r := m.Cell, m.Result
		l := modelLine{Suite: c.Suite, Model: c.Key, Dataset: c.Dataset, Attack: c.Attack, Learner: c.Learner, Seed: c.Seed, State: string(m.State),
			Message: m.Message, Target: -1, ACC: nothing, ASR: nothing, ASROOD: nothing, PSNR: nothing, SSIM: nothing, Seconds: nothing,
			Settings: settingsText(c.Settings)}
		if m.State == store.Finished {
			l.Backdoored, l.Target, l.Classes, l.Path = r.Backdoored, r.Target, r.Classes, r.Path
			l.ACC, l.ASR, l.ASROOD = stats.Num(r.ACC), stats.Num(r.ASR), stats.Num(r.ASROOD)
			l.PSNR, l.SSIM, l.Seconds = stats.Num(r.PSNR), stats.Num(r.SSIM), stats.Num(r.Seconds)
		}
		lines = append(lines, l)
	}
	return lines
}

func byKey(models []store.ModelRow) map[string]store.ModelRow {
	of := map[string]store.ModelRow{}
	for _, m := range models {
		of[m.Cell.Key] = m
	}
	return of
}

func detectionLines(models []store.ModelRow, detections []store.DetectionRow) []detectionLine {
	of, lines := byKey(models), []detectionLine{}
	for _, d := range detections {
		m, r := of[d.Cell.ModelKey], d.Result
		l := detectionLine{Suite: d.Cell.Suite, Detection: d.Cell.Key, Model: d.Cell.ModelKey, Dataset: m.Cell.Dataset, Attack: m.Cell.Attack,
			Learner: m.Cell.Learner, Seed: m.Cell.Seed, Detector: d.Cell.Detector, State: string(d.State), Message: d.Message, Target: -1,
			Index: nothing, Suspect: store.NoClass, Seconds: nothing, Settings: settingsText(d.Cell.Settings)}
		if m.State == store.Finished {
			l.Truth, l.Target = m.Result.Backdoored, m.Result.Target
		}
		if d.State == store.Finished {
			l.Index, l.Suspect, l.ImagePasses, l.Seconds = stats.Num(r.Index), r.Suspect, r.ImagePasses, stats.Num(r.Seconds)
			l.Why, l.Path = r.Unsure, r.Path
			switch {
			case r.Unsure != "":
				l.Verdict = "cannot tell"
			case r.Backdoored:
				l.Verdict = "backdoored"
			default:
				l.Verdict = "clean"
			}
		}
		lines = append(lines, l)
	}
	return lines
}

func classLines(models []store.ModelRow, detections []store.DetectionRow) []classLine {
	of, lines := byKey(models), []classLine{}
	for _, d := range detections {
		m := of[d.Cell.ModelKey]
		for _, c := range d.Result.Classes {
			lines = append(lines, classLine{Suite: d.Cell.Suite, Detection: d.Cell.Key, Model: d.Cell.ModelKey, Detector: d.Cell.Detector,
				Class: c.Class, Target: m.State == store.Finished && m.Result.Backdoored && c.Class == m.Result.Target, Index: stats.Num(c.Index),
				Score: stats.Num(c.Score), Loss: stats.Num(c.Loss), ASR: stats.Num(c.ASR), Norm: stats.Num(c.Norm), Reached: c.Reached})
		}
	}
	return lines
}

// figureLine is a row of figures of one detector: see the columns of `table --format csv`.
type figureLine struct {
	Suite         string    `parquet:"suite"`
	By            string    `parquet:"by"` // JSON of what rows are grouped by
	Detector      string    `parquet:"detector"`
	Scope         string    `parquet:"scope"` // all, firing_only, dataset, attack
	Name          string    `parquet:"name"`  // of the dataset or attack
	Models        int       `parquet:"models"`
	Correct       int       `parquet:"correct"`
	Unsure        int       `parquet:"cannot_tell"`
	Accuracy      stats.Num `parquet:"accuracy"`
	AccuracyLow   stats.Num `parquet:"accuracy_lo"`
	AccuracyHigh  stats.Num `parquet:"accuracy_hi"`
	AUROC         stats.Num `parquet:"auroc"`
	AUROCLow      stats.Num `parquet:"auroc_lo"`
	AUROCHigh     stats.Num `parquet:"auroc_hi"`
	TPR           stats.Num `parquet:"tpr"`
	TPRLow        stats.Num `parquet:"tpr_lo"`
	TPRHigh       stats.Num `parquet:"tpr_hi"`
	FPR           stats.Num `parquet:"fpr"`
	FPRLow        stats.Num `parquet:"fpr_lo"`
	FPRHigh       stats.Num `parquet:"fpr_hi"`
	TargetCorrect stats.Num `parquet:"target_correct"`
	Reached       stats.Num `parquet:"reached"`
	ImagePasses   stats.Num `parquet:"image_passes"`
	Seconds       stats.Num `parquet:"seconds"`
	Pools         string    `parquet:"pools"`
	Partial       string    `parquet:"partial"`
}

// writeParquet writes the rows of writeCSV.
func writeParquet(w io.Writer, sum *stats.Summary) error {
	var lines []figureLine
	for _, d := range sum.Detectors {
		by, err := json.Marshal(d.By)
		if err != nil {
			return err
		}
		if len(d.By) == 0 {
			by = nil
		}
		for _, s := range scopes(d) {
			f := s.figures
			lines = append(lines, figureLine{sum.Suite, string(by), d.Name, s.scope, s.name, f.Models, f.Correct, f.Unsure, f.Accuracy,
				f.AccuracyInterval[0], f.AccuracyInterval[1], f.AUROC, f.AUROCInterval[0], f.AUROCInterval[1], f.TPR, f.TPRInterval[0],
				f.TPRInterval[1], f.FPR, f.FPRInterval[0], f.FPRInterval[1], f.TargetCorrect, f.Reached, f.ImagePasses, f.Seconds,
				poolsText(sum.Pools, d.Pools), sum.Partial})
		}
	}
	return writeRows(w, lines, "parquet")
}
