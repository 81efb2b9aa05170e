package calibrate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"clipinspector/experiments"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/internal/experimentstest"
	"clipinspector/results/stats"
)

func TestCalibrate(t *testing.T) {
	clip, out := experimentstest.TinyCLIP(t), t.TempDir()
	q := experimentstest.Read(t, suite.ParseSearch, experimentstest.TinySearch(clip))
	trials, err := Calibrate(context.Background(), q, experiments.Options{Out: out})
	if err != nil {
		t.Fatal(err)
	}
	madeOnce(t, out) // models are made once

	// The log holds every trial, and the choice is the best by the rule.
	log, err := os.ReadFile(filepath.Join(out, CalibrationLogFile))
	if err != nil {
		t.Fatal(err)
	}
	var lines []Trial
	for dec := json.NewDecoder(bytes.NewReader(log)); dec.More(); {
		var r Trial
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, r)
	}
	count, best := map[string]int{}, map[string]Trial{}
	for i, r := range lines {
		count[r.Detector]++
		if r.Trial != count[r.Detector] || r.Models != 6 || !r.AUROC.Defined() || !r.AUROCInterval.Defined() || !(r.ImagePasses > 0) || !(r.Seconds > 0) ||
			!r.TPR.Defined() || !r.FPR.Defined() || r.AUROC != trials[i].AUROC {
			t.Errorf("%+v", r)
		}
		if b, ok := best[r.Detector]; !ok || r.Merit() > b.Merit() {
			best[r.Detector] = r
		}
	}
	if !reflect.DeepEqual(count, map[string]int{"ci": 3, "neural-cleanse": 3}) {
		t.Fatalf("trials: %v", count)
	}
	for _, r := range lines {
		if r.Chosen != (r.Trial == best[r.Detector].Trial) {
			t.Errorf("%s, trial %d: chosen %v; the best is trial %d", r.Detector, r.Trial, r.Chosen, best[r.Detector].Trial)
		}
	}

	// The figures are those of a table that groups by the settings.
	s := experimentstest.Store(t, filepath.Join(out, experiments.StoreFile))
	sum, err := stats.Summarise(s, "tiny", []string{"detector.epsilon", "detector.margin", "detector.rate", "detector.cost"})
	if err != nil || len(sum.Detectors) != 6 {
		t.Fatalf("%d rows, %v", len(sum.Detectors), err)
	}
	for _, r := range lines {
		if !slices.ContainsFunc(sum.Detectors, func(d stats.DetectorFigures) bool {
			for _, e := range d.By {
				if v, ok := r.Settings[e.Name[len("detector."):]]; ok && fmt.Sprint(v) != fmt.Sprint(e.Value) {
					return false
				}
			}
			return d.Name == r.Detector && d.AUROC == r.AUROC && d.AUROCInterval == r.AUROCInterval && d.Correct == r.Correct
		}) {
			t.Errorf("no row of the table is %s, trial %d: %v", r.Detector, r.Trial, r.Figures)
		}
	}

	// Another run, by other threads and workers, chooses the same and computes nothing anew.
	file := filepath.Join(out, CalibrationFile)
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Calibrate(context.Background(), q, experiments.Options{Out: out}); err != nil {
		t.Fatal(err)
	}
	madeOnce(t, out)
	other := t.TempDir()
	if _, err := Calibrate(context.Background(), q, experiments.Options{Out: other, Workers: 2, Threads: 2}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(other, CalibrationFile)} {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", path, err, got, want)
		}
	}

	// A suite that names the file gets the settings, and its cells say so.
	text := experimentstest.TinySuite(clip) + "calibrated: " + file + "\n"
	f := experimentstest.Read(t, suite.Parse, text, "detectors.neural-cleanse.rate=0.07")
	p, err := experiments.NewPlan(world.New(), f, "engine")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, d := range p.Detections {
		got, seenBefore := d.Cell.Settings["detector"].(map[string]any), seen[d.Detector.Name]
		seen[d.Detector.Name] = true
		if seenBefore {
			continue
		}
		for name, v := range best[d.Detector.Name].Settings {
			if d.Detector.Name == "neural-cleanse" && name == "rate" {
				v = 0.07 // the text's own wins
			}
			own, kept := got[name] // a cell leaves out what decides nothing about its model
			if given := d.Detector.Settings[name]; fmt.Sprint(given) != fmt.Sprint(v) || kept && fmt.Sprint(own) != fmt.Sprint(v) {
				t.Errorf("%s: %s is %v, in its cell %v, want %v", d.Detector.Name, name, given, own, v)
			}
		}
	}
	if len(seen) != 3 { // Pixel-Backdoor was not calibrated and keeps its own settings
		t.Errorf("%v", seen)
	}
	from := f.Settings()["calibrated"].([]any)
	if hash, err := experiments.HashFile(file); err != nil || len(from) != 1 || from[0].(map[string]any)["sha256"] != hash {
		t.Errorf("%v, %v", from, err)
	}
	if _, err := suite.Parse("suite.yaml", []byte(text), []string{"seeds=[1, 101]"}); err == nil ||
		!strings.HasPrefix(err.Error(), "--set seeds=[1, 101]: seeds: the settings in") {
		t.Errorf("a text on the seeds of its calibration: %v", err)
	}
}

// The verdicts count beside the ranking; of trials that are as good, the earliest is chosen.
func TestVerdictsCountAndTiesAreBrokenByOrder(t *testing.T) {
	clip, out := experimentstest.TinyCLIP(t), t.TempDir()
	// k moves verdicts and not the index that AUROC ranks.
	q := experimentstest.Read(t, suite.ParseSearch, experimentstest.TinySearch(clip), "search={trials: 4, detectors.ci.k: [0, 0.7, 90, 95], detectors.neural-cleanse.k: [99, 90, 95, 0]}",
		"detectors.neural-cleanse.k=100")
	trials, err := Calibrate(context.Background(), q, experiments.Options{Out: out})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ci", "neural-cleanse"} {
		var of []Trial
		for _, r := range trials {
			if r.Detector == name {
				of = append(of, r)
			}
		}
		balanced := func(r Trial) float64 { return float64(r.TPR - r.FPR) }
		most := balanced(slices.MaxFunc(of, func(a, b Trial) int { return cmp.Compare(balanced(a), balanced(b)) }))
		first := slices.IndexFunc(of, func(r Trial) bool { return balanced(r) == most })
		for i, r := range of {
			if r.AUROC != of[0].AUROC {
				t.Fatalf("k moves AUROC: %v, %v", r.AUROC, of[0].AUROC)
			}
			if r.Chosen != (i == first) {
				t.Errorf("%s: k %v with TPR %v and FPR %v is chosen: %v", name, r.Settings["k"], r.TPR, r.FPR, r.Chosen)
			}
		}
	}
}

// What a folder holds of the same suite with other seeds or settings is no part of a choice.
func TestACalibrationIsThatOfItsPlan(t *testing.T) {
	clip, out := experimentstest.TinyCLIP(t), t.TempDir()
	text := experimentstest.TinySearch(clip)
	var alone []Trial
	for _, sets := range [][]string{{"seeds=[105]"}, {"pool.seed=3"}, nil} {
		q := experimentstest.Read(t, suite.ParseSearch, text, sets...)
		trials, err := Calibrate(context.Background(), q, experiments.Options{Out: out})
		if err != nil {
			t.Fatalf("%v: %v", sets, err)
		}
		alone = trials
	}
	q := experimentstest.Read(t, suite.ParseSearch, text)
	want, err := Calibrate(context.Background(), q, experiments.Options{Out: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range alone {
		if r.Models != want[i].Models || r.AUROC != want[i].AUROC || r.Chosen != want[i].Chosen {
			t.Errorf("%s, trial %d: %d models, AUROC %v, chosen %v beside others in the folder; alone %d, %v, %v",
				r.Detector, r.Trial, r.Models, r.AUROC, r.Chosen, want[i].Models, want[i].AUROC, want[i].Chosen)
		}
	}
}

func TestNothingIsChosenWhenCellsFail(t *testing.T) {
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "detections"), []byte("a file where recovered triggers should go"), 0o644); err != nil {
		t.Fatal(err)
	}
	q := experimentstest.Read(t, suite.ParseSearch, experimentstest.TinySearch(experimentstest.TinyCLIP(t)))
	if _, err := Calibrate(context.Background(), q, experiments.Options{Out: out}); !errors.Is(err, experiments.ErrFailedCells) {
		t.Fatalf("got %v, want %v", err, experiments.ErrFailedCells)
	}
	if _, err := os.Stat(filepath.Join(out, CalibrationFile)); !os.IsNotExist(err) {
		t.Errorf("a calibration was written: %v", err)
	}
}

// madeOnce checks that no cell took more than one attempt.
func madeOnce(t *testing.T, out string) {
	t.Helper()
	s := experimentstest.Store(t, filepath.Join(out, experiments.StoreFile))
	models := experimentstest.Rows(t, s.Models)
	detections := experimentstest.Rows(t, s.Detections)
	for _, m := range models {
		if m.Attempts != 1 {
			t.Errorf("model %s, %s: %d attempts", m.Cell.Dataset, m.Cell.Attack, m.Attempts)
		}
	}
	for _, d := range detections {
		if d.Attempts != 1 {
			t.Errorf("%s: %d attempts", d.Cell.Detector, d.Attempts)
		}
	}
}
