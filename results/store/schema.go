package store

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"

	"clipinspector/internal/printable"
)

// applicationID marks the file as ours ("CLIS"), so that another program's
// database is refused and not filled with our tables.
const applicationID = 0x434c4953

// migrations[i] takes a store from version i to i+1. Never edit one that has
// been released; append.
var migrations = []string{`
CREATE TABLE suite (
	name TEXT PRIMARY KEY,
	yaml TEXT NOT NULL,
	settings TEXT NOT NULL,
	versions TEXT NOT NULL,
	created TEXT NOT NULL
) STRICT;

CREATE TABLE model (
	key TEXT PRIMARY KEY,
	dataset TEXT NOT NULL,
	attack TEXT NOT NULL,
	learner TEXT NOT NULL,
	seed INTEGER NOT NULL,
	settings TEXT NOT NULL,
	state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'finished', 'failed')),
	worker TEXT NOT NULL DEFAULT '',
	lease_until INTEGER NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL DEFAULT 0,
	failures INTEGER NOT NULL DEFAULT 0,
	message TEXT NOT NULL DEFAULT '',
	backdoored INTEGER NOT NULL DEFAULT 0,
	target INTEGER NOT NULL DEFAULT -1,
	classes INTEGER NOT NULL DEFAULT 0,
	acc REAL, asr REAL, asr_all REAL, asr_ood REAL, psnr REAL, ssim REAL,
	path TEXT NOT NULL DEFAULT '',
	hash TEXT NOT NULL DEFAULT '',
	seconds REAL,
	versions TEXT NOT NULL DEFAULT '{}',
	finished_at TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE suite_model (
	suite TEXT NOT NULL,
	key TEXT NOT NULL REFERENCES model(key),
	ord INTEGER NOT NULL,
	PRIMARY KEY (suite, key)
) STRICT;
CREATE INDEX suite_model_ord ON suite_model(suite, ord, key);

CREATE TABLE detection (
	key TEXT PRIMARY KEY,
	model TEXT NOT NULL REFERENCES model(key),
	detector TEXT NOT NULL,
	settings TEXT NOT NULL,
	state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'finished', 'failed')),
	worker TEXT NOT NULL DEFAULT '',
	lease_until INTEGER NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL DEFAULT 0,
	failures INTEGER NOT NULL DEFAULT 0,
	message TEXT NOT NULL DEFAULT '',
	idx REAL,
	backdoored INTEGER NOT NULL DEFAULT 0,
	suspect INTEGER NOT NULL DEFAULT -1,
	image_passes INTEGER NOT NULL DEFAULT 0,
	path TEXT NOT NULL DEFAULT '',
	seconds REAL,
	versions TEXT NOT NULL DEFAULT '{}',
	finished_at TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX detection_model ON detection(model);

CREATE TABLE suite_detection (
	suite TEXT NOT NULL,
	key TEXT NOT NULL REFERENCES detection(key),
	ord INTEGER NOT NULL,
	PRIMARY KEY (suite, key)
) STRICT;
CREATE INDEX suite_detection_ord ON suite_detection(suite, ord, key);

CREATE TABLE class_score (
	key TEXT NOT NULL REFERENCES detection(key),
	pos INTEGER NOT NULL,
	class INTEGER NOT NULL,
	loss REAL, asr REAL, score REAL, idx REAL, norm REAL,
	reached INTEGER NOT NULL,
	PRIMARY KEY (key, pos)
) STRICT, WITHOUT ROWID;
`, `
CREATE TABLE repair (
	key TEXT PRIMARY KEY,
	detection TEXT NOT NULL REFERENCES detection(key),
	settings TEXT NOT NULL,
	state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'finished', 'failed')),
	worker TEXT NOT NULL DEFAULT '',
	lease_until INTEGER NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL DEFAULT 0,
	failures INTEGER NOT NULL DEFAULT 0,
	message TEXT NOT NULL DEFAULT '',
	path TEXT NOT NULL DEFAULT '',
	hash TEXT NOT NULL DEFAULT '',
	seconds REAL,
	versions TEXT NOT NULL DEFAULT '{}',
	finished_at TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX repair_detection ON repair(detection);

CREATE TABLE suite_repair (
	suite TEXT NOT NULL,
	key TEXT NOT NULL REFERENCES repair(key),
	ord INTEGER NOT NULL,
	PRIMARY KEY (suite, key)
) STRICT;
CREATE INDEX suite_repair_ord ON suite_repair(suite, ord, key);

CREATE TABLE repair_arm (
	key TEXT NOT NULL REFERENCES repair(key),
	pos INTEGER NOT NULL,
	name TEXT NOT NULL,
	acc REAL, asr REAL, asr_all REAL, asr_recovered REAL,
	PRIMARY KEY (key, pos)
) STRICT, WITHOUT ROWID;
`, `
ALTER TABLE detection ADD COLUMN unsure TEXT NOT NULL DEFAULT '';
ALTER TABLE detection ADD COLUMN hash TEXT NOT NULL DEFAULT '';
ALTER TABLE model ADD COLUMN trigger_hash TEXT NOT NULL DEFAULT '';

CREATE TABLE digest (
	kind TEXT NOT NULL,
	key TEXT NOT NULL,
	sum TEXT NOT NULL,
	PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
`, `
CREATE TABLE reference (
	key TEXT PRIMARY KEY,
	dataset TEXT NOT NULL,
	learner TEXT NOT NULL,
	seed INTEGER NOT NULL,
	settings TEXT NOT NULL,
	state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'finished', 'failed')),
	worker TEXT NOT NULL DEFAULT '',
	lease_until INTEGER NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL DEFAULT 0,
	failures INTEGER NOT NULL DEFAULT 0,
	message TEXT NOT NULL DEFAULT '',
	accuracy REAL,
	image_passes INTEGER NOT NULL DEFAULT 0,
	path TEXT NOT NULL DEFAULT '',
	hash TEXT NOT NULL DEFAULT '',
	seconds REAL,
	versions TEXT NOT NULL DEFAULT '{}',
	finished_at TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE suite_reference (
	suite TEXT NOT NULL,
	key TEXT NOT NULL REFERENCES reference(key),
	ord INTEGER NOT NULL,
	PRIMARY KEY (suite, key)
) STRICT;
CREATE INDEX suite_reference_ord ON suite_reference(suite, ord, key);
`, `
CREATE TABLE explanation (
	key TEXT PRIMARY KEY,
	detection TEXT NOT NULL REFERENCES detection(key),
	settings TEXT NOT NULL,
	state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'finished', 'failed')),
	worker TEXT NOT NULL DEFAULT '',
	lease_until INTEGER NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL DEFAULT 0,
	failures INTEGER NOT NULL DEFAULT 0,
	message TEXT NOT NULL DEFAULT '',
	class INTEGER NOT NULL DEFAULT -1,
	said TEXT NOT NULL DEFAULT '',
	strongest TEXT NOT NULL DEFAULT '',
	size REAL,
	anywhere INTEGER NOT NULL DEFAULT 0,
	asr REAL, zero_shot REAL, others REAL, untouched REAL, psnr REAL, ssim REAL, iou REAL, distance REAL,
	image_passes INTEGER NOT NULL DEFAULT 0,
	path TEXT NOT NULL DEFAULT '',
	hash TEXT NOT NULL DEFAULT '',
	seconds REAL,
	versions TEXT NOT NULL DEFAULT '{}',
	finished_at TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX explanation_detection ON explanation(detection);

CREATE TABLE suite_explanation (
	suite TEXT NOT NULL,
	key TEXT NOT NULL REFERENCES explanation(key),
	ord INTEGER NOT NULL,
	PRIMARY KEY (suite, key)
) STRICT;
CREATE INDEX suite_explanation_ord ON suite_explanation(suite, ord, key);

CREATE TABLE family_evidence (
	key TEXT NOT NULL REFERENCES explanation(key),
	pos INTEGER NOT NULL,
	kind TEXT NOT NULL,
	lift REAL, gain REAL, asr REAL,
	PRIMARY KEY (key, pos)
) STRICT, WITHOUT ROWID;
`, `
ALTER TABLE explanation ADD COLUMN true_size REAL;
`, `
ALTER TABLE explanation ADD COLUMN true_asr REAL;
`}

// migrate brings the store to the newest version in one transaction; several
// processes may do it at once.
func (s *Store) migrate() error {
	v, err := userVersion(s.db)
	if err == nil && v != 0 {
		err = s.checkOurs()
	}
	if err != nil || v == len(migrations) {
		return err
	}
	return s.write(func(tx *sql.Tx) error {
		if v, err = userVersion(tx); err != nil {
			return err
		}
		if v > len(migrations) {
			return fmt.Errorf("the store has schema version %d and this program knows only %d: "+
				"use the newer program, or another folder", v, len(migrations))
		}
		if v == 0 {
			var tables int
			if err := tx.QueryRow(`SELECT count(*) FROM sqlite_master`).Scan(&tables); err != nil {
				return err
			}
			if tables > 0 {
				return errNotOurs
			}
			if _, err := tx.Exec(fmt.Sprintf("PRAGMA application_id=%d", applicationID)); err != nil {
				return err
			}
		}
		if v < 0 {
			return fmt.Errorf("the file is damaged (schema version %d): move it away and run again", v)
		}
		if v >= sealed && v < len(migrations) { // what is sealed anew below must be what was written
			if err := verify(tx); err != nil {
				return err
			}
		}
		for ; v < len(migrations); v++ {
			if _, err := tx.Exec(migrations[v]); err != nil {
				return fmt.Errorf("schema version %d: %w", v+1, err)
			}
		}
		if err := sealAll(tx); err != nil {
			return err
		}
		_, err = tx.Exec(fmt.Sprintf("PRAGMA user_version=%d", v))
		return err
	})
}

var errNotOurs = errors.New("this SQLite file belongs to another program: choose another folder")

func (s *Store) checkOurs() error {
	var id int
	if err := s.db.QueryRow(`PRAGMA application_id`).Scan(&id); err != nil {
		return err
	}
	if id != applicationID {
		return errNotOurs
	}
	return nil
}

type queryer interface {
	QueryRow(query string, args ...any) *sql.Row
	Query(query string, args ...any) (*sql.Rows, error)
}

// writer is a transaction, or a connection in one.
type writer interface {
	queryer
	Exec(query string, args ...any) (sql.Result, error)
}

func userVersion(q queryer) (int, error) {
	var v int
	err := q.QueryRow(`PRAGMA user_version`).Scan(&v)
	return v, err
}

// explain turns SQLite's words about a damaged or unreachable file into what a
// person can act on.
func explain(path string, err error) error {
	var se sqlite3.Error
	if !errors.As(err, &se) {
		return err
	}
	switch se.Code {
	case sqlite3.ErrNotADB, sqlite3.ErrCorrupt:
		err = oneLine{err}
		return fmt.Errorf("the file is damaged or no SQLite database (%w): move it away and run again", err)
	case sqlite3.ErrCantOpen:
		return fmt.Errorf("%w: does the folder exist, and may this user write there?", err)
	case sqlite3.ErrReadonly, sqlite3.ErrPerm:
		return fmt.Errorf("%w: the file and its folder must be writable", err)
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		who := holders(path)
		if who == "" {
			who = "another program on this machine (a viewer, a backup) or on another one that shares the folder"
		}
		return fmt.Errorf("%w: the file is held by %s: end that and run again; the folder must lie on a local disk", err, who)
	case sqlite3.ErrFull:
		return fmt.Errorf("%w: make room on the disk and run again", err)
	}
	return err
}

// oneLine is an error whose text may quote what lies in a damaged file.
type oneLine struct{ error }

func (e oneLine) Error() string {
	return printable.Text(strings.Join(strings.Fields(e.error.Error()), " "))
}

func (e oneLine) Unwrap() error { return e.error }

func isBusy(err error) bool {
	var se sqlite3.Error
	return errors.As(err, &se) && (se.Code == sqlite3.ErrBusy || se.Code == sqlite3.ErrLocked)
}
