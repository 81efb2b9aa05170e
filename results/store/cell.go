package store

import (
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Row is a cell with its state. Result is meaningful when State is Finished, Message when it is or
// was Failed. Rows that are read together may share their settings, which nobody changes.
type Row[C, R any] struct {
	Cell     C
	State    State
	Attempts int // leases given so far
	Failures int
	Message  string
	Result   R
}

// declaration says how the cells of one kind are kept: in a table of the kind's name, linked to
// suites by a table suite_KIND. C names a cell and R is its result. A further kind of cell is a
// declaration, its tables in a migration, and an entry in kinds.
type declaration[C, R any] struct {
	family
	head   func(*C) head
	own    []column[C] // what names the cell beside its settings; the parent's key under the name of its kind
	result []column[R]
	parts  *parts[R]
	id     func(*C) any // what the key is the hash of
}

// family is what is known of a kind without its types.
type family struct {
	kind   Kind
	parent Kind   // whose cell must be finished first; empty for none
	named  string // SQL of what tells the kind's cells apart beside parent and settings
	parts  string // table of the result's parts; empty for none
	file   bool   // the result is a file with a hash: children are computed again only when it differs
}

// kinds lists all kinds, parents first.
var kinds = []*family{&models.family, &references.family, &detections.family, &explanations.family, &repairs.family}

// head points to what cells of every kind have.
type head struct {
	key, suite *string
	order      *int
	settings   *map[string]any
}

func (d *declaration[C, R]) columns() string {
	return `SELECT c.key, COALESCE(l.suite, ''), COALESCE(l.ord, 0), c.settings, c.state, c.attempts, c.failures, c.message, c.` +
		names(d.own, ", c.") + `, c.` + names(d.result, ", c.") + ` `
}

// query selects cells, with the alias c, and their places in suites, with the alias l.
func (d *declaration[C, R]) query(where string) string {
	return d.columns() + fmt.Sprintf(`FROM %[1]s c LEFT JOIN suite_%[1]s l ON l.key=c.key WHERE `, d.kind) + where
}

// scan reads a row; one with settings that are known already shares them.
func (d *declaration[C, R]) scan(row scanner, known map[string]map[string]any) (Row[C, R], error) {
	var r Row[C, R]
	h := d.head(&r.Cell)
	to := []any{h.key, h.suite, h.order, sharedSettings{h.settings, known}, &r.State, &r.Attempts, &r.Failures, &r.Message}
	to = append(append(to, targets(d.own, &r.Cell)...), targets(d.result, &r.Result)...)
	if err := row.Scan(to...); err != nil {
		if *h.key != "" {
			err = fmt.Errorf("%s cell %s: %w", d.kind, ShortKey(*h.key), err)
		}
		return Row[C, R]{}, err
	}
	return r, nil
}

// read reads the cells that query(where) selects, with the parts of finished ones.
func (d *declaration[C, R]) read(q queryer, where string, args ...any) ([]Row[C, R], error) {
	rows, err := q.Query(d.query(where), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Row[C, R]
	known := map[string]map[string]any{}
	for rows.Next() {
		r, err := d.scan(rows, known)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	if err := rows.Err(); err != nil || d.parts == nil {
		return out, err
	}
	// Parts first would miss those of a cell that finishes in between; read after the rows they can
	// only be too many.
	fill, err := d.parts.read(q, `key IN (SELECT c.key `+strings.TrimPrefix(d.query(where), d.columns())+`)`, args...)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if out[i].State == Finished {
			fill(*d.head(&out[i].Cell).key, &out[i].Result)
		}
	}
	return out, nil
}

// one reads the cell of a key; ok is false when there is none.
func (d *declaration[C, R]) one(q queryer, key string) (row Row[C, R], ok bool, err error) {
	rows, err := d.read(q, `c.key=? ORDER BY l.suite LIMIT 1`, key)
	if err != nil || len(rows) == 0 {
		return row, false, err
	}
	return rows[0], true, nil
}

// ofSuite lists the cells of a suite by (Order, Key), whatever their state.
func (d *declaration[C, R]) ofSuite(s *Store, suite string) ([]Row[C, R], error) {
	rows, err := d.read(s.db, `l.suite=? ORDER BY l.ord, c.key`, suite)
	return rows, s.fail(fmt.Sprintf("read the %ss of suite %q", d.kind, suite), err)
}

// find is one, outside a transaction.
func (d *declaration[C, R]) find(s *Store, key string) (Row[C, R], bool, error) {
	row, ok, err := d.one(s.db, key)
	return row, ok, s.fail(fmt.Sprintf("read %s cell %s", d.kind, ShortKey(key)), err)
}

func (d *declaration[C, R]) identity(c *C) (string, error) { return Key(d.id(c)) }

// plan adds the cells to a suite: new ones are pending, those that are in the store keep their
// state. Cells of the suite that ask what a new one asks (see question) leave it.
func (d *declaration[C, R]) plan(tx *sql.Tx, suite string, cells []C) error {
	planned := map[string]bool{}
	asked := map[[sha256.Size]byte]bool{}
	for _, c := range cells {
		h := d.head(&c)
		*h.suite = suite
		if *h.key == "" {
			var err error
			if *h.key, err = d.identity(&c); err != nil {
				return err
			}
		}
		if err := d.put(tx, &c); err != nil {
			return fmt.Errorf("%s cell %s (%s): %w", d.kind, ShortKey(*h.key), d.describe(&c), err)
		}
		q, err := question(tx, &d.family, *h.key)
		if err != nil {
			return err
		}
		planned[*h.key], asked[q] = true, true
	}
	keys, err := list(tx, `SELECT key FROM suite_`+string(d.kind)+` WHERE suite=?`, suite)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if planned[key] {
			continue
		}
		q, err := question(tx, &d.family, key)
		if err != nil {
			return err
		}
		if !asked[q] {
			continue
		}
		if _, err := tx.Exec(`DELETE FROM suite_`+string(d.kind)+` WHERE suite=? AND key=?`, suite, key); err != nil {
			return err
		}
	}
	return nil
}

// put adds one cell, or makes sure that the one in the store is the same.
func (d *declaration[C, R]) put(tx *sql.Tx, c *C) error {
	h := d.head(c)
	columns := append([]column[C]{col("settings", func(c *C) any { return d.head(c).settings })}, d.own...)
	v, err := values(columns, c)
	if err != nil {
		return err
	}
	if d.parent != "" {
		i := slices.IndexFunc(columns, func(x column[C]) bool { return x.name == string(d.parent) })
		var there bool
		if err := tx.QueryRow(`SELECT count(*) FROM `+string(d.parent)+` WHERE key=?`, v[i]).Scan(&there); err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("its %s %s is not planned", d.parent, ShortKey(fmt.Sprint(v[i])))
		}
	}
	if _, err := tx.Exec(`INSERT INTO `+string(d.kind)+`(key, `+names(columns, ", ")+`) VALUES(?`+strings.Repeat(",?", len(v))+
		`) ON CONFLICT(key) DO NOTHING`, append([]any{*h.key}, v...)...); err != nil {
		return err
	}
	columns = slices.DeleteFunc(columns, func(x column[C]) bool { return x.label })
	if v, err = values(columns, c); err != nil {
		return err
	}
	var same bool
	if err := tx.QueryRow(`SELECT `+names(columns, "=? AND ")+`=? FROM `+string(d.kind)+` WHERE key=?`,
		append(v, *h.key)...).Scan(&same); err != nil {
		return err
	}
	if !same {
		return errors.New("the store has another cell under this key: the settings must name all that the cell is told by")
	}
	if err := seal(tx, &d.family, []string{*h.key}); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO suite_`+string(d.kind)+`(suite, key, ord) VALUES(?,?,?)
		ON CONFLICT(suite, key) DO UPDATE SET ord=excluded.ord`, *h.suite, *h.key, *h.order)
	return err
}

func (d *declaration[C, R]) describe(c *C) string {
	var out []string
	for _, x := range d.own {
		switch p := x.at(c).(type) {
		case *string:
			if x.name == string(d.parent) {
				out = append(out, x.name+" "+ShortKey(*p))
			} else {
				out = append(out, *p)
			}
		case *int:
			out = append(out, fmt.Sprintf("%s %d", x.name, *p))
		}
	}
	return strings.Join(out, ", ")
}

// farthest is how far ahead a lease may end. One that ends later was given by a clock that has been
// set back since, and nobody renews it.
func farthest(ttl time.Duration) time.Duration { return max(10*ttl, 5*time.Minute) }

// lease gives the worker the first cell of the suite, in plan order, that is pending, that nobody
// holds and whose parent is finished.
func (d *declaration[C, R]) lease(s *Store, suite, worker string, ttl time.Duration) (cell C, ok bool, err error) {
	doing := fmt.Sprintf("lease a %s cell", d.kind)
	if worker == "" {
		return cell, false, s.fail(doing, errors.New("a worker needs a name"))
	}
	if ttl <= 0 {
		return cell, false, s.fail(doing, fmt.Errorf("a lease of %v is none", ttl))
	}
	// Named exactly, the suite's index gives its cells in order and the search ends at the first
	// free one: hence also CROSS JOIN, which keeps the plan outermost.
	query := fmt.Sprintf(`FROM suite_%[1]s l CROSS JOIN %[1]s c ON c.key=l.key WHERE c.state='pending' AND (c.lease_until<=?1 OR c.lease_until>?2) AND l.suite`, d.kind)
	if suite == "" {
		query += `>=?3`
	} else {
		query += `=?3`
	}
	if d.parent != "" {
		query += fmt.Sprintf(` AND EXISTS (SELECT 1 FROM %[1]s p WHERE p.key=c.%[1]s AND p.state='finished')`, d.parent)
	}
	query += ` ORDER BY l.ord, l.key`
	err = s.write(func(tx *sql.Tx) error {
		ok = false
		now := s.now()
		key, err := s.first(tx, d.kind, `SELECT c.key `+query, now.UnixMilli(), now.Add(farthest(ttl)).UnixMilli(), suite)
		if err != nil || key == "" {
			return err
		}
		row, err := d.scan(tx.QueryRow(d.query(`c.key=? AND (?2='' OR l.suite=?2) ORDER BY l.suite LIMIT 1`), key, suite), map[string]map[string]any{})
		if err != nil {
			return err
		}
		cell, ok = row.Cell, true
		_, err = tx.Exec(`UPDATE `+string(d.kind)+` SET worker=?, lease_until=?, attempts=attempts+1 WHERE key=?`,
			worker, now.Add(ttl).UnixMilli(), key)
		return err
	})
	return cell, ok && err == nil, s.fail(doing, err)
}

// first is the first key of a query that the store's view covers; empty when there is none.
func (s *Store) first(tx *sql.Tx, kind Kind, query string, args ...any) (string, error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return "", err
		}
		if s.covers(kind, key) {
			return key, nil
		}
	}
	return "", rows.Err()
}

// finish records a result in one transaction.
func (d *declaration[C, R]) finish(s *Store, key, worker string, r R) error {
	return s.fail(fmt.Sprintf("finish %s cell %s", d.kind, ShortKey(key)), s.write(func(tx *sql.Tx) error {
		old, ok, err := d.one(tx, key)
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("no suite has such a cell")
		}
		if old.State == Finished {
			return sameResult(d.exportResult(&old.Result), d.exportResult(&r))
		}
		if err := d.record(tx, s.now(), key, worker, &r); err != nil {
			return err
		}
		if was := d.hash(&old.Result); was != "" && was != d.hash(&r) {
			return d.reopenChildren(tx, `?`, key)
		}
		return nil
	}))
}

// record writes a result and its parts.
func (d *declaration[C, R]) record(tx *sql.Tx, now time.Time, key, worker string, r *R) error {
	v, err := values(d.result, r)
	if err != nil {
		return err
	}
	args := append(append([]any{worker}, v...), now.UTC().Format(time.RFC3339Nano), key)
	if _, err := tx.Exec(`UPDATE `+string(d.kind)+` SET state='finished', lease_until=0, message='', worker=?, `+
		names(d.result, "=?, ")+`=?, finished_at=? WHERE key=?`, args...); err != nil {
		return err
	}
	if d.parts != nil {
		if _, err := tx.Exec(`DELETE FROM `+d.parts.table+` WHERE key=?`, key); err != nil {
			return err
		}
		if err := d.parts.write(tx, key, r); err != nil {
			return err
		}
	}
	return seal(tx, &d.family, []string{key})
}

// hash is that of the result's file; empty where there is none.
func (d *declaration[C, R]) hash(r *R) string {
	for _, c := range d.result {
		if c.name == "hash" {
			return *c.at(r).(*string)
		}
	}
	return ""
}

func (d *declaration[C, R]) exportResult(r *R) map[string]any {
	out := public(d.result, r)
	if d.parts != nil {
		out[d.parts.name] = d.parts.export(r)
	}
	return out
}

// export writes the suite's cells to line, by (Order, Key).
func (d *declaration[C, R]) export(s *Store, suite string, line func(any) error) error {
	rows, err := d.ofSuite(s, suite)
	if err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		h := d.head(&r.Cell)
		v := public(d.own, &r.Cell)
		v["kind"], v["key"], v["order"], v["state"], v["settings"] = d.kind, *h.key, *h.order, r.State, *h.settings
		if r.State == Finished {
			v["result"] = d.exportResult(&r.Result)
		}
		if err := line(v); err != nil {
			return fmt.Errorf("export %s cell %s: %w", d.kind, ShortKey(*h.key), err)
		}
	}
	return nil
}

// reopen makes cells pending again, and children that need them.
func (f *family) reopen(tx *sql.Tx, where string, args ...any) error {
	if f.parts != "" {
		if _, err := tx.Exec(`DELETE FROM `+f.parts+` WHERE key IN (SELECT key FROM `+string(f.kind)+` WHERE `+where+`)`, args...); err != nil {
			return err
		}
	}
	keys, err := list(tx, `UPDATE `+string(f.kind)+` SET state='pending', worker='', lease_until=0 WHERE `+where+` RETURNING key`, args...)
	if err != nil {
		return err
	}
	if err := seal(tx, f, keys); err != nil {
		return err
	}
	if f.file {
		return nil
	}
	for _, key := range keys {
		if err := f.reopenChildren(tx, `? AND state='finished'`, key); err != nil {
			return err
		}
	}
	return nil
}

func (f *family) reopenChildren(tx *sql.Tx, where string, key string) error {
	for _, child := range kinds {
		if child.parent == f.kind {
			if err := child.reopen(tx, string(f.kind)+`=`+where, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// family finds what is known of a kind.
func (k Kind) family() (*family, error) {
	for _, f := range kinds {
		if f.kind == k {
			return f, nil
		}
	}
	return nil, fmt.Errorf("no kind of cell is called %q", string(k))
}

func list(q queryer, query string, args ...any) (out []string, err error) {
	rows, err := q.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}
