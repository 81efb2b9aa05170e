package stats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
)

// Num is a figure of a table. What does not exist is NaN and written as null in
// JSON; so is an infinity, which JSON cannot hold.
type Num float64

// Defined reports whether the figure exists.
func (n Num) Defined() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// MarshalJSON implements json.Marshaler.
func (n Num) MarshalJSON() ([]byte, error) {
	if !n.Defined() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON implements json.Unmarshaler; null is NaN. The strings "+Inf" and "-Inf", which
// [store.Store.Export] writes, are infinities.
func (n *Num) UnmarshalJSON(raw []byte) error {
	switch string(raw) {
	case `"+Inf"`:
		*n = Num(math.Inf(1))
		return nil
	case `"-Inf"`:
		*n = Num(math.Inf(-1))
		return nil
	}
	var v *float64
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	*n = undefined
	if v != nil {
		*n = Num(*v)
	}
	return nil
}

var undefined = Num(math.NaN())

// Interval is a pair of bounds, lower first; null in JSON when it is undefined.
type Interval [2]Num

var noInterval = Interval{undefined, undefined}

// Defined reports whether both bounds exist.
func (i Interval) Defined() bool { return i[0].Defined() && i[1].Defined() }

// MarshalJSON implements json.Marshaler.
func (i Interval) MarshalJSON() ([]byte, error) {
	if !i.Defined() {
		return []byte("null"), nil
	}
	return json.Marshal([2]float64{float64(i[0]), float64(i[1])})
}

// UnmarshalJSON implements json.Unmarshaler.
func (i *Interval) UnmarshalJSON(raw []byte) error {
	var v *[2]Num
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	*i = noInterval
	if v != nil {
		*i = Interval(*v)
	}
	return nil
}

// Entry is one member of an Object.
type Entry[T any] struct {
	Name  string
	Value T
}

// Object is a list of named values that is a JSON object with its members in
// the list's order.
type Object[T any] []Entry[T]

// Get finds a value by name.
func (o Object[T]) Get(name string) (v T, ok bool) {
	for _, e := range o {
		if e.Name == name {
			return e.Value, true
		}
	}
	return v, false
}

// MarshalJSON implements json.Marshaler.
func (o Object[T]) MarshalJSON() ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte('{')
	for i, e := range o {
		if i > 0 {
			buf.WriteByte(',')
		}
		name, err := json.Marshal(e.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(e.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name, err)
		}
		buf.Write(name)
		buf.WriteByte(':')
		buf.Write(value)
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}
