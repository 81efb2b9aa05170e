package audit

import (
	"bytes"
	"strings"
	"testing"
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
