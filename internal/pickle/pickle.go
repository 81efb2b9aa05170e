// Package pickle reads Python pickles without executing them: the opcodes of protocols 2 to 5 that
// Python's picklers and TorchScript's write.
//
// A pickle is a program for a small stack machine that may call any function of any Python module.
// The reader here runs the machine but calls nothing. A class or function is a [Global]. What
// calling it would give is an inert [Object], or whatever the [Rules] say. Everything is bounded
// before memory is asked for. What Python would read in another way is refused: a key that comes
// twice in a dict, frames that do not hold what they say, opcodes that no pickler writes.
package pickle

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds of one pickle. A file of CLIP's weights costs about 1 MB and nests 10 deep.
const (
	maxCost   = 16 << 20 // bytes, an estimate of the memory of all that is made, and a bound on the number of opcodes
	maxDepth  = 500      // open marks; Python's own pickler gives up below a thousand
	maxLine   = 1024     // bytes of a module's or a class's name
	maxDigits = 128      // bytes of an integer
)

// Rules say what a pickle may do. Each may be nil. An error ends the reading.
type Rules struct {
	// Persist gives what a persistent id stands for; nil: a [Persistent].
	Persist func(id any) (any, error)
	// Name hears of each class and function that is named.
	Name func(g Global)
	// Call gives what calling o.Class with o.Args makes, at the time of the call: what they hold
	// may change later. With fresh, it is the class's __new__ that is called. nil: o, inert.
	Call func(o *Object, fresh bool) (any, error)
	// Fill is asked before an object gets a state, keys or items.
	Fill func(o *Object, with Filling, v any) error
}

// Filling is what an object is given after it was made.
type Filling string

// What an object may be given.
const (
	State Filling = "state"
	Keys  Filling = "keys"
	Items Filling = "items"
)

type decoder struct {
	r     *bufio.Reader
	rules Rules

	at    int64 // bytes read
	frame int64 // where the frame ends, 0 outside of one
	cost  int64
	stack []any
	marks []int // heights of the stack at which a MARK was set
	memo  map[uint32]any
	keys  map[*Dict]map[any]bool // of each dict, as hashed
}

// Decode reads one pickle and leaves the reader behind it. Errors say at which byte of the pickle
// what was wrong.
func Decode(r *bufio.Reader, rules Rules) (any, error) {
	d := &decoder{r: r, rules: rules, memo: map[uint32]any{}, keys: map[*Dict]map[any]bool{}}
	for {
		at := d.at
		if at == d.frame {
			d.frame = 0
		}
		op, err := d.byte()
		if err == nil && op == '.' && d.at < d.frame {
			err = errFrame
		}
		if err == nil && op == '.' {
			if len(d.stack) != 1 || len(d.marks) > 0 {
				return nil, fmt.Errorf("pickle: byte %d: STOP with %d values on the stack, want 1", at, len(d.stack))
			}
			return d.stack[0], nil
		}
		if err == nil {
			err = d.charge(16) // bounds the time as well
		}
		if err == nil {
			err = d.step(op)
		}
		if err == nil && d.frame > 0 && d.at > d.frame {
			err = errFrame
		}
		if err != nil {
			return nil, fmt.Errorf("pickle: opcode 0x%02x at byte %d: %w", op, at, err)
		}
	}
}

var errFrame = errors.New("a frame that does not end where it says")

func (d *decoder) charge(bytes int64) error {
	if bytes < 0 || bytes > maxCost-d.cost {
		return fmt.Errorf("the pickle asks for more than %d MB, which no checkpoint's structure needs", maxCost>>20)
	}
	d.cost += bytes
	return nil
}

func (d *decoder) byte() (byte, error) {
	b, err := d.r.ReadByte()
	if err != nil {
		return 0, short(err)
	}
	d.at++
	return b, nil
}

func short(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("the pickle ends in the middle")
	}
	return err
}

// natural reads an unsigned little-endian number of n bytes, at most 8.
func (d *decoder) natural(n int) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(d.r, b[:n]); err != nil {
		return 0, short(err)
	}
	d.at += int64(n)
	return binary.LittleEndian.Uint64(b[:]), nil
}

// bytes reads as many bytes as a count of width bytes says.
func (d *decoder) bytes(width int) ([]byte, error) {
	n, err := d.natural(width)
	if err != nil {
		return nil, err
	}
	if n > maxCost {
		return nil, fmt.Errorf("a string of %d bytes", n)
	}
	if err := d.charge(int64(n)); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(d.r, int64(n))) // takes memory as the bytes come, not as the file promises them
	d.at += int64(len(b))
	if err == nil && uint64(len(b)) < n {
		err = io.EOF
	}
	if err != nil {
		return nil, short(err)
	}
	return b, nil
}

func (d *decoder) text(width int) (string, error) {
	b, err := d.bytes(width)
	if err == nil && !utf8.Valid(b) {
		err = errors.New("a string that is not UTF-8")
	}
	return string(b), err
}

// appendTo appends items to the list or the list-like object on top of the stack.
func (d *decoder) appendTo(items []any) error {
	v, err := d.top()
	if err != nil {
		return err
	}
	switch v := v.(type) {
	case *List:
		v.Items = append(v.Items, items...)
	case *Object:
		if err := d.fill(v, Items, nil); err != nil {
			return err
		}
		v.List.Items = append(v.List.Items, items...)
	default:
		return fmt.Errorf("appends to %s", TypeName(v))
	}
	return d.charge(32 * int64(len(items)))
}

// addTo adds items to a set. Equal ones may come twice: a set holds one of them.
func (d *decoder) addTo(set *Set, items []any) error {
	for _, x := range items {
		if _, err := hashed(x); err != nil {
			return err
		}
	}
	set.Items = append(set.Items, items...)
	return d.charge(32 * int64(len(items)+1))
}

// assignTo assigns pairs of keys and values to the dict or the dict-like object on top of the
// stack.
func (d *decoder) assignTo(items []any) error {
	v, err := d.top()
	if err != nil {
		return err
	}
	var dict *Dict
	switch v := v.(type) {
	case *Dict:
		dict = v
	case *Object:
		if err := d.fill(v, Keys, nil); err != nil {
			return err
		}
		dict = &v.Dict
	default:
		return fmt.Errorf("assigns to a key of %s", TypeName(v))
	}
	return d.assign(dict, items)
}

func (d *decoder) assign(dict *Dict, items []any) error {
	if len(items)%2 != 0 {
		return errors.New("a key without a value")
	}
	if err := d.charge(96 * int64(len(items))); err != nil {
		return err
	}
	seen := d.keys[dict]
	if seen == nil {
		seen = map[any]bool{}
		d.keys[dict] = seen
	}
	for i := 0; i < len(items); i += 2 {
		key, err := hashed(items[i])
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("the key %.80v comes twice in a dict", items[i])
		}
		seen[key] = true
		dict.Keys, dict.Values = append(dict.Keys, items[i]), append(dict.Values, items[i+1])
	}
	return nil
}

func (d *decoder) fill(o *Object, with Filling, v any) error {
	if d.rules.Fill == nil {
		return nil
	}
	return d.rules.Fill(o, with, v)
}

// object pushes what calling a class with a tuple would give.
func (d *decoder) object(class, args any, fresh bool) error {
	tuple, ok := args.(Tuple)
	if !ok {
		return fmt.Errorf("calls %s with %s, want a tuple", TypeName(class), TypeName(args))
	}
	o := &Object{Class: class, Args: tuple}
	v := any(o)
	if d.rules.Call != nil {
		var err error
		if v, err = d.rules.Call(o, fresh); err != nil {
			return err
		}
	}
	d.push(v)
	return d.charge(256)
}
