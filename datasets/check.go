package datasets

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// State is what Check found of a set.
type State string

// States of a set below the folder of real data.
const (
	Complete State = "complete" // all of it, as published
	Partial  State = "partial"  // there, but not all of it or not as published
	Absent   State = "absent"
	Broken   State = "broken" // there, but not readable
)

// Finding is what Check says of one published set.
type Finding struct {
	Name    string
	Folder  string // where it is looked for
	State   State
	Classes int
	Counts  [3]int // pictures: train, val, test
	// Notes say what is missing or differs and, when the set is absent, where it comes from and how to lay it out.
	Notes []string
}

// Check looks for the published sets of the given names, or for all of the paper when there are none, below Options.Root. It
// stats every picture and opens none. An unknown name is an error.
func Check(o Options, names ...string) ([]Finding, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	var out []Finding
	for _, s := range coopSets {
		if len(names) == 0 || slices.Contains(names, s.name) {
			out = append(out, s.check(o.Root))
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(coopSets, func(s coopSet) bool { return s.name == name }) {
			return nil, fmt.Errorf("no published set is called %.60q; there are %s", name, strings.Join(publishedNames(), ", "))
		}
	}
	return out, nil
}

func publishedNames() []string {
	var names []string
	for _, s := range coopSets {
		names = append(names, s.name)
	}
	return names
}

func (s coopSet) check(root string) Finding {
	f := Finding{Name: s.name, Folder: filepath.Join(root, s.folder), State: Complete}
	d, err := openCoOp(s, root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.State, f.Notes = Absent, []string{s.layout()}
	case err != nil:
		f.State, f.Notes = Broken, []string{err.Error()}
	default:
		f.Classes = len(d.classes)
		for k, split := range Splits {
			f.Counts[k] = d.Len(split)
		}
		if f.Notes = d.problems; !d.Complete() {
			f.State = Partial
		}
	}
	return f
}

// Incomplete returns in what the copy behind a dataset differs from the published set, through subsets and limits; nothing for
// complete copies and for sets that are not published.
func Incomplete(ds Dataset) []string {
	for {
		switch d := ds.(type) {
		case *Files:
			return d.problems
		case interface{ Unwrap() Dataset }:
			ds = d.Unwrap()
		default:
			return nil
		}
	}
}
