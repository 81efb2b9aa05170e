package store

import (
	"database/sql"
	"fmt"
	"math"
)

const modelColumns = `SELECT m.key, COALESCE(l.suite, ''), COALESCE(l.ord, 0), m.dataset, m.attack, m.learner, m.seed, m.settings,
	m.state, m.attempts, m.failures, m.message, m.backdoored, m.target, m.classes,
	m.acc, m.asr, m.asr_all, m.asr_ood, m.psnr, m.ssim, m.path, m.hash, m.seconds, m.versions `

const modelSelect = modelColumns + `FROM model m LEFT JOIN suite_model l ON l.key=m.key `

const detectionColumns = `SELECT d.key, COALESCE(l.suite, ''), COALESCE(l.ord, 0), d.model, d.detector, d.settings,
	d.state, d.attempts, d.failures, d.message, d.idx, d.backdoored, d.suspect, d.image_passes, d.path, d.seconds, d.versions `

const detectionSelect = detectionColumns + `FROM detection d LEFT JOIN suite_detection l ON l.key=d.key `

type scanner interface{ Scan(dest ...any) error }

func scanModel(row scanner) (ModelRow, error) {
	var r ModelRow
	var settings, versions string
	c, m := &r.Cell, &r.Result
	if err := row.Scan(&c.Key, &c.Suite, &c.Order, &c.Dataset, &c.Attack, &c.Learner, &c.Seed, &settings,
		&r.State, &r.Attempts, &r.Failures, &r.Message, &m.Backdoored, &m.Target, &m.Classes,
		(*nullable)(&m.ACC), (*nullable)(&m.ASR), (*nullable)(&m.ASRAll), (*nullable)(&m.ASROOD),
		(*nullable)(&m.PSNR), (*nullable)(&m.SSIM), &m.Path, &m.Hash, (*nullable)(&m.Seconds), &versions); err != nil {
		return ModelRow{}, err
	}
	var err error
	if c.Settings, err = decodeSettings(settings); err != nil {
		return ModelRow{}, fmt.Errorf("model cell %s: %w", ShortKey(c.Key), err)
	}
	if m.Versions, err = decodeVersions(versions); err != nil {
		return ModelRow{}, fmt.Errorf("model cell %s: %w", ShortKey(c.Key), err)
	}
	return r, nil
}

func scanDetection(row scanner) (DetectionRow, error) {
	var r DetectionRow
	var settings, versions string
	c, d := &r.Cell, &r.Result
	if err := row.Scan(&c.Key, &c.Suite, &c.Order, &c.ModelKey, &c.Detector, &settings,
		&r.State, &r.Attempts, &r.Failures, &r.Message, (*nullable)(&d.Index), &d.Backdoored, &d.Suspect,
		&d.ImagePasses, &d.Path, (*nullable)(&d.Seconds), &versions); err != nil {
		return DetectionRow{}, err
	}
	var err error
	if c.Settings, err = decodeSettings(settings); err != nil {
		return DetectionRow{}, fmt.Errorf("detection cell %s: %w", ShortKey(c.Key), err)
	}
	if d.Versions, err = decodeVersions(versions); err != nil {
		return DetectionRow{}, fmt.Errorf("detection cell %s: %w", ShortKey(c.Key), err)
	}
	return r, nil
}

// Models lists the model cells of a suite by (Order, Key), whatever their state.
func (s *Store) Models(suite string) ([]ModelRow, error) {
	out, err := collect(s.db, scanModel, modelSelect+`WHERE l.suite=? ORDER BY l.ord, m.key`, suite)
	return out, s.fail(fmt.Sprintf("read the models of suite %q", suite), err)
}

// Model finds one model cell by its key; ok is false when there is none.
func (s *Store) Model(key string) (row ModelRow, ok bool, err error) {
	out, err := collect(s.db, scanModel, modelSelect+`WHERE m.key=? ORDER BY l.suite LIMIT 1`, key)
	if err != nil || len(out) == 0 {
		return ModelRow{}, false, s.fail("read model cell "+ShortKey(key), err)
	}
	return out[0], true, nil
}

// Detections lists the detection cells of a suite by (Order, Key), whatever
// their state, with all class scores.
func (s *Store) Detections(suite string) ([]DetectionRow, error) {
	doing := fmt.Sprintf("read the detections of suite %q", suite)
	// Scores first would miss those of a cell that finishes in between; read
	// after the rows they can only be too many.
	out, err := collect(s.db, scanDetection, detectionSelect+`WHERE l.suite=? ORDER BY l.ord, d.key`, suite)
	if err != nil {
		return nil, s.fail(doing, err)
	}
	classes, err := classScores(s.db, `WHERE key IN (SELECT key FROM suite_detection WHERE suite=?)`, suite)
	if err != nil {
		return nil, s.fail(doing, err)
	}
	return withScores(out, classes), nil
}

// Detection finds one detection cell by its key; ok is false when there is none.
func (s *Store) Detection(key string) (row DetectionRow, ok bool, err error) {
	doing := "read detection cell " + ShortKey(key)
	out, err := collect(s.db, scanDetection, detectionSelect+`WHERE d.key=? ORDER BY l.suite LIMIT 1`, key)
	if err != nil || len(out) == 0 {
		return DetectionRow{}, false, s.fail(doing, err)
	}
	classes, err := classScores(s.db, `WHERE key=?`, key)
	if err != nil {
		return DetectionRow{}, false, s.fail(doing, err)
	}
	out[0].Result.Classes = classes[key]
	return out[0], true, nil
}

// DetectionsOf lists all detection cells of a model by a detector, of whatever suite and in whatever state, by key, with all class scores.
func (s *Store) DetectionsOf(model, detector string) ([]DetectionRow, error) {
	doing := fmt.Sprintf("read the detections of model %s by %s", ShortKey(model), detector)
	// Scores last, as in Detections.
	out, err := collect(s.db, scanDetection, detectionSelect+`WHERE d.model=? AND d.detector=? GROUP BY d.key ORDER BY d.key`, model, detector)
	if err != nil {
		return nil, s.fail(doing, err)
	}
	classes, err := classScores(s.db, `WHERE key IN (SELECT key FROM detection WHERE model=? AND detector=?)`, model, detector)
	if err != nil {
		return nil, s.fail(doing, err)
	}
	return withScores(out, classes), nil
}

// withScores gives finished rows their class scores.
func withScores(rows []DetectionRow, classes map[string][]ClassScore) []DetectionRow {
	for i := range rows {
		if rows[i].State == Finished {
			rows[i].Result.Classes = classes[rows[i].Cell.Key]
		}
	}
	return rows
}

// Progress counts the cells of a suite by state.
func (s *Store) Progress(suite string) (Progress, error) {
	var p Progress
	now := s.now().UnixMilli()
	err := s.db.QueryRow(`SELECT count(*), count(*) FILTER (WHERE state='finished'), count(*) FILTER (WHERE state='failed'),
		count(*) FILTER (WHERE state='pending'), count(*) FILTER (WHERE state='pending' AND lease_until>?)
		FROM model JOIN suite_model USING (key) WHERE suite=?`, now, suite).
		Scan(&p.Models.Planned, &p.Models.Finished, &p.Models.Failed, &p.Models.Pending, &p.Models.Leased)
	if err == nil {
		err = s.db.QueryRow(`SELECT count(*), count(*) FILTER (WHERE d.state='finished'), count(*) FILTER (WHERE d.state='failed'),
			count(*) FILTER (WHERE d.state='pending'), count(*) FILTER (WHERE d.state='pending' AND d.lease_until>?),
			count(*) FILTER (WHERE d.state='pending' AND m.state='failed')
			FROM detection d JOIN suite_detection l ON l.key=d.key JOIN model m ON m.key=d.model WHERE l.suite=?`, now, suite).
			Scan(&p.Detections.Planned, &p.Detections.Finished, &p.Detections.Failed, &p.Detections.Pending,
				&p.Detections.Leased, &p.Detections.Blocked)
	}
	if err == nil {
		p.Repairs, err = s.countRepairs(suite)
	}
	return p, s.fail(fmt.Sprintf("count the cells of suite %q", suite), err)
}

func collect[T any](q queryer, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

func classScores(q queryer, where string, args ...any) (map[string][]ClassScore, error) {
	rows, err := q.Query(`SELECT key, class, loss, asr, score, idx, norm, reached FROM class_score `+where+` ORDER BY key, pos`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string][]ClassScore{}
	for rows.Next() {
		var key string
		var c ClassScore
		if err := rows.Scan(&key, &c.Class, (*nullable)(&c.Loss), (*nullable)(&c.ASR), (*nullable)(&c.Score),
			(*nullable)(&c.Index), (*nullable)(&c.Norm), &c.Reached); err != nil {
			return nil, err
		}
		out[key] = append(out[key], c)
	}
	return out, rows.Err()
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
