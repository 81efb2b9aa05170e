package inspector

import (
	"slices"
	"testing"

	"clipinspector/prompts"
	"clipinspector/settings"
)

// References are tuned for other numbers of epochs each, from those given to the most; the i-th
// does not depend on how many there are, and with longest 1 all are alike.
func TestReferencesAreTunedForOtherTimes(t *testing.T) {
	tuning, err := settings.Resolve(prompts.TuneParams, map[string]any{"epochs": 25})
	if err != nil {
		t.Fatal(err)
	}
	epochs := func(longest float64) (out []int) {
		for i := range 8 {
			out = append(out, ReferenceTuning(tuning, longest, i).Int("epochs"))
		}
		return out
	}
	if got, want := epochs(8), []int{25, 200, 71, 42, 119, 32, 92, 55}; !slices.Equal(got, want) {
		t.Errorf("epochs %v, want %v", got, want)
	}
	if got := slices.Compact(epochs(1)); len(got) != 1 || got[0] != 25 {
		t.Errorf("with longest 1 epochs %v", got)
	}
	if got := ReferenceTuning(tuning, 0.001, 1).Int("epochs"); got != 1 {
		t.Errorf("a thousandth of the epochs is %d, want 1", got)
	}
	if tuning.Int("epochs") != 25 {
		t.Errorf("the tuning itself was changed: %v", tuning)
	}
}

// By default references of few-shot images are tuned for up to eight times the epochs, and those of
// the pool all alike.
func TestLongestGoesByTheSource(t *testing.T) {
	for _, c := range []struct {
		longest float64
		source  string
		want    float64
	}{{0, FromShots, 8}, {0, FromPool, 1}, {4, FromShots, 4}, {4, FromPool, 4}, {1, FromShots, 1}, {0.5, FromShots, 0.5}} {
		if got := Longest(c.longest, c.source); got != c.want {
			t.Errorf("longest %v from %s is %v, want %v", c.longest, c.source, got, c.want)
		}
	}
}
