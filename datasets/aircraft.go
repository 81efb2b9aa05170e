package datasets

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
)

// readAircraft reads FGVC-Aircraft's own text files, as CoOp does: variants.txt gives the labels in
// its order, and images_variant_{train,val,test}.txt hold "<id> <variant name>" a line.
func readAircraft(folder string) (classes []string, lists map[Split][]Item, err error) {
	lines, err := textLines(folder, "variants.txt")
	if err != nil {
		return nil, nil, err
	}
	label := make(map[string]int, len(lines))
	for i, name := range lines {
		if _, twice := label[name]; twice || len(name) > maxNameBytes || i >= maxClasses {
			return nil, nil, fmt.Errorf("variants.txt line %d: repeated or overlong name %.80q", i+1, name)
		}
		label[name] = i
	}
	lists = map[Split][]Item{}
	for _, s := range Splits {
		file := "images_variant_" + string(s) + ".txt"
		lines, err := textLines(folder, file)
		if err != nil {
			return nil, nil, err
		}
		for i, line := range lines {
			id, name, _ := strings.Cut(line, " ")
			l, ok := label[name]
			if !ok {
				return nil, nil, fmt.Errorf("%s line %d: variant %.80q is not in variants.txt", file, i+1, name)
			}
			lists[s] = append(lists[s], Item{Path: id + ".jpg", Label: l})
		}
	}
	if len(label) == 0 {
		return nil, nil, fmt.Errorf("variants.txt is empty")
	}
	classes = make([]string, len(label))
	for name, l := range label {
		classes[l] = name
	}
	return classes, lists, nil
}

// textLines returns the lines of a text file without surrounding blanks; blank lines are dropped.
func textLines(folder, file string) ([]string, error) {
	data, err := readSmall(filepath.Join(folder, file), maxSplitBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if data, err = plainText(data); err != nil {
		return nil, fmt.Errorf("%s %w", file, err)
	}
	var out []string
	for line := range bytes.Lines(data) {
		if s := strings.TrimSpace(string(line)); s != "" {
			out = append(out, s)
		}
	}
	return out, nil
}
