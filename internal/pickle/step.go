package pickle

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/bits"
	"slices"
	"unicode/utf8"
)

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
