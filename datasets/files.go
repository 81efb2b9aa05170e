package datasets

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Item is one labelled picture of a split list.
type Item struct {
	Path  string // slash-separated, below the set's image folder
	Label int    // in [0, number of classes)
}

// fileSet is a dataset whose pictures are files: the concrete type of every set that is not
// rendered.
type fileSet struct {
	name, template string
	folder         string // the image folder
	classes        []string
	items          map[Split][]Item
	missing        int
	problems       []string // in what a published set's copy differs from it
	notes          []string // what was left out
	contents       contents // of the pictures, split by split
}

// newFiles checks the lists of a dataset and keeps the items whose file exists.
func newFiles(name, template, folder string, classes []string, lists map[Split][]Item) (*fileSet, error) {
	d := &fileSet{name: name, template: template, folder: folder, classes: classes, items: map[Split][]Item{}}
	total := 0
	for _, s := range Splits {
		for _, it := range lists[s] {
			if err := checkPath(it.Path); err != nil {
				return nil, fmt.Errorf("split %s: %w", s, err)
			}
			if it.Label < 0 || it.Label >= len(classes) {
				return nil, fmt.Errorf("split %s: %s: label %d of %d classes", s, it.Path, it.Label, len(classes))
			}
			info, err := os.Stat(filepath.Join(folder, filepath.FromSlash(it.Path)))
			if err != nil || !info.Mode().IsRegular() {
				d.missing++
				continue
			}
			d.items[s] = append(d.items[s], it)
			total++
		}
	}
	if total == 0 {
		return nil, fmt.Errorf("none of the %d pictures of the lists is in %s", d.missing, folder)
	}
	return d, nil
}

// paths are the files of all splits, in order.
func (d *fileSet) paths() []string {
	var out []string
	for _, s := range Splits {
		for i := range d.items[s] {
			out = append(out, d.path(s, i))
		}
	}
	return out
}

func (d *fileSet) hash(ctx context.Context, step func(done, total int)) error {
	_, err := d.contents.hash(ctx, d.paths, step)
	return err
}

func (d *fileSet) leftOut() []string { return d.notes }

// position is the place of picture i of a split among those of all splits.
func (d *fileSet) position(split Split, i int) int {
	for _, s := range Splits {
		if s == split {
			break
		}
		i += len(d.items[s])
	}
	return i
}

// checkPath refuses paths of split files that would leave the image folder. Symbolic links below it
// are allowed.
func checkPath(p string) error {
	if p == "" || len(p) > 4096 || strings.ContainsAny(p, "\x00\\") || !filepath.IsLocal(filepath.FromSlash(p)) {
		return fmt.Errorf("path %.80q does not stay inside the image folder", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return fmt.Errorf("path %.80q does not stay inside the image folder", p)
		}
	}
	return nil
}

// Name returns the name of the set.
func (d *fileSet) Name() string { return d.name }

// Classes returns the raw class names by label.
func (d *fileSet) Classes() []string { return d.classes }

// Template returns the zero-shot prompt of the set.
func (d *fileSet) Template() string { return d.template }

// Len returns the number of pictures of a split whose file is there.
func (d *fileSet) Len(split Split) int { return len(d.items[split]) }

// Label returns the label of picture i of a split.
func (d *fileSet) Label(split Split, i int) int { return d.items[split][i].Label }

// path returns the file of picture i of a split.
func (d *fileSet) path(split Split, i int) string {
	return filepath.Join(d.folder, filepath.FromSlash(d.items[split][i].Path))
}

// Image decodes picture i of a split.
func (d *fileSet) Image(split Split, i int) (*RGB, error) {
	if i < 0 || i >= d.Len(split) {
		return nil, indexError(d.name, split, i, d.Len(split))
	}
	return readHashed(d.path(split, i), &d.contents, d.position(split, i))
}

// Fingerprint hashes class names and, per split, the paths below the image folder, labels and bytes
// of the files; see Hash.
func (d *fileSet) Fingerprint() string {
	return d.contents.fingerprint(d.paths, func(h io.Writer, sums []fileSum) {
		fmt.Fprintf(h, "files by content\x00%q\x00", d.classes)
		for _, s := range Splits {
			fmt.Fprintf(h, "%s %d\n", s, len(d.items[s]))
			for i, it := range d.items[s] {
				fmt.Fprintf(h, "%q %d %x\n", it.Path, it.Label, sums[d.position(s, i)])
			}
		}
	})
}

// complete reports whether every listed picture is there and, for a published set, whether the copy
// is as published (see Incomplete). Few-shot samples equal the published ones only on a complete
// training list.
func (d *fileSet) complete() bool { return d.missing == 0 && len(d.problems) == 0 }
