package store

import (
	"database/sql"
	"fmt"
	"time"
)

// Plan writes the suite and adds the given cells to what was planned under its name before, in one
// transaction: new cells are pending, cells already in the store keep their state and results. A
// cell of an earlier plan leaves the suite when a new one asks the same with another method
// version, engine or fingerprint of the data; it stays in the store, and a plan that names it again
// finds it finished. Planning the same again changes nothing. The cells' Suite fields are ignored;
// empty keys are computed.
func (s *Store) Plan(suite Suite, m []ModelCell, d []DetectionCell) error {
	doing := fmt.Sprintf("plan suite %q", suite.Name)
	if err := checkSuiteName(suite.Name); err != nil {
		return s.fail(doing, err)
	}
	return s.fail(doing, s.write(func(tx *sql.Tx) error {
		if err := s.putSuite(tx, suite); err != nil {
			return err
		}
		if err := models.plan(tx, suite.Name, m); err != nil {
			return err
		}
		if err := detections.plan(tx, suite.Name, d); err != nil {
			return err
		}
		return seal(tx, nil, []string{suite.Name})
	}))
}

// PlanReferences adds the given cells to the suite's references, as Plan does with models and
// detections.
func (s *Store) PlanReferences(suite string, cells []ReferenceCell) error {
	return s.fail(fmt.Sprintf("plan the references of suite %q", suite), s.write(func(tx *sql.Tx) error {
		if err := references.plan(tx, suite, cells); err != nil {
			return err
		}
		return seal(tx, nil, []string{suite})
	}))
}

// PlanExplanations adds the given cells to the suite's explanations, as PlanRepairs does with
// repairs.
func (s *Store) PlanExplanations(suite string, cells []ExplanationCell) error {
	return s.fail(fmt.Sprintf("plan the explanations of suite %q", suite), s.write(func(tx *sql.Tx) error {
		if err := explanations.plan(tx, suite, cells); err != nil {
			return err
		}
		return seal(tx, nil, []string{suite})
	}))
}

// PlanRepairs adds the given cells to the suite's repairs, as Plan does with models and detections,
// which must be planned before.
func (s *Store) PlanRepairs(suite string, cells []RepairCell) error {
	return s.fail(fmt.Sprintf("plan the repairs of suite %q", suite), s.write(func(tx *sql.Tx) error {
		if err := repairs.plan(tx, suite, cells); err != nil {
			return err
		}
		return seal(tx, nil, []string{suite})
	}))
}

func (s *Store) putSuite(tx *sql.Tx, u Suite) error {
	settings, err := encodeMap(u.Settings)
	if err != nil {
		return err
	}
	versions, err := encodeMap(u.Versions)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO suite(name, yaml, settings, versions, created) VALUES(?,?,?,?,?)
		ON CONFLICT(name) DO UPDATE SET yaml=excluded.yaml, settings=excluded.settings, versions=excluded.versions`,
		u.Name, u.YAML, settings, versions, s.now().UTC().Format(time.RFC3339Nano))
	return err
}

// Identity is the key that Plan gives a model cell without one.
func (c ModelCell) Identity() (string, error) { return models.identity(&c) }

// Identity is the key that Plan gives a detection cell without one: it
// covers the model's key, the detector's name and the settings.
func (c DetectionCell) Identity() (string, error) { return detections.identity(&c) }

// Identity is the key that PlanReferences gives a cell without one.
func (c ReferenceCell) Identity() (string, error) { return references.identity(&c) }

// Identity is the key that PlanExplanations gives a cell without one.
func (c ExplanationCell) Identity() (string, error) { return explanations.identity(&c) }

// Identity is the key that PlanRepairs gives a cell without one: it covers the detection's key and
// the settings.
func (c RepairCell) Identity() (string, error) { return repairs.identity(&c) }

// Only is a view of the store whose leases, retries and counts cover the cells alone that has
// names: those of one plan, where several processes plan into one suite.
func (s *Store) Only(has func(kind Kind, key string) bool) *Store {
	view := *s
	view.only = has
	return &view
}

func (s *Store) covers(kind Kind, key string) bool { return s.only == nil || s.only(kind, key) }

// ShortKey is enough of a key to find it by.
func ShortKey(key string) string { return key[:min(len(key), 12)] }

// SetSuite sets one of the settings that a suite is stored with, or with nil takes it away. No cell
// depends on them.
func (s *Store) SetSuite(name, setting string, value any) error {
	return s.fail(fmt.Sprintf("note %s of suite %q", setting, name), s.write(func(tx *sql.Tx) error {
		var text settingsText
		if err := tx.QueryRow(`SELECT settings FROM suite WHERE name=?`, name).Scan(&text); err != nil {
			return err
		}
		if value == nil {
			delete(text, setting)
		} else {
			text[setting] = value
		}
		raw, err := encodeMap(text)
		if err != nil {
			return err
		}
		if _, err = tx.Exec(`UPDATE suite SET settings=? WHERE name=?`, raw, name); err != nil {
			return err
		}
		return seal(tx, nil, []string{name})
	}))
}
