package datasets

import (
	"fmt"
	"slices"
)

// selected is a dataset restricted to some pictures and relabelled.
type selected struct {
	Dataset
	classes []string
	relabel []int // old label -> new label, -1 when dropped; nil when labels stay
	keep    map[Split][]int
	note    string // what was selected, for the fingerprint
}

func (d *selected) Classes() []string        { return d.classes }
func (d *selected) Len(split Split) int      { return len(d.keep[split]) }
func (d *selected) Fingerprint() string      { return hashText(d.note + " of " + d.Dataset.Fingerprint()) }
func (d *selected) Unwrap() Dataset          { return d.Dataset }
func (d *selected) index(s Split, i int) int { return d.keep[s][i] }

func (d *selected) Label(split Split, i int) int {
	label := d.Dataset.Label(split, d.index(split, i))
	if d.relabel != nil {
		label = d.relabel[label]
	}
	return label
}

func (d *selected) Image(split Split, i int) (*RGB, error) {
	if i < 0 || i >= d.Len(split) {
		return nil, indexError(d.Name(), split, i, d.Len(split))
	}
	return d.Dataset.Image(split, d.index(split, i))
}

// Subset restricts a dataset to some classes, which get the labels 0, 1, ... in the order given
// (CoOp's base classes are the first half of the sorted labels). The order of the pictures stays.
// An unknown or repeated label is an error.
func Subset(ds Dataset, classes []int) (Dataset, error) {
	d := &selected{Dataset: ds, keep: map[Split][]int{}, note: fmt.Sprintf("classes %v", classes)}
	d.relabel = slices.Repeat([]int{-1}, len(ds.Classes()))
	for _, c := range classes {
		if c < 0 || c >= len(d.relabel) || d.relabel[c] >= 0 {
			return nil, fmt.Errorf("subset of %s: label %d repeated or outside its %d classes", ds.Name(), c, len(d.relabel))
		}
		d.relabel[c] = len(d.classes)
		d.classes = append(d.classes, ds.Classes()[c])
	}
	if len(d.classes) == 0 {
		return nil, fmt.Errorf("subset of %s: no classes", ds.Name())
	}
	for _, s := range Splits {
		for i := range ds.Len(s) {
			if d.relabel[ds.Label(s, i)] >= 0 {
				d.keep[s] = append(d.keep[s], i)
			}
		}
	}
	return d, nil
}

// Limit restricts one split of a dataset to at most n pictures, evenly over the classes: rounds
// over the labels take the first, the second, ... picture of each until n are chosen, which then
// keep their order. Labels stay.
func Limit(ds Dataset, split Split, n int) Dataset {
	byLabel := make([][]int, len(ds.Classes()))
	for i := range ds.Len(split) {
		l := ds.Label(split, i)
		byLabel[l] = append(byLabel[l], i)
	}
	var chosen []int
	for round := 0; len(chosen) < min(n, ds.Len(split)); round++ {
		for _, list := range byLabel {
			if round < len(list) && len(chosen) < n {
				chosen = append(chosen, list[round])
			}
		}
	}
	if len(chosen) == ds.Len(split) {
		return ds
	}
	slices.Sort(chosen)
	d := &selected{Dataset: ds, classes: ds.Classes(), keep: map[Split][]int{}, note: fmt.Sprintf("limit %s %d", split, n)}
	for _, s := range Splits {
		if s == split {
			d.keep[s] = chosen
		} else {
			d.keep[s] = All(ds.Len(s))
		}
	}
	return d
}
