package datasets

import (
	"fmt"
	"slices"
)

// outline is a published set by its numbers alone.
type outline struct {
	set     coopSet
	classes []string
}

// Outline returns a set of the paper by its published numbers of classes and pictures alone, for
// estimates where the pictures are not at hand: its class names are "class 0" and so on, labels go
// round the classes, and reading a picture is an error. ok is false when no set of that name is
// published.
func Outline(name string) (ds Dataset, ok bool) {
	i := slices.IndexFunc(coopSets, func(s coopSet) bool { return s.name == name })
	if i < 0 {
		return nil, false
	}
	o := outline{set: coopSets[i]}
	for k := range o.set.classes {
		o.classes = append(o.classes, fmt.Sprintf("class %d", k))
	}
	return o, true
}

func (o outline) Name() string      { return o.set.name }
func (o outline) Classes() []string { return o.classes }
func (o outline) Template() string  { return o.set.template }

func (o outline) Len(split Split) int {
	if i := slices.Index(Splits, split); i >= 0 {
		return o.set.counts[i]
	}
	return 0
}

func (o outline) Label(_ Split, i int) int { return i % o.set.classes }

func (o outline) Image(split Split, i int) (*RGB, error) {
	return nil, fmt.Errorf("dataset %s: picture %d of split %q is not at hand: only the set's numbers are known", o.set.name, i, split)
}

func (o outline) Fingerprint() string {
	return hashText(fmt.Sprintf("outline %s %d %v", o.set.name, o.set.classes, o.set.counts))
}
