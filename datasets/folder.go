package datasets

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Shares of a folder dataset's splits, in percent of each class: CoOp's own 50/20/30.
const (
	folderTrainPercent = 50
	folderValPercent   = 20
)

// maxFolderFiles bounds how many pictures a folder may hold.
const maxFolderFiles = 5_000_000

// OpenFolder opens a folder that holds one folder of pictures a class. Classes are sorted by name. Each class is split
// 50/20/30 into train, val and test by the order of the sha256 of the file names, so the same files give the same
// splits on every machine. A class needs at least three pictures.
func OpenFolder(name, path string) (*Files, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("dataset %s: folder %s: %w (want one folder of pictures a class)", name, path, reason(err))
	}
	var classes []string
	lists := map[Split][]Item{}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(path, e.Name()))
		if err != nil || !info.IsDir() || e.Name()[0] == '.' {
			continue
		}
		files, err := pictures(filepath.Join(path, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("dataset %s: %w", name, err)
		}
		if len(files) == 0 {
			continue
		}
		if len(files) < len(Splits) {
			return nil, fmt.Errorf("dataset %s: class folder %s has %d pictures, fewer than three splits need",
				name, filepath.Join(path, e.Name()), len(files))
		}
		label := len(classes)
		classes = append(classes, e.Name())
		for i, f := range shuffledByHash(files) {
			split := folderSplit(i, len(files))
			lists[split] = append(lists[split], Item{Path: e.Name() + "/" + f, Label: label})
		}
	}
	if len(classes) < 2 {
		return nil, fmt.Errorf("dataset %s: folder %s has %d folders with pictures; want one folder a class, at least two",
			name, path, len(classes))
	}
	d, err := newFiles(name, "a photo of a {}.", path, classes, lists)
	if err != nil {
		return nil, fmt.Errorf("dataset %s: %w", name, err)
	}
	return d, nil
}

// folderSplit assigns picture i of n: at least one picture goes to each split.
func folderSplit(i, n int) Split {
	train := max(1, n*folderTrainPercent/100)
	val := max(1, n*folderValPercent/100)
	switch {
	case i < train:
		return Train
	case i < train+val:
		return Val
	}
	return Test
}

// shuffledByHash orders names by their sha256.
func shuffledByHash(names []string) []string {
	type keyed struct{ key, name string }
	list := make([]keyed, len(names))
	for i, n := range names {
		sum := sha256.Sum256([]byte(n))
		list[i] = keyed{hex.EncodeToString(sum[:]), n}
	}
	slices.SortFunc(list, func(a, b keyed) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
	out := make([]string, len(names))
	for i, k := range list {
		out[i] = k.name
	}
	return out
}

// pictures lists the picture files at any depth below a folder, as slash-separated relative paths in sorted order. The
// folder itself may be a symbolic link; links to folders inside it are not followed.
func pictures(folder string) ([]string, error) {
	real, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", folder, reason(err))
	}
	var out []string
	err = filepath.WalkDir(real, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && p != real && e.Name()[0] == '.':
			return filepath.SkipDir
		case e.IsDir() || !isPicture(p):
			return nil
		case len(out) >= maxFolderFiles:
			return fmt.Errorf("more than %d pictures", maxFolderFiles)
		}
		rel, err := filepath.Rel(real, p)
		if err != nil {
			return err
		}
		out = append(out, filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", folder, reason(err))
	}
	slices.Sort(out)
	return out, nil
}
