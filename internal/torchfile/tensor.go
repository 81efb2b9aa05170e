package torchfile

import (
	"fmt"
	"math"
	"slices"

	"clipinspector/internal/pickle"
	"clipinspector/internal/safetensors"
)

// Tensor is a tensor that lies in a file.
type Tensor struct {
	DType  safetensors.DType
	Shape  []int
	stride []uint64
	offset uint64
	count  uint64 // numbers
	from   *storage
}

const maxRank = 16

// AsTensor returns the tensor that a value of a pickle stands for, and whether it is one: a tensor
// or a parameter.
func AsTensor(v any) (*Tensor, bool, error) {
	t, ok := v.(*Tensor)
	return t, ok, nil
}

// identity tells apart tensors that are not the same numbers of the same storage.
func (t *Tensor) identity() string { return fmt.Sprint(t.from.key, t.offset, t.Shape, t.stride) }

// newTensor reads (storage, offset, shape, stride, ...). A tensor that leaves its storage, or has
// more numbers than it, is an error.
func newTensor(args pickle.Tuple) (*Tensor, error) {
	s, ok := args[0].(*storage)
	if !ok {
		return nil, fmt.Errorf("a tensor whose storage is %s", pickle.TypeName(args[0]))
	}
	offset, err := naturals("offset", pickle.Tuple{args[1]})
	if err != nil {
		return nil, err
	}
	shape, err := naturals("shape", args[2])
	if err != nil {
		return nil, err
	}
	stride, err := naturals("strides", args[3])
	if err != nil {
		return nil, err
	}
	if len(shape) != len(stride) {
		return nil, fmt.Errorf("shape of %d axes, strides of %d", len(shape), len(stride))
	}
	t := &Tensor{DType: s.dtype, stride: stride, offset: offset[0], count: 1, from: s, Shape: make([]int, len(shape))}
	last := t.offset               // the place of the last number
	if slices.Contains(shape, 0) { // and then any others
		t.count = 0
	}
	for i, d := range shape {
		if d > math.MaxInt32 || d > 0 && t.count > s.size/d { // so that the product stays within 64 bits
			return nil, fmt.Errorf("shape %v: more numbers than the %d of its storage %.40q", shape, s.size, s.key)
		}
		t.count *= d
		t.Shape[i] = int(d)
		if d > 1 {
			if stride[i] > (1<<62)/(d-1) {
				return nil, fmt.Errorf("strides %v: leave the storage %.40q", stride, s.key)
			}
			last += (d - 1) * stride[i]
		}
		if last >= 1<<62 {
			return nil, fmt.Errorf("offset %d and strides %v: leave the storage %.40q", t.offset, stride, s.key)
		}
	}
	if t.count > 0 && last >= s.size || t.offset > s.size {
		return nil, fmt.Errorf("offset %d, shape %v and strides %v: leave the %d numbers of the storage %.40q",
			t.offset, shape, stride, s.size, s.key)
	}
	return t, nil
}

// naturals reads a tuple of at most 16 non-negative integers.
func naturals(what string, v any) ([]uint64, error) {
	items, ok := v.(pickle.Tuple)
	if !ok {
		return nil, fmt.Errorf("%s: %s, want a tuple", what, pickle.TypeName(v))
	}
	if len(items) > maxRank {
		return nil, fmt.Errorf("%s: %d numbers; at most %d are read", what, len(items), maxRank)
	}
	out := make([]uint64, len(items))
	for i, x := range items {
		n, ok := x.(int64)
		if !ok || n < 0 {
			return nil, fmt.Errorf("%s: %s that is no natural number of 63 bits", what, pickle.TypeName(x))
		}
		out[i] = uint64(n)
	}
	return out, nil
}

// chunk is how many numbers are read at a time.
const chunk = 16 << 10

// Float32 reads the numbers in row-major order. Those of other types are converted; what is too
// large for float32 becomes infinite, and complex numbers are refused. Check the shape first: it is
// what decides how much memory this takes.
func (t *Tensor) Float32() ([]float32, error) {
	out := make([]float32, t.count)
	if t.count == 0 {
		return out, nil
	}
	if t.rowMajor() {
		return out, t.read(out, t.offset)
	}
	span := uint64(1)
	for i, d := range t.Shape {
		span += uint64(d-1) * t.stride[i]
	}
	memory := make([]float32, span) // at most the storage's size
	if err := t.read(memory, t.offset); err != nil {
		return nil, err
	}
	index := make([]int, len(t.Shape))
	at := uint64(0)
	for i := range out {
		out[i] = memory[at]
		for axis := len(index) - 1; axis >= 0; axis-- {
			index[axis]++
			at += t.stride[axis]
			if index[axis] < t.Shape[axis] {
				break
			}
			at -= uint64(t.Shape[axis]) * t.stride[axis]
			index[axis] = 0
		}
	}
	return out, nil
}

func (t *Tensor) rowMajor() bool {
	want := uint64(1)
	for i := len(t.Shape) - 1; i >= 0; i-- {
		if t.Shape[i] != 1 && t.stride[i] != want {
			return false
		}
		want *= uint64(t.Shape[i])
	}
	return true
}

// read reads numbers from a place of the storage on.
func (t *Tensor) read(out []float32, from uint64) error {
	f, width := t.from.file, safetensors.Size(t.DType)
	if t.from.sum != nil {
		if err := t.from.sum(); err != nil {
			return fmt.Errorf("torch file %s: storage %.40q: %w", f.path, t.from.key, err)
		}
	}
	at := t.from.begin + int64(from*width)
	buf := make([]byte, min(len(out), chunk)*int(width))
	for part := range slices.Chunk(out, chunk) {
		b := buf[:len(part)*int(width)]
		if _, err := f.r.ReadAt(b, at); err != nil {
			return fmt.Errorf("torch file %s: storage %.40q: %w", f.path, t.from.key, err)
		}
		if !safetensors.Decode(part, b, t.DType) {
			return fmt.Errorf("torch file %s: storage %.40q: numbers of type %s are not read", f.path, t.from.key, t.DType)
		}
		at += int64(len(b))
	}
	return nil
}
