package plain

import (
	"fmt"
	"math"

	"clipinspector/engine"
)

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// phi is the standard normal distribution's cumulative distribution function.
func phi(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }

func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

// function returns f(x).
func function(at *engine.Attr, x float64) float64 {
	switch at.Func {
	case engine.Affine:
		return at.Alpha*x + at.Beta
	case engine.Clamp:
		return min(max(x, at.Lo), at.Hi)
	case engine.QuickGELU:
		return x * sigmoid(1.702*x)
	case engine.GELU:
		return x * phi(x)
	case engine.ReLU:
		return max(x, 0)
	case engine.Tanh:
		return math.Tanh(x)
	case engine.Sigmoid:
		return sigmoid(x)
	case engine.Exp:
		return math.Exp(x)
	case engine.Log:
		return math.Log(x)
	case engine.Abs:
		return math.Abs(x)
	case engine.Sign:
		return sign(x)
	case engine.Square:
		return x * x
	case engine.Sqrt:
		return math.Sqrt(x)
	case engine.Reciprocal:
		return 1 / x
	}
	panic(fmt.Sprintf("plain: function %d does not take one argument", at.Func))
}

// derivative returns f'(x).
func derivative(at *engine.Attr, x float64) float64 {
	switch at.Func {
	case engine.Affine:
		return at.Alpha
	case engine.Clamp:
		if x < at.Lo || x > at.Hi {
			return 0
		}
		return 1
	case engine.QuickGELU:
		s := sigmoid(1.702 * x)
		return s + 1.702*x*s*(1-s)
	case engine.GELU:
		return phi(x) + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
	case engine.ReLU:
		if x > 0 {
			return 1
		}
		return 0
	case engine.Tanh:
		t := math.Tanh(x)
		return 1 - t*t
	case engine.Sigmoid:
		s := sigmoid(x)
		return s * (1 - s)
	case engine.Exp:
		return math.Exp(x)
	case engine.Log:
		return 1 / x
	case engine.Abs:
		return sign(x)
	case engine.Sign:
		return 0
	case engine.Square:
		return 2 * x
	case engine.Sqrt:
		return 0.5 / math.Sqrt(x)
	case engine.Reciprocal:
		return -1 / (x * x)
	}
	panic(fmt.Sprintf("plain: function %d does not take one argument", at.Func))
}

// function2 returns f(a, b).
func function2(f engine.Func, a, b float64) float64 {
	truth := func(t bool) float64 {
		if t {
			return 1
		}
		return 0
	}
	switch f {
	case engine.Add:
		return a + b
	case engine.Sub:
		return a - b
	case engine.Mul:
		return a * b
	case engine.Div:
		return a / b
	case engine.Maximum:
		return max(a, b)
	case engine.Minimum:
		return min(a, b)
	case engine.Equal:
		return truth(a == b)
	case engine.GreaterEqual:
		return truth(a >= b)
	}
	panic(fmt.Sprintf("plain: function %d does not take two arguments", f))
}

func unary[T Float](ins *engine.Instr, in, out [][]T) {
	at := rounded[T](ins.Attr)
	for i, x := range in[0] {
		out[0][i] = T(function(&at, float64(x)))
	}
}

func unaryGrad[T Float](ins *engine.Instr, in, out [][]T) {
	at := rounded[T](ins.Attr)
	for i, x := range in[0] {
		out[0][i] = T(derivative(&at, float64(x)) * float64(in[1][i]))
	}
}

// rounded returns the attributes with the bounds of Clamp rounded to T, so that a clamped number
// lies within them.
func rounded[T Float](at engine.Attr) engine.Attr {
	at.Lo, at.Hi = float64(T(at.Lo)), float64(T(at.Hi))
	return at
}

func binary[T Float](ins *engine.Instr, in, out [][]T) {
	shape := ins.Out[0].Shape
	sa, sb := broadcastStrides(ins.In[0].Shape, shape), broadcastStrides(ins.In[1].Shape, shape)
	for i := range out[0] {
		at := unravel(i, shape)
		a, b := in[0][place(at, sa)], in[1][place(at, sb)]
		out[0][i] = T(function2(ins.Attr.Func, float64(a), float64(b)))
	}
}

// index is a place in an array of at most maxRank dimensions.
type index [maxRank]int

const maxRank = 8

// unravel returns the coordinates of element i of a row-major array.
func unravel(i int, shape []int) (at index) {
	for k := len(shape) - 1; k >= 0; k-- {
		at[k] = i % shape[k]
		i /= shape[k]
	}
	return at
}

// place returns sum(at*strides).
func place(at, strides index) (p int) {
	for k, a := range at {
		p += a * strides[k]
	}
	return p
}

// strides returns the distances between neighbours along each dimension of a row-major array.
func strides(shape []int) (s index) {
	n := 1
	for k := len(shape) - 1; k >= 0; k-- {
		s[k] = n
		n *= shape[k]
	}
	return s
}

// broadcastStrides returns the strides of an array of shape small seen as one of shape big: 0 where
// it is repeated.
func broadcastStrides(small, big []int) index {
	s := strides(small)
	for k, n := range small {
		if n == 1 && big[k] != 1 {
			s[k] = 0
		}
	}
	return s
}
