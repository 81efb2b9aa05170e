package store

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	copy string // folder of the copy that is read in place of a file that may not be written; or empty
	note string
	path string
	now  func() time.Time                 // replaced by tests
	only func(kind Kind, key string) bool // nil for all cells
}

// busyTimeout is how long a statement waits for another writer. Transactions
// here take milliseconds.
const busyTimeout = 10 * time.Second

// NetworkVariable names the environment variable that, set to 1, lets Open write on a network file
// system.
const NetworkVariable = "CLIPINSPECTOR_NETWORK_STORE"

// Open opens the store in the file at path for writing and creates it when absent. It refuses a
// damaged file, another program's database, a store written by a newer program, and a folder on a
// network file system unless NetworkVariable says otherwise, each with one line that names the
// file.
func Open(path string) (*Store, error) {
	if fs := networkFS(filepath.Dir(path)); fs != "" && os.Getenv(NetworkVariable) != "1" {
		return nil, fmt.Errorf("open results store %s: the folder lies on a network file system (%s), where SQLite's locks "+
			"do not hold and results can be lost: choose a folder on a local disk, or let the run compute on one and publish its results here: --scratch DIR; "+
			"or set %s=1 if this machine alone writes there", path, fs, NetworkVariable)
	}
	return fail(path, open)
}

// OpenExisting opens for reading a store that must be there already. Where the file or its folder
// may not be written, lies on a network file system, or was written by an older program, whose
// store stays as it is, a copy in the folder for temporary files is read: what was in the store at
// this moment.
func OpenExisting(path string) (*Store, error) {
	switch _, err := os.Stat(path); {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("open results store %s: no such file: run a suite into this folder first", path)
	case err != nil:
		return nil, fmt.Errorf("open results store %s: %w", path, err)
	}
	fs := networkFS(filepath.Dir(path))
	if fs == "" && writable(path) && !older(path) {
		return fail(path, open)
	}
	s, err := fail(path, openCopy)
	if err == nil && fs != "" {
		s.note = fmt.Sprintf("%s lies on a network file system (%s): read from a copy, as it was at this moment", path, fs)
	}
	return s, err
}

// older tells whether the header of a file says that an older program wrote it. The number stands
// at byte 60 (SQLite's user_version).
func older(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	header := make([]byte, 64)
	_, err = io.ReadFull(f, header)
	return err == nil && binary.BigEndian.Uint32(header[60:]) < uint32(len(migrations))
}

// Note is a warning about where the store lies; empty for none.
func (s *Store) Note() string { return s.note }

func fail(path string, open func(string) (*Store, error)) (*Store, error) {
	s, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open results store %s: %w", path, explain(path, err))
	}
	return s, nil
}

const copyName = "results.sqlite"

// openCopy opens a copy of the file and of its write-ahead log, which are copied again when
// somebody wrote to them meanwhile.
func openCopy(path string) (s *Store, err error) {
	folder, err := os.MkdirTemp("", "clip-inspector-store-")
	if err != nil {
		return nil, fmt.Errorf("copying what may only be read: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(folder) // the first error is the one to tell
		}
	}()
	to := filepath.Join(folder, copyName)
	for range 10 {
		before := states(path)
		for _, end := range []string{"", "-wal"} {
			_ = os.Remove(to + end) // of the try before
			if err := copyFile(path+end, to+end); err != nil && !(end != "" && errors.Is(err, os.ErrNotExist)) {
				return nil, fmt.Errorf("copying what may only be read: %w", err)
			}
		}
		if before == states(path) {
			if s, err = open(to); err != nil {
				return nil, err
			}
			s.path, s.copy = path, folder
			return s, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, errors.New("somebody writes to the file all the time: try again later")
}

// states tells whether a file or its log was written to.
func states(path string) (out [2]struct {
	size int64
	at   time.Time
}) {
	for i, end := range []string{"", "-wal"} {
		if info, err := os.Stat(path + end); err == nil {
			out[i].size, out[i].at = info.Size(), info.ModTime()
		}
	}
	return out
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
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
// the start and not in the middle of a run. SQLite looks at its structure, verify
// at every value.
func (s *Store) check() error {
	return s.snapshot(func(q queryer) error {
		var verdict string
		if err := q.QueryRow(`PRAGMA integrity_check(1)`).Scan(&verdict); err != nil {
			return err
		}
		if verdict != "ok" {
			return fmt.Errorf("the file is damaged (%.200q): move it away and run again", verdict)
		}
		return verify(q)
	})
}

// CopyTo writes the store, as it is at this moment, into a new file.
func (s *Store) CopyTo(path string) error {
	_, err := s.db.Exec(`VACUUM INTO ?`, path)
	return s.fail("copy", err)
}

// NetworkFS names the network file system that a folder lies on; empty for a local one. A folder
// that is not there yet lies where the nearest one above it does.
func NetworkFS(folder string) string {
	for {
		if _, err := os.Stat(folder); err == nil {
			return networkFS(folder)
		}
		up := filepath.Dir(folder)
		if up == folder {
			return ""
		}
		folder = up
	}
}

// Path is the file the store was opened from.
func (s *Store) Path() string { return s.path }

// file is what SQLite has open.
func (s *Store) file() string {
	if s.copy != "" {
		return filepath.Join(s.copy, copyName)
	}
	return s.path
}

// Close closes the file. Leases stay until they expire or are released.
func (s *Store) Close() error {
	err := s.db.Close()
	if s.copy != "" {
		err = errors.Join(err, os.RemoveAll(s.copy))
	}
	if err != nil {
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
	return fmt.Errorf("results store %s: %s: %w", s.path, doing, explain(s.path, err))
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
