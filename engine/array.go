package engine

import (
	"fmt"

	"gorgonia.org/tensor"
)

// Array is device memory with a shape. The zero Array is absent.
type Array struct {
	Buffer Buffer
	Shape  []int
}

// NewArray returns a zeroed array.
func NewArray(e Engine, shape ...int) (Array, error) {
	b, err := e.NewBuffer(Size(shape))
	if err != nil {
		return Array{}, err
	}
	return Array{b, append([]int(nil), shape...)}, nil
}

// UploadSlice copies numbers in row-major order to a new array of the given shape.
func UploadSlice(e Engine, data []float32, shape ...int) (Array, error) {
	if len(data) != Size(shape) {
		return Array{}, fmt.Errorf("upload: %d numbers do not fill shape %v", len(data), shape)
	}
	a, err := NewArray(e, shape...)
	if err != nil {
		return Array{}, err
	}
	return a, a.Buffer.Write(0, data)
}

// Share is UploadSlice for numbers that nobody changes any more: an engine whose memory is the
// host's takes them as they lie.
func Share(e Engine, data []float32, shape ...int) (Array, error) {
	s, ok := e.(interface{ Share(data []float32) Buffer })
	if !ok || len(data) != Size(shape) {
		return UploadSlice(e, data, shape...)
	}
	return Array{s.Share(data), append([]int(nil), shape...)}, nil
}

// Download waits for the device and copies the array to the host.
func (a Array) Download() (*tensor.Dense, error) {
	data := make([]float32, Size(a.Shape))
	if err := a.Buffer.Read(0, data); err != nil {
		return nil, err
	}
	return tensor.New(tensor.WithShape(a.Shape...), tensor.WithBacking(data)), nil
}

// Free gives the device memory back; an absent array is left alone.
func (a Array) Free() {
	if a.Buffer != nil {
		a.Buffer.Free()
	}
}
