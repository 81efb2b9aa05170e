package experiments

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"clipinspector/experiments/suite"
	"clipinspector/internal/experimentstest"
)

// order is a cell's place in its suite.
var order = regexp.MustCompile(`"order":\d+`)

// Verdicts by other rules on what was measured once are those of detections that measured
// themselves, to the last bit, however many workers there are. They share the measuring's triggers,
// and measure again where these are lost. What steers the measuring does not share.
func TestAnotherRuleTakesNoInversion(t *testing.T) {
	text := experimentstest.TinySuite(experimentstest.TinyCLIP(t))
	const sweep = "sweep:\n  detectors.ci.index: [studentized, mad]\n  detectors.*.k: [1, 2]\n  detectors.neural-cleanse.index: [mad, ratio]\n"
	f := experimentstest.Read(t, suite.Parse, strings.ReplaceAll(text, "badnets, {name: badclip, warmup: 1}", "badnets")+sweep)
	out := t.TempDir()
	together := runTiny(t, f, Options{Out: out, Workers: 1})
	if other := runTiny(t, f, Options{Out: t.TempDir(), Workers: 3}); !bytes.Equal(together, other) {
		t.Errorf("three workers: another export: %s", experimentstest.FirstDifference(other, together))
	}
	results := experimentstest.Store(t, filepath.Join(out, StoreFile))
	rows := experimentstest.Rows(t, results.Detections)
	folders := map[string]int{}
	alone := t.TempDir()
	for _, row := range rows {
		folders[row.Cell.Detector+" "+row.Result.Path]++
	}
	// Four models; CI 2 rules x 2 thresholds, Neural Cleanse as many, Pixel-Backdoor two
	// thresholds.
	if len(rows) != 4*(4+4+2) || len(folders) != 4*3 {
		t.Errorf("%d detections in %d folders, want 40 in 12", len(rows), len(folders))
	}
	one := experimentstest.Read(t, suite.Parse, strings.ReplaceAll(text, "badnets, {name: badclip, warmup: 1}", "badnets"),
		"detectors.ci.index=mad", "detectors.*.k=1", "detectors.neural-cleanse.index=ratio")
	for _, line := range bytes.Split(bytes.TrimSpace(runTiny(t, one, Options{Out: alone})), []byte("\n")) {
		if bytes.Contains(line, []byte(`"kind":"detection"`)) && !bytes.Contains(order.ReplaceAll(together, nil), order.ReplaceAll(line, nil)) {
			t.Errorf("measured alone it is another: %s", line)
		}
	}

	// A later suite of the folder, whose rule none of the cells there has, takes what they
	// measured.
	later := experimentstest.Read(t, suite.Parse, strings.ReplaceAll(text, "badnets, {name: badclip, warmup: 1}", "badnets"), "name=later", "detectors.*.k=5")
	runTiny(t, later, Options{Out: out})
	var err error
	if rows, err = results.Detections("later"); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if folders[row.Cell.Detector+" "+row.Result.Path] == 0 {
			t.Errorf("%s in a later suite measured again", row.Cell.Detector)
		}
	}

	// The triggers of the measuring are lost: whoever is judged anew measures itself.
	for folder := range folders {
		_, path, _ := strings.Cut(folder, " ")
		if err := os.Remove(filepath.Join(out, path)); err != nil {
			t.Fatal(err)
		}
	}
	more := experimentstest.Read(t, suite.Parse, strings.ReplaceAll(f.Text, "[1, 2]", "[1, 3]"))
	runTiny(t, more, Options{Out: out})
	if rows, err = results.Detections("tiny"); err != nil {
		t.Fatal(err)
	}
	fresh := 0
	for _, row := range rows {
		if detector := row.Cell.Settings["detector"].(map[string]any); fmt.Sprint(detector["k"]) != "3" {
			continue
		}
		fresh++
		if _, err := readRecovered(filepath.Join(out, row.Result.Path)); err != nil {
			t.Errorf("%s: %v", row.Cell.Detector, err)
		}
	}
	if fresh != 4*5 {
		t.Errorf("%d detections at k = 3, want 20", fresh)
	}
}

// The same holds of a verdict by references, whatever the null and the references are. Nothing is
// kept of many classes, where the verdict chooses which are inverted to the end.
func TestAnotherNullTakesNoInversion(t *testing.T) {
	sweep := []string{"sweep={detectors.separation.prior: [4, 20], references.source: [shots, pool]}", "detectors.separation.accuracy=0"}
	out := t.TempDir()
	together := runTiny(t, held(t, sweep...), Options{Out: out, Workers: 1})
	results := experimentstest.Store(t, filepath.Join(out, StoreFile))
	rows := experimentstest.Rows(t, results.Detections)
	folders := map[string]bool{}
	for _, row := range rows {
		folders[row.Result.Path] = true
	}
	if models := experimentstest.Rows(t, results.Models); len(rows) != 4*len(models) || len(folders) != len(models) {
		t.Errorf("%d detections of %d models in %d folders, want 4 of each model in one", len(rows), len(models), len(folders))
	}
	one := runTiny(t, held(t, "detectors.separation.prior=4", "references.source=pool", "detectors.separation.accuracy=0"), Options{Out: t.TempDir()})
	seen := 0
	for _, line := range bytes.Split(bytes.TrimSpace(one), []byte("\n")) {
		if !bytes.Contains(line, []byte(`"kind":"detection"`)) {
			continue
		}
		if seen++; !bytes.Contains(order.ReplaceAll(together, nil), order.ReplaceAll(line, nil)) {
			t.Errorf("measured alone it is another: %s", line)
		}
	}
	if seen == 0 {
		t.Error("no detections in the export")
	}

	many := t.TempDir()
	runTiny(t, held(t, append(sweep, "detectors.separation.many=2")...), Options{Out: many})
	results = experimentstest.Store(t, filepath.Join(many, StoreFile))
	folders = map[string]bool{}
	for _, row := range experimentstest.Rows(t, results.Detections) {
		folders[row.Result.Path] = true
	}
	if models := experimentstest.Rows(t, results.Models); len(folders) != 4*len(models) {
		t.Errorf("of many classes %d folders of %d models, want four of each", len(folders), len(models))
	}
}
