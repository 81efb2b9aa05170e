package store

import (
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// RepairCell names one repair: the detection whose recovered trigger it uses, and its settings.
type RepairCell struct {
	Key          string // identity; empty when planned: see Identity
	DetectionKey string
	Suite        string
	Settings     map[string]any // everything that decides the repaired model beside the detection; read back, integers are int
	Order        int            // place in the suite's plan
}

// Arm is one model that a repair compares: the delivered one, or what came of it. Rates lie in [0,1]; NaN says that a figure
// does not exist.
type Arm struct {
	Name         string
	ACC          float64 // accuracy on clean test images
	ASR          float64 // success of the true trigger on test images of the other classes
	ASRAll       float64 // on all test images
	ASRRecovered float64 // success of the suspect's recovered trigger on test images of classes other than the suspect
}

// The arms of a repair. Repaired and control take the same steps from the delivered model, retuned takes them from fresh
// prompts on clean images.
const (
	ArmDelivered = "delivered"
	ArmRepaired  = "repaired"
	ArmControl   = "control"
	ArmRetuned   = "retuned"
)

// Arms lists the arms in the order of the tables.
var Arms = []string{ArmDelivered, ArmRepaired, ArmControl, ArmRetuned}

// RepairResult is what a repair did.
type RepairResult struct {
	Arms     []Arm
	Path     string // where the repaired model lies
	Hash     string // SHA-256 of its file
	Seconds  float64
	Versions map[string]string
}

// Arm returns the arm of a name; ok is false when there is none.
func (r RepairResult) Arm(name string) (arm Arm, ok bool) {
	i := slices.IndexFunc(r.Arms, func(a Arm) bool { return a.Name == name })
	if i < 0 {
		return Arm{}, false
	}
	return r.Arms[i], true
}

// RepairRow is a repair cell with its state.
type RepairRow struct {
	Cell     RepairCell
	State    State
	Attempts int
	Failures int
	Message  string
	Result   RepairResult
}

const repairColumns = `SELECT r.key, COALESCE(l.suite, ''), COALESCE(l.ord, 0), r.detection, r.settings,
	r.state, r.attempts, r.failures, r.message, r.path, r.hash, r.seconds, r.versions `

const repairSelect = repairColumns + `FROM repair r LEFT JOIN suite_repair l ON l.key=r.key `

func scanRepair(row scanner) (RepairRow, error) {
	var r RepairRow
	var settings, versions string
	c, p := &r.Cell, &r.Result
	if err := row.Scan(&c.Key, &c.Suite, &c.Order, &c.DetectionKey, &settings, &r.State, &r.Attempts, &r.Failures, &r.Message,
		&p.Path, &p.Hash, (*nullable)(&p.Seconds), &versions); err != nil {
		return RepairRow{}, err
	}
	var err error
	if c.Settings, err = decodeSettings(settings); err != nil {
		return RepairRow{}, fmt.Errorf("repair cell %s: %w", ShortKey(c.Key), err)
	}
	if p.Versions, err = decodeVersions(versions); err != nil {
		return RepairRow{}, fmt.Errorf("repair cell %s: %w", ShortKey(c.Key), err)
	}
	return r, nil
}

// Identity is the key that PlanRepairs gives a cell without one: it covers the detection's key and the settings.
func (c RepairCell) Identity() (string, error) {
	return Key(map[string]any{"detection": c.DetectionKey, "repair": nonNil(c.Settings)})
}

// PlanRepairs makes the given cells the suite's plan of repairs, as Plan does with models and detections, which must be
// planned before. The cells' Suite fields are ignored.
func (s *Store) PlanRepairs(suite string, cells []RepairCell) error {
	return s.fail(fmt.Sprintf("plan the repairs of suite %q", suite), s.write(func(tx *sql.Tx) error {
		if _, err := tx.Exec(`DELETE FROM suite_repair WHERE suite = ?`, suite); err != nil {
			return err
		}
		for _, c := range cells {
			c.Suite = suite
			if err := planRepair(tx, c); err != nil {
				return err
			}
		}
		return nil
	}))
}

func planRepair(tx *sql.Tx, c RepairCell) error {
	settings, err := encodeMap(c.Settings)
	if err != nil {
		return err
	}
	if c.Key == "" {
		if c.Key, err = c.Identity(); err != nil {
			return err
		}
	}
	var detections int
	if err := tx.QueryRow(`SELECT count(*) FROM detection WHERE key=?`, c.DetectionKey).Scan(&detections); err != nil {
		return err
	}
	if detections == 0 {
		return fmt.Errorf("repair cell %s: its detection %s is not planned", ShortKey(c.Key), ShortKey(c.DetectionKey))
	}
	if _, err := tx.Exec(`INSERT INTO repair(key, detection, settings) VALUES(?,?,?) ON CONFLICT(key) DO NOTHING`,
		c.Key, c.DetectionKey, settings); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO suite_repair(suite, key, ord) VALUES(?,?,?)
		ON CONFLICT(suite, key) DO UPDATE SET ord=excluded.ord`, c.Suite, c.Key, c.Order)
	return err
}

// LeaseRepair is LeaseModel for repair cells; it gives only cells whose detection is finished.
func (s *Store) LeaseRepair(suite, worker string, ttl time.Duration) (cell RepairCell, ok bool, err error) {
	err = s.lease(worker, ttl, KindRepair, func(tx *sql.Tx, now int64) (string, error) {
		row, err := scanRepair(tx.QueryRow(repairColumns+`
			FROM suite_repair l CROSS JOIN repair r ON r.key=l.key
			WHERE r.state='pending' AND r.lease_until<=? AND `+ofSuite(suite)+`
			AND EXISTS (SELECT 1 FROM detection d WHERE d.key=r.detection AND d.state='finished')
			ORDER BY l.ord, l.key LIMIT 1`, now, suite))
		cell = row.Cell
		return cell.Key, err
	})
	return cell, cell.Key != "" && err == nil, err
}

// FinishRepair records the outcome of a repair in one transaction, under the rules of FinishModel.
func (s *Store) FinishRepair(key, worker string, r RepairResult) error {
	return s.fail("finish repair cell "+ShortKey(key), s.write(func(tx *sql.Tx) error {
		old, err := scanRepair(tx.QueryRow(repairSelect+` WHERE r.key=? LIMIT 1`, key))
		if err != nil {
			return missing(err)
		}
		if old.State == Finished {
			arms, err := repairArms(tx, `WHERE key=?`, key)
			if err != nil {
				return err
			}
			old.Result.Arms = arms[key]
			return sameResult(exportRepairResult(old.Result), exportRepairResult(r))
		}
		versions, err := encodeMap(r.Versions)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE repair SET state='finished', worker=?, lease_until=0, message='', path=?, hash=?, seconds=?,
			versions=?, finished_at=? WHERE key=?`, worker, r.Path, r.Hash, null(r.Seconds), versions, s.stamp(), key); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM repair_arm WHERE key=?`, key); err != nil {
			return err
		}
		for i, a := range r.Arms {
			if _, err := tx.Exec(`INSERT INTO repair_arm(key, pos, name, acc, asr, asr_all, asr_recovered) VALUES(?,?,?,?,?,?,?)`,
				key, i, a.Name, null(a.ACC), null(a.ASR), null(a.ASRAll), null(a.ASRRecovered)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// reopenRepairs makes the repairs pending again that used a detection which is.
func reopenRepairs(tx *sql.Tx) error {
	_, err := tx.Exec(`UPDATE repair SET state='pending', worker='', lease_until=0
		WHERE state='finished' AND detection IN (SELECT key FROM detection WHERE state='pending')`)
	return err
}

// Repairs lists the repair cells of a suite by (Order, Key), whatever their state.
func (s *Store) Repairs(suite string) ([]RepairRow, error) {
	doing := fmt.Sprintf("read the repairs of suite %q", suite)
	out, err := collect(s.db, scanRepair, repairSelect+`WHERE l.suite=? ORDER BY l.ord, r.key`, suite)
	if err != nil {
		return nil, s.fail(doing, err)
	}
	arms, err := repairArms(s.db, `WHERE key IN (SELECT key FROM suite_repair WHERE suite=?)`, suite)
	if err != nil {
		return nil, s.fail(doing, err)
	}
	for i := range out {
		if out[i].State == Finished {
			out[i].Result.Arms = arms[out[i].Cell.Key]
		}
	}
	return out, nil
}

// countRepairs counts the repair cells of a suite by state; Blocked are those whose detection cannot be computed.
func (s *Store) countRepairs(suite string) (Counts, error) {
	var c Counts
	return c, s.db.QueryRow(`SELECT count(*), count(*) FILTER (WHERE r.state='finished'), count(*) FILTER (WHERE r.state='failed'),
		count(*) FILTER (WHERE r.state='pending'), count(*) FILTER (WHERE r.state='pending' AND r.lease_until>?),
		count(*) FILTER (WHERE r.state='pending' AND (d.state='failed' OR d.state='pending' AND m.state='failed'))
		FROM repair r JOIN suite_repair l ON l.key=r.key JOIN detection d ON d.key=r.detection JOIN model m ON m.key=d.model
		WHERE l.suite=?`, s.now().UnixMilli(), suite).
		Scan(&c.Planned, &c.Finished, &c.Failed, &c.Pending, &c.Leased, &c.Blocked)
}

func repairArms(q queryer, where string, args ...any) (map[string][]Arm, error) {
	rows, err := q.Query(`SELECT key, name, acc, asr, asr_all, asr_recovered FROM repair_arm `+where+` ORDER BY key, pos`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string][]Arm{}
	for rows.Next() {
		var key string
		var a Arm
		if err := rows.Scan(&key, &a.Name, (*nullable)(&a.ACC), (*nullable)(&a.ASR), (*nullable)(&a.ASRAll),
			(*nullable)(&a.ASRRecovered)); err != nil {
			return nil, err
		}
		out[key] = append(out[key], a)
	}
	return out, rows.Err()
}

func exportRepairResult(r RepairResult) map[string]any {
	arms := make([]any, len(r.Arms))
	for i, a := range r.Arms {
		arms[i] = map[string]any{"name": a.Name, "acc": exact(a.ACC), "asr": exact(a.ASR), "asr_all": exact(a.ASRAll),
			"asr_recovered": exact(a.ASRRecovered)}
	}
	return map[string]any{"arms": arms, "hash": r.Hash}
}
