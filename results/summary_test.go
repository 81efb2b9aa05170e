package results

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files of the tables")

// synthetic fills a suite of three datasets, clean + two attacks and two
// detectors, finishing its cells in a random order under changing workers. One
// model fails, one is never computed, one backdoor does not fire.
func synthetic(t *testing.T, s *Store) {
	t.Helper()
	attacks := []string{"clean", "badnets", "wanet"}
	var models []ModelCell
	var detections []DetectionCell
	for i, dataset := range []string{"mini-pets", "mini-dtd", "mini_sun"} {
		for j, attack := range attacks {
			for k, shots := range []int{4, 16} {
				c := ModelCell{Dataset: dataset, Attack: attack, Learner: "coop", Seed: 1, Order: 6*i + 2*j + k, Settings: map[string]any{
					"dataset": dataset, "attack": map[string]any{"name": attack}, "learner": "coop", "seed": 1, "shots": shots,
				}}
				var err error
				if c.Key, err = c.Identity(); err != nil {
					t.Fatal(err)
				}
				models = append(models, c)
				for l, name := range []string{"neural-cleanse", "ci"} {
					d := DetectionCell{ModelKey: c.Key, Detector: name, Order: 2*c.Order + l,
						Settings: map[string]any{"epsilon": 8.0 / 255, "shots": 3}}
					if d.Key, err = d.Identity(); err != nil {
						t.Fatal(err)
					}
					detections = append(detections, d)
				}
			}
		}
	}
	if err := s.Plan(Suite{Name: "synthetic", YAML: "name: synthetic"}, models, detections); err != nil {
		t.Fatal(err)
	}
	rand.Shuffle(len(models), func(i, j int) { models[i], models[j] = models[j], models[i] })
	rand.Shuffle(len(detections), func(i, j int) { detections[i], detections[j] = detections[j], detections[i] })
	order := map[string]int{}
	for i, c := range models {
		order[c.Key] = c.Order
		if c.Order == 17 {
			continue
		}
		if c.Order == 16 {
			failOnly(t, s, c.Key)
			continue
		}
		if err := s.FinishModel(c.Key, fmt.Sprint("worker ", i%3), syntheticModel(c)); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range detections {
		if n := order[c.ModelKey]; n < 16 {
			if err := s.FinishDetection(c.Key, fmt.Sprint("worker ", i%2), syntheticDetection(c, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func failOnly(t *testing.T, s *Store, key string) {
	t.Helper()
	if _, err := s.db.Exec(`UPDATE model SET worker='w' WHERE key=?`, key); err != nil {
		t.Fatal(err)
	}
	if err := s.Fail(KindModel, key, "w", "tune: loss is NaN at step 12\nstack"); err != nil {
		t.Fatal(err)
	}
}

func syntheticModel(c ModelCell) ModelResult {
	nan := math.NaN()
	r := ModelResult{Target: -1, Classes: 10, ACC: 0.95 - float64(c.Order)/200, ASR: nan, ASRAll: nan, ASROOD: nan, PSNR: nan, SSIM: nan,
		Hash: "sha of " + c.Key[:6], Path: fmt.Sprint("out/", rand.Int()), Seconds: rand.Float64(), Versions: map[string]string{"go": "1.24"}}
	if c.Attack != "clean" {
		r.Backdoored, r.Target, r.ASR, r.ASRAll, r.ASROOD = true, 3, 1-float64(c.Order)/100, 0.9, 0.8
		r.PSNR, r.SSIM = 30.25, 0.875
	}
	return r
}

// syntheticDetection: ci is right but for one missed model and one wrong
// suspect, neural-cleanse always says backdoored and its index says nothing.
func syntheticDetection(c DetectionCell, n int) DetectionResult {
	backdoored := n/2%3 != 0
	r := DetectionResult{Index: 1 + float64(n)/100, Backdoored: backdoored, Suspect: 3, ImagePasses: 41600 + int64(n), Seconds: 2}
	switch {
	case c.Detector == "neural-cleanse":
		r.Index, r.Backdoored, r.ImagePasses, r.Seconds = 2, true, 41600, 4
	case !backdoored:
		r.Suspect = -1
	case n == 2:
		r.Backdoored, r.Index = false, math.NaN()
	case n == 4:
		r.Index, r.Suspect = 3, 7
	default:
		r.Index = 3 + float64(n)
	}
	for i := range 3 {
		r.Classes = append(r.Classes, ClassScore{Class: i, Loss: math.NaN(), ASR: 0.5, Score: float64(n), Index: math.Inf(1), Norm: 0.1,
			Reached: c.Detector == "ci" && i > 0})
	}
	return r
}

func TestTablesAreAsTheGoldenFiles(t *testing.T) {
	s := openTemp(t)
	synthetic(t, s)
	for _, by := range [][]string{nil, {"model.shots", "detector.epsilon"}} {
		sum, err := Summarise(s, "synthetic", by)
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range Formats {
			var buf bytes.Buffer
			if err := Render(&buf, sum, format); err != nil {
				t.Fatal(err)
			}
			name := "table"
			if by != nil {
				name = "table-by"
			}
			golden(t, filepath.Join("testdata", name+"."+format), buf.Bytes())
		}
	}
	if err := Render(&bytes.Buffer{}, &Summary{}, "word"); err == nil {
		t.Error("an unknown format was taken")
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update rewrites it):\n%s", path, got)
	}
}

func TestExportIsTheSameBytes(t *testing.T) {
	a, b := openTemp(t), openTemp(t)
	synthetic(t, a)
	synthetic(t, b)
	b.now = func() time.Time { return time.Unix(0, 0) }
	x, y := exported(t, a, "synthetic"), exported(t, b, "synthetic")
	if !bytes.Equal(x, y) {
		t.Fatal("two runs of the same suite exported different bytes")
	}
	lines := strings.Split(strings.TrimSpace(string(x)), "\n")
	if len(lines) != 18+36 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, private := range []string{"seconds", "worker", `"path"`, "out/", "versions", "stack"} {
		if bytes.Contains(x, []byte(private)) {
			t.Errorf("the export tells %q", private)
		}
	}
	golden(t, "testdata/export.jsonl", x)
}

func TestFiguresByHand(t *testing.T) {
	s := openTemp(t)
	synthetic(t, s)
	sum, err := Summarise(s, "synthetic", nil)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Models != (Tally{18, 16, 1, 0}) || sum.Detections != (Tally{36, 32, 0, 2}) {
		t.Fatalf("%+v %+v", sum.Models, sum.Detections)
	}
	ci := sum.Detectors[slices.IndexFunc(sum.Detectors, func(d DetectorFigures) bool { return d.Name == "ci" })]
	// 16 models, 10 of them backdoored; one is missed and ranks lowest: the other
	// nine are above all six clean ones.
	if ci.Models != 16 || ci.Correct != 15 || ci.Backdoored != 10 || ci.AUROC != 0.9 || ci.TPR != 0.9 || ci.FPR != 0 {
		t.Errorf("ci: %+v", ci.Figures)
	}
	if ci.TargetsRight != 8 || ci.TruePositives != 9 {
		t.Errorf("ci found %d of %d targets", ci.TargetsRight, ci.TruePositives)
	}
	// ASR is 1-order/100: those planned after place ten do not fire.
	if ci.FiringOnly.Backdoored != 7 || ci.FiringOnly.Models != 13 {
		t.Errorf("firing: %+v", ci.FiringOnly)
	}
	nc := sum.Detectors[0]
	if nc.Name != "neural-cleanse" || nc.AUROC != 0.5 || nc.TPR != 1 || nc.FPR != 1 || nc.Correct != 10 {
		t.Errorf("always backdoored: %+v", nc.Figures)
	}
	if f, _ := ci.ByAttack.Get("badnets"); f.Models != 6 || f.AUROC != 5./6 || f.FPR.Defined() {
		t.Errorf("badnets: %+v", f)
	}
	if f, _ := ci.ByAttack.Get("clean"); f.Models != 6 || f.AUROC.Defined() || f.FPR != 0 {
		t.Errorf("clean: %+v", f)
	}
	if f, _ := ci.ByDataset.Get("mini-pets"); f.AUROCInterval.Defined() || !f.AUROC.Defined() {
		t.Errorf("one dataset has no spread between datasets: %+v", f)
	}
	// The clean model with the same shots has its order two places before.
	if f, _ := sum.Attacks.Get("badnets"); math.Abs(float64(f.ACCDropMean)-2./200) > 1e-12 || f.Firing != 4 {
		t.Errorf("badnets models: %+v", f)
	}
}

func TestJSONHasNoNaNAndReadsBack(t *testing.T) {
	s := openTemp(t)
	synthetic(t, s)
	sum, err := Summarise(s, "synthetic", []string{"attack"})
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := Render(&buf, sum, "json"); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Detectors []struct {
			Name          string
			By            struct{ Attack string }
			AUROC         *float64
			AUROCInterval Interval `json:"auroc_interval"`
			TPR           Num
			FiringOnly    map[string]any `json:"firing_only"`
		}
		Attacks map[string]map[string]*float64
	}
	if err := json.Unmarshal(buf.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	first := back.Detectors[0]
	if first.By.Attack != "badnets" || first.AUROC != nil || first.AUROCInterval.Defined() || first.TPR != 1 || len(first.FiringOnly) != 14 {
		t.Errorf("%+v", first)
	}
	if back.Attacks["clean"]["asr_mean"] != nil || *back.Attacks["wanet"]["psnr"] != 30.25 {
		t.Errorf("%v", back.Attacks)
	}
}

func TestGroupPaths(t *testing.T) {
	s := openTemp(t)
	synthetic(t, s)
	for by, groups := range map[string]int{
		"dataset": 3, "model.dataset": 3, "seed": 1, "detector": 2, "shots": 2, "detector.shots": 1, "attack.name": 3, "epsilon": 1,
	} {
		sum, err := Summarise(s, "synthetic", []string{by})
		if err != nil {
			t.Errorf("%s: %v", by, err)
			continue
		}
		seen := map[string]bool{}
		for _, d := range sum.Detectors {
			seen[groupText(d.By)] = true
		}
		if len(seen) != groups {
			t.Errorf("%s: %d groups: %v", by, len(seen), seen)
		}
	}
	_, err := Summarise(s, "synthetic", []string{"model.shoots"})
	if err == nil || !strings.Contains(err.Error(), "attack.name, dataset, detector") {
		t.Errorf("unknown setting: %v", err)
	}
	if _, err := Summarise(s, "other", nil); err == nil || !strings.Contains(err.Error(), "synthetic") {
		t.Errorf("an unknown suite: %v", err)
	}
}

func TestGroupsOrderNumbersBySize(t *testing.T) {
	values := []any{nil, "b", 16, "a", 4, 0.5}
	slices.SortFunc(values, compareValues)
	if got := fmt.Sprint(values); got != "[0.5 4 16 a b <nil>]" {
		t.Error(got)
	}
}
