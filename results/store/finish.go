package store

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
)

// ErrConflict says that a cell is finished already, with another result: two
// runs of the same settings did not agree, which determinism forbids.
var ErrConflict = errors.New("the cell is already finished with a different result")

// FinishModel records the result of a model cell in one transaction. The file
// it names must be complete on disk. A worker whose lease expired may still
// finish an unfinished cell; finishing twice with the same result (durations,
// paths and versions aside) changes nothing; another result is ErrConflict. When
// a reopened cell comes out with another hash, the detections of the old model
// become pending again.
func (s *Store) FinishModel(key, worker string, r ModelResult) error {
	return models.finish(s, key, worker, r)
}

// FinishReference records the result of a reference cell in one transaction, under the rules of
// FinishModel.
func (s *Store) FinishReference(key, worker string, r ReferenceResult) error {
	return references.finish(s, key, worker, r)
}

// FinishDetection records a verdict and all class scores in one transaction,
// under the rules of FinishModel.
func (s *Store) FinishDetection(key, worker string, r DetectionResult) error {
	return detections.finish(s, key, worker, r)
}

// FinishExplanation records a second look in one transaction, under the rules of FinishModel.
func (s *Store) FinishExplanation(key, worker string, r ExplanationResult) error {
	return explanations.finish(s, key, worker, r)
}

// FinishRepair records the outcome of a repair in one transaction, under the rules of FinishModel.
func (s *Store) FinishRepair(key, worker string, r RepairResult) error {
	return repairs.finish(s, key, worker, r)
}

// Reopen makes a finished or failed cell pending again, for a file that was
// lost or damaged. A model's detections stay finished; FinishModel reopens them
// should the new file differ from the old. The repairs of a detection become
// pending with it.
func (s *Store) Reopen(kind Kind, key string) error {
	doing := fmt.Sprintf("reopen %s cell %s", kind, ShortKey(key))
	f, err := kind.family()
	if err != nil {
		return s.fail(doing, err)
	}
	return s.fail(doing, s.write(func(tx *sql.Tx) error { return f.reopen(tx, `key=?`, key) }))
}

func sameResult(old, now any) error {
	a, err := CanonicalJSON(old)
	if err != nil {
		return err
	}
	b, err := CanonicalJSON(now)
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return ErrConflict
	}
	return nil
}
