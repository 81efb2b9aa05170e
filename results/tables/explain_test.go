package tables

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"clipinspector/results/internal/sample"
	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// The table of explanations has a row for each attack and verdict: what was said of how many
// models, and the means of what was recovered. Models whose true trigger fires on the same images are
// told from others, if the suspect is the target. Where a patch lies counts only for models that are
// said to have one.
func TestExplanationTable(t *testing.T) {
	s := sample.Open(t)
	nan := math.NaN()
	cases := []struct {
		attack, said     string
		flagged          bool
		class            int
		asr, others, iou float64
		trueASR          float64
	}{
		{"clean", "none", false, 0, 0.95, 0.1, nan, nan},
		{"badnets", "patch", true, 2, 0.9, 0.2, 0.5, 0.9},
		{"badnets", "patch", true, 1, 0.5, 0.9, 0.1, 0.6},
		{"badnets", "none", true, 2, 0.7, 0.3, 0.9, 0.9},
		{"wanet", "warp", false, 2, 1, 0.4, nan, 0.75},
	}
	var models []store.ModelCell
	var detections []store.DetectionCell
	var explanations []store.ExplanationCell
	for i, c := range cases {
		key := string(rune('a' + i))
		models = append(models, store.ModelCell{Key: key, Attack: c.attack, Dataset: "d" + key, Order: i})
		detections = append(detections, store.DetectionCell{Key: key + key, ModelKey: key, Order: i})
		explanations = append(explanations, store.ExplanationCell{Key: key + key + key, DetectionKey: key + key, Order: i})
	}
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	try(s.Plan(store.Suite{Name: "s"}, models, detections))
	try(s.PlanExplanations("s", explanations))
	for i, c := range cases {
		try(s.FinishModel(models[i].Key, "w", store.ModelResult{Backdoored: c.attack != "clean", Target: 2, ASR: 1}))
		try(s.FinishDetection(detections[i].Key, "w", store.DetectionResult{Backdoored: c.flagged, Suspect: c.class}))
		try(s.FinishExplanation(explanations[i].Key, "w", store.ExplanationResult{Class: c.class, Said: c.said, Strongest: "patch", ASR: c.asr, ZeroShot: 0.25,
			Others: c.others, Untouched: nan, IoU: c.iou, Distance: c.iou, Size: 4, TrueSize: 8, TrueASR: c.trueASR, ImagePasses: 100, Seconds: 2,
			Families: []store.FamilyEvidence{{Kind: "patch"}, {Kind: "warp"}}}))
	}
	sum, err := stats.Summarise(s, "s", nil)
	try(err)
	var buf bytes.Buffer
	explanationGrid(sum).markdown(&buf)
	var got []string
	for i, line := range strings.Split(strings.TrimSpace(buf.String()), "\n") {
		if i != 1 { // the rule below the heading
			got = append(got, strings.Join(strings.Fields(strings.ReplaceAll(line, "|", " ")), " "))
		}
	}
	want := []string{
		"attack verdict models suspects right patch warp none reached where the true one does where it does not others reached ASR true ASR ASR zero-shot IoU distance side true side image passes seconds",
		"clean not flagged 1 – 0 0 1 0/1 – – 0/1 0.950 – 0.250 – – – – 100 2.0",
		"badnets flagged 3 2/3 2 0 1 1/3 1/2 – 1/3 0.700 0.800 0.250 0.30 0.30 4.0 8.0 100 2.0",
		"wanet missed 1 1/1 0 1 0 1/1 – 1/1 0/1 1.000 0.750 0.250 – – – – 100 2.0",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
