package datasets

import (
	"slices"
	"testing"

	"clipinspector/internal/miniworld"
)

// The ten sets as one: about 90 classes, none twice, each with the pictures that it has in its own
// set.
func TestMiniAllIsTheTenSets(t *testing.T) {
	o := Options{Size: 36}
	all, err := Open("mini-all", o)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, name := range miniworld.Names() {
		set, err := Open(name, o)
		if err != nil {
			t.Fatal(err)
		}
		for c, class := range set.Classes() {
			if all.Classes()[at] != class {
				t.Fatalf("class %d is %q, want %q of %s", at, all.Classes()[at], class, name)
			}
			if c == 1 { // one picture of each set is enough
				n, m := set.Len(Test)/len(set.Classes()), all.Len(Test)/len(all.Classes())
				i := at*m + 3
				got, err := all.Image(Test, i)
				if err != nil {
					t.Fatal(err)
				}
				want, err := set.Image(Test, c*n+3)
				if err != nil {
					t.Fatal(err)
				}
				if n != m || all.Label(Test, i) != at || !slices.Equal(got.Pix, want.Pix) {
					t.Errorf("picture 3 of %s, %q is another", name, class)
				}
			}
			at++
		}
	}
	if at != len(all.Classes()) || at < 80 {
		t.Errorf("%d classes of %d", at, len(all.Classes()))
	}
	names := slices.Clone(all.Classes())
	slices.Sort(names)
	if n := len(slices.Compact(names)); n != at {
		t.Errorf("%d of %d class names differ", n, at)
	}
	if _, err := all.Image(Test, all.Len(Test)); err == nil {
		t.Error("a picture beyond the last")
	}
}
