package store

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wantRefused checks that Open fails with one line naming the file and the reason.
func wantRefused(t *testing.T, path, reason string) {
	t.Helper()
	s, err := Open(path)
	if err == nil {
		_ = s.Close()
		t.Fatalf("opened; wanted: %s", reason)
	}
	if text := err.Error(); !strings.Contains(text, reason) || !strings.Contains(text, path) || strings.Contains(text, "\n") {
		t.Errorf("error %q lacks %q or the path, or has several lines", text, reason)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no database ", 500)), 0o644); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, garbage, "damaged or no SQLite database")

	wantRefused(t, filepath.Join(dir, "no", "folder", "r.db"), "does the folder exist")

	foreign := filepath.Join(dir, "foreign.db")
	execIn(t, foreign, `CREATE TABLE song(title TEXT)`)
	wantRefused(t, foreign, "another program")
	execIn(t, foreign, `PRAGMA user_version=1`)
	wantRefused(t, foreign, "another program")

	newer := filepath.Join(dir, "newer.db")
	s, err := Open(newer)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	execIn(t, newer, `PRAGMA user_version=99`)
	wantRefused(t, newer, "schema version 99")

	if _, err := OpenExisting(filepath.Join(dir, "absent.db")); err == nil || !strings.Contains(err.Error(), "run a suite") {
		t.Errorf("absent store: %v", err)
	}
}

func TestOpenFindsDamageInside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	planGrid(t, s, "grid", 50)
	if _, err := work(s, "grid", "w"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(raw) / 2; i < len(raw)/2+8192; i++ {
		raw[i] = 0xff
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, path, "damaged")
}

func execIn(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
}
