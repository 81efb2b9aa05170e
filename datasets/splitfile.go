package datasets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"clipinspector/internal/files"
)

// Limits on split files, checked before memory is asked for.
const (
	maxSplitBytes = 64 << 20 // SUN397's is about 3 MB
	maxClasses    = 100_000
	maxNameBytes  = 512
)

// splitItem is one [path, label, class name] of a split file.
type splitItem struct {
	Item
	class string
}

// UnmarshalJSON reads the heterogeneous list of three.
func (s *splitItem) UnmarshalJSON(data []byte) error {
	var flat bytes.Buffer
	if err := json.Compact(&flat, data); err != nil {
		return err
	}
	data = flat.Bytes()
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil || len(raw) != 3 {
		return fmt.Errorf("item %.80s: want [path, label, class name]", data)
	}
	var label *int
	var path, class *string
	switch {
	case json.Unmarshal(raw[1], &label) != nil || label == nil:
		return fmt.Errorf("item %.80s: the label is %.20s: want a whole number", data, raw[1])
	case json.Unmarshal(raw[0], &path) != nil || json.Unmarshal(raw[2], &class) != nil || path == nil || class == nil:
		return fmt.Errorf("item %.80s: want [path, label, class name]", data)
	}
	s.Path, s.Label, s.class = strings.ReplaceAll(*path, `\`, "/"), *label, *class // Windows writes backslashes
	return nil
}

// parseSplit reads a split file as CoOp writes it (split_zhou_*.json): an object with the lists
// train, val and test of [relative path, label, class name]. It returns the class names by label
// and the lists in the file's order. Labels must run from 0 without a gap and keep one name each;
// paths must stay inside the image folder. Backslashes between folders and byte order marks, as
// Windows writes them, are read.
func parseSplit(data []byte) (classes []string, lists map[Split][]Item, err error) {
	var file struct {
		Train []splitItem `json:"train"`
		Val   []splitItem `json:"val"`
		Test  []splitItem `json:"test"`
	}
	if data, err = plainText(data); err != nil {
		return nil, nil, err
	}
	if err := json.Unmarshal(data, &file); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			err = fmt.Errorf("is no JSON text at byte %d of %d (%w): download it again", syntax.Offset, len(data), err)
		}
		return nil, nil, err
	}
	lists = map[Split][]Item{}
	var seen []bool
	for k, list := range [][]splitItem{file.Train, file.Val, file.Test} {
		split := Splits[k]
		lists[split] = make([]Item, 0, len(list))
		for i, it := range list {
			if it.Label < 0 || it.Label >= maxClasses {
				return nil, nil, fmt.Errorf("%s[%d]: label %d, want 0 to %d", split, i, it.Label, maxClasses-1)
			}
			if it.class == "" || len(it.class) > maxNameBytes {
				return nil, nil, fmt.Errorf("%s[%d]: class name of %d bytes, want 1 to %d",
					split, i, len(it.class), maxNameBytes)
			}
			if err := checkPath(it.Path); err != nil {
				return nil, nil, fmt.Errorf("%s[%d]: %w", split, i, err)
			}
			for len(classes) <= it.Label {
				classes, seen = append(classes, ""), append(seen, false)
			}
			if seen[it.Label] && classes[it.Label] != it.class {
				return nil, nil, fmt.Errorf("%s[%d]: label %d is called %.80q and %.80q",
					split, i, it.Label, classes[it.Label], it.class)
			}
			classes[it.Label], seen[it.Label] = it.class, true
			lists[split] = append(lists[split], it.Item)
		}
	}
	if len(classes) == 0 {
		return nil, nil, errors.New("no items in train, val and test")
	}
	for label, ok := range seen {
		if !ok {
			return nil, nil, fmt.Errorf("label %d has no item, though labels run to %d", label, len(classes)-1)
		}
	}
	return classes, lists, nil
}

// readSmall reads a regular file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	data, err := files.Read(path, limit)
	if err != nil {
		return nil, reason(err)
	}
	return data, nil
}
