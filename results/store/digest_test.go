package store

import (
	"database/sql"
	"path/filepath"
	"testing"
)

// A stranger can compute digests as well: names and paths that lead out of the folder, or are no
// text, are refused all the same. Without the digests every change of a row is damage.
func TestAStrangersStoreIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ change, reason string }{
		"suite":    {`UPDATE suite SET name='../../x'`, "no name of a suite"},
		"escape":   {`UPDATE suite SET name='a' || char(27) || '[2J'`, "no name of a suite"},
		"path":     {`UPDATE model SET path='../../../etc/passwd'`, "outside its folder"},
		"absolute": {`UPDATE detection SET path='/etc/passwd'`, "outside its folder"},
		"number":   {`UPDATE model SET asr=0.061`, ""},
		"state":    {`UPDATE detection SET state='failed' WHERE state='finished'`, ""},
		"part":     {`INSERT INTO class_score(key, pos, class, reached) SELECT key, 99, 0, 1 FROM detection`, ""},
		"order":    {`UPDATE suite_model SET ord=ord+1`, ""},
		"lost":     {`DELETE FROM suite_detection`, ""},
		"digest":   {`DELETE FROM digest WHERE kind='model'`, ""},
	} {
		for _, forged := range []bool{true, false} {
			if forged && c.reason == "" {
				continue // a forger can write any result
			}
			t.Run(name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "r.db")
				s, err := Open(path)
				if err != nil {
					t.Fatal(err)
				}
				planGrid(t, s, "grid", 3)
				if _, err := work(s, "grid", "w"); err != nil {
					t.Fatal(err)
				}
				err = s.write(func(tx *sql.Tx) error {
					if _, err := tx.Exec(c.change); err != nil || !forged {
						return err
					}
					if _, err := tx.Exec(`DELETE FROM digest`); err != nil {
						return err
					}
					if name == "suite" || name == "escape" { // and their lists of cells
						if _, err := tx.Exec(`DELETE FROM suite_model`); err != nil {
							return err
						}
						if _, err := tx.Exec(`DELETE FROM suite_detection`); err != nil {
							return err
						}
					}
					return sealAll(tx)
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				reason := "damaged"
				if forged {
					reason = c.reason
				}
				wantRefused(t, path, reason)
			})
		}
	}
}

// A schema version that no program writes is damage, and no panic.
func TestANegativeVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	execIn(t, path, `PRAGMA user_version=-1`)
	wantRefused(t, path, "schema version -1")
}
