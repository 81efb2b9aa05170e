package datasets

import (
	"context"
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

// Finding is what Check says of one set.
type Finding struct {
	Name    string
	Folder  string // where it is looked for
	State   State
	Classes int
	Counts  [3]int // pictures: train, val, test
	// Notes say what is missing, differs, cannot be read or is left out and, when the set is
	// absent, where it comes from and how to lay it out.
	Notes []string
}

// Check looks for the sets of the given names below Options.Root: published sets, and folders as
// Open takes them. It decodes every picture of them and lists all that cannot be read; steps, which
// may be nil, gives for a name what hears how many are done. Without names it looks for all sets of
// the paper, and for their files alone. An unknown name is an error.
func Check(ctx context.Context, o Options, steps func(name string) func(done, total int), names ...string) ([]Finding, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	var out []Finding
	if len(names) == 0 {
		for _, s := range coopSets {
			f, _ := s.check(o.Root)
			out = append(out, f)
		}
		return out, nil
	}
	for _, name := range names {
		var f Finding
		var d *fileSet
		if i := slices.IndexFunc(coopSets, func(s coopSet) bool { return s.name == name }); i >= 0 {
			f, d = coopSets[i].check(o.Root)
		} else if path, ok := folderPath(name, o); ok {
			f, d = checkFolder(name, path)
		} else {
			return nil, fmt.Errorf("no published set is called %.60q; there are %s, and folder:PATH", name, strings.Join(publishedNames(), ", "))
		}
		if d != nil {
			var step func(done, total int)
			if steps != nil {
				step = steps(name)
			}
			broken, err := d.unreadable(ctx, step)
			if err != nil {
				return nil, err
			}
			if len(broken) > 0 {
				f.State = Partial
				f.Notes = append(f.Notes, fmt.Sprintf("%d pictures cannot be read", len(broken)))
			}
			for _, e := range broken {
				f.Notes = append(f.Notes, e.Error())
			}
			f.Notes = append(f.Notes, d.notes...)
		}
		out = append(out, f)
	}
	return out, nil
}

// unreadable decodes all pictures.
func (d *fileSet) unreadable(ctx context.Context, step func(done, total int)) ([]error, error) {
	paths := d.paths()
	return Unreadable(ctx, func(i int) (*RGB, error) { return readImage(paths[i]) }, All(len(paths)), step)
}

func checkFolder(name, path string) (Finding, *fileSet) {
	f := Finding{Name: name, Folder: path, State: Complete}
	d, err := openFolder(name, path)
	if err != nil {
		f.State, f.Notes = Broken, []string{err.Error()}
		if errors.Is(err, fs.ErrNotExist) {
			f.State = Absent
		}
		return f, nil
	}
	f.measure(d)
	return f, d
}

// measure notes the numbers of classes and pictures.
func (f *Finding) measure(d *fileSet) {
	f.Classes = len(d.classes)
	for k, split := range Splits {
		f.Counts[k] = d.Len(split)
	}
}

func publishedNames() []string {
	var names []string
	for _, s := range coopSets {
		names = append(names, s.name)
	}
	return names
}

func (s coopSet) check(root string) (Finding, *fileSet) {
	f := Finding{Name: s.name, Folder: filepath.Join(root, s.folder), State: Complete}
	d, err := openCoOp(s, root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.State, f.Notes = Absent, []string{s.layout()}
	case err != nil:
		f.State, f.Notes = Broken, []string{err.Error()}
	default:
		f.measure(d)
		if f.Notes = slices.Clone(d.problems); !d.complete() {
			f.State = Partial
		}
		return f, d
	}
	return f, nil
}

// Incomplete returns in what the copy behind a dataset differs from the published set, through
// subsets and limits; nothing for complete copies and for sets that are not published.
func Incomplete(ds Dataset) []string {
	for {
		switch d := ds.(type) {
		case *fileSet:
			return d.problems
		case interface{ Unwrap() Dataset }:
			ds = d.Unwrap()
		default:
			return nil
		}
	}
}
