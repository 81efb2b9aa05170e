package registry

import (
	"slices"
	"testing"
)

func TestNamesAreFoundSortedAndOnce(t *testing.T) {
	r := New("fruit", func(s string) string { return s })
	for _, name := range []string{"pear", "apple", "plum"} {
		r.Add(name)
	}
	if got, want := r.All(), []string{"apple", "pear", "plum"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, err := r.Find("pear"); got != "pear" || err != nil {
		t.Errorf("pear: got %q, %v", got, err)
	}
	const want = `unknown fruit "fig"; known are apple, pear, plum`
	if _, err := r.Find("fig"); err == nil || err.Error() != want {
		t.Errorf("fig: got %v, want %s", err, want)
	}
	for _, name := range []string{"", "plum"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was registered", name)
				}
			}()
			r.Add(name)
		}()
	}
}
