package datasets

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Limits on folders, checked while they are read.
const (
	maxFolderFiles = 5_000_000
	maxFolderDepth = 64
)

// walker lists the pictures below a folder and notes what it leaves out.
type walker struct {
	root    string // resolved
	files   int
	kinds   map[string]*kind // by ending
	strange []string         // links and special files, with the reason
}

// kind counts files of one ending that are no pictures to us.
type kind struct {
	n     int
	first string
}

func newWalker(root string) (*walker, error) {
	real, err := filepath.EvalSymlinks(root)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, reason(err)
	}
	return &walker{root: real, kinds: map[string]*kind{}}, nil
}

// ignored tells names that are no data: hidden ones, and what macOS puts into archives.
func ignored(name string) bool { return strings.HasPrefix(name, ".") || name == "__MACOSX" }

// folders lists the folders in a folder (slash-separated, below the root; "." for the root), sorted
// by name. Links are followed inside the root.
func (w *walker) folders(rel string) ([]string, error) {
	entries, err := os.ReadDir(w.at(rel))
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", w.at(rel), reason(err))
	}
	var out []string
	for _, e := range entries {
		if ignored(e.Name()) {
			continue
		}
		p := path.Join(rel, e.Name())
		if e.Type()&fs.ModeSymlink != 0 {
			if target, ok := w.follow(p); !ok || !isFolder(target) {
				continue
			}
		} else if !e.IsDir() {
			continue
		}
		out = append(out, e.Name())
	}
	return out, nil // ReadDir sorts by name
}

func isFolder(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.IsDir()
}

func (w *walker) at(rel string) string { return filepath.Join(w.root, filepath.FromSlash(rel)) }

// follow resolves a link. ok is false, and the reason noted, where it leads nowhere or out of the
// root.
func (w *walker) follow(rel string) (target string, ok bool) {
	target, err := filepath.EvalSymlinks(w.at(rel))
	switch {
	case err != nil:
		w.odd(rel, "a link that leads nowhere")
	case target != w.root && !strings.HasPrefix(target, w.root+string(filepath.Separator)):
		w.odd(rel, "a link that leads out of the folder; links are followed inside it only: copy what it links to")
	default:
		return target, true
	}
	return "", false
}

func (w *walker) odd(rel, why string) {
	if note := fmt.Sprintf("%s: %s", rel, why); !slices.Contains(w.strange, note) {
		w.strange = append(w.strange, note)
	}
}

// pictures lists the picture files at any depth below a folder (as for folders), as slash-separated
// paths below it, sorted. Folders that are linked to are read after all others, and each real
// folder once.
func (w *walker) pictures(rel string) ([]string, error) {
	var out, links []string
	seen := map[string]bool{}
	var walk func(real, rel string, depth int) error
	add := func(real, p string) error {
		switch info, err := os.Stat(real); {
		case err != nil:
			w.odd(p, reason(err).Error())
		case !info.Mode().IsRegular():
			w.odd(p, "not a regular file")
		case !isPicture(p):
			w.other(p)
		case w.files >= maxFolderFiles:
			return fmt.Errorf("more than %d pictures", maxFolderFiles)
		default:
			w.files++
			out = append(out, strings.TrimPrefix(p, rel+"/"))
		}
		return nil
	}
	walk = func(real, rel string, depth int) error {
		if seen[real] {
			w.odd(rel, "leads to a folder that is there already")
			return nil
		}
		if depth > maxFolderDepth {
			return fmt.Errorf("folder %s: more than %d folders deep", w.at(rel), maxFolderDepth)
		}
		seen[real] = true
		entries, err := os.ReadDir(real)
		if err != nil {
			return fmt.Errorf("folder %s: %w", w.at(rel), reason(err))
		}
		for _, e := range entries {
			p, below := path.Join(rel, e.Name()), filepath.Join(real, e.Name())
			switch {
			case ignored(e.Name()):
			case e.Type()&fs.ModeSymlink != 0:
				links = append(links, p)
			case e.IsDir():
				if err := walk(below, p, depth+1); err != nil {
					return err
				}
			default:
				if err := add(below, p); err != nil {
					return err
				}
			}
		}
		return nil
	}
	real, err := filepath.EvalSymlinks(w.at(rel))
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", w.at(rel), reason(err))
	}
	if err := walk(real, rel, 0); err != nil {
		return nil, err
	}
	for len(links) > 0 {
		slices.Sort(links)
		p := links[0]
		links = links[1:]
		target, ok := w.follow(p)
		if !ok {
			continue
		}
		switch {
		case !isFolder(target):
			err = add(target, p)
		case real == target || strings.HasPrefix(real, target+string(filepath.Separator)):
			w.odd(p, "a link that leads back to a folder above it")
		default:
			err = walk(target, p, strings.Count(p, "/"))
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return out, nil
}

// other counts a file that is no picture to us.
func (w *walker) other(rel string) {
	ext := strings.ToLower(path.Ext(rel))
	k := w.kinds[ext]
	if k == nil {
		k = &kind{first: rel}
		w.kinds[ext] = k
	}
	k.n++
	k.first = min(k.first, rel)
}

// unreadFormats are pictures that people have and that are not read here.
var unreadFormats = []string{".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw",
	".raw", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".ico", ".exr", ".hdr", ".npy", ".npz", ".dcm"}

// leftOut says what was left out, in one line for each kind of file and each odd one (20 at most).
func (w *walker) leftOut() []string {
	var out []string
	for _, ext := range slices.Sorted(maps.Keys(w.kinds)) {
		k := w.kinds[ext]
		files, what := fmt.Sprintf("%d %s files", k.n, ext), "no pictures"
		switch {
		case ext == "":
			files = fmt.Sprintf("%d files without an ending", k.n)
		case slices.Contains(unreadFormats, ext):
			what = "a format that is not read here: convert them to PNG"
		}
		out = append(out, fmt.Sprintf("left out: %s (%s), the first %s", files, what, k.first))
	}
	const most = 20
	for i, s := range w.strange {
		if i == most {
			out = append(out, fmt.Sprintf("left out: %d more links and special files", len(w.strange)-most))
			break
		}
		out = append(out, "left out: "+s)
	}
	return out
}

// explain adds to an error what was left out, where something was.
func (w *walker) explain(err error) error {
	if notes := w.leftOut(); len(notes) > 0 {
		return errors.New(err.Error() + "; " + strings.Join(notes, "; "))
	}
	return err
}
