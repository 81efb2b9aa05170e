package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
)

// column is one column of a table and where its value lies: a *string, *bool, *int, *int64,
// *float64 (NaN is NULL) or a map (JSON).
type column[T any] struct {
	name   string
	export string // name in the canonical export; empty for what depends on where and when it was computed
	label  bool   // for people: no part of what the cell is
	rare   bool   // a text that the canonical export leaves out where it is empty
	at     func(*T) any
}

// col is a column that is exported under its own name, as one under another or, empty, not at all.
func col[T any](name string, at func(*T) any) column[T] {
	return column[T]{name: name, export: name, at: at}
}

func (c column[T]) as(export string) column[T] { c.export = export; return c }

func (c column[T]) unlessEmpty() column[T] { c.rare = true; return c }

func (c column[T]) forPeople() column[T] { c.label = true; return c }

// parts are the rows of a result in a table of their own, in order.
type parts[R any] struct {
	table, name string
	write       func(tx *sql.Tx, key string, r *R) error
	read        func(q queryer, where string, args ...any) (fill func(key string, r *R), err error)
	export      func(r *R) []any
}

func partsOf[R, P any](table, name string, at func(*R) *[]P, columns []column[P]) *parts[R] {
	return &parts[R]{table, name,
		func(tx *sql.Tx, key string, r *R) error {
			stmt, err := tx.Prepare(`INSERT INTO ` + table + `(key, pos, ` + names(columns, ", ") + `) VALUES(?,?` +
				strings.Repeat(",?", len(columns)) + `)`)
			if err != nil {
				return err
			}
			defer stmt.Close()
			for i := range *at(r) {
				v, err := values(columns, &(*at(r))[i])
				if err != nil {
					return err
				}
				if _, err := stmt.Exec(append([]any{key, i}, v...)...); err != nil {
					return err
				}
			}
			return nil
		},
		func(q queryer, where string, args ...any) (func(string, *R), error) {
			rows, err := q.Query(`SELECT key, `+names(columns, ", ")+` FROM `+table+` WHERE `+where+` ORDER BY key, pos`, args...)
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			byKey := map[string][]P{}
			for rows.Next() {
				var key string
				var p P
				if err := rows.Scan(append([]any{&key}, targets(columns, &p)...)...); err != nil {
					return nil, err
				}
				byKey[key] = append(byKey[key], p)
			}
			return func(key string, r *R) { *at(r) = byKey[key] }, rows.Err()
		},
		func(r *R) []any {
			out := make([]any, len(*at(r)))
			for i := range out {
				out[i] = public(columns, &(*at(r))[i])
			}
			return out
		}}
}

func names[T any](columns []column[T], separator string) string {
	var out []string
	for _, c := range columns {
		out = append(out, c.name)
	}
	return strings.Join(out, separator)
}

// values are what the columns of v store.
func values[T any](columns []column[T], v *T) ([]any, error) {
	var out []any
	for _, c := range columns {
		switch p := c.at(v).(type) {
		case *string:
			out = append(out, *p)
		case *bool:
			out = append(out, *p)
		case *int:
			out = append(out, *p)
		case *int64:
			out = append(out, *p)
		case *float64:
			out = append(out, null(*p))
		case *map[string]any:
			text, err := encodeMap(*p)
			if err != nil {
				return nil, err
			}
			out = append(out, text)
		case *map[string]string:
			text, err := encodeMap(*p)
			if err != nil {
				return nil, err
			}
			out = append(out, text)
		default:
			panic(fmt.Sprintf("store: column %s of type %T", c.name, p))
		}
	}
	return out, nil
}

// targets are what the columns of v are read into.
func targets[T any](columns []column[T], v *T) []any {
	var out []any
	for _, c := range columns {
		switch p := c.at(v).(type) {
		case *float64:
			out = append(out, (*nullable)(p))
		case *map[string]any:
			out = append(out, (*settingsText)(p))
		case *map[string]string:
			out = append(out, (*versionsText)(p))
		default:
			out = append(out, p)
		}
	}
	return out
}

// public are the columns of v that the canonical export shows.
func public[T any](columns []column[T], v *T) map[string]any {
	out := map[string]any{}
	for _, c := range columns {
		switch p := c.at(v).(type) {
		case *string:
			if !c.rare || *p != "" {
				out[c.export] = *p
			}
		case *bool:
			out[c.export] = *p
		case *int:
			out[c.export] = *p
		case *int64:
			out[c.export] = *p
		case *float64:
			out[c.export] = exact(*p)
		}
	}
	delete(out, "")
	return out
}

// settingsText and versionsText read maps from their JSON.
type (
	settingsText map[string]any
	versionsText map[string]string
)

// Scan implements sql.Scanner.
func (m *settingsText) Scan(src any) error {
	text, ok := src.(string)
	if !ok {
		return fmt.Errorf("settings: %T and not a text", src)
	}
	v, err := decodeSettings(text)
	*m = v
	return err
}

// sharedSettings reads settings that many cells have alike: tens of thousands differ in a few.
type sharedSettings struct {
	to    *map[string]any
	known map[string]map[string]any // by their text
}

// Scan implements sql.Scanner.
func (s sharedSettings) Scan(src any) error {
	text, _ := src.(string)
	m, ok := s.known[text]
	if !ok {
		if err := (*settingsText)(&m).Scan(src); err != nil {
			return err
		}
		s.known[text] = m
	}
	*s.to = m
	return nil
}

// Scan implements sql.Scanner.
func (m *versionsText) Scan(src any) error {
	text, ok := src.(string)
	if !ok {
		return fmt.Errorf("versions: %T and not a text", src)
	}
	*m = versionsText{}
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), m); err != nil {
		return fmt.Errorf("versions: %w", err)
	}
	return nil
}
