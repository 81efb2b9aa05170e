package store

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Plan writes the suite and makes the given cells its plan, in one transaction:
// new cells are added as pending, cells already in the store keep their state
// and results, and cells that an earlier plan of the suite had and this one has
// not leave the suite (they stay in the store, and a plan that names them again
// finds them finished). Planning the same again changes nothing. The cells'
// Suite fields are ignored; empty keys are computed.
func (s *Store) Plan(suite Suite, models []ModelCell, detections []DetectionCell) error {
	doing := fmt.Sprintf("plan suite %q", suite.Name)
	if suite.Name == "" {
		return s.fail(doing, errors.New("a suite needs a name"))
	}
	return s.fail(doing, s.write(func(tx *sql.Tx) error {
		if err := s.putSuite(tx, suite); err != nil {
			return err
		}
		for _, q := range []string{
			`DELETE FROM suite_model WHERE suite = ?`, `DELETE FROM suite_detection WHERE suite = ?`,
		} {
			if _, err := tx.Exec(q, suite.Name); err != nil {
				return err
			}
		}
		for _, c := range models {
			c.Suite = suite.Name
			if err := planModel(tx, c); err != nil {
				return err
			}
		}
		for _, c := range detections {
			c.Suite = suite.Name
			if err := planDetection(tx, c); err != nil {
				return err
			}
		}
		return nil
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
func (c ModelCell) Identity() (string, error) { return Key(nonNil(c.Settings)) }

// Identity is the key that Plan gives a detection cell without one: it
// covers the model's key, the detector's name and the settings.
func (c DetectionCell) Identity() (string, error) {
	return Key(map[string]any{"model": c.ModelKey, "detector": c.Detector, "settings": nonNil(c.Settings)})
}

func nonNil(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

func planModel(tx *sql.Tx, c ModelCell) error {
	settings, err := encodeMap(c.Settings)
	if err != nil {
		return err
	}
	if c.Key == "" {
		if c.Key, err = c.Identity(); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(`INSERT INTO model(key, dataset, attack, learner, seed, settings) VALUES(?,?,?,?,?,?)
		ON CONFLICT(key) DO NOTHING`, c.Key, c.Dataset, c.Attack, c.Learner, c.Seed, settings); err != nil {
		return err
	}
	var same bool
	// The dataset's name is for people: the same folder may be called otherwise elsewhere. The settings hold its identity.
	if err := tx.QueryRow(`SELECT attack=? AND learner=? AND seed=? AND settings=? FROM model WHERE key=?`,
		c.Attack, c.Learner, c.Seed, settings, c.Key).Scan(&same); err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("model cell %s (%s, %s, seed %d): the store has another cell under this key: "+
			"the settings must name the dataset, the attack, the learner and the seed",
			ShortKey(c.Key), c.Dataset, c.Attack, c.Seed)
	}
	_, err = tx.Exec(`INSERT INTO suite_model(suite, key, ord) VALUES(?,?,?)
		ON CONFLICT(suite, key) DO UPDATE SET ord=excluded.ord`, c.Suite, c.Key, c.Order)
	return err
}

func planDetection(tx *sql.Tx, c DetectionCell) error {
	settings, err := encodeMap(c.Settings)
	if err != nil {
		return err
	}
	if c.Key == "" {
		if c.Key, err = c.Identity(); err != nil {
			return err
		}
	}
	var models int
	if err := tx.QueryRow(`SELECT count(*) FROM model WHERE key=?`, c.ModelKey).Scan(&models); err != nil {
		return err
	}
	if models == 0 {
		return fmt.Errorf("detection cell %s (%s): its model %s is not planned", ShortKey(c.Key), c.Detector, ShortKey(c.ModelKey))
	}
	if _, err := tx.Exec(`INSERT INTO detection(key, model, detector, settings) VALUES(?,?,?,?)
		ON CONFLICT(key) DO NOTHING`, c.Key, c.ModelKey, c.Detector, settings); err != nil {
		return err
	}
	var same bool
	if err := tx.QueryRow(`SELECT model=? AND detector=? AND settings=? FROM detection WHERE key=?`,
		c.ModelKey, c.Detector, settings, c.Key).Scan(&same); err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("detection cell %s (%s): the store has another cell under this key", ShortKey(c.Key), c.Detector)
	}
	_, err = tx.Exec(`INSERT INTO suite_detection(suite, key, ord) VALUES(?,?,?)
		ON CONFLICT(suite, key) DO UPDATE SET ord=excluded.ord`, c.Suite, c.Key, c.Order)
	return err
}

// ShortKey is enough of a key to find it by.
func ShortKey(key string) string { return key[:min(len(key), 12)] }

func decodeVersions(text string) (map[string]string, error) {
	m := map[string]string{}
	if text == "" {
		return m, nil
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, fmt.Errorf("versions: %w", err)
	}
	return m, nil
}
