package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// A store in a folder that one may not write is read with all that is in it, the log included, and
// nothing is left beside it.
func TestReadsWhatMayOnlyBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	writer := reopen(t, path) // stays open: its log is not in the file yet
	planGrid(t, writer, "grid", 3)
	old := writable
	writable = func(string) bool { return false }
	defer func() { writable = old }()
	t.Setenv("TMPDIR", t.TempDir())
	before := states(path)
	s, err := OpenExisting(path)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.Models("grid"); err != nil || len(m) != 3 || s.Path() != path {
		t.Errorf("got %d models from %s, %v; want 3", len(m), s.Path(), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if states(path) != before {
		t.Error("the store was written to")
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// On a network file system writing is refused, unless told otherwise, and reading warns.
func TestNetworkFileSystems(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	planGrid(t, reopen(t, path), "grid", 1)
	old := networkFS
	networkFS = func(string) string { return "NFS" }
	defer func() { networkFS = old }()
	_, err := Open(path)
	if err == nil || !strings.Contains(err.Error(), "NFS") || !strings.Contains(err.Error(), NetworkVariable) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line that names NFS and %s", err, NetworkVariable)
	}
	s, err := OpenExisting(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if m, err := s.Models("grid"); err != nil || len(m) != 1 || !strings.Contains(s.Note(), "NFS") {
		t.Errorf("got %d models, %v, note %q", len(m), err, s.Note())
	}
	t.Setenv(NetworkVariable, "1")
	w, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
}

func TestLockedSaysWhoMayHoldIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got := explain(path, sqlite3.Error{Code: sqlite3.ErrBusy}).Error()
	for _, want := range []string{"another program", "local disk"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want it to say %q", got, want)
		}
	}
}
