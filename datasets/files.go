package datasets

import (
	"crypto/sha256"
	"encoding/hex"
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
	size  int64  // bytes
}

// Files is a dataset whose pictures are files: the concrete type of every set that is not rendered.
type Files struct {
	name, template string
	folder         string // the image folder
	classes        []string
	items          map[Split][]Item
	missing        int
	problems       []string // in what a published set's copy differs from it
	fingerprint    string
}

// newFiles checks the lists of a dataset, keeps the items whose file exists and fingerprints them.
func newFiles(name, template, folder string, classes []string, lists map[Split][]Item) (*Files, error) {
	d := &Files{name: name, template: template, folder: folder, classes: classes, items: map[Split][]Item{}}
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
			it.size = info.Size()
			d.items[s] = append(d.items[s], it)
			total++
		}
	}
	if total == 0 {
		return nil, fmt.Errorf("none of the %d pictures of the lists is in %s", d.missing, folder)
	}
	h := sha256.New()
	fmt.Fprintf(h, "files\x00%q\x00", classes)
	for _, s := range Splits {
		hashItems(h, string(s), d.items[s])
	}
	d.fingerprint = hex.EncodeToString(h.Sum(nil))
	return d, nil
}

func hashItems(h io.Writer, split string, items []Item) {
	fmt.Fprintf(h, "%s %d\n", split, len(items))
	for _, it := range items {
		fmt.Fprintf(h, "%q %d %d\n", it.Path, it.Label, it.size)
	}
}

// checkPath refuses paths of split files that would leave the image folder. Symbolic links below it are allowed.
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
func (d *Files) Name() string { return d.name }

// Classes returns the raw class names by label.
func (d *Files) Classes() []string { return d.classes }

// Template returns the zero-shot prompt of the set.
func (d *Files) Template() string { return d.template }

// Len returns the number of pictures of a split whose file is there.
func (d *Files) Len(split Split) int { return len(d.items[split]) }

// Label returns the label of picture i of a split.
func (d *Files) Label(split Split, i int) int { return d.items[split][i].Label }

// Path returns the file of picture i of a split.
func (d *Files) Path(split Split, i int) string {
	return filepath.Join(d.folder, filepath.FromSlash(d.items[split][i].Path))
}

// Image decodes picture i of a split.
func (d *Files) Image(split Split, i int) (*RGB, error) {
	if i < 0 || i >= d.Len(split) {
		return nil, indexError(d.name, split, i, d.Len(split))
	}
	return ReadImage(d.Path(split, i))
}

// Fingerprint hashes class names and, per split, the paths, labels and file sizes.
func (d *Files) Fingerprint() string { return d.fingerprint }

// Complete reports whether every listed picture is there and, for a published set, whether the copy is as published (see
// Incomplete). Few-shot samples equal the published ones only on a complete training list.
func (d *Files) Complete() bool { return d.missing == 0 && len(d.problems) == 0 }
