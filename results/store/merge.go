package store

import (
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Merge takes over the cells of a suite from another store, in one transaction. Cells keep their
// place in the plan. A cell that is finished in both must have the same result in both (times, paths
// and versions aside); otherwise nothing is taken over, and the error is an ErrConflict that names
// the cell. Merging the same again changes nothing. The files that finished cells name are the
// caller's to bring along before.
func (s *Store) Merge(from *Store, suite Suite) error {
	return s.fail(fmt.Sprintf("merge suite %q of %s", suite.Name, from.path), s.write(func(tx *sql.Tx) error {
		if err := s.putSuite(tx, suite); err != nil {
			return err
		}
		for _, merge := range []func(*sql.Tx, *Store, *Store, string) error{models.merge, references.merge, detections.merge, repairs.merge} {
			if err := merge(tx, s, from, suite.Name); err != nil {
				return err
			}
		}
		return seal(tx, nil, suite.Name)
	}))
}

// merge takes over the suite's cells of this kind.
func (d *declaration[C, R]) merge(tx *sql.Tx, to, from *Store, suite string) error {
	rows, err := d.ofSuite(from, suite)
	if err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		if err := d.take(tx, to, r); err != nil {
			return fmt.Errorf("%s cell %s (%s): %w", d.kind, ShortKey(*d.head(&r.Cell).key), d.describe(&r.Cell), err)
		}
	}
	return nil
}

// take takes over one cell of another store.
func (d *declaration[C, R]) take(tx *sql.Tx, to *Store, r *Row[C, R]) error {
	if err := d.put(tx, &r.Cell); err != nil {
		return err
	}
	key := *d.head(&r.Cell).key
	var state State
	if err := tx.QueryRow(`SELECT state FROM `+string(d.kind)+` WHERE key=?`, key).Scan(&state); err != nil {
		return err
	}
	switch {
	case r.State == Finished && state == Finished:
		old, _, err := d.one(tx, key)
		if err != nil {
			return err
		}
		return sameResult(d.exportResult(&old.Result), d.exportResult(&r.Result))
	case r.State == Finished:
		return d.record(tx, to.now(), key, "", &r.Result)
	case r.State == Failed && state != Finished:
		_, err := tx.Exec(`UPDATE `+string(d.kind)+` SET state='failed', worker='', lease_until=0, failures=max(failures, ?), message=? WHERE key=?`,
			r.Failures, r.Message, key)
		return err
	}
	return nil
}

// record writes a result and its parts.
func (d *declaration[C, R]) record(tx *sql.Tx, now time.Time, key, worker string, r *R) error {
	v, err := values(d.result, r)
	if err != nil {
		return err
	}
	args := append(append([]any{worker}, v...), now.UTC().Format(time.RFC3339Nano), key)
	if _, err := tx.Exec(`UPDATE `+string(d.kind)+` SET state='finished', lease_until=0, message='', worker=?, `+
		names(d.result, "=?, ")+`=?, finished_at=? WHERE key=?`, args...); err != nil {
		return err
	}
	if d.parts != nil {
		if _, err := tx.Exec(`DELETE FROM `+d.parts.table+` WHERE key=?`, key); err != nil {
			return err
		}
		if err := d.parts.write(tx, key, r); err != nil {
			return err
		}
	}
	return seal(tx, &d.family, key)
}

// AskedOnce makes sure that no two cells of the suite ask the same and differ in method version,
// engine or fingerprint of the data, as the cells of shards do that different programs planned.
func (s *Store) AskedOnce(suite string) error {
	const doing = "compare merged cells"
	tx, err := s.db.Begin()
	if err != nil {
		return s.fail(doing, err)
	}
	defer func() { _ = tx.Rollback() }() // nothing is written
	for _, f := range kinds {
		keys, err := list(tx, `SELECT key FROM suite_`+string(f.kind)+` WHERE suite=? ORDER BY ord, key`, suite)
		if err != nil {
			return s.fail(doing, err)
		}
		known := map[string]string{}
		for _, key := range keys {
			q, err := question(tx, f, key)
			if err != nil {
				return s.fail(doing, err)
			}
			if other, ok := known[q]; ok {
				return s.fail(doing, fmt.Errorf("%s cells %s and %s ask the same but for method version, engine or data: %w", f.kind,
					ShortKey(other), ShortKey(key), errors.New("merge only what one version of the program computed on the same data")))
			}
			known[q] = key
		}
	}
	return nil
}
