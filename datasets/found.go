package datasets

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf16"
)

// notText says what a file is that should hold text, where that can be told from its first bytes;
// nil when it is text.
func notText(data []byte) error {
	head := strings.ToLower(string(bytes.TrimSpace(data[:min(len(data), 256)])))
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("is empty: download it again")
	case strings.HasPrefix(head, "version https://git-lfs.github.com/"):
		return errors.New("is a git-lfs pointer, not the file itself: run git lfs pull where it came from")
	case strings.HasPrefix(head, "<"):
		return errors.New("is a web page, not the file itself: download it again")
	case strings.HasPrefix(head, "pk\x03\x04") || strings.HasPrefix(head, "\x1f\x8b"):
		return errors.New("is an archive: unpack it")
	}
	return nil
}

// plainText returns the text of a file as UTF-8 without a byte order mark.
func plainText(data []byte) ([]byte, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	for _, order := range []string{"\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(data, []byte(order)) {
			low := strings.IndexByte(order, 0xff) // which of two bytes holds the low half: the first where the mark is FF FE
			var units []uint16
			for i := 2; i+1 < len(data); i += 2 {
				units = append(units, uint16(data[i+low])|uint16(data[i+1-low])<<8)
			}
			data = []byte(string(utf16.Decode(units)))
		}
	}
	return data, notText(data)
}

// mostLooked bounds how many files of a folder are looked at to say what is there instead of what
// is wanted.
const mostLooked = 200_000

// found says in a few words what lies in the folder of a set none of whose listed pictures is in
// its image folder: where they are instead, under which other spelling, or what else is there.
func found(folder, images string, lists map[Split][]Item) string {
	var wanted string
	for _, s := range Splits {
		if len(lists[s]) > 0 {
			wanted = lists[s][0].Path
			break
		}
	}
	stem := func(p string) string { return strings.ToLower(strings.TrimSuffix(p, path.Ext(p))) }
	pictures, looked := 0, 0
	var first, elsewhere, spelled string
	_ = filepath.WalkDir(folder, func(p string, e fs.DirEntry, err error) error { // what cannot be read is not there
		if looked++; err != nil || looked > mostLooked {
			return fs.SkipAll
		}
		if e.IsDir() || !isPicture(p) {
			return nil
		}
		pictures++
		rel, err := filepath.Rel(folder, p)
		if err != nil {
			return nil
		}
		rel = filepath.ToSlash(rel)
		switch {
		case elsewhere == "" && strings.HasSuffix("/"+rel, "/"+wanted):
			elsewhere = path.Clean("./" + strings.TrimSuffix(rel, wanted))
		case spelled == "" && strings.HasSuffix("/"+stem(rel), "/"+stem(wanted)):
			spelled = rel
		}
		if first == "" {
			first = rel
		}
		return nil
	})
	switch {
	case elsewhere != "":
		return fmt.Sprintf("they are in %s: move them to %s", filepath.Join(folder, filepath.FromSlash(elsewhere)), images)
	case spelled != "":
		return fmt.Sprintf("the list has %s, there is %s: rename the files as the list has them", wanted, spelled)
	case pictures > 0:
		return fmt.Sprintf("there are %d other pictures, the first %s, where the list has %s", pictures, first, wanted)
	}
	return "there are no pictures"
}

// count returns how many pictures lie below a folder, at most mostLooked.
func count(folder string) int {
	n, looked := 0, 0
	_ = filepath.WalkDir(folder, func(p string, e fs.DirEntry, err error) error { // what cannot be read is not there
		if looked++; err != nil || looked > mostLooked {
			return fs.SkipAll
		}
		if !e.IsDir() && isPicture(p) {
			n++
		}
		return nil
	})
	return n
}

// untuned names the classes that have no training picture on the disk, of those that the lists
// name.
func (d *fileSet) untuned() []string {
	have := make([]bool, len(d.classes))
	for _, it := range d.items[Train] {
		have[it.Label] = true
	}
	var out []string
	for label, class := range d.classes {
		if !have[label] {
			out = append(out, class)
		}
	}
	slices.Sort(out)
	return out
}
