package store

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"time"
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
	return s.fail("finish model cell "+ShortKey(key), s.write(func(tx *sql.Tx) error {
		old, err := scanModel(tx.QueryRow(modelSelect+` WHERE m.key=? LIMIT 1`, key))
		if err != nil {
			return missing(err)
		}
		if old.State == Finished {
			return sameResult(exportModelResult(old.Result), exportModelResult(r))
		}
		versions, err := encodeMap(r.Versions)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE model SET state='finished', worker=?, lease_until=0, message='',
			backdoored=?, target=?, classes=?, acc=?, asr=?, asr_all=?, asr_ood=?, psnr=?, ssim=?,
			path=?, hash=?, seconds=?, versions=?, finished_at=? WHERE key=?`,
			worker, r.Backdoored, r.Target, r.Classes, null(r.ACC), null(r.ASR), null(r.ASRAll), null(r.ASROOD),
			null(r.PSNR), null(r.SSIM), r.Path, r.Hash, null(r.Seconds), versions, s.stamp(), key); err != nil {
			return err
		}
		if old.Result.Hash == "" || old.Result.Hash == r.Hash {
			return nil
		}
		return reopenDetections(tx, `model=?`, key)
	}))
}

// FinishDetection records a verdict and all class scores in one transaction,
// under the rules of FinishModel.
func (s *Store) FinishDetection(key, worker string, r DetectionResult) error {
	return s.fail("finish detection cell "+ShortKey(key), s.write(func(tx *sql.Tx) error {
		old, err := scanDetection(tx.QueryRow(detectionSelect+` WHERE d.key=? LIMIT 1`, key))
		if err != nil {
			return missing(err)
		}
		if old.State == Finished {
			classes, err := classScores(tx, `WHERE key=?`, key)
			if err != nil {
				return err
			}
			old.Result.Classes = classes[key]
			return sameResult(exportDetectionResult(old.Result), exportDetectionResult(r))
		}
		versions, err := encodeMap(r.Versions)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE detection SET state='finished', worker=?, lease_until=0, message='',
			idx=?, backdoored=?, suspect=?, image_passes=?, path=?, seconds=?, versions=?, finished_at=? WHERE key=?`,
			worker, null(r.Index), r.Backdoored, r.Suspect, r.ImagePasses, r.Path, null(r.Seconds), versions,
			s.stamp(), key); err != nil {
			return err
		}
		return insertScores(tx, key, r.Classes)
	}))
}

func insertScores(tx *sql.Tx, key string, classes []ClassScore) error {
	if _, err := tx.Exec(`DELETE FROM class_score WHERE key=?`, key); err != nil {
		return err
	}
	stmt, err := tx.Prepare(`INSERT INTO class_score(key, pos, class, loss, asr, score, idx, norm, reached)
		VALUES(?,?,?,?,?,?,?,?,?)`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for i, c := range classes {
		if _, err := stmt.Exec(key, i, c.Class, null(c.Loss), null(c.ASR), null(c.Score), null(c.Index),
			null(c.Norm), c.Reached); err != nil {
			return err
		}
	}
	return nil
}

// Reopen makes a finished or failed cell pending again, for a file that was
// lost or damaged. A model's detections stay finished; FinishModel reopens them
// should the new file differ from the old.
func (s *Store) Reopen(kind Kind, key string) error {
	doing := fmt.Sprintf("reopen %s cell %s", kind, ShortKey(key))
	if err := kind.check(); err != nil {
		return s.fail(doing, err)
	}
	return s.fail(doing, s.write(func(tx *sql.Tx) error {
		if kind == KindDetection {
			return reopenDetections(tx, `key=?`, key)
		}
		_, err := tx.Exec(`UPDATE `+string(kind)+` SET state='pending', worker='', lease_until=0 WHERE key=?`, key)
		return err
	}))
}

func reopenDetections(tx *sql.Tx, where, arg string) error {
	if _, err := tx.Exec(`DELETE FROM class_score WHERE key IN (SELECT key FROM detection WHERE `+where+`)`, arg); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE detection SET state='pending', worker='', lease_until=0 WHERE `+where, arg); err != nil {
		return err
	}
	return reopenRepairs(tx)
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

func missing(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return errors.New("no suite has such a cell")
	}
	return err
}

func (s *Store) stamp() string { return s.now().UTC().Format(time.RFC3339Nano) }
