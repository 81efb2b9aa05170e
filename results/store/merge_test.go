package store

import (
	"bytes"
	"database/sql"
	"errors"
	"strings"
	"testing"
)

// take merges one suite of a store into another; it returns what the files were.
func take(to, from *Store, suite string) (files []CellFile, err error) {
	m, err := to.Merge()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := m.Take(from, Suite{Name: suite, YAML: "grid"}, func(f []CellFile) error { files = f; return nil }); err != nil {
		return nil, err
	}
	return files, m.End()
}

// grid is a store with a suite of 4 models and 8 detections, all finished.
func grid(t *testing.T) *Store {
	t.Helper()
	s := openTemp(t)
	planGrid(t, s, "grid", 4)
	if _, err := work(s, "grid", "w"); err != nil {
		t.Fatal(err)
	}
	return s
}

func mustExec(t *testing.T, s *Store, query string) {
	t.Helper()
	err := s.write(func(tx *sql.Tx) error {
		if _, err := tx.Exec(query); err != nil {
			return err
		}
		return sealAll(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What is merged exports the same bytes, at whatever state the store had the cells before, and its
// digests are right.
func TestMergedCellsAreTheSame(t *testing.T) {
	from := grid(t)
	want := exported(t, from, "grid")
	to := openTemp(t)
	for _, before := range []string{``, ``, // nothing, then all of it
		`UPDATE detection SET state='pending', idx=7; DELETE FROM class_score WHERE pos>3`, // reopened
		`UPDATE model SET state='failed', failures=2, message='no'`,
		`UPDATE model SET dataset='another name of it', worker='w', attempts=5`} {
		if before != `` {
			mustExec(t, to, before)
		}
		files, err := take(to, from, "grid")
		if err != nil {
			t.Fatalf("after %q: %v", before, err)
		}
		if len(files) != 12 || files[1].Path != fakeModel(models4(t, from)[1]).Path || !files[1].Backdoored || files[0].Backdoored {
			t.Errorf("the files of the finished cells are %+v", files)
		}
		if got := exported(t, to, "grid"); !bytes.Equal(got, want) && !strings.Contains(before, "another name") {
			t.Errorf("after %q another export: %s", before, got)
		}
		if err := to.check(); err != nil {
			t.Errorf("after %q: %v", before, err)
		}
	}
}

func models4(t *testing.T, s *Store) (out []ModelCell) {
	t.Helper()
	rows, err := s.Models("grid")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		out = append(out, r.Cell)
	}
	return out
}

// Of cells that failed or wait the state is taken over; what finished stays.
func TestUnfinishedCellsAreMerged(t *testing.T) {
	from, to := grid(t), openTemp(t)
	mustExec(t, from, `UPDATE model SET state='failed', failures=3, message='a reason' WHERE seed=0; UPDATE detection SET state='pending'`)
	if _, err := take(to, from, "grid"); err != nil {
		t.Fatal(err)
	}
	p, err := to.Progress("grid")
	if err != nil || p.Models != (Counts{Planned: 4, Finished: 3, Failed: 1, Seconds: 3}) || p.Detections != (Counts{Planned: 8, Pending: 8, Blocked: 2}) {
		t.Errorf("%+v, %v, want 3 models finished, one failed, and 8 detections pending of which 2 wait for it", p, err)
	}
	whole := grid(t)
	if _, err := take(whole, from, "grid"); err != nil {
		t.Fatal(err)
	}
	if p, err := whole.Progress("grid"); err != nil || p.Open() != 0 {
		t.Errorf("%+v, %v: cells that were finished are not any more", p, err)
	}
}

// Each difference of a cell is refused with its key, and the suite stays as it was.
func TestMergeRefuses(t *testing.T) {
	const other = "another cell under this key"
	for change, want := range map[string]string{
		`UPDATE detection SET idx=idx+1e-12 WHERE key=$1`:                                    ErrConflict.Error(),
		`UPDATE model SET asr=NULL WHERE key=$0`:                                             ErrConflict.Error(),
		`UPDATE class_score SET loss=0.5 WHERE pos=19 AND key=$1`:                            ErrConflict.Error(),
		`DELETE FROM class_score WHERE pos=19 AND key=$1`:                                    ErrConflict.Error(),
		`INSERT INTO class_score(key, pos, class, reached) VALUES($1, 20, 20, 0)`:            ErrConflict.Error(),
		`UPDATE model SET settings='{"another":1}' WHERE key=$0`:                             other,
		`UPDATE model SET attack='wanet' WHERE key=$0`:                                       other,
		`UPDATE detection SET model=(SELECT max(key) FROM model WHERE key<>$0) WHERE key=$1`: other,
	} {
		from, to := grid(t), grid(t)
		detections, err := from.Detections("grid")
		if err != nil {
			t.Fatal(err)
		}
		cell := detections[3].Cell
		mustExec(t, from, strings.NewReplacer("$0", "'"+cell.ModelKey+"'", "$1", "'"+cell.Key+"'").Replace(change))
		before := exported(t, to, "grid")
		key := cell.Key
		if strings.Contains(change, " model SET") {
			key = cell.ModelKey
		}
		_, err = take(to, from, "grid")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ShortKey(key)) {
			t.Errorf("%s: %v, want %q and the cell %s", change, err, want, ShortKey(key))
		}
		if got := exported(t, to, "grid"); !bytes.Equal(got, before) {
			t.Errorf("%s: the suite has changed", change)
		}
		if err := to.check(); err != nil {
			t.Errorf("%s: %v", change, err)
		}
	}
}

// A detection whose model no merged store has is refused, and so are two cells that ask the same.
func TestMergeRefusesWhatDoesNotBelongTogether(t *testing.T) {
	from, to := grid(t), openTemp(t)
	mustExec(t, from, `DELETE FROM suite_model WHERE ord=1`)
	if _, err := take(to, from, "grid"); err == nil || !strings.Contains(err.Error(), "its model is not planned") {
		t.Errorf("a detection without its model: %v", err)
	}
	from, to = grid(t), grid(t)
	cell := models4(t, from)[1]
	cell.Settings["version"] = 2
	cell.Key = ""
	if err := from.Plan(Suite{Name: "newer"}, []ModelCell{cell}, nil); err != nil {
		t.Fatal(err)
	}
	mustExec(t, from, `DELETE FROM suite_detection; DELETE FROM suite_model WHERE suite='grid'; UPDATE suite_model SET suite='grid'`)
	if _, err := take(to, from, "grid"); err == nil || !strings.Contains(err.Error(), "ask the same") {
		t.Errorf("a model of two method versions: %v", err)
	}
	if n := len(models4(t, to)); n != 4 {
		t.Errorf("after a merge that was refused the suite has %d models, want the 4 of before", n)
	}
}
