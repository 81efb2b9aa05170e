package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// sealed is the schema version from which every cell and suite has a digest.
const sealed = 3

// volatile are the columns that change while a cell is worked on, and of which no table tells a
// number.
var volatile = []string{"state", "worker", "lease_until", "attempts", "failures", "message"}

// suiteKind is what a digest calls a suite. Its digest covers the row and which cells the suite
// has, in which order.
const suiteKind = "suite"

// A digest is the SHA-256 of a row's values and types, and of the rows that are parts of it. SQLite
// notices a damaged page by its structure alone: a flipped bit in a number passes. Digests are for
// accidents, not for a forger, who can compute them as well.
type digest struct{ hash.Hash }

func newDigest() digest { return digest{sha256.New()} }

// add adds a row's values, each with its column and type.
func (d digest) add(columns []string, values []any) {
	var line, text []byte
	for i, name := range columns {
		text = text[:0]
		switch v := values[i].(type) {
		case nil:
			text = append(text, "null"...)
		case float64:
			text = strconv.AppendFloat(append(text, "real "...), v, 'x', -1, 64)
		case int64:
			text = strconv.AppendInt(append(text, "integer "...), v, 10)
		case string:
			text = append(append(text, "text "...), v...)
		default:
			text = fmt.Appendf(text, "%T %v", v, v)
		}
		if name == "state" {
			text = strconv.AppendBool(text[:0], values[i] == string(Finished))
		} else if slices.Contains(volatile, name) {
			continue
		}
		line = strconv.AppendInt(append(append(line, name...), ' '), int64(len(text)), 10)
		line = append(append(append(line, ' '), text...), '\n')
	}
	d.Write(line)
}

func (d digest) String() string { return hex.EncodeToString(d.Sum(nil)) }

// digests computes the digests of the cells of a kind, or of the suites, by key; of all where keys
// is nil.
func digests(q queryer, f *family, keys []string) (map[string]digest, error) {
	out := map[string]digest{}
	// One of the conditions for all and for some: SQLite uses no index for what may be either.
	where, args := `1`, []any{}
	if keys != nil {
		text, err := CanonicalJSON(anys(keys))
		if err != nil {
			return nil, err
		}
		where, args = `%s IN (SELECT value FROM json_each(?))`, append(args, string(text))
	}
	add := func(query, key string) error {
		where := strings.ReplaceAll(where, `%s`, key)
		return eachRow(q, strings.Replace(query, `$where`, where, 1), args, func(columns []string, values []any) error {
			k, ok := values[0].(string)
			if !ok {
				return fmt.Errorf("a row of %s without a key", f.kind)
			}
			if _, ok := out[k]; !ok {
				out[k] = newDigest()
			}
			out[k].add(columns, values)
			return nil
		})
	}
	if f == nil {
		f = &family{kind: suiteKind}
		if err := add(`SELECT * FROM suite WHERE $where`, `name`); err != nil {
			return nil, err
		}
		for _, kind := range kinds {
			there, err := hasTable(q, "suite_"+string(kind.kind))
			if err == nil && there {
				err = add(fmt.Sprintf(`SELECT suite, key AS %[1]s, ord FROM suite_%[1]s WHERE $where ORDER BY suite, key`, kind.kind), `suite`)
			}
			if err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	if there, err := hasTable(q, string(f.kind)); err != nil || !there {
		return out, err
	}
	if err := add(`SELECT * FROM `+string(f.kind)+` WHERE $where`, `key`); err != nil || f.parts == "" {
		return out, err
	}
	return out, add(`SELECT * FROM `+f.parts+` WHERE $where ORDER BY key, pos`, `key`)
}

func hasTable(q queryer, name string) (there bool, err error) {
	err = q.QueryRow(`SELECT count(*)>0 FROM sqlite_master WHERE type='table' AND name=?`, name).Scan(&there)
	return there, err
}

func eachRow(q queryer, query string, args []any, row func(columns []string, values []any) error) error {
	rows, err := q.Query(query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values, to := make([]any, len(columns)), make([]any, len(columns))
	for i := range to {
		to[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return err
		}
		if err := row(columns, values); err != nil {
			return err
		}
	}
	return rows.Err()
}

// seal writes the digests of cells of the kind f, or with nil of suites; of all where keys is nil.
// It follows every change of what a digest covers, in the same transaction.
func seal(q writer, f *family, keys []string) error {
	kind := string(suiteKind)
	if f != nil {
		kind = string(f.kind)
	}
	sums, err := digests(q, f, keys)
	if err != nil {
		return err
	}
	for key, sum := range sums {
		if _, err := q.Exec(`INSERT INTO digest(kind, key, sum) VALUES(?,?,?) ON CONFLICT(kind, key) DO UPDATE SET sum=excluded.sum`,
			kind, key, sum.String()); err != nil {
			return err
		}
	}
	return nil
}

func sealAll(tx *sql.Tx) error {
	for _, f := range append([]*family{nil}, kinds...) {
		if err := seal(tx, f, nil); err != nil {
			return err
		}
	}
	return nil
}

// verify holds every row against its digest, and what a stranger's store could name against what a
// store of ours names.
func verify(q queryer) error {
	for _, f := range append([]*family{nil}, kinds...) {
		kind := suiteKind
		if f != nil {
			kind = string(f.kind)
		}
		sums, err := digests(q, f, nil)
		if err != nil {
			return err
		}
		damaged := func(key, what string) error {
			return fmt.Errorf("the file is damaged (%s %.40q %s): move it away and run again", kind, key, what)
		}
		written := 0
		err = eachRow(q, `SELECT key, sum FROM digest WHERE kind=?`, []any{kind}, func(_ []string, v []any) error {
			key, _ := v[0].(string)
			sum, ok := sums[key]
			if !ok {
				return damaged(key, "is missing")
			}
			if sum.String() != v[1] {
				return damaged(key, "is not what was written")
			}
			written++
			return nil
		})
		if err != nil {
			return err
		}
		if written != len(sums) {
			for key := range sums {
				var there bool
				if err := q.QueryRow(`SELECT count(*)>0 FROM digest WHERE kind=? AND key=?`, kind, key).Scan(&there); err != nil {
					return err
				}
				if !there {
					return damaged(key, "has no digest")
				}
			}
		}
	}
	return verifyNames(q)
}

// verifyNames refuses names that would lead a program out of its folder or a terminal out of its
// text.
func verifyNames(q queryer) error {
	err := eachRow(q, `SELECT name FROM suite`, nil, func(_ []string, v []any) error {
		name, _ := v[0].(string)
		return checkSuiteName(name)
	})
	for _, f := range kinds {
		if err != nil {
			return err
		}
		there := false
		if there, err = hasTable(q, string(f.kind)); err != nil || !there {
			continue
		}
		err = eachRow(q, `SELECT key, state, path FROM `+string(f.kind), nil, func(_ []string, v []any) error {
			key, _ := v[0].(string)
			state, _ := v[1].(string)
			path, _ := v[2].(string)
			switch {
			case key == "" || !filepath.IsLocal(key) || filepath.Base(key) != key || !isPrintable(key):
				return fmt.Errorf("%s cell %.40q: no key of a cell: the store is none of this program's", f.kind, key)
			case State(state) != Pending && State(state) != Finished && State(state) != Failed:
				return fmt.Errorf("the file is damaged (%s cell %s has the state %.20q): move it away and run again", f.kind, ShortKey(key), state)
			case path != "" && !filepath.IsLocal(path):
				return fmt.Errorf("%s cell %s names the file %.80q, outside its folder: the store is none of this program's", f.kind, ShortKey(key), path)
			}
			return nil
		})
	}
	return err
}

// checkSuiteName refuses what cannot be the name of a suite, which is that of a folder and stands
// in tables: it is one element of a path and printable.
func checkSuiteName(name string) error {
	if name == "" || !filepath.IsLocal(name) || filepath.Base(name) != name || strings.ContainsAny(name, `/\`) || !isPrintable(name) {
		return fmt.Errorf("suite %.80q: no name of a suite: it must be one printable word of a path, without slashes", name)
	}
	return nil
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// snapshot runs f on what is in the store at one moment.
func (s *Store) snapshot(f func(q queryer) error) error {
	c, err := s.db.Conn(context.Background())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.ExecContext(context.Background(), `BEGIN DEFERRED`); err != nil {
		return err
	}
	err = f(connection{c})
	_, end := c.ExecContext(context.Background(), `ROLLBACK`)
	return errors.Join(err, end)
}

// connection is one connection as a writer.
type connection struct{ c *sql.Conn }

func (c connection) QueryRow(query string, args ...any) *sql.Row {
	return c.c.QueryRowContext(context.Background(), query, args...)
}

func (c connection) Exec(query string, args ...any) (sql.Result, error) {
	return c.c.ExecContext(context.Background(), query, args...)
}

func (c connection) Query(query string, args ...any) (*sql.Rows, error) {
	return c.c.QueryContext(context.Background(), query, args...)
}
