package experiments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"clipinspector/results/store"
)

// stage is a folder on a local disk that stands for an output folder on a network file system while
// a run computes: SQLite's locks do not hold there. What has come is published again and again:
// files first, then the store, as a whole and renamed into place.
type stage struct {
	out, local string
	files      bool       // whether the cells' files are staged as well, or only the store
	owner      string     // path of the lock
	mu         sync.Mutex // one publication at a time
}

const (
	ownerFile   = "owner.json"
	ownerStale  = 10 * time.Minute // after which an owner that has not been heard of is taken for dead
	publishEach = time.Minute
)

// owner is what the lock of a staged folder says.
type owner struct {
	Host string    `json:"host"`
	PID  int       `json:"pid"`
	Seen time.Time `json:"seen"`
}

// openStage brings what lies in the output folder, the store alone or its cells' files as well, to
// a folder of its own below scratch. One process at a time may stage a folder.
func openStage(out, scratch string, files bool) (*stage, error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, fmt.Errorf("making the output folder: %w", err)
	}
	s := &stage{out: out, files: files}
	if err := s.claim(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return nil, fmt.Errorf("--scratch %s: %w", scratch, err)
	}
	if fs := store.NetworkFS(scratch); fs != "" {
		return nil, fmt.Errorf("--scratch %s lies on a network file system (%s), too: name a folder on a disk of this machine", scratch, fs)
	}
	var err error
	if s.local, err = os.MkdirTemp(scratch, "clip-inspector-"); err != nil {
		return nil, fmt.Errorf("--scratch: %w", err)
	}
	if err := s.fetch(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// claim takes the lock, from a dead owner if need be.
func (s *stage) claim() error {
	host, _ := os.Hostname() // a name for people
	path := filepath.Join(s.out, ownerFile)
	for range 3 {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil {
			s.owner = path
			return errors.Join(json.NewEncoder(f).Encode(owner{host, os.Getpid(), time.Now()}), f.Close())
		}
		var o owner
		raw, rerr := os.ReadFile(path)
		info, serr := os.Stat(path)
		if rerr == nil && serr == nil && json.Unmarshal(raw, &o) == nil && time.Since(info.ModTime()) < ownerStale && !(o.Host == host && !alive(o.PID)) {
			return fmt.Errorf("%s is being computed by process %d of %s, heard of %s ago: wait for it, or remove %s if it is dead", s.out, o.PID, o.Host,
				time.Since(info.ModTime()).Round(time.Second), path)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("taking over %s: %w", s.out, err)
		}
	}
	return fmt.Errorf("%s: others take it over all the time", path)
}

// alive tells whether a process of this machine is there.
func alive(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}

// fetch brings what has been published before.
func (s *stage) fetch() error {
	from := filepath.Join(s.out, StoreFile)
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := copyFile(from, filepath.Join(s.local, StoreFile)); err != nil {
		return fmt.Errorf("fetching %s: %w", from, err)
	}
	return s.move(s.out, s.local)
}

// move makes the files of all finished cells that lie in one folder lie in the other.
func (s *stage) move(from, to string) error {
	if !s.files {
		return nil
	}
	r, err := store.OpenExisting(filepath.Join(s.local, StoreFile))
	if err != nil {
		return err
	}
	defer r.Close()
	suites, err := r.Suites()
	if err != nil {
		return err
	}
	for _, u := range suites {
		files, err := r.Files(u.Name)
		if err == nil {
			err = bring(from, to, paths(files))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// live gives a sign of life to others who want the folder.
func (s *stage) live() {
	now := time.Now()
	_ = os.Chtimes(s.owner, now, now) // the next one may do
}

// publish brings what has come to the output folder, the store last.
func (s *stage) publish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Stat(filepath.Join(s.local, StoreFile)); err != nil {
		return nil // nothing yet
	}
	s.live()
	// The store is copied before the files are brought, so that it names none that are not there.
	r, err := store.OpenExisting(filepath.Join(s.local, StoreFile))
	if err != nil {
		return err
	}
	copied := filepath.Join(s.local, "published.sqlite")
	_ = os.Remove(copied)
	err = errors.Join(r.CopyTo(copied), r.Close())
	if err == nil {
		err = s.move(s.local, s.out)
	}
	temporary := filepath.Join(s.out, StoreFile+".publishing")
	_ = os.Remove(temporary)
	if err == nil {
		err = copyFile(copied, temporary)
	}
	if err == nil {
		err = syncAll(s.out)
	}
	if err == nil {
		err = os.Rename(temporary, filepath.Join(s.out, StoreFile))
	}
	if err != nil {
		return fmt.Errorf("publishing to %s: %w", s.out, err)
	}
	return nil
}

// keep publishes every minute until ctx ends.
func (s *stage) keep(ctx context.Context, say func(format string, args ...any)) {
	ticker := time.NewTicker(publishEach)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := s.publish(); err != nil {
			say("%v: tried again in a minute", err)
		}
	}
}

// close gives the folder free and removes the local one.
func (s *stage) close() error {
	err := os.RemoveAll(s.local)
	if s.owner != "" {
		err = errors.Join(err, os.Remove(s.owner))
	}
	return err
}
