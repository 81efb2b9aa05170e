package audit

import (
	"slices"
	"strings"
	"testing"
)

// Labels of one name stay apart: folders of that name are matched in the order of the labels, and a
// label that is left without images is said, not refused. A name without any images is refused.
func TestRepeatedClassNames(t *testing.T) {
	imagenet := []string{"crane", "missile", "Crane", "missile", "pug"}
	for _, x := range []struct {
		have, want []string
		labels     []int
		notes      int
		refusal    string
	}{
		{[]string{"pug", "missile", "crane"}, imagenet, []int{4, 1, 0}, 2, ""},
		{[]string{"missile", "pug", "missile", "crane", "crane"}, imagenet, []int{1, 4, 3, 0, 2}, 0, ""},
		{[]string{"pug", "pug"}, []string{"pug"}, []int{0, 0}, 0, ""},
		{[]string{"missile", "crane"}, imagenet, nil, 0, `the model's class "pug" has none`},
		{[]string{"missile", "hen"}, imagenet, nil, 0, `"hen" is no class of the model`},
	} {
		labels, notes, err := matchClasses("folder", x.have, x.want)
		if x.refusal != "" {
			if err == nil || !strings.Contains(err.Error(), x.refusal) {
				t.Errorf("%v of %v: %v, want an error that says %q", x.have, x.want, err, x.refusal)
			}
			continue
		}
		if err != nil || !slices.Equal(labels, x.labels) || len(notes) != x.notes {
			t.Errorf("%v of %v: labels %v, notes %q, %v; want %v and %d notes", x.have, x.want, labels, notes, err, x.labels, x.notes)
		}
	}
}
