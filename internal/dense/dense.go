// Package dense makes and reads the tensors of float32 that everything here is computed with.
package dense

import (
	"gorgonia.org/tensor"
)

// New makes a tensor of numbers in row-major order, which it keeps; without a shape it is a scalar.
// It panics where the numbers do not fill the shape.
func New(data []float32, shape ...int) *tensor.Dense {
	if len(shape) == 0 && len(data) == 1 {
		return tensor.New(tensor.FromScalar(data[0]))
	}
	return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
}

// Floats returns the numbers of a tensor that is no scalar, in row-major order. They are the
// tensor's own.
func Floats(t *tensor.Dense) []float32 { return t.Data().([]float32) }
