package prompts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"clipinspector/internal/files"
)

// ReadClasses reads class names in the order of the labels, with spaces for underscores as CoOp has
// it: from a text file, one a line, with ImageNet's ids ("n01440764 tench") or the label ("0
// tench", "0,tench", "tench 0") beside all of them or none, empty lines being skipped; or from
// JSON, a list of names or an object with each label's name, or its id and name. A name may come
// twice, as two of ImageNet's do. More than 10,000 names are an error.
func ReadClasses(path string) ([]string, error) {
	const maxBytes = 4 << 20
	raw, err := files.Read(path, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("class names: %w", err)
	}
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	if !utf8.Valid(raw) {
		return nil, fmt.Errorf("class names %s: want text in UTF-8, one name a line, or JSON", path)
	}
	var names []string
	switch text := bytes.TrimSpace(raw); {
	case bytes.HasPrefix(text, []byte("[")) || bytes.HasPrefix(text, []byte("{")):
		if names, err = classesOfJSON(text); err != nil {
			return nil, fmt.Errorf("class names %s: %w", path, err)
		}
	default:
		for _, line := range strings.Split(string(raw), "\n") {
			if line = strings.TrimSpace(line); line != "" {
				names = append(names, line)
			}
		}
		if names, err = withoutLabels(names); err != nil {
			return nil, fmt.Errorf("class names %s: %w", path, err)
		}
	}
	for i, name := range names {
		if names[i] = strings.TrimSpace(strings.ReplaceAll(name, "_", " ")); names[i] == "" {
			return nil, fmt.Errorf("class names %s: class %d has no name", path, i)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("class names %s: there are none", path)
	}
	if len(names) > maxClasses {
		return nil, fmt.Errorf("class names %s: more than %d", path, maxClasses)
	}
	return names, nil
}

var (
	synset = regexp.MustCompile(`^n\d{8}[\s,]+(\S.*)$`)
	before = regexp.MustCompile(`^(?P<label>\d+)[\s,:]+(?P<name>\S.*)$`)
	behind = regexp.MustCompile(`^(?P<name>\S.*?)[\s,:]+(?P<label>\d+)$`)
	markup = regexp.MustCompile(`^(#|[-*]\s|["'].*["'],?$)`)
)

// withoutLabels takes ImageNet's ids off lines that all begin with one, or the labels, counted from
// 0 or 1, that stand before or behind all names, and returns the names in the order of the labels.
// Lines that are no names, such as a heading, are an error.
func withoutLabels(lines []string) ([]string, error) {
	var names []string
	for _, line := range lines {
		if m := synset.FindStringSubmatch(line); m != nil {
			names = append(names, m[1])
		}
	}
	if len(names) == len(lines) {
		return names, nil
	}
	for _, r := range []*regexp.Regexp{before, behind} {
		if names := byLabel(lines, r); names != nil {
			return names, nil
		}
		if len(lines) > 2 && byLabel(lines[1:], r) != nil {
			return nil, fmt.Errorf("line 1, %.60q, has no label as those below it have: take a heading away", lines[0])
		}
	}
	for i, line := range lines {
		if markup.MatchString(line) {
			return nil, fmt.Errorf("line %d, %.60q, is not a bare name: want one a line, or JSON", i+1, line)
		}
	}
	return lines, nil
}

// byLabel returns the names of several lines with the labels 0, 1, 2 and so on, or 1, 2, 3, in
// their order; nil where these are none, or where names without them are the same.
func byLabel(lines []string, r *regexp.Regexp) []string {
	if len(lines) < 2 {
		return nil
	}
	for first := range 2 {
		names, seen := make([]string, len(lines)), map[string]bool{}
		for _, line := range lines {
			m := r.FindStringSubmatch(line)
			if m == nil {
				return nil
			}
			at, err := strconv.Atoi(m[r.SubexpIndex("label")])
			name := m[r.SubexpIndex("name")]
			if at -= first; err != nil || at < 0 || at >= len(lines) || names[at] != "" || r == behind && seen[name] {
				names = nil
				break
			}
			names[at], seen[name] = name, true
		}
		if names != nil {
			return names
		}
	}
	return nil
}

// classesOfJSON reads a list of names, or an object from labels 0, 1, ... to names or to pairs of
// ImageNet's id and name, or from names to labels.
func classesOfJSON(raw []byte) ([]string, error) {
	var list []string
	if raw[0] == '[' {
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, fmt.Errorf("JSON: want a list of names: %w", err)
		}
		return list, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("JSON: %w", err)
	}
	names := map[int]string{}
	for d.More() {
		key, err := d.Token()
		var value any
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return nil, fmt.Errorf("JSON: %w", err)
		}
		name, _ := value.(string)
		at, fault := strconv.Atoi(key.(string))
		if pair, ok := value.([]any); ok && len(pair) == 2 {
			name, _ = pair[1].(string)
		}
		if n, ok := value.(float64); ok && n == math.Trunc(n) && math.Abs(n) < maxClasses {
			name, at, fault = key.(string), int(n), nil
		}
		if _, twice := names[at]; twice || fault != nil || at < 0 || at >= maxClasses || name == "" {
			return nil, fmt.Errorf("JSON: %.80q: want each label from 0 on, below %d, once, with its name", key, maxClasses)
		}
		names[at] = name
	}
	if _, err := d.Token(); err != nil || d.More() {
		return nil, fmt.Errorf("JSON: want one object")
	}
	for i := range len(names) {
		name, ok := names[i]
		if !ok {
			return nil, fmt.Errorf("JSON: %d names, but none for the label %d", len(names), i)
		}
		list = append(list, name)
	}
	return list, nil
}

// noteDuplicates notes class names that come more than once: their labels stay apart.
func (m *Model) noteDuplicates() {
	first := map[string]int{}
	var twice []string
	for k, name := range m.Classes {
		if at, seen := first[name]; seen {
			twice = append(twice, fmt.Sprintf("%.60q (labels %d and %d)", name, at, k))
		} else {
			first[name] = k
		}
	}
	if len(twice) > 0 {
		more := ""
		if len(twice) > 3 {
			more = fmt.Sprintf(" and %d more", len(twice)-3)
		}
		m.Notes = append(slices.Clone(m.Notes), fmt.Sprintf("class names that come twice: %s%s; their labels stay apart", strings.Join(twice[:min(3, len(twice))], ", "), more))
	}
}
