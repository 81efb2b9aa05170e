package progress

import (
	"strings"
	"testing"
)

// What is written to another program is one object a line, text and steps alike.
func TestEvents(t *testing.T) {
	var b strings.Builder
	e := NewEvents(&b)
	if _, err := e.Write([]byte("two \"lines\"\nof text\n")); err != nil {
		t.Fatal(err)
	}
	step, end := Show(e, "inverting classes")
	step(1, 10)
	end()
	want := `{"line":"two \"lines\""}` + "\n" + `{"line":"of text"}` + "\n" + `{"what":"inverting classes","done":1,"total":10}` + "\n"
	if b.String() != want {
		t.Errorf("got %s, want %s", b.String(), want)
	}
}
