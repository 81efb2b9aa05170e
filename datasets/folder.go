package datasets

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Shares of a folder dataset's splits, in percent of each class: CoOp's own 50/20/30.
const (
	folderTrainPercent = 50
	folderValPercent   = 20
)

// splitFolders are the names, in lower case, by which folders of a split are known.
var splitFolders = map[string]Split{"train": Train, "training": Train, "val": Val, "valid": Val, "validation": Val, "test": Test,
	"testing": Test}

// openFolder opens a folder that holds one folder of pictures a class, or folders train, val
// (valid) and test that do.
//
// Classes are sorted by name. Without split folders each class is split 50/20/30 into train, val
// and test by the order of the sha256 of the file names, so the same files give the same splits on
// every machine, and a class needs at least three pictures. With them a class needs pictures in
// train; without a test folder, val is the test split, as CoOp has it for ImageNet. A class without
// pictures is refused by name, and so are folders that all hold the same folders, such as fold1/cat
// and fold2/cat, or cat/train and dog/train. Links are followed inside the folder; LeftOut says
// what is left out.
func openFolder(name, path string) (*fileSet, error) {
	fail := func(err error) (*fileSet, error) { return nil, fmt.Errorf("dataset %s: %w", name, err) }
	w, err := newWalker(path)
	if err != nil {
		return fail(fmt.Errorf("folder %s: %w (want one folder of pictures a class)", path, err))
	}
	top, err := w.folders(".")
	if err != nil {
		return fail(fmt.Errorf("%w (want one folder of pictures a class)", err))
	}
	splits, err := w.splits(top)
	if err != nil {
		return fail(err)
	}
	var classes []string
	var lists map[Split][]Item
	var notes []string
	if splits == nil {
		classes, lists, err = w.classFolders(top)
	} else {
		classes, lists, notes, err = w.splitClasses(splits)
		for _, f := range top {
			if splitFolders[strings.ToLower(f)] == "" {
				notes = append(notes, fmt.Sprintf("left out: folder %s: beside the folders of splits", f))
			}
		}
	}
	if err == nil && len(classes) < 2 {
		err = w.explain(fmt.Errorf("folder %s has %d folders with pictures; want one folder a class, at least two", path, len(classes)))
	}
	if err != nil {
		return fail(err)
	}
	d, err := newFiles(name, "a photo of a {}.", path, classes, lists)
	if err != nil {
		return fail(err)
	}
	d.notes = append(notes, w.leftOut()...)
	return d, nil
}

// classFolders lists one folder a class.
func (w *walker) classFolders(top []string) (classes []string, lists map[Split][]Item, err error) {
	lists = map[Split][]Item{}
	var empty []string
	inAll := map[string]int{} // folders within a class, in how many classes
	for _, class := range top {
		files, err := w.pictures(class)
		for _, f := range within(files) {
			inAll[f]++
		}
		switch {
		case err != nil:
			return nil, nil, err
		case len(files) == 0:
			empty = append(empty, class)
			continue
		case len(files) < len(Splits):
			return nil, nil, w.explain(fmt.Errorf("class folder %s has %d pictures, fewer than three splits need", w.at(class), len(files)))
		}
		for i, f := range shuffledByHash(files) {
			split := folderSplit(i, len(files))
			lists[split] = append(lists[split], Item{Path: class + "/" + f, Label: len(classes)})
		}
		classes = append(classes, class)
	}
	if len(empty) > 0 && len(classes) > 0 {
		return nil, nil, w.explain(fmt.Errorf("%s no pictures that can be read, so it would be a class without pictures: add some, or take the folder away", holds(empty)))
	}
	maps.DeleteFunc(inAll, func(_ string, n int) bool { return n < len(classes) })
	if inner := slices.Sorted(maps.Keys(inAll)); len(inner) > 1 && len(classes) > 1 {
		return nil, nil, fmt.Errorf("the folders %s all hold the folders %s: which of them are the classes, and which are splits, or no pictures of a class? "+
			"Want one folder of pictures a class, or folders train, val and test that hold them", listed(classes), listed(inner))
	}
	return classes, lists, nil
}

// within returns the folders that pictures lie in, none where one lies in no folder.
func within(files []string) []string {
	in := map[string]bool{}
	for _, f := range files {
		folder, _, ok := strings.Cut(f, "/")
		if !ok {
			return nil
		}
		in[folder] = true
	}
	return slices.Collect(maps.Keys(in))
}

// holds names folders as the subject of a sentence, ten at most.
func holds(folders []string) string {
	if len(folders) == 1 {
		return "folder " + folders[0] + " holds"
	}
	return fmt.Sprintf("each of the %d folders %s holds", len(folders), listed(folders))
}

// listed joins names, ten at most.
func listed(names []string) string {
	const most = 10
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// splits tells which top folders are splits: all that are called so, where train is among them with
// another one, and hold folders themselves. It returns nil where there are none.
func (w *walker) splits(top []string) (map[Split]string, error) {
	found := map[Split]string{}
	for _, f := range top {
		if s := splitFolders[strings.ToLower(f)]; s != "" {
			if found[s] != "" {
				return nil, fmt.Errorf("folders %s and %s are both the %s split: keep one", found[s], f, s)
			}
			found[s] = f
		}
	}
	if len(found) < 2 {
		return nil, nil
	}
	var flat []string
	for _, s := range Splits {
		if found[s] == "" {
			continue
		}
		below, err := w.folders(found[s])
		if err != nil {
			return nil, err
		}
		if len(below) == 0 {
			flat = append(flat, found[s])
		}
	}
	if found[Train] == "" || slices.Contains(flat, found[Train]) || len(flat) == len(found)-1 {
		if len(found) == len(flat) && len(top) > len(found) {
			return nil, nil // classes that happen to be called so
		}
		return nil, fmt.Errorf("folders %s are called like splits: want train, and val or test, each with one folder of pictures a class",
			strings.Join(slices.Sorted(maps.Values(found)), ", "))
	}
	for _, f := range flat { // ImageNet's test pictures have no labels
		delete(found, splitFolders[strings.ToLower(f)])
		w.odd(f, "pictures without class folders")
	}
	return found, nil
}

// splitClasses lists folders of splits with one folder a class each.
func (w *walker) splitClasses(splits map[Split]string) (classes []string, lists map[Split][]Item, notes []string, err error) {
	files := map[Split]map[string][]string{}
	count := map[string]int{}
	for _, s := range Splits {
		if splits[s] == "" {
			continue
		}
		below, err := w.folders(splits[s])
		if err != nil {
			return nil, nil, nil, err
		}
		files[s] = map[string][]string{}
		for _, class := range below {
			list, err := w.pictures(splits[s] + "/" + class)
			if err != nil {
				return nil, nil, nil, err
			}
			files[s][class] = list
			count[class] += len(list)
		}
	}
	classes = slices.Sorted(maps.Keys(count))
	for _, s := range Splits {
		var lacking []string
		for _, class := range classes {
			if splits[s] != "" && len(files[s][class]) == 0 {
				lacking = append(lacking, class)
			}
		}
		switch {
		case len(lacking) == 0:
		case s == Train:
			return nil, nil, nil, w.explain(fmt.Errorf("classes without pictures in %s: %s: add some, or take their folders away", splits[s], listed(lacking)))
		default:
			notes = append(notes, fmt.Sprintf("%s has no pictures of %s", splits[s], listed(lacking)))
		}
	}
	if splits[Test] == "" {
		notes = append(notes, fmt.Sprintf("there is no test folder: the pictures of %s are the test split", splits[Val]))
		splits, files = map[Split]string{Train: splits[Train], Test: splits[Val]}, map[Split]map[string][]string{Train: files[Train], Test: files[Val]}
	}
	lists = map[Split][]Item{}
	for _, s := range Splits {
		for label, class := range classes {
			for _, f := range files[s][class] {
				lists[s] = append(lists[s], Item{Path: splits[s] + "/" + class + "/" + f, Label: label})
			}
		}
	}
	return classes, lists, notes, nil
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
	slices.SortFunc(list, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	out := make([]string, len(names))
	for i, k := range list {
		out[i] = k.name
	}
	return out
}
