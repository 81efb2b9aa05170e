package store

import (
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// ErrLeaseLost says that the worker no longer holds the cell: its lease expired
// and another worker took it, or somebody finished it.
var ErrLeaseLost = errors.New("the lease is lost")

// LeaseModel gives the worker the next model cell of the suite, in plan order,
// that is neither finished, failed nor leased, for ttl; an empty suite means any.
// ok is false when there is none now (others may still hold leases: see
// Progress). Renew the lease well before ttl has passed.
func (s *Store) LeaseModel(suite, worker string, ttl time.Duration) (cell ModelCell, ok bool, err error) {
	return models.lease(s, suite, worker, ttl)
}

// LeaseReference is LeaseModel for reference cells.
func (s *Store) LeaseReference(suite, worker string, ttl time.Duration) (cell ReferenceCell, ok bool, err error) {
	return references.lease(s, suite, worker, ttl)
}

// LeaseDetection is LeaseModel for detection cells; it gives only cells whose
// model is finished.
func (s *Store) LeaseDetection(suite, worker string, ttl time.Duration) (cell DetectionCell, ok bool, err error) {
	return detections.lease(s, suite, worker, ttl)
}

// LeaseExplanation is LeaseModel for explanation cells; it gives only cells whose detection is
// finished.
func (s *Store) LeaseExplanation(suite, worker string, ttl time.Duration) (cell ExplanationCell, ok bool, err error) {
	return explanations.lease(s, suite, worker, ttl)
}

// LeaseRepair is LeaseModel for repair cells; it gives only cells whose detection is finished.
func (s *Store) LeaseRepair(suite, worker string, ttl time.Duration) (cell RepairCell, ok bool, err error) {
	return repairs.lease(s, suite, worker, ttl)
}

// Renew extends the worker's lease to ttl from now. It fails with ErrLeaseLost
// when the worker no longer holds the cell; what it computes is then not needed.
func (s *Store) Renew(kind Kind, key, worker string, ttl time.Duration) error {
	return s.held("renew the lease of", kind, key, worker,
		`lease_until=?`, s.now().Add(ttl).UnixMilli())
}

// Release gives a leased cell back, to be leased again at once: what a worker
// does that was told to stop.
func (s *Store) Release(kind Kind, key, worker string) error {
	return s.held("release", kind, key, worker, `worker='', lease_until=0`)
}

// Fail records that the cell could not be computed and why. It is not leased
// again until RetryFailed.
func (s *Store) Fail(kind Kind, key, worker, message string) error {
	return s.held("fail", kind, key, worker,
		`state='failed', worker='', lease_until=0, failures=failures+1, message=?`, message)
}

// held updates an unfinished cell that the worker holds.
func (s *Store) held(doing string, kind Kind, key, worker, set string, args ...any) error {
	doing = fmt.Sprintf("%s %s cell %s", doing, kind, ShortKey(key))
	if _, err := kind.family(); err != nil {
		return s.fail(doing, err)
	}
	return s.fail(doing, s.write(func(tx *sql.Tx) error {
		res, err := tx.Exec(`UPDATE `+string(kind)+` SET `+set+` WHERE key=? AND worker=? AND worker<>'' AND state='pending'`,
			append(args, key, worker)...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 1 {
			return err
		}
		return ErrLeaseLost
	}))
}

// RetryFailed makes the failed cells of the suite (of all when empty) pending
// again that have failed fewer than limit times, and says how many. A run calls
// it once at its start: a failed cell is tried again in the next run, not in
// the same.
func (s *Store) RetryFailed(suite string, limit int) (int, error) {
	total := 0
	err := s.write(func(tx *sql.Tx) error {
		total = 0
		for _, f := range kinds {
			keys, err := list(tx, `SELECT key FROM `+string(f.kind)+` WHERE state='failed' AND failures<?
				AND key IN (SELECT key FROM suite_`+string(f.kind)+` WHERE ?='' OR suite=?)`, limit, suite, suite)
			if err != nil {
				return err
			}
			for _, key := range keys {
				if !s.covers(f.kind, key) {
					continue
				}
				if _, err := tx.Exec(`UPDATE `+string(f.kind)+` SET state='pending' WHERE key=?`, key); err != nil {
					return err
				}
				total++
			}
		}
		return nil
	})
	return total, s.fail("retry failed cells", err)
}
