package store

import (
	"database/sql"
	"fmt"
	"math"
	"time"
)

type scanner interface{ Scan(dest ...any) error }

// Models lists the model cells of a suite by (Order, Key), whatever their state.
func (s *Store) Models(suite string) ([]ModelRow, error) { return models.ofSuite(s, suite) }

// Model finds one model cell by its key; ok is false when there is none.
func (s *Store) Model(key string) (row ModelRow, ok bool, err error) { return models.find(s, key) }

// References lists the reference cells of a suite by (Order, Key), whatever their state.
func (s *Store) References(suite string) ([]ReferenceRow, error) { return references.ofSuite(s, suite) }

// Reference finds one reference cell by its key; ok is false when there is none.
func (s *Store) Reference(key string) (row ReferenceRow, ok bool, err error) {
	return references.find(s, key)
}

// Detections lists the detection cells of a suite by (Order, Key), whatever
// their state, with all class scores.
func (s *Store) Detections(suite string) ([]DetectionRow, error) {
	return detections.ofSuite(s, suite)
}

// Detection finds one detection cell by its key; ok is false when there is none.
func (s *Store) Detection(key string) (row DetectionRow, ok bool, err error) {
	return detections.find(s, key)
}

// DetectionsOf lists all detection cells of a model by a detector, of whatever suite and in
// whatever state, by key, with all class scores.
func (s *Store) DetectionsOf(model, detector string) ([]DetectionRow, error) {
	rows, err := detections.read(s.db, `c.model=? AND c.detector=? GROUP BY c.key ORDER BY c.key`, model, detector)
	return rows, s.fail(fmt.Sprintf("read the detections of model %s by %s", ShortKey(model), detector), err)
}

// Explanation reads one explanation cell; ok is false when there is none.
func (s *Store) Explanation(key string) (row ExplanationRow, ok bool, err error) {
	return explanations.find(s, key)
}

// Explanations lists the explanation cells of a suite by (Order, Key), whatever their state.
func (s *Store) Explanations(suite string) ([]ExplanationRow, error) {
	return explanations.ofSuite(s, suite)
}

// Repairs lists the repair cells of a suite by (Order, Key), whatever their state.
func (s *Store) Repairs(suite string) ([]RepairRow, error) { return repairs.ofSuite(s, suite) }

// Progress counts the cells of a suite by state.
func (s *Store) Progress(suite string) (Progress, error) {
	var p Progress
	for _, k := range []struct {
		*family
		to *Counts
	}{{&models.family, &p.Models}, {&references.family, &p.References}, {&detections.family, &p.Detections}, {&explanations.family, &p.Explanations}, {&repairs.family, &p.Repairs}} {
		var err error
		if *k.to, err = s.count(k.family, suite); err != nil {
			return p, s.fail(fmt.Sprintf("count the cells of suite %q", suite), err)
		}
	}
	return p, nil
}

// Leases lists who works on which cells of a suite now, by kind and key.
func (s *Store) Leases(suite string) ([]Lease, error) {
	var out []Lease
	for _, f := range kinds {
		err := func() error {
			rows, err := s.db.Query(fmt.Sprintf(`SELECT c.key, c.worker, c.lease_until FROM suite_%[1]s l JOIN %[1]s c ON c.key=l.key
				WHERE l.suite=? AND c.state='pending' AND c.lease_until>? ORDER BY c.key`, f.kind), suite, s.now().UnixMilli())
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				l := Lease{Kind: f.kind}
				var until int64
				if err := rows.Scan(&l.Key, &l.Worker, &until); err != nil {
					return err
				}
				l.Until = time.UnixMilli(until)
				out = append(out, l)
			}
			return rows.Err()
		}()
		if err != nil {
			return nil, s.fail(fmt.Sprintf("list the leases of suite %q", suite), err)
		}
	}
	return out, nil
}

// null is the value to store: NULL for NaN.
func null(v float64) any {
	if math.IsNaN(v) {
		return nil
	}
	return v
}

// nullable reads NULL as NaN.
type nullable float64

// Scan implements sql.Scanner.
func (n *nullable) Scan(src any) error {
	var v sql.NullFloat64
	if err := v.Scan(src); err != nil {
		return err
	}
	*n = nullable(v.Float64)
	if !v.Valid {
		*n = nullable(math.NaN())
	}
	return nil
}

// count counts the cells of a suite by state.
func (s *Store) count(f *family, suite string) (Counts, error) {
	// A pending cell is blocked when a parent has failed, or waits for one that is blocked.
	joins, blocked, open := "", "0", "c"
	for up, n := f, 0; up.parent != ""; n++ {
		p := fmt.Sprintf("p%d", n)
		joins += fmt.Sprintf(" JOIN %s %s ON %s.key=%s.%s", up.parent, p, p, open, up.parent)
		if n == 0 {
			blocked = p + ".state='failed'"
		} else {
			blocked += fmt.Sprintf(" OR %s.state='pending' AND %s.state='failed'", open, p)
		}
		open = p
		for _, g := range kinds {
			if g.kind == up.parent {
				up = g
				break
			}
		}
	}
	var c Counts
	rows, err := s.db.Query(fmt.Sprintf(`SELECT c.key, c.state, c.lease_until, COALESCE(c.seconds, 0), %[1]s FROM suite_%[2]s l JOIN %[2]s c ON c.key=l.key%[3]s
		WHERE l.suite=?`, blocked, f.kind, joins), suite)
	if err != nil {
		return c, err
	}
	defer rows.Close()
	now := s.now().UnixMilli()
	for rows.Next() {
		var key string
		var state State
		var until int64
		var isBlocked bool
		var seconds float64
		if err := rows.Scan(&key, &state, &until, &seconds, &isBlocked); err != nil {
			return c, err
		}
		if !s.covers(f.kind, key) {
			continue
		}
		c.Planned++
		switch state {
		case Finished:
			c.Finished++
			c.Seconds += seconds
		case Failed:
			c.Failed++
		case Pending:
			c.Pending++
			if until > now {
				c.Leased++
			}
			if isBlocked {
				c.Blocked++
			}
		}
	}
	return c, rows.Err()
}
