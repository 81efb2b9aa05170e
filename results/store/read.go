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
