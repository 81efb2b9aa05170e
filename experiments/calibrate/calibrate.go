// Package calibrate chooses settings of detectors on calibration seeds: the same number of trials
// for every detector, the highest merit wins (see Trial.Merit).
package calibrate

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"gopkg.in/yaml.v3"

	"clipinspector/experiments"
	"clipinspector/experiments/suite"
	"clipinspector/internal/files"
	"clipinspector/results/stats"
	"clipinspector/results/store"
	"clipinspector/settings"
)

// What Calibrate leaves below its output folder, beside what Run does.
const (
	CalibrationFile    = "calibration.yaml"
	CalibrationLogFile = "calibration-log.jsonl"
)

// Trial is one choice of a detector's settings and how it did on the calibration models: a line of
// the search log.
type Trial struct {
	Detector string          `json:"detector"`
	Trial    int             `json:"trial"` // from 1
	Chosen   bool            `json:"chosen"`
	Settings settings.Values `json:"settings"`
	stats.Figures
}

// Merit is what trials are compared by, from 0 to 1: the mean of AUROC, which ranks models, and
// balanced accuracy, (TPR + 1 - FPR)/2, which looks at the verdicts. By AUROC alone settings win
// whose threshold calls every model clean, or nearly every one backdoored.
func (t Trial) Merit() float64 {
	return (float64(t.AUROC) + (float64(t.TPR)+1-float64(t.FPR))/2) / 2
}

// Calibrate runs the trials of a search like Run (resumable, in any number of processes; the models
// are made once) and chooses each detector's settings: the highest Merit, of equal ones the earliest
// trial. It writes the choice (a Calibration,
// CalibrationFile) and every trial (CalibrationLogFile) below o.Out, and returns the trials,
// detector by detector. Nothing is chosen when cells failed.
func Calibrate(ctx context.Context, q *suite.Search, o experiments.Options) ([]Trial, error) {
	if o.Out == "" {
		o.Out = experiments.DefaultOut(q.File.Name)
	}
	if _, err := experiments.Run(ctx, q.File, o); err != nil {
		return nil, err
	}
	results, err := store.OpenExisting(filepath.Join(o.Out, experiments.StoreFile))
	if err != nil {
		return nil, err
	}
	defer results.Close()
	c, trials, err := choose(q, o.Device, results)
	if err != nil {
		return nil, fmt.Errorf("calibrating %s: %w", q.File.Name, err)
	}
	var log, file bytes.Buffer
	lines := json.NewEncoder(&log)
	lines.SetEscapeHTML(false)
	for _, t := range trials {
		if err := lines.Encode(t); err != nil {
			return nil, err
		}
	}
	file.WriteString("# Settings that `clip-inspector calibrate` chose on calibration seeds, the same number of trials for every detector.\n" +
		"# A suite takes those that it does not give itself with  calibrated: PATH OF THIS FILE\n")
	enc := yaml.NewEncoder(&file)
	enc.SetIndent(2)
	if err := enc.Encode(c); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		text io.WriterTo
	}{{CalibrationLogFile, &log}, {CalibrationFile, &file}} {
		if err := files.WriteAtomic(filepath.Join(o.Out, f.name), func(w io.Writer) error {
			_, err := f.text.WriteTo(w)
			return err
		}); err != nil {
			return nil, err
		}
	}
	return trials, nil
}

// choose judges every trial by what the store holds of the suite's plan on a device.
func choose(q *suite.Search, device string, results *store.Store) (*suite.Calibration, []Trial, error) {
	f := q.File
	models, err := results.Models(f.Name)
	if err != nil {
		return nil, nil, err
	}
	detections, err := results.Detections(f.Name)
	if err != nil {
		return nil, nil, err
	}
	if models, detections, err = experiments.Planned(f, device, models, detections); err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256([]byte(f.Text))
	c := &suite.Calibration{Suite: f.Name, SHA256: hex.EncodeToString(sum[:]), Sets: f.Sets, Seeds: f.Suites[0].Seeds, Trials: len(f.Suites),
		SearchSeed: q.Seed, Models: len(models), Detectors: map[string]suite.Chosen{}}
	suites, err := results.Suites()
	if err != nil {
		return nil, nil, err
	}
	for _, u := range suites {
		if u.Name == f.Name {
			c.Versions = u.Versions
		}
	}
	var trials []Trial
	for i, d := range f.Suites[0].Detectors {
		first, best := len(trials), len(trials)
		for t, u := range f.Suites {
			of, err := planned(detections, u.Detectors[i].Map())
			if err != nil {
				return nil, nil, err
			}
			trial := Trial{Detector: d.Name, Trial: t + 1, Settings: u.Detectors[i].Settings, Figures: stats.Judge(models, of)}
			if trial.Models != len(models) || !trial.AUROC.Defined() {
				return nil, nil, fmt.Errorf("%s, trial %d: %d of %d models were looked at; is another process planning this suite anew? Run again",
					d.Name, trial.Trial, trial.Models, len(models))
			}
			trials = append(trials, trial)
			if trial.Merit() > trials[best].Merit() {
				best = first + t
			}
		}
		b := &trials[best]
		b.Chosen = true
		chosen := suite.Chosen{Settings: b.Settings, Trial: b.Trial, AUROC: float64(b.AUROC), Accuracy: float64(b.Accuracy)}
		if in := b.AUROCInterval; in.Defined() {
			chosen.Interval = []float64{float64(in[0]), float64(in[1])}
		}
		c.Detectors[d.Name] = chosen
	}
	return c, trials, nil
}

// planned returns the detections that were planned with these settings. A cell leaves out those
// that decide nothing about its model.
func planned(detections []store.DetectionRow, trial map[string]any) (out []store.DetectionRow, err error) {
	for _, d := range detections {
		own, _ := d.Cell.Settings["detector"].(map[string]any)
		same := map[string]any{}
		for name := range own {
			same[name] = trial[name]
		}
		want, err := store.Key(same)
		if err != nil {
			return nil, err
		}
		if got, err := store.Key(own); err != nil {
			return nil, err
		} else if got == want {
			out = append(out, d)
		}
	}
	return out, nil
}

// PrintTrials writes a line for each detector: merit, AUROC, TPR and FPR of the first trial, which
// are the suite's own settings, beside those of the chosen one, and what the choice changes.
func PrintTrials(w io.Writer, trials []Trial) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "detector\tmerit before\tchosen\tAUROC before\tchosen\tTPR\tFPR\ttrial\tchanges\n")
	own := map[string]Trial{}
	for _, r := range trials {
		if r.Trial == 1 {
			own[r.Detector] = r
		}
	}
	for _, r := range trials {
		if !r.Chosen {
			continue
		}
		var changes []string
		for name, v := range r.Settings {
			if v != own[r.Detector].Settings[name] {
				changes = append(changes, fmt.Sprintf("%s %v", name, v))
			}
		}
		slices.Sort(changes)
		fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%d\t%s\n", r.Detector, own[r.Detector].Merit(), r.Merit(), own[r.Detector].AUROC, r.AUROC,
			r.TPR, r.FPR, r.Trial, cmp.Or(strings.Join(changes, ", "), "none"))
	}
	return t.Flush()
}
