package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sort"
	"unicode/utf8"

	"gorgonia.org/tensor"

	"clipinspector/internal/files"
)

// An Option changes how [Write] writes.
type Option func(*options)

type options struct {
	dtype func(name string, shape []int) DType
}

// As writes all tensors as the given type, [F32] (the default) or [F16].
func As(d DType) Option { return AsFunc(func(string, []int) DType { return d }) }

// AsFunc chooses the type of each tensor, [F32] or [F16], by its name and shape.
func AsFunc(f func(name string, shape []int) DType) Option {
	return func(o *options) { o.dtype = f }
}

// Write writes a file atomically, see [files.WriteAtomic]. The bytes depend on nothing but the
// contents: tensors are ordered by the width of their type, widest first as the reference
// implementation does to keep them aligned, and then by name. Tensors must be float32; views and
// transposes are written in row-major order. A finite number too large for F16 is an error.
func Write(path string, f *File, opts ...Option) error {
	return files.WriteAtomic(path, func(w io.Writer) error { return f.encode(w, opts) })
}

func (f *File) encode(w io.Writer, opts []Option) error {
	o := options{dtype: func(string, []int) DType { return F32 }}
	for _, opt := range opts {
		opt(&o)
	}
	entries := make([]entry, 0, len(f.Tensors))
	for _, name := range slices.Sorted(maps.Keys(f.Tensors)) {
		t := f.Tensors[name]
		if name == "__metadata__" || len(name) > maxName || !utf8.ValidString(name) {
			return fmt.Errorf("%.80q cannot be the name of a tensor", name)
		}
		if t == nil || t.Dtype() != tensor.Float32 {
			return fmt.Errorf("tensor %q is not float32", name)
		}
		e := entry{name: name, shape: []int(t.Shape()), size: uint64(t.Shape().TotalSize())}
		if len(e.shape) == 0 {
			e.shape, e.size = []int{}, 1
		}
		if e.dtype = o.dtype(name, e.shape); e.dtype != F32 && e.dtype != F16 {
			return fmt.Errorf("tensor %q: cannot write the type %q", name, e.dtype)
		}
		entries = append(entries, e)
	}
	sort.SliceStable(entries, func(i, j int) bool { return bytesOf[entries[i].dtype] > bytesOf[entries[j].dtype] })

	var header bytes.Buffer
	enc := json.NewEncoder(&header)
	enc.SetEscapeHTML(false)
	item := func(prefix string, v any) {
		header.WriteString(prefix)
		if err := enc.Encode(v); err != nil {
			panic(err) // strings and numbers only: cannot happen
		}
		header.Truncate(header.Len() - 1)
	}
	header.WriteByte('{')
	comma := ""
	if len(f.Metadata) > 0 {
		item(`"__metadata__":`, f.Metadata) // keys are sorted by package json
		comma = ","
	}
	at := uint64(0)
	for _, e := range entries {
		item(comma, e.name)
		end := at + e.size*bytesOf[e.dtype]
		item(`:`, struct {
			DType   DType     `json:"dtype"`
			Shape   []int     `json:"shape"`
			Offsets [2]uint64 `json:"data_offsets"`
		}{e.dtype, e.shape, [2]uint64{at, end}})
		at, comma = end, ","
	}
	header.WriteByte('}')
	for header.Len()%8 != 0 {
		header.WriteByte(' ')
	}
	if header.Len() > maxHeader {
		return errors.New("the header is too large")
	}
	if err := binary.Write(w, binary.LittleEndian, uint64(header.Len())); err != nil {
		return err
	}
	if _, err := w.Write(header.Bytes()); err != nil {
		return err
	}
	buf := make([]byte, 0, chunk)
	for _, e := range entries {
		values := Values(f.Tensors[e.name])
		for len(values) > 0 {
			k := min(len(values), chunk/4)
			var err error
			if buf, err = encodeValues(buf[:0], values[:k], e.dtype); err != nil {
				return fmt.Errorf("tensor %q: %w", e.name, err)
			}
			if _, err := w.Write(buf); err != nil {
				return err
			}
			values = values[k:]
		}
	}
	return nil
}

// Values returns the numbers of a float32 tensor in row-major order: its own memory where it is
// contiguous, otherwise (a view, a transpose, column-major) a copy.
func Values(t *tensor.Dense) []float32 {
	if t.IsScalar() {
		return []float32{t.ScalarValue().(float32)}
	}
	data := t.Data().([]float32)
	if !t.RequiresIterator() && !t.DataOrder().IsColMajor() {
		return data[:t.Shape().TotalSize()]
	}
	out := make([]float32, 0, t.Shape().TotalSize())
	it := t.Iterator()
	for i, err := it.Start(); err == nil; i, err = it.Next() {
		out = append(out, data[i])
	}
	return out
}

// Bytes returns the numbers of a float32 tensor in row-major order as little-endian float32.
func Bytes(t *tensor.Dense) []byte {
	values := Values(t)
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}
