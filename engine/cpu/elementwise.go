package cpu

// #include "ci.h"
import "C"

import (
	"math"

	"clipinspector/engine"
)

// unaryCode and binaryCode translate functions to those of ci.h.
var unaryCode = map[engine.Func]C.int{engine.Affine: C.CI_AFFINE, engine.Clamp: C.CI_CLAMP, engine.QuickGELU: C.CI_QUICKGELU,
	engine.GELU: C.CI_GELU, engine.ReLU: C.CI_RELU, engine.Tanh: C.CI_TANH, engine.Sigmoid: C.CI_SIGMOID, engine.Exp: C.CI_EXP,
	engine.Log: C.CI_LOG, engine.Abs: C.CI_ABS, engine.Sign: C.CI_SIGN, engine.Square: C.CI_SQUARE, engine.Sqrt: C.CI_SQRT,
	engine.Reciprocal: C.CI_RECIPROCAL}

var binaryCode = map[engine.Func]C.int{engine.Add: C.CI_ADD, engine.Sub: C.CI_SUB, engine.Mul: C.CI_MUL, engine.Div: C.CI_DIV,
	engine.Maximum: C.CI_MAXIMUM, engine.Minimum: C.CI_MINIMUM, engine.Equal: C.CI_EQUAL, engine.GreaterEqual: C.CI_GREATER_EQUAL}

// parameters returns the two numbers that a function of one argument may take.
func parameters(at *engine.Attr) (p, q C.float) {
	if at.Func == engine.Clamp {
		return C.float(at.Lo), C.float(at.Hi)
	}
	return C.float(at.Alpha), C.float(at.Beta)
}

func (c *compiler) unary(ins *engine.Instr, in, out [][]float32) {
	f := unaryCode[ins.Attr.Func]
	p, q := parameters(&ins.Attr)
	c.ranges(len(in[0]), 1, func(i, to int) {
		C.ci_unary(c.e.simd, f, C.long(to-i), fp(in[0][i:]), fp(out[0][i:]), p, q)
	})
}

func (c *compiler) unaryGrad(ins *engine.Instr, in, out [][]float32) {
	f := unaryCode[ins.Attr.Func]
	p, q := parameters(&ins.Attr)
	c.ranges(len(in[0]), 1, func(i, to int) {
		C.ci_unary_grad(c.e.simd, f, C.long(to-i), fp(in[0][i:]), fp(in[1][i:]), fp(out[0][i:]), p, q)
	})
}

// loop is one dimension of a nest: its size and the strides of two operands.
type loop struct{ n, a, b int }

// strides returns the distances between neighbours along each dimension of a row-major array; 0
// along dimensions of size 1.
func strides(shape []int) []int {
	s := make([]int, len(shape))
	n := 1
	for k := len(shape) - 1; k >= 0; k-- {
		if shape[k] != 1 {
			s[k] = n
		}
		n *= shape[k]
	}
	return s
}

// merge drops dimensions of size 1 and joins neighbours through which both operands walk evenly. At
// least one is left.
func merge(loops []loop) []loop {
	var r []loop
	for _, l := range loops {
		if l.n == 1 {
			continue
		}
		if k := len(r) - 1; k >= 0 && r[k].a == l.a*l.n && r[k].b == l.b*l.n {
			r[k] = loop{r[k].n * l.n, l.a, l.b}
			continue
		}
		r = append(r, l)
	}
	if len(r) == 0 {
		r = append(r, loop{1, 1, 1})
	}
	return r
}

// nest returns loops for C.
func nest(loops []loop) *C.ci_nest {
	g := &C.ci_nest{dims: C.int(len(loops))}
	for k, l := range loops {
		g.n[k], g.a[k], g.b[k] = C.long(l.n), C.long(l.a), C.long(l.b)
	}
	return g
}

// outer returns the number of iterations of all loops but the innermost.
func outer(loops []loop) int {
	n := 1
	for _, l := range loops[:len(loops)-1] {
		n *= l.n
	}
	return n
}

func (c *compiler) binary(ins *engine.Instr, in, out [][]float32) {
	sa, sb := strides(ins.In[0].Shape), strides(ins.In[1].Shape)
	var loops []loop
	for k, n := range ins.Out[0].Shape {
		loops = append(loops, loop{n, sa[k], sb[k]})
	}
	c.nested(binaryCode[ins.Attr.Func], merge(loops), in[0], in[1], out[0])
}

func (c *compiler) broadcastTo(ins *engine.Instr, in, out [][]float32) {
	sa := strides(ins.In[0].Shape)
	var loops []loop
	for k, n := range ins.Out[0].Shape {
		loops = append(loops, loop{n, sa[k], 0})
	}
	c.nested(C.CI_COPY, merge(loops), in[0], in[0], out[0])
}

// nested appends y = f(a, b) over a nest of loops; y is dense.
func (c *compiler) nested(f C.int, loops []loop, a, b, y []float32) {
	if len(y) == 0 {
		return
	}
	g, rows, width := nest(loops), outer(loops), loops[len(loops)-1].n
	if width <= tileSize {
		c.ranges(rows, width, func(i, to int) {
			C.ci_binary(c.e.simd, f, g, C.long(i), C.long(to), 0, C.long(width), fp(a), fp(b), fp(y))
		})
		return
	}
	parts := (width + tileSize - 1) / tileSize
	c.add(rows*parts, func(t, _ int) {
		r, lo := t/parts, t%parts*tileSize
		C.ci_binary(c.e.simd, f, g, C.long(r), C.long(r+1), C.long(lo), C.long(min(width, lo+tileSize)), fp(a), fp(b), fp(y))
	})
}

// rate returns the learning rate of a step: the schedule's last once it has run out.
func rate(step, schedule []float32) float32 { return schedule[min(int(step[0]), len(schedule)-1)] }

func (c *compiler) sgd(ins *engine.Instr, in, out [][]float32) {
	at := &ins.Attr
	c.ranges(len(in[0]), 1, func(i, to int) {
		C.ci_sgd(c.e.simd, C.long(to-i), fp(in[0][i:]), fp(in[1][i:]), fp(from(in[2], i)), C.float(rate(in[3], in[4])), C.float(at.Momentum),
			C.float(at.WeightDecay), bit(in[3][0] <= 0))
	})
}

func (c *compiler) adam(ins *engine.Instr, in, out [][]float32) {
	at := &ins.Attr
	c.ranges(len(in[0]), 1, func(i, to int) {
		lr, t := float64(rate(in[4], in[5])), float64(in[4][0])+1
		shrink, decay := 1., at.WeightDecay
		if at.Decoupled {
			shrink, decay = 1-lr*at.WeightDecay, 0
		}
		C.ci_adam(c.e.simd, C.long(to-i), fp(in[0][i:]), fp(in[1][i:]), fp(in[2][i:]), fp(in[3][i:]), C.float(shrink), C.float(decay),
			C.float(at.Beta1), C.float(1-at.Beta1), C.float(at.Beta2), C.float(1-at.Beta2), C.float(lr/(1-math.Pow(at.Beta1, t))),
			C.float(1/(1-math.Pow(at.Beta2, t))), C.float(at.Eps))
	})
}
