package experiments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"clipinspector/internal/progress"
	"clipinspector/results/store"
)

// shardSetting is the setting of a shard's suite that tells of how many shards it is one, and how
// many models the whole suite has.
const shardSetting = "shard"

// Merged says what one suite of a merge came to.
type Merged struct {
	Suite         string
	Models, Whole int   // models that are there, and of the whole suite
	Missing       []int // numbers of shards that are not there
	Of            int   // how many shards there are; 0 for stores that are no shards
	Progress      store.Progress
}

// Partial says what is missing, or nothing.
func (m Merged) Partial() string {
	var out []string
	if len(m.Missing) > 0 {
		out = append(out, fmt.Sprintf("%d of %d shards are not there (%s)", len(m.Missing), m.Of, Ranges(m.Missing)))
	}
	if m.Models < m.Whole {
		out = append(out, fmt.Sprintf("%d of %d models", m.Models, m.Whole))
	}
	if open := m.Progress.Open(); open > 0 {
		out = append(out, fmt.Sprintf("%d cells are not finished", open))
	}
	if len(out) == 0 {
		return ""
	}
	return "partial: " + strings.Join(out, ", ")
}

// Ranges writes numbers short: 1-3,7.
func Ranges(n []int) string {
	var out []string
	for i := 0; i < len(n); {
		j := i
		for j+1 < len(n) && n[j+1] == n[j]+1 {
			j++
		}
		if i == j {
			out = append(out, fmt.Sprint(n[i]))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", n[i], n[j]))
		}
		i = j + 1
	}
	return strings.Join(out, ",")
}

// source is a folder to merge from.
type source struct {
	folder string
	shard  Shard
}

// sources finds what to merge: folders that hold a store, and the shards below folders that hold
// shards.
func sources(dirs []string, out string) (found []source, err error) {
	for _, dir := range dirs {
		shards, err := shardsBelow(dir)
		if err != nil {
			return nil, err
		}
		for _, s := range shards {
			if _, err := os.Stat(filepath.Join(s.Folder(dir), StoreFile)); err == nil {
				found = append(found, source{s.Folder(dir), s})
			}
		}
		if _, err := os.Stat(filepath.Join(dir, StoreFile)); err == nil && !sameFolder(dir, out) {
			s := Shard{}
			if m := shardFolder.FindStringSubmatch(filepath.Base(dir)); m != nil {
				s, _ = parseShard(m[1] + "/" + m[2]) // another name is no shard's
			}
			found = append(found, source{dir, s})
		} else if len(shards) == 0 {
			return nil, fmt.Errorf("merge %s: neither a store (%s) nor shards (%s) lie there: name the folder that a suite was run into", dir,
				StoreFile, filepath.Join(shardsFolder, "I-of-N"))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("merge: no shard has begun yet below %s", strings.Join(dirs, ", "))
	}
	return found, nil
}

func sameFolder(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// Merge puts the suites of several output folders, shards of one run above all, into one below out:
// first the files of finished cells, then the rows that name them. The same cell with different
// results is refused and named (store.ErrConflict), and so are cells that differ in method version,
// engine or data alone. What is not finished yet is pending in the merged store, which says that it
// is partial. Merging again takes over what has come since.
//
// On a network file system the merged store is written to the folder for temporary files, and put
// in its place when it is whole.
func Merge(ctx context.Context, dirs []string, out string, report io.Writer) (merged []Merged, err error) {
	scratch := ""
	if store.NetworkFS(out) != "" && os.Getenv(store.NetworkVariable) != "1" {
		scratch = os.TempDir()
	}
	return mergeInto(ctx, dirs, out, scratch, report)
}

func mergeInto(ctx context.Context, dirs []string, out, scratch string, report io.Writer) (merged []Merged, err error) {
	from, err := sources(dirs, out)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, fmt.Errorf("making the output folder: %w", err)
	}
	folder, alive, publish := out, func() {}, func() error { return nil }
	if scratch != "" {
		staged, serr := openStage(out, scratch, false)
		if serr != nil {
			return nil, serr
		}
		defer func() { err = errors.Join(err, staged.close()) }()
		folder, alive, publish = staged.local, staged.live, staged.publish
	}
	to, err := store.Open(filepath.Join(folder, StoreFile))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	merging, err := to.Merge()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, merging.Close()) }()
	step, end := progress.Show(report, "merging")
	defer end()
	at := map[string]*Merged{}
	there := map[string]map[Shard]bool{}
	for i, s := range from {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := mergeOne(merging, s, out, at, there); err != nil {
			return nil, err
		}
		alive()
		step(i+1, len(from))
	}
	if err := merging.End(); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(at)) {
		m := at[name]
		if m.Progress, err = to.Progress(name); err != nil {
			return nil, err
		}
		m.Models = m.Progress.Models.Planned
		for s := range there[name] {
			m.Of = max(m.Of, s.Of)
		}
		for i := range m.Of {
			if !there[name][Shard{i + 1, m.Of}] {
				m.Missing = append(m.Missing, i+1)
			}
		}
		if err := to.SetSuite(name, store.PartialSetting, nonEmpty(m.Partial())); err != nil {
			return nil, err
		}
		merged = append(merged, *m)
	}
	return merged, publish()
}

// nonEmpty is nil for an empty text.
func nonEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func mergeOne(to *store.Merging, s source, out string, at map[string]*Merged, there map[string]map[Shard]bool) (err error) {
	from, err := store.OpenExisting(filepath.Join(s.folder, StoreFile))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	suites, err := from.Suites()
	if err != nil {
		return err
	}
	for _, u := range suites {
		m := at[u.Name]
		if m == nil {
			m = &Merged{Suite: u.Name}
			at[u.Name], there[u.Name] = m, map[Shard]bool{}
		}
		if shard, ok := u.Settings[shardSetting].(map[string]any); ok {
			if n, ok := shard["models"].(int); ok {
				m.Whole = max(m.Whole, n)
			}
			if n, ok := shard["of"].(int); ok && s.shard.Of > 0 && n != s.shard.Of {
				return fmt.Errorf("merge %s: its store says that it is one of %d shards, its name %s", s.folder, n, s.shard)
			}
			if s.shard.Of > 0 {
				there[u.Name][s.shard] = true
			}
		}
		delete(u.Settings, shardSetting)
		delete(u.Settings, store.PartialSetting)
		if err := to.Take(from, u, func(files []store.CellFile) error { return bring(s.folder, out, paths(files)) }); err != nil {
			return err
		}
	}
	for name, shards := range there {
		for s := range shards {
			for t := range shards {
				if s.Of != t.Of {
					return fmt.Errorf("merge suite %s: shards of %d and of %d lie side by side: name the folders of one cut", name, s.Of, t.Of)
				}
			}
		}
	}
	return nil
}

// paths are those of the files of finished cells, below the output folder.
func paths(of []store.CellFile) (out []string) {
	for _, f := range of {
		out = append(out, f.Path)
		if f.Backdoored {
			out = append(out, filepath.Join(filepath.Dir(f.Path), triggerFile))
		}
	}
	return out
}

// bring makes files below one folder lie below another as well, at the same place, whole and on the
// disk: linked where that is possible, else copied.
func bring(from, to string, files []string) error {
	for _, path := range files {
		if !filepath.IsLocal(path) {
			return fmt.Errorf("its store names a file outside of its folder: %.80q", path)
		}
		source, target := filepath.Join(from, path), filepath.Join(to, path)
		info, err := os.Lstat(source)
		if err != nil {
			return fmt.Errorf("a file that its store names is lost: %w", err)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is no regular file", source)
		}
		if have, err := os.Lstat(target); err == nil && (os.SameFile(info, have) || have.Mode().IsRegular() && have.Size() == info.Size() && !have.ModTime().Before(info.ModTime())) {
			continue
		}
		// The usual case in one call: a folder for a cell, one file of which lies there already.
		if os.Link(source, target) == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if os.Link(source, target) == nil {
			continue
		}
		temporary := target + ".merging"
		_ = os.Remove(temporary) // of a merge that was killed
		if err := os.Link(source, temporary); err != nil {
			if err := copyFile(source, temporary); err != nil {
				return err
			}
		}
		if err := os.Rename(temporary, target); err != nil {
			return err
		}
		// Renaming one link of a file onto another of the same file leaves both.
		_ = os.Remove(temporary)
	}
	return syncAll(to)
}

// copyFile copies a file with its time.
func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chtimes(to, info.ModTime(), info.ModTime())
	}
	return err
}
