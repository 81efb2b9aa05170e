package audit

import (
	"bytes"
	"strings"
	"testing"

	"clipinspector/inspector"
)

// A clean model has a most suspicious class and no suspect.
func TestACleanModelHasNoSuspect(t *testing.T) {
	for decision, want := range map[Decision]string{DecisionClean: "most suspicious class: \"pug\"", DecisionBackdoored: "suspected target: \"pug\"", DecisionUnclear: "suspected target: \"pug\""} {
		f := Report{Decision: decision, Suspect: "pug", SourceClass: "poodle"}
		want += ", for images of \"poodle\" alone"
		f.Classes = []ClassReport{{Class: "pug"}, {Class: "husky"}}
		var b bytes.Buffer
		if err := f.Print(&b, t.TempDir()); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); !strings.Contains(got, want) || strings.Contains(got, "<- suspect") != (decision != DecisionClean) {
			t.Errorf("%s:\n%s", decision, got)
		}
	}
}

// References without labels find fewer backdoors. So a clean verdict beside them asks for labels.
func TestACleanVerdictWithoutLabelsAsksForThem(t *testing.T) {
	for _, x := range []struct {
		source   string
		decision Decision
		said     bool
	}{{inspector.FromPool, DecisionClean, true}, {inspector.FromPool, DecisionBackdoored, false}, {inspector.FromShots, DecisionClean, false}} {
		f := Report{Decision: x.decision, References: &ReferenceFinding{Source: x.source}}
		var b bytes.Buffer
		if err := f.Print(&b, t.TempDir()); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "--shots FOLDER") != x.said {
			t.Errorf("%s, %s:\n%s", x.source, x.decision, b.String())
		}
	}
}

// The second look is taken on pool images. Where it finds nothing, and the verdict is about images
// of one class alone, it says so.
func TestTheSecondLookSaysWhatItCouldNotSee(t *testing.T) {
	none, patch := inspector.Explanation{Kind: inspector.KindNone}, inspector.Explanation{Kind: inspector.KindPatch, Strongest: inspector.KindPatch, Size: 9, ASR: 0.9}
	for _, x := range []struct {
		class, source string
		found         inspector.Explanation
		said          bool
	}{{"pug", "poodle", none, true}, {"pug", "", none, false}, {"pug", "poodle", patch, false}, {"husky", "poodle", none, false}} {
		f := Report{Suspect: "pug", SourceClass: x.source}
		if got := f.says(x.found, x.class); strings.Contains(got, "images of \"poodle\" alone") != x.said || !strings.HasPrefix(got, x.found.String()) {
			t.Errorf("%s, from %q: %s", x.class, x.source, got)
		}
	}
}
