// Package settings declares, checks and carries the settings of everything that is registered by
// name: datasets, learners, attacks and detectors. From one declaration YAML, --help, list,
// ablations and the tables know a setting.
package settings

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
)

// Param declares one setting. Default decides its type: float64, int, bool or string.
type Param struct {
	Name    string
	Unit    string // "px", "pixel value", "epochs", ...; empty for a pure number
	Doc     string // one line: what it does and where its default comes from
	Default any
	Min     float64  // for float64 and int: smallest value allowed
	Max     float64  // for float64 and int: largest value allowed; ignored when Min == Max
	Choices []string // for string: the values allowed; any value when empty
}

// Values are resolved settings: every declared name is present and of its declared type.
type Values map[string]any

// Resolve checks the given settings against their declarations and fills in the defaults. Whole
// numbers are accepted where a float64 is declared, and whole float64s where an int is declared.
// Unknown names, wrong types, numbers out of range or not finite, and strings that are no choice
// give an error that names the setting and what is allowed.
func Resolve(params []Param, given map[string]any) (Values, error) {
	out := make(Values, len(params))
	for _, p := range params {
		out[p.Name] = p.Default
	}
	names := make([]string, 0, len(given))
	for name := range given {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		i := slices.IndexFunc(params, func(p Param) bool { return p.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown setting %.80q; known are %s", name, list(params))
		}
		v, err := params[i].convert(given[name])
		if err != nil {
			return nil, fmt.Errorf("setting %q: %w", name, err)
		}
		out[name] = v
	}
	return out, nil
}

func list(params []Param) string {
	names := make([]string, len(params))
	for i, p := range params {
		names[i] = p.Name
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (p Param) convert(v any) (any, error) {
	switch p.Default.(type) {
	case float64:
		var f float64
		switch n := v.(type) {
		case float64:
			f = n
		case int:
			f = float64(n)
		default:
			return nil, fmt.Errorf("want a number, got %s", show(v))
		}
		return f, p.checkRange(f)
	case int:
		switch n := v.(type) {
		case int:
			return n, p.checkRange(float64(n))
		case float64:
			if n == math.Trunc(n) && math.Abs(n) < 1<<53 {
				return int(n), p.checkRange(n)
			}
		}
		return nil, fmt.Errorf("want a whole number, got %s", show(v))
	case bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, fmt.Errorf("want true or false, got %s", show(v))
	case string:
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("want a word, got %s", show(v))
		}
		if len(p.Choices) > 0 && !slices.Contains(p.Choices, s) {
			return nil, fmt.Errorf("want one of %s, got %s", strings.Join(p.Choices, ", "), show(s))
		}
		return s, nil
	}
	panic(fmt.Sprintf("settings: setting %q declares a default of type %T", p.Name, p.Default))
}

// show writes a value that a stranger may have chosen in a line of modest length.
func show(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%.80q", s)
	}
	s := strings.Join(strings.Fields(fmt.Sprint(v)), " ")
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return fmt.Sprintf("%s (%T)", s, v)
}

func (p Param) checkRange(f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("want a finite number, got %v", f)
	}
	if p.Min != p.Max && (f < p.Min || f > p.Max) {
		return fmt.Errorf("want %v to %v, got %v", p.Min, p.Max, f)
	}
	return nil
}

// Float returns a float64 setting. It panics when the name was not declared as one: a fault of the
// program.
func (v Values) Float(name string) float64 { return get[float64](v, name) }

// Int returns an int setting; see Float.
func (v Values) Int(name string) int { return get[int](v, name) }

// Bool returns a bool setting; see Float.
func (v Values) Bool(name string) bool { return get[bool](v, name) }

// String returns a string setting; see Float.
func (v Values) String(name string) string { return get[string](v, name) }

func get[T any](v Values, name string) T {
	x, ok := v[name].(T)
	if !ok {
		panic(fmt.Sprintf("settings: %q is not declared as %T", name, x))
	}
	return x
}

// Without returns a copy without the settings of the given names.
func (v Values) Without(names []string) Values {
	rest := maps.Clone(v)
	for _, name := range names {
		delete(rest, name)
	}
	return rest
}
