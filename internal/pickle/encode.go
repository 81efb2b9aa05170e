package pickle

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// Encode writes a pickle of protocol 2, which every Python since 2.3 reads, of the kinds of values
// that [Decode] returns, but for Bytes and integers of more than 64 bits. Values are written as
// often as they occur: a value that holds itself is an error.
func Encode(w io.Writer, v any) error {
	b, err := encode([]byte{0x80, 2}, v, 0)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '.'))
	return err
}

func encode(b []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("pickle: nested deeper than %d", maxDepth)
	}
	each := func(items []any) (err error) {
		for _, x := range items {
			if b, err = encode(b, x, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	assign := func(d Dict) (err error) {
		if len(d.Keys) == 0 {
			return nil
		}
		b = append(b, '(')
		for i := range d.Keys {
			if err := each([]any{d.Keys[i], d.Values[i]}); err != nil {
				return err
			}
		}
		b = append(b, 'u')
		return nil
	}
	var err error
	switch v := v.(type) {
	case nil:
		return append(b, 'N'), nil
	case bool:
		if v {
			return append(b, 0x88), nil
		}
		return append(b, 0x89), nil
	case int64:
		if v == int64(int32(v)) {
			return binary.LittleEndian.AppendUint32(append(b, 'J'), uint32(v)), nil
		}
		return binary.LittleEndian.AppendUint64(append(b, 0x8a, 8), uint64(v)), nil
	case float64:
		return binary.BigEndian.AppendUint64(append(b, 'G'), math.Float64bits(v)), nil
	case string:
		if len(v) > math.MaxInt32 {
			return nil, fmt.Errorf("pickle: a string of %d bytes", len(v))
		}
		return append(binary.LittleEndian.AppendUint32(append(b, 'X'), uint32(len(v))), v...), nil
	case Tuple:
		b = append(b, '(')
		err = each(v)
		b = append(b, 't')
	case *List:
		b = append(b, ']', '(')
		err = each(v.Items)
		b = append(b, 'e')
	case *Dict:
		b = append(b, '}')
		err = assign(*v)
	case Global:
		b = append(b, 'c')
		b = append(b, v.Module+"\n"+v.Name+"\n"...)
	case *Object:
		if err = each([]any{v.Class, v.Args}); err != nil {
			return nil, err
		}
		b = append(b, 'R')
		if len(v.List.Items) > 0 {
			b = append(b, '(')
			if err = each(v.List.Items); err != nil {
				return nil, err
			}
			b = append(b, 'e')
		}
		if err = assign(v.Dict); err == nil && v.State != nil {
			err = each([]any{v.State})
			b = append(b, 'b')
		}
	case *Persistent:
		err = each([]any{v.ID})
		b = append(b, 'Q')
	default:
		err = fmt.Errorf("pickle: %T cannot be written", v)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}
