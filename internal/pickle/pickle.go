// Package pickle reads Python pickles without executing them: the opcodes of protocols 2 to 5 that Python's picklers and
// TorchScript's write.
//
// A pickle is a program for a small stack machine that may call any function of any Python module. The reader here runs the
// machine but calls nothing: a class or function is a [Global], and what calling it would give is an inert [Object], or
// whatever the [Rules] say. Everything is bounded before memory is asked for. What Python would read in another way is refused:
// a key that comes twice in a dict, frames that do not hold what they say, opcodes that no pickler writes.
package pickle

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/bits"
	"slices"
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
	// Call gives what calling o.Class with o.Args makes, at the time of the call: what they hold may change later. With fresh,
	// it is the class's __new__ that is called. nil: o, inert.
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

// Decode reads one pickle and leaves the reader behind it. Errors say at which byte of the pickle what was wrong.
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

// line reads up to a newline.
func (d *decoder) line() (string, error) {
	var b []byte
	for {
		c, err := d.byte()
		if err != nil {
			return "", err
		}
		if c == '\n' {
			break
		}
		if len(b) == maxLine {
			return "", fmt.Errorf("a name of more than %d bytes", maxLine)
		}
		b = append(b, c)
	}
	if !utf8.Valid(b) {
		return "", errors.New("a name that is not UTF-8")
	}
	return string(b), d.charge(int64(len(b)))
}

// global pushes a class or function.
func (d *decoder) global(module, name string) error {
	g := Global{module, name}
	if d.rules.Name != nil {
		d.rules.Name(g)
	}
	d.push(g)
	return d.charge(64)
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

// assignTo assigns pairs of keys and values to the dict or the dict-like object on top of the stack.
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

// two takes the two last values.
func (d *decoder) two() (a, b any, err error) {
	if b, err = d.pop(); err == nil {
		a, err = d.pop()
	}
	return a, b, err
}

// step runs one opcode. Their names and meaning are those of Python's pickletools.
func (d *decoder) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := d.byte()
		if err == nil && (v < 2 || v > 5) {
			err = fmt.Errorf("protocol %d; 2 to 5 are read", v)
		}
		return err
	case 0x95: // FRAME
		n, err := d.natural(8)
		if err == nil && (d.frame > 0 || n > maxCost) {
			err = fmt.Errorf("a frame of %d bytes, or within another", n)
		}
		d.frame = d.at + int64(n)
		return err

	case 'N': // NONE
		d.push(nil)
	case 0x88, 0x89: // NEWTRUE, NEWFALSE
		d.push(op == 0x88)
	case 'K', 'M', 'J': // BININT1, BININT2, BININT
		n, err := d.natural(map[byte]int{'K': 1, 'M': 2, 'J': 4}[op])
		if err != nil {
			return err
		}
		v := int64(n)
		if op == 'J' {
			v = int64(int32(n))
		}
		d.push(v)
	case 0x8a, 0x8b: // LONG1, LONG4
		return d.long(map[byte]int{0x8a: 1, 0x8b: 4}[op])
	case 'G': // BINFLOAT, big-endian
		n, err := d.natural(8)
		if err != nil {
			return err
		}
		d.push(math.Float64frombits(bits.ReverseBytes64(n)))

	case 'X', 0x8c, 0x8d: // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
		s, err := d.text(map[byte]int{'X': 4, 0x8c: 1, 0x8d: 8}[op])
		if err != nil {
			return err
		}
		d.push(s)
	case 'T', 'U': // BINSTRING, SHORT_BINSTRING: Python 2's str
		s, err := d.text(map[byte]int{'T': 4, 'U': 1}[op])
		if err != nil {
			return err
		}
		d.push(s)
	case 'B', 'C', 0x8e, 0x96: // BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
		b, err := d.bytes(map[byte]int{'B': 4, 'C': 1, 0x8e: 8, 0x96: 8}[op])
		if err != nil {
			return err
		}
		d.push(Bytes(b))

	case '(': // MARK
		if len(d.marks) == maxDepth {
			return fmt.Errorf("nested deeper than %d", maxDepth)
		}
		d.marks = append(d.marks, len(d.stack))
	case ')': // EMPTY_TUPLE
		d.push(Tuple{})
	case 0x85, 0x86, 0x87: // TUPLE1, TUPLE2, TUPLE3
		items, err := d.popN(int(op)-0x84, false)
		if err != nil {
			return err
		}
		d.push(Tuple(items))
	case 't': // TUPLE
		items, err := d.popMark()
		if err != nil {
			return err
		}
		d.push(Tuple(items))
	case ']': // EMPTY_LIST
		d.push(&List{})
		return d.charge(32)
	case 0x8f: // EMPTY_SET
		d.push(&Set{})
		return d.charge(32)
	case 0x91: // FROZENSET
		items, err := d.popMark()
		if err != nil {
			return err
		}
		set := &Set{}
		d.push(set)
		return d.addTo(set, items)
	case 'a': // APPEND
		v, err := d.pop()
		if err != nil {
			return err
		}
		return d.appendTo([]any{v})
	case 'e': // APPENDS
		items, err := d.popMark()
		if err != nil {
			return err
		}
		return d.appendTo(items)
	case 0x90: // ADDITEMS
		items, err := d.popMark()
		if err != nil {
			return err
		}
		v, err := d.top()
		if err != nil {
			return err
		}
		set, ok := v.(*Set)
		if !ok {
			return fmt.Errorf("adds to %s", TypeName(v))
		}
		return d.addTo(set, items)
	case '}': // EMPTY_DICT
		d.push(&Dict{})
		return d.charge(64)
	case 's': // SETITEM
		items, err := d.popN(2, false)
		if err != nil {
			return err
		}
		return d.assignTo(items)
	case 'u': // SETITEMS
		items, err := d.popMark()
		if err != nil {
			return err
		}
		return d.assignTo(items)

	case 'c': // GLOBAL
		module, err := d.line()
		if err != nil {
			return err
		}
		name, err := d.line()
		if err != nil {
			return err
		}
		return d.global(module, name)
	case 0x93: // STACK_GLOBAL
		a, b, err := d.two()
		if err != nil {
			return err
		}
		module, ok1 := a.(string)
		name, ok2 := b.(string)
		if !ok1 || !ok2 || len(module) > maxLine || len(name) > maxLine {
			return errors.New("a class whose name is no string of modest length")
		}
		return d.global(module, name)
	case 'R', 0x81: // REDUCE, NEWOBJ
		class, args, err := d.two()
		if err != nil {
			return err
		}
		return d.object(class, args, op == 0x81)
	case 'b': // BUILD
		state, err := d.pop()
		if err != nil {
			return err
		}
		v, err := d.top()
		if err != nil {
			return err
		}
		o, ok := v.(*Object)
		if !ok {
			return fmt.Errorf("sets the state of %s", TypeName(v))
		}
		if err := d.fill(o, State, state); err != nil {
			return err
		}
		o.State = state
	case 'Q': // BINPERSID
		id, err := d.pop()
		if err != nil {
			return err
		}
		var v any = &Persistent{id}
		if d.rules.Persist != nil {
			if v, err = d.rules.Persist(id); err != nil {
				return err
			}
		}
		d.push(v)
		return d.charge(64)

	case 'q', 'r': // BINPUT, LONG_BINPUT
		n, err := d.natural(map[byte]int{'q': 1, 'r': 4}[op])
		if err != nil {
			return err
		}
		return d.put(n)
	case 0x94: // MEMOIZE
		return d.put(uint64(len(d.memo)))
	case 'h', 'j': // BINGET, LONG_BINGET
		n, err := d.natural(map[byte]int{'h': 1, 'j': 4}[op])
		if err != nil {
			return err
		}
		return d.get(n)

	default:
		return errors.New("unknown, or of a protocol that torch does not write")
	}
	return nil
}

// long pushes an integer in two's complement, after a count of width bytes.
func (d *decoder) long(width int) error {
	n, err := d.natural(width)
	if err != nil {
		return err
	}
	if n > maxDigits {
		return fmt.Errorf("an integer of %d bytes; at most %d are read", n, maxDigits)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(d.r, b); err != nil {
		return short(err)
	}
	d.at += int64(n)
	if n == 0 {
		d.push(int64(0))
		return nil
	}
	negative := b[n-1]&0x80 != 0
	slices.Reverse(b)
	v := new(big.Int).SetBytes(b)
	if negative {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*n)))
	}
	if v.IsInt64() {
		d.push(v.Int64())
		return nil
	}
	d.push(v)
	return d.charge(256)
}
