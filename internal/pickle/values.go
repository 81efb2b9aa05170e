package pickle

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

// What [Decode] returns is built of nil, bool, int64, *big.Int (where 64 bits are too few),
// float64, string, and these. Values may hold themselves: whoever walks through them bounds the
// depth.
type (
	// Bytes is a bytes object or a bytearray.
	Bytes []byte
	// Tuple is a tuple.
	Tuple []any
	// List is a list.
	List struct{ Items []any }
	// Set is a set or a frozenset, in the order of the file.
	Set struct{ Items []any }
	// Dict is a dict in the order of the file. Of those that [Decode] returns no two keys are
	// equal.
	Dict struct {
		Keys, Values []any
		// Shared tells that the pickle refers to the dict more than once.
		Shared bool
	}
	// Global is a class or function by its name.
	Global struct{ Module, Name string }
	// Object is what Python would make by calling Class with Args. State is what it would hand to
	// __setstate__, List and Dict what it would append and assign afterwards.
	Object struct {
		Class any // mostly a Global
		Args  Tuple
		State any
		List  List
		Dict  Dict
		// Shared tells that the pickle refers to the object more than once.
		Shared bool
	}
	// Persistent is an object that lies outside the pickle, such as a tensor's storage, by its id.
	Persistent struct{ ID any }
)

func (g Global) String() string { return g.Module + "." + g.Name }

// Get returns the value of a key that is a string, and whether there is one.
func (d *Dict) Get(key string) (any, bool) {
	for i := len(d.Keys) - 1; i >= 0; i-- {
		if s, ok := d.Keys[i].(string); ok && s == key {
			return d.Values[i], true
		}
	}
	return nil, false
}

// AsDict returns the entries of a dict or of an object that is one, such as an OrderedDict.
func AsDict(v any) (*Dict, bool) {
	switch v := v.(type) {
	case *Dict:
		return v, true
	case *Object:
		if g, ok := v.Class.(Global); ok && g.Module == "collections" && (g.Name == "OrderedDict" || g.Name == "defaultdict") {
			return &v.Dict, true
		}
	}
	return nil, false
}

// TypeName describes a value in an error, by its type as Python calls it.
func TypeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "a bool"
	case int64, *big.Int:
		return "an int"
	case float64:
		return "a float"
	case string:
		return "a str"
	case Bytes:
		return "bytes"
	case Tuple:
		return "a tuple"
	case *List:
		return "a list"
	case *Set:
		return "a set"
	case *Dict:
		return "a dict"
	case Global:
		return fmt.Sprintf("the name %.80q", v)
	case *Object:
		if g, ok := v.Class.(Global); ok {
			return fmt.Sprintf("an object of %.80q", g)
		}
		return "an object"
	case *Persistent:
		return "a persistent object"
	}
	return "something unknown"
}

// hashed returns what two keys of a dict have in common when Python takes them for equal: True is 1
// is 1.0. What may have no hash is an error.
func hashed(key any) (any, error) {
	type number string
	switch k := key.(type) {
	case bool:
		if k {
			return int64(1), nil
		}
		return int64(0), nil
	case float64:
		if k == math.Trunc(k) && math.Abs(k) < 1<<62 {
			return int64(k), nil
		}
	case *big.Int:
		return number(k.String()), nil
	case Bytes:
		return struct{ bytes string }{string(k)}, nil
	case Tuple:
		if len(k) > 16 {
			return nil, fmt.Errorf("a key of a dict, or an item of a set, that is a tuple of %d", len(k))
		}
		var b strings.Builder
		for _, x := range k {
			h, err := hashed(x)
			if err != nil {
				return nil, err
			}
			switch h.(type) {
			case nil, int64, float64, string, number:
				fmt.Fprintf(&b, "%T%.256v,", h, h)
			default:
				return nil, fmt.Errorf("a key of a dict, or an item of a set, that is a tuple with %s", TypeName(x))
			}
		}
		return struct{ tuple string }{b.String()}, nil
	case *List, *Dict, *Set, *Object: // an object may have no hash, or one of its own
		return nil, fmt.Errorf("a key of a dict, or an item of a set, that is %s", TypeName(k))
	}
	return key, nil
}

// Hashable tells whether a value may be a key of a dict or an item of a set.
func Hashable(v any) bool {
	_, err := hashed(v)
	return err == nil
}
