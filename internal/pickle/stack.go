package pickle

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

func (d *decoder) push(v any) { d.stack = append(d.stack, v) }

var errStack = errors.New("takes more from the stack than there is")

// floor is the height down to which values may be taken: the last mark.
func (d *decoder) floor() int {
	if len(d.marks) == 0 {
		return 0
	}
	return d.marks[len(d.marks)-1]
}

func (d *decoder) pop() (any, error) {
	n := len(d.stack) - 1
	if n < d.floor() {
		return nil, errStack
	}
	v := d.stack[n]
	d.stack = d.stack[:n]
	return v, nil
}

func (d *decoder) top() (any, error) {
	if len(d.stack)-1 < d.floor() {
		return nil, errStack
	}
	return d.stack[len(d.stack)-1], nil
}

// popMark takes everything above the last mark, and the mark.
func (d *decoder) popMark() ([]any, error) {
	if len(d.marks) == 0 {
		return nil, errors.New("there is no mark on the stack")
	}
	return d.popN(len(d.stack)-d.floor(), true)
}

// popN takes the last n values, as a slice of their own.
func (d *decoder) popN(n int, andMark bool) ([]any, error) {
	from := len(d.stack) - n
	if from < d.floor() {
		return nil, errStack
	}
	if err := d.charge(16 * int64(n)); err != nil {
		return nil, err
	}
	items := slices.Clone(d.stack[from:])
	d.stack = d.stack[:from]
	if andMark {
		d.marks = d.marks[:len(d.marks)-1]
	}
	return items, nil
}

func (d *decoder) put(index uint64) error {
	v, err := d.top()
	if err != nil {
		return err
	}
	if index > math.MaxUint32 {
		return fmt.Errorf("memo %d", index)
	}
	if _, there := d.memo[uint32(index)]; !there {
		if err := d.charge(64); err != nil {
			return err
		}
	}
	d.memo[uint32(index)] = v
	return nil
}

func (d *decoder) get(index uint64) error {
	v, ok := d.memo[uint32(index)]
	if !ok || index > math.MaxUint32 {
		return fmt.Errorf("memo %d was never filled", index)
	}
	switch v := v.(type) {
	case *Dict:
		v.Shared = true
	case *Object:
		v.Shared = true
	}
	d.push(v)
	return nil
}
