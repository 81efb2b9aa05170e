package datasets

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"clipinspector/internal/miniworld"
)

func init() {
	sets := make([]mini, len(miniworld.Names()))
	seen := map[string]bool{}
	classes := 0
	for i, name := range miniworld.Names() {
		world, err := miniworld.Get(name)
		if err != nil {
			panic(err) // a set that the mini world itself names
		}
		sets[i].world = world
		for _, c := range world.Classes {
			if seen[strings.ToLower(c)] {
				panic(fmt.Sprintf("mini-all: %q is a class of two sets", c))
			}
			seen[strings.ToLower(c)] = true
			classes++
		}
	}
	Register(Entry{Name: "mini-all", Family: "mini", Doc: fmt.Sprintf("all %d sets of the mini world as one, %d classes", len(sets), classes),
		Open: func(o Options) (Dataset, error) {
			all := miniAll{sets: slices.Clone(sets), o: o}
			for i := range all.sets {
				all.sets[i].o = o
			}
			for _, s := range all.sets {
				all.first = append(all.first, len(all.classes))
				all.classes = append(all.classes, s.Classes()...)
			}
			return all, nil
		}})
}

// miniAll is all sets of the mini world as one: its classes and pictures are theirs, set after set.
// With so many classes one of them stands out by luck, which is what it is for.
type miniAll struct {
	sets    []mini
	first   []int // the first class of each set
	classes []string
	o       Options
}

func (d miniAll) Name() string        { return "mini-all" }
func (d miniAll) Classes() []string   { return d.classes }
func (d miniAll) Template() string    { return "a photo of a {}." }
func (d miniAll) Len(split Split) int { return d.sets[0].perClass(split) * len(d.classes) }

func (d miniAll) Label(split Split, i int) int {
	if i < 0 || i >= d.Len(split) {
		panic(indexError(d.Name(), split, i, d.Len(split)))
	}
	return i / d.sets[0].perClass(split)
}

func (d miniAll) Image(split Split, i int) (*RGB, error) {
	if i < 0 || i >= d.Len(split) {
		return nil, indexError(d.Name(), split, i, d.Len(split))
	}
	n := d.sets[0].perClass(split)
	set := sort.Search(len(d.first), func(s int) bool { return d.first[s] > i/n }) - 1
	return d.sets[set].Image(split, i-d.first[set]*n)
}

func (d miniAll) Fingerprint() string {
	parts := make([]string, len(d.sets))
	for i, s := range d.sets {
		parts[i] = s.Fingerprint()
	}
	return hashText("mini-all\n" + strings.Join(parts, "\n"))
}
