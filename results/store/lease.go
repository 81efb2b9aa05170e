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
	err = s.lease(worker, ttl, KindModel, func(tx *sql.Tx, now int64) (string, error) {
		row, err := scanModel(tx.QueryRow(modelColumns+`
			FROM suite_model l CROSS JOIN model m ON m.key=l.key
			WHERE m.state='pending' AND m.lease_until<=? AND `+ofSuite(suite)+`
			ORDER BY l.ord, l.key LIMIT 1`, now, suite))
		cell = row.Cell
		return cell.Key, err
	})
	return cell, cell.Key != "" && err == nil, err
}

// LeaseDetection is LeaseModel for detection cells; it gives only cells whose
// model is finished.
func (s *Store) LeaseDetection(suite, worker string, ttl time.Duration) (cell DetectionCell, ok bool, err error) {
	err = s.lease(worker, ttl, KindDetection, func(tx *sql.Tx, now int64) (string, error) {
		row, err := scanDetection(tx.QueryRow(detectionColumns+`
			FROM suite_detection l CROSS JOIN detection d ON d.key=l.key
			WHERE d.state='pending' AND d.lease_until<=? AND `+ofSuite(suite)+`
			AND EXISTS (SELECT 1 FROM model m WHERE m.key=d.model AND m.state='finished')
			ORDER BY l.ord, l.key LIMIT 1`, now, suite))
		cell = row.Cell
		return cell.Key, err
	})
	return cell, cell.Key != "" && err == nil, err
}

// ofSuite restricts a plan to one suite, or not at all when suite is empty. Named
// exactly, the suite's index gives its cells in order and the search ends at the
// first free one: hence also CROSS JOIN, which keeps the plan outermost.
func ofSuite(suite string) string {
	if suite == "" {
		return "l.suite>=?"
	}
	return "l.suite=?"
}

func (s *Store) lease(worker string, ttl time.Duration, kind Kind, pick func(*sql.Tx, int64) (string, error)) error {
	doing := fmt.Sprintf("lease a %s cell", kind)
	if worker == "" {
		return s.fail(doing, errors.New("a worker needs a name"))
	}
	if ttl <= 0 {
		return s.fail(doing, fmt.Errorf("a lease of %v is none", ttl))
	}
	return s.fail(doing, s.write(func(tx *sql.Tx) error {
		now := s.now()
		key, err := pick(tx, now.UnixMilli())
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(`UPDATE `+string(kind)+` SET worker=?, lease_until=?, attempts=attempts+1 WHERE key=?`,
			worker, now.Add(ttl).UnixMilli(), key)
		return err
	}))
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
	if err := kind.check(); err != nil {
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
		for _, kind := range []Kind{KindModel, KindDetection, KindRepair} {
			res, err := tx.Exec(`UPDATE `+string(kind)+` SET state='pending' WHERE state='failed' AND failures<?
				AND key IN (SELECT key FROM suite_`+string(kind)+` WHERE ?='' OR suite=?)`, limit, suite, suite)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			total += int(n)
		}
		return nil
	})
	return total, s.fail("retry failed cells", err)
}

func (k Kind) check() error {
	if k != KindModel && k != KindDetection && k != KindRepair {
		return fmt.Errorf("no kind of cell is called %q", string(k))
	}
	return nil
}
