package prompts

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A model that we stored is recognised by its content; class names that were given besides must be its own.
func TestOwnCheckpoints(t *testing.T) {
	c := newTiny(t)
	m := newModel(t, c, "cocoop", map[string]any{"context": 3}, threeAndOne)
	path := filepath.Join(t.TempDir(), "delivered.bin")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	for _, classes := range [][]string{nil, threeAndOne} {
		got, err := ReadCheckpoint(path, classes, c)
		if err != nil {
			t.Fatal(err)
		}
		if got.Learner != m.Learner || !slices.Equal(floats(got.Params["ctx"]), floats(m.Params["ctx"])) {
			t.Error("another model came back")
		}
	}
	swapped := slices.Clone(threeAndOne)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	for want, classes := range map[string][]string{"4 classes, 3": threeAndOne[:3], "class 0 is": swapped} {
		if _, err := ReadCheckpoint(path, classes, c); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v: %v, want an error that says %q", classes, err, want)
		}
	}
	if _, err := ReadCheckpoint(filepath.Dir(path), nil, c); err == nil || !strings.Contains(err.Error(), "name the checkpoint itself") {
		t.Errorf("a folder: %v", err)
	}
}
