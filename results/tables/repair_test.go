package tables

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"clipinspector/results/internal/sample"
	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// The table of repairs has a row for each attack and verdict, with the means of its models.
func TestRepairTable(t *testing.T) {
	s := sample.Open(t)
	var models []store.ModelCell
	var detections []store.DetectionCell
	var repairs []store.RepairCell
	cases := []struct {
		attack  string
		flagged bool
		suspect int
		asr     float64 // repaired
	}{{"clean", true, 0, 0}, {"clean", false, 0, 0}, {"badnets", true, 2, 0.1}, {"badnets", true, 1, 0.3}, {"badnets", false, 1, 0.8},
		{"wanet", false, 2, 0.4}}
	for i, c := range cases {
		key := string(rune('a' + i))
		models = append(models, store.ModelCell{Key: key, Attack: c.attack, Dataset: "d" + key, Order: i})
		detections = append(detections, store.DetectionCell{Key: key + key, ModelKey: key, Order: i})
		repairs = append(repairs, store.RepairCell{Key: key + key + key, DetectionKey: key + key, Order: i})
	}
	repairs = append(repairs, store.RepairCell{Key: "broken", DetectionKey: "aa", Order: len(cases)})
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	try(s.Plan(store.Suite{Name: "s"}, models, detections))
	try(s.PlanRepairs("s", repairs))
	for i, c := range cases {
		m := store.ModelResult{Backdoored: c.attack != "clean", Target: 2, ASR: 1}
		try(s.FinishModel(models[i].Key, "w", m))
		try(s.FinishDetection(detections[i].Key, "w", store.DetectionResult{Backdoored: c.flagged, Suspect: c.suspect}))
		r := store.RepairResult{Hash: "of the repaired"}
		nan := math.NaN()
		for _, arm := range store.Arms {
			a := store.Arm{Name: arm, ACC: 0.89, ASR: 1, ASRAll: nan, ASRRecovered: nan}
			switch arm {
			case store.ArmRepaired:
				a.ASR = c.asr
			case store.ArmControl, store.ArmRetuned:
				a.ASR = 0.5
			}
			if c.attack == "clean" {
				a.ASR = nan
			}
			r.Arms = append(r.Arms, a)
		}
		try(s.FinishRepair(repairs[i].Key, "w", r))
	}
	_, _, err := s.LeaseRepair("s", "w", time.Minute)
	try(err)
	try(s.Fail(store.KindRepair, "broken", "w", "broken"))
	sum, err := stats.Summarise(s, "s", nil)
	try(err)
	if sum.RepairTally.Finished != 6 || sum.RepairTally.Failed != 1 || len(sum.Failures) != 1 {
		t.Errorf("%+v, %v", sum.RepairTally, sum.Failures)
	}
	var buf bytes.Buffer
	repairGrid(sum).markdown(&buf)
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(buf.String()), "\n")[2:] {
		f := strings.Split(line, "|")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		got = append(got, strings.Join([]string{f[1], f[2], f[3], f[4], f[6], f[10], f[11], f[12], f[15]}, " "))
	}
	want := []string{
		"clean flagged 1 – 0.890 – – – –",
		"clean not flagged 1 – 0.890 – – – –",
		"badnets flagged 2 1/2 0.890 1.000 0.200 0.500 0.300",
		"badnets missed 1 0/1 0.890 1.000 0.800 0.500 0.800",
		"wanet missed 1 1/1 0.890 1.000 0.400 0.500 0.400",
		"all backdoored flagged 2 1/2 0.890 1.000 0.200 0.500 0.300",
		"all backdoored missed 2 1/2 0.890 1.000 0.600 0.500 0.800",
		"all backdoored any 4 2/4 0.890 1.000 0.400 0.500 0.800",
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
