// Package pickle reads Python pickles without executing them: the binary opcodes of protocols 2 to 5, as torch.save and
// TorchScript write them.
//
// A pickle is a program for a small stack machine that may call any function of any Python module. The reader here runs the
// machine but calls nothing: a class or function is a [Global], what calling it would give is an inert [Object], and who wants
// a tensor out of one interprets it. Everything is bounded before memory is asked for, and a file that names a function by which
// pickles take over the machine that loads them (os.system and its kin) is refused, so that somebody hears of it.
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

type decoder struct {
	r       *bufio.Reader
	persist func(id any) (any, error)

	at    int64 // bytes read
	cost  int64
	stack []any
	marks []int // heights of the stack at which a MARK was set
	memo  map[uint32]any
}

// Decode reads one pickle and leaves the reader behind it. persist, which may be nil, replaces each [Persistent] by what its id
// stands for. Errors say at which byte of the pickle what was wrong.
func Decode(r *bufio.Reader, persist func(id any) (any, error)) (any, error) {
	d := &decoder{r: r, persist: persist, memo: map[uint32]any{}}
	for {
		at := d.at
		op, err := d.byte()
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
		if err != nil {
			return nil, fmt.Errorf("pickle: opcode 0x%02x at byte %d: %w", op, at, err)
		}
	}
}

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
	if err := g.check(); err != nil {
		return err
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
		v.List.Items = append(v.List.Items, items...)
	default:
		return fmt.Errorf("appends to %s", TypeName(v))
	}
	return d.charge(32 * int64(len(items)))
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
	for i := 0; i < len(items); i += 2 {
		dict.Keys, dict.Values = append(dict.Keys, items[i]), append(dict.Values, items[i+1])
	}
	return d.charge(32 * int64(len(items)))
}

// object pushes what calling a class with a tuple would give.
func (d *decoder) object(class, args any) error {
	tuple, ok := args.(Tuple)
	if !ok {
		return fmt.Errorf("calls %s with %s, want a tuple", TypeName(class), TypeName(args))
	}
	d.push(&Object{Class: class, Args: tuple})
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
		_, err := d.natural(8)
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
		b, err := d.bytes(map[byte]int{'T': 4, 'U': 1}[op])
		if err != nil {
			return err
		}
		d.push(string(b))
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
	case '0': // POP, which takes a mark where one is on top
		if n := len(d.marks); n > 0 && d.marks[n-1] == len(d.stack) {
			d.marks = d.marks[:n-1]
			return nil
		}
		_, err := d.pop()
		return err
	case '1': // POP_MARK
		_, err := d.popMark()
		return err
	case '2': // DUP
		v, err := d.top()
		if err != nil {
			return err
		}
		d.push(v)

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
	case ']', 0x8f: // EMPTY_LIST, EMPTY_SET
		d.push(&List{})
		return d.charge(32)
	case 'l', 0x91: // LIST, FROZENSET
		items, err := d.popMark()
		if err != nil {
			return err
		}
		d.push(&List{items})
	case 'a': // APPEND
		v, err := d.pop()
		if err != nil {
			return err
		}
		return d.appendTo([]any{v})
	case 'e', 0x90: // APPENDS, ADDITEMS
		items, err := d.popMark()
		if err != nil {
			return err
		}
		return d.appendTo(items)
	case '}': // EMPTY_DICT
		d.push(&Dict{})
		return d.charge(64)
	case 'd': // DICT
		items, err := d.popMark()
		if err != nil {
			return err
		}
		dict := &Dict{}
		d.push(dict)
		return d.assign(dict, items)
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
		return d.object(class, args)
	case 0x92: // NEWOBJ_EX: keyword arguments are dropped
		if _, err := d.pop(); err != nil {
			return err
		}
		class, args, err := d.two()
		if err != nil {
			return err
		}
		return d.object(class, args)
	case 'o': // OBJ
		items, err := d.popMark()
		if err != nil {
			return err
		}
		if len(items) == 0 {
			return errStack
		}
		return d.object(items[0], Tuple(items[1:]))
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
		o.State = state
	case 'Q': // BINPERSID
		id, err := d.pop()
		if err != nil {
			return err
		}
		var v any = &Persistent{id}
		if d.persist != nil {
			if v, err = d.persist(id); err != nil {
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
