package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// CanonicalJSON encodes v so that equal values have equal bytes: object keys
// sorted, no spaces, no HTML escapes, integers without fraction or exponent
// (16.0 and 16 are the same), other numbers in their shortest form. It fails
// for what JSON cannot hold, NaN and infinities included.
func CanonicalJSON(v any) ([]byte, error) {
	if out, ok := appendCanonical(make([]byte, 0, 1024), v); ok {
		return out, nil
	}
	return slowCanonical(v)
}

// appendCanonical writes what settings are made of; ok is false for anything else, which
// slowCanonical writes. Plans of ten thousand models spend most of their time here.
func appendCanonical(b []byte, v any) (out []byte, ok bool) {
	switch x := v.(type) {
	case nil:
		return append(b, "null"...), true
	case bool:
		return strconv.AppendBool(b, x), true
	case int:
		return strconv.AppendInt(b, int64(x), 10), true
	case float64:
		if x == math.Trunc(x) && math.Abs(x) < 1<<53 {
			return strconv.AppendInt(b, int64(x), 10), true
		}
		raw, err := json.Marshal(x)
		return append(b, raw...), err == nil
	case string:
		for i := range len(x) {
			if c := x[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
				return b, false
			}
		}
		return append(append(append(b, '"'), x...), '"'), true
	case []any:
		b = append(b, '[')
		for i, e := range x {
			if i > 0 {
				b = append(b, ',')
			}
			if b, ok = appendCanonical(b, e); !ok {
				return b, false
			}
		}
		return append(b, ']'), x != nil
	case map[string]any:
		names := make([]string, 0, len(x))
		for name := range x {
			names = append(names, name)
		}
		slices.Sort(names)
		b = append(b, '{')
		for i, name := range names {
			if i > 0 {
				b = append(b, ',')
			}
			if b, ok = appendCanonical(b, name); !ok {
				return b, false
			}
			if b, ok = appendCanonical(append(b, ':'), x[name]); !ok {
				return b, false
			}
		}
		return append(b, '}'), x != nil
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Map && r.Type().ConvertibleTo(reflect.TypeFor[map[string]any]()) {
		return appendCanonical(b, r.Convert(reflect.TypeFor[map[string]any]()).Interface())
	}
	return b, false
}

// slowCanonical is CanonicalJSON of anything.
func slowCanonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	plain, err := decodeJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(plain); err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}

// Key is the identity of a cell: the SHA-256, in hexadecimal, of the canonical
// JSON of its settings.
func Key(v any) (string, error) {
	raw, err := CanonicalJSON(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// decodeJSON decodes to plain values with integers as int (json.Number where
// they are wider) and other numbers as float64.
func decodeJSON(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return plainNumbers(v)
}

func plainNumbers(v any) (any, error) {
	var err error
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			if x[k], err = plainNumbers(e); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, e := range x {
			if x[i], err = plainNumbers(e); err != nil {
				return nil, err
			}
		}
	case json.Number:
		return plainNumber(x)
	}
	return v, nil
}

func plainNumber(n json.Number) (any, error) {
	s := n.String()
	if !strings.ContainsAny(s, ".eE") {
		if i, err := strconv.Atoi(s); err == nil {
			return i, nil
		}
		return n, nil // wider than int: kept digit by digit
	}
	f, err := n.Float64()
	if err != nil {
		return nil, fmt.Errorf("number %s: %w", s, err)
	}
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int(f), nil
	}
	return f, nil
}

// decodeSettings reads a canonical object back; an empty text is an empty map.
func decodeSettings(text string) (map[string]any, error) {
	if text == "" {
		return map[string]any{}, nil
	}
	v, err := decodeJSON([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("settings: not an object: %.60s", text)
	}
	return m, nil
}

// encodeMap is CanonicalJSON of a map, with nil as the empty object.
func encodeMap[V any](m map[string]V) (string, error) {
	if m == nil {
		return "{}", nil
	}
	raw, err := CanonicalJSON(m)
	return string(raw), err
}
