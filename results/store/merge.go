package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Merging is a merge under way. Take takes over the cells of one suite of one store after another;
// End lists them in the suites, all at once. Until then no suite shows them.
type Merging struct {
	to     *Store
	conn   *sql.Conn // its temporary tables hold the places of the cells in suites
	suites map[string]Suite
}

// CellFile is the file of a finished cell.
type CellFile struct {
	Kind       Kind
	Path       string // below the folder of the store
	Backdoored bool   // of a model: a file with its trigger lies beside it
}

// Merge begins to take over cells of other stores. Close it in the end.
func (s *Store) Merge() (*Merging, error) {
	conn, err := s.db.Conn(context.Background())
	if err == nil {
		for _, f := range kinds {
			if _, err = conn.ExecContext(context.Background(), fmt.Sprintf(`CREATE TEMP TABLE place_%s(suite TEXT, key TEXT, ord INTEGER)`, f.kind)); err != nil {
				break
			}
		}
	}
	return &Merging{s, conn, map[string]Suite{}}, s.fail("begin to merge", err)
}

// Close ends a merge; without End before it, no suite has changed.
func (m *Merging) Close() error {
	var err error
	for _, f := range kinds {
		_, e := m.conn.ExecContext(context.Background(), `DROP TABLE temp.place_`+string(f.kind))
		err = errors.Join(err, e)
	}
	return m.to.fail("end the merge", errors.Join(err, m.conn.Close()))
}

// Take takes over the cells of a suite from another store, in one transaction. Before a row is
// written bring is called with the files of its finished cells, all of one moment. Cells keep their
// place in the plan. A cell that is finished in both must have the same result in both (times,
// paths and versions aside); otherwise nothing is taken over, and the error is an ErrConflict that
// names the cell. Taking the same again changes nothing.
func (m *Merging) Take(from *Store, suite Suite, bring func([]CellFile) error) error {
	doing := fmt.Sprintf("merge suite %q of %s", suite.Name, from.path)
	file, err := filepath.Abs(from.file())
	if err != nil {
		return m.to.fail(doing, err)
	}
	ctx := context.Background()
	if _, err := m.conn.ExecContext(ctx, `ATTACH ? AS source`, file); err != nil {
		return m.to.fail(doing, err)
	}
	err = retryBusy(func() error {
		if _, err := m.conn.ExecContext(ctx, `BEGIN DEFERRED`); err != nil {
			return err
		}
		err := m.take(suite.Name, bring)
		end := `COMMIT`
		if err != nil {
			end = `ROLLBACK`
		}
		_, eerr := m.conn.ExecContext(ctx, end)
		return errors.Join(err, eerr)
	})
	if _, derr := m.conn.ExecContext(ctx, `DETACH source`); err == nil {
		err = derr
	}
	if err == nil {
		m.suites[suite.Name] = suite
	}
	return m.to.fail(doing, err)
}

// take is Take in a transaction. What is read of the source first fixes the moment; the store
// itself is locked after the files have come.
func (m *Merging) take(suite string, bring func([]CellFile) error) error {
	q := connection{m.conn}
	files, err := filesOf(q, `source.`, suite)
	if err != nil {
		return err
	}
	if err := bring(files); err != nil {
		return err
	}
	// A statement that writes, first: a lock that was for reading may not be had for writing.
	if err := q.run(`UPDATE main.suite SET name=name WHERE 0`); err != nil {
		return err
	}
	for _, merge := range []func(connection, string) error{models.merge, references.merge, detections.merge, explanations.merge, repairs.merge} {
		if err := merge(q, suite); err != nil {
			return err
		}
	}
	return nil
}

// filesOf lists the files of a suite's finished cells.
func filesOf(q queryer, schema, suite string) (out []CellFile, err error) {
	for _, f := range kinds {
		backdoored := `0`
		if f.kind == KindModel {
			backdoored = `c.backdoored`
		}
		rows, err := q.Query(fmt.Sprintf(`SELECT c.path, %[3]s FROM %[1]ssuite_%[2]s l JOIN %[1]s%[2]s c ON c.key=l.key WHERE l.suite=? AND c.state='finished'
			ORDER BY l.ord, c.key`, schema, f.kind, backdoored), suite)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			of := CellFile{Kind: f.kind}
			if err := rows.Scan(&of.Path, &of.Backdoored); err != nil {
				return nil, errors.Join(err, rows.Close())
			}
			out = append(out, of)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Files lists the files of a suite's finished cells.
func (s *Store) Files(suite string) ([]CellFile, error) {
	files, err := filesOf(s.db, ``, suite)
	return files, s.fail(fmt.Sprintf("list the files of suite %q", suite), err)
}

// merge takes over the suite's cells of this kind from the database source.
func (d *declaration[C, R]) merge(q connection, suite string) error {
	kind := string(d.kind)
	// cells selects the source's cells s of the suite beside the store's c, where there is such a
	// one.
	cells := fmt.Sprintf(` FROM source.suite_%[1]s l JOIN source.%[1]s s ON s.key=l.key JOIN main.%[1]s c ON c.key=s.key WHERE l.suite=?1 AND `, kind)
	// refuse names the first cell, in order, that a query finds.
	refuse := func(query string, why error) error {
		keys, err := list(q, query+` ORDER BY l.ord, s.key LIMIT 1`, suite)
		if err != nil || len(keys) == 0 {
			return err
		}
		row, _, err := d.one(q, keys[0])
		if err != nil {
			return err
		}
		return fmt.Errorf("%s cell %s (%s): %w", d.kind, ShortKey(keys[0]), d.describe(&row.Cell), why)
	}
	if d.parent != "" {
		if err := refuse(fmt.Sprintf(`SELECT s.key FROM source.suite_%[1]s l JOIN source.%[1]s s ON s.key=l.key WHERE l.suite=?1 AND NOT EXISTS (SELECT 1 FROM main.%[2]s p WHERE p.key=s.%[2]s)`,
			kind, d.parent), fmt.Errorf("its %s is not planned", d.parent)); err != nil {
			return err
		}
	}
	named := append([]column[C]{col("settings", func(c *C) any { return d.head(c).settings })}, d.own...)
	columns := names(named, ", ")
	fresh, err := list(q, fmt.Sprintf(`INSERT INTO main.%[1]s(key, %[2]s) SELECT s.key, s.%[3]s FROM source.suite_%[1]s l JOIN source.%[1]s s ON s.key=l.key
		WHERE l.suite=?1 ON CONFLICT(key) DO NOTHING RETURNING key`, kind, columns, names(named, ", s.")), suite)
	if err != nil {
		return err
	}
	named = slices.DeleteFunc(named, func(c column[C]) bool { return c.label })
	if err := refuse(`SELECT s.key`+cells+`(`+differ(names(named, " "))+`)`,
		errors.New("the store has another cell under this key: the settings must name all that the cell is told by")); err != nil {
		return err
	}
	shown := slices.DeleteFunc(slices.Clone(d.result), func(c column[R]) bool { return c.export == "" })
	other := differ(names(shown, " "))
	if d.family.parts != "" {
		other += fmt.Sprintf(` OR EXISTS (SELECT * FROM source.%[1]s WHERE key=s.key EXCEPT SELECT * FROM main.%[1]s WHERE key=s.key)
			OR EXISTS (SELECT * FROM main.%[1]s WHERE key=s.key EXCEPT SELECT * FROM source.%[1]s WHERE key=s.key)`, d.family.parts)
	}
	if err := refuse(`SELECT s.key`+cells+`s.state='finished' AND c.state='finished' AND (`+other+`)`, ErrConflict); err != nil {
		return err
	}
	result := names(d.result, ", ") + `, finished_at`
	finished, err := list(q, fmt.Sprintf(`UPDATE main.%[1]s AS c SET (state, worker, lease_until, message, %[2]s) = ('finished', '', 0, '', s.%[3]s, s.finished_at)
		FROM source.suite_%[1]s l JOIN source.%[1]s s ON s.key=l.key WHERE l.suite=?1 AND c.key=s.key AND s.state='finished' AND c.state<>'finished' RETURNING key`,
		kind, result, names(d.result, ", s.")), suite)
	if err != nil {
		return err
	}
	keys, err := CanonicalJSON(anys(finished))
	if err != nil {
		return err
	}
	if d.family.parts != "" {
		for _, do := range []string{`DELETE FROM main.%[1]s WHERE key IN (SELECT value FROM json_each(?))`,
			`INSERT INTO main.%[1]s SELECT * FROM source.%[1]s WHERE key IN (SELECT value FROM json_each(?))`} {
			if err := q.run(fmt.Sprintf(do, d.family.parts), string(keys)); err != nil {
				return err
			}
		}
	}
	if err := q.run(fmt.Sprintf(`UPDATE main.%[1]s AS c SET state='failed', worker='', lease_until=0, failures=max(c.failures, s.failures), message=s.message
		FROM source.suite_%[1]s l JOIN source.%[1]s s ON s.key=l.key WHERE l.suite=?1 AND c.key=s.key AND s.state='failed' AND c.state<>'finished'`, kind), suite); err != nil {
		return err
	}
	if err := seal(q, &d.family, append(fresh, finished...)); err != nil {
		return err
	}
	return q.run(fmt.Sprintf(`INSERT INTO temp.place_%[1]s SELECT suite, key, ord FROM source.suite_%[1]s WHERE suite=?1`, kind), suite)
}

func (c connection) run(query string, args ...any) error {
	_, err := c.Exec(query, args...)
	return err
}

// differ is a condition: that one of the columns is another in the rows s and c.
func differ(columns string) string {
	var out []string
	for _, c := range strings.Fields(columns) {
		out = append(out, `s.`+c+` IS NOT c.`+c)
	}
	return strings.Join(out, ` OR `)
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

// End lists the cells that were taken over in their suites, in one transaction. It refuses cells
// that ask the same and differ in method version, engine or fingerprint of the data, as the cells
// of shards do that different programs planned.
func (m *Merging) End() error {
	tx, err := m.conn.BeginTx(context.Background(), nil)
	if err != nil {
		return m.to.fail("merge", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing is left of it where the end is an error
	for _, name := range slices.Sorted(maps.Keys(m.suites)) {
		if err := m.list(tx, m.suites[name]); err != nil {
			return m.to.fail(fmt.Sprintf("merge suite %q", name), err)
		}
	}
	return m.to.fail("merge", tx.Commit())
}

func (m *Merging) list(tx *sql.Tx, suite Suite) error {
	if err := m.to.putSuite(tx, suite); err != nil {
		return err
	}
	for _, f := range kinds {
		if _, err := tx.Exec(fmt.Sprintf(`INSERT INTO main.suite_%[1]s(suite, key, ord) SELECT suite, key, ord FROM temp.place_%[1]s WHERE suite=?
			ON CONFLICT(suite, key) DO UPDATE SET ord=excluded.ord`, f.kind), suite.Name); err != nil {
			return err
		}
	}
	if err := askedOnce(tx, suite.Name); err != nil {
		return err
	}
	return seal(tx, nil, []string{suite.Name})
}

// askedOnce makes sure that no two cells of the suite ask the same. See question, of which the sum
// is held here for each cell.
func askedOnce(tx *sql.Tx, suite string) error {
	sums := map[string][sha256.Size]byte{} // of all kinds, by key: parents come first
	for _, f := range kinds {
		rows, err := tx.Query(fmt.Sprintf(`SELECT c.key, %s FROM suite_%[2]s l JOIN %[2]s c ON c.key=l.key WHERE l.suite=? ORDER BY l.ord, c.key`,
			f.asks(), f.kind), suite)
		if err != nil {
			return err
		}
		known := map[[sha256.Size]byte]string{}
		for rows.Next() {
			var key, named, parent string
			var settings settingsText
			err := rows.Scan(&key, &settings, &named, &parent)
			above, ok := sums[parent]
			if err == nil && parent != "" && !ok { // in another suite
				up, _ := f.parent.family() // there is one
				above, err = question(tx, up, parent)
			}
			var sum [sha256.Size]byte
			if err == nil {
				sum, err = questionSum(settings, named, above)
			}
			if err != nil {
				return errors.Join(err, rows.Close())
			}
			if other, ok := known[sum]; ok {
				return errors.Join(fmt.Errorf("%s cells %s and %s ask the same but for method version, engine or data: merge only what one version of the program "+
					"computed on the same data", f.kind, ShortKey(other), ShortKey(key)), rows.Close())
			}
			known[sum], sums[key] = key, sum
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
	}
	return nil
}
