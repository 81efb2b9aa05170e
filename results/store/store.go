package store

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Store is an open results file. It is safe for concurrent use, and any number
// of processes on one machine may hold the same file open. The file must lie on
// a local disk: WAL shares memory between processes.
type Store struct {
	db   *sql.DB
	path string
	now  func() time.Time                 // replaced by tests
	only func(kind Kind, key string) bool // nil for all cells
}

// busyTimeout is how long a statement waits for another writer. Transactions
// here take milliseconds.
const busyTimeout = 10 * time.Second

// Open opens the store in the file at path and creates it when absent. It
// refuses a damaged file, another program's database and a store written by a
// newer program, each with one line that names the file.
func Open(path string) (*Store, error) {
	s, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open results store %s: %w", path, explain(err))
	}
	return s, nil
}

// OpenExisting is Open for a file that must be there already.
func OpenExisting(path string) (*Store, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open results store %s: no such file: run a suite into this folder first", path)
	}
	return Open(path)
}

func open(path string) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dsn := fmt.Sprintf("file:%s?_journal_mode=WAL&_synchronous=NORMAL&_busy_timeout=%d&_txlock=immediate&_foreign_keys=1",
		(&url.URL{Path: abs}).EscapedPath(), busyTimeout.Milliseconds())
	db, err := sql.Open("sqlite3", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	s := &Store{db: db, path: path, now: time.Now}
	// The switch to WAL needs the file alone for a moment and SQLite does not
	// wait for it, so processes that create a store together try again.
	err = retryBusy(func() error {
		if err := db.Ping(); err != nil {
			return err
		}
		return s.migrate()
	})
	if err == nil {
		err = s.check()
	}
	if err != nil {
		_ = db.Close() // the first error is the one to tell
		return nil, err
	}
	return s, nil
}

// check reads the whole file once: a few milliseconds, and damage is named at
// the start and not in the middle of a run.
func (s *Store) check() error {
	var verdict string
	if err := s.db.QueryRow(`PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("the file is damaged (%.200q): move it away and run again", verdict)
	}
	return nil
}

// Path is the file the store was opened from.
func (s *Store) Path() string { return s.path }

// Close closes the file. Leases stay until they expire or are released.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close results store %s: %w", s.path, err)
	}
	return nil
}

// write runs f in one immediate transaction: all of it or nothing.
func (s *Store) write(f func(tx *sql.Tx) error) error {
	return retryBusy(func() error {
		tx, err := s.db.Begin()
		if err != nil {
			return err
		}
		if err := f(tx); err != nil {
			_ = tx.Rollback() // the first error is the one to tell
			return err
		}
		return tx.Commit()
	})
}

// retryBusy repeats f while another process holds the file, for about as long
// as SQLite itself would wait.
func retryBusy(f func() error) error {
	deadline := time.Now().Add(2 * busyTimeout)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		err := f()
		if err == nil || !isBusy(err) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(wait)
	}
}

// fail wraps an error with what was being done and to which file.
func (s *Store) fail(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("results store %s: %s: %w", s.path, doing, explain(err))
}

// Suites lists the suites of the store by name.
func (s *Store) Suites() ([]Suite, error) {
	const doing = "list suites"
	rows, err := s.db.Query(`SELECT name, yaml, settings, versions, created FROM suite ORDER BY name`)
	if err != nil {
		return nil, s.fail(doing, err)
	}
	defer rows.Close()
	var out []Suite
	for rows.Next() {
		var u Suite
		var created string
		if err := rows.Scan(&u.Name, &u.YAML, (*settingsText)(&u.Settings), (*versionsText)(&u.Versions), &created); err != nil {
			return nil, s.fail(doing, err)
		}
		if u.Created, err = time.Parse(time.RFC3339Nano, created); err != nil {
			return nil, s.fail(doing, err)
		}
		out = append(out, u)
	}
	return out, s.fail(doing, rows.Err())
}
