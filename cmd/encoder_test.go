package cmd

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"clipinspector/experiments/world"
	"clipinspector/internal/experimentstest"
)

func TestDescribeEncoder(t *testing.T) {
	mini, err := world.OpenEncoder("builtin:mini")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"builtin:mini":              {strconv.Itoa(mini.Config.Parameters()), mini.Weights.Fingerprint(), mini.Fingerprint()},
		experimentstest.TinyCLIP(t): {"file ", "not a file that OpenAI published"},
	} {
		var out bytes.Buffer
		if err := describeEncoder(&out, name); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s:\n%swant %q", name, out.String(), w)
			}
		}
	}
}
