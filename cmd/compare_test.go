package cmd

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"clipinspector/experiments/suite"
	"clipinspector/internal/experimentstest"
	"clipinspector/results/stats"
)

// Two runs of the same models, of which one detector looks for another bound: the models are the
// same, the setting is named.
func TestCompareTwoRuns(t *testing.T) {
	clip, a, b := experimentstest.TinyCLIP(t), t.TempDir(), t.TempDir()
	detectors := "detectors=[{name: ci, optimise: 16, measure: 8, batch: 8}]"
	run(t, experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(clip), detectors), a)
	run(t, experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(clip), detectors, "detectors.ci.epsilon=0.3"), b)
	compare := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		c := Command()
		c.SetOut(&out)
		c.SetArgs(append([]string{"compare"}, args...))
		if err := c.Execute(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	var got []stats.Comparison
	if err := json.Unmarshal([]byte(compare(a, b, "--format", "json")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || len(got[0].Detectors) != 1 || got[0].Detectors[0].Pairs != 6 || got[0].Detectors[0].SameModels != 6 {
		t.Errorf("%+v", got)
	}
	if d := got[0].Settings; len(d) != 1 || d[0].Path != "detector.epsilon" || d[0].Values[1][0] != "0.3" {
		t.Errorf("the setting that differs: %+v", d)
	}
	text := compare(a, b)
	for _, want := range []string{"| ci ", "detector.epsilon differs", "McNemar", "indices differ by at most"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if _, err := compareRuns([]string{a, t.TempDir()}, nil, "", nil); err == nil {
		t.Error("a folder without a store was read")
	}
}
