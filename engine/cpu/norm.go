package cpu

// #include "ci.h"
import "C"

import "clipinspector/engine"

// from returns x[i:], or nil where x is absent.
func from(x []float32, i int) []float32 {
	if x == nil {
		return nil
	}
	return x[i:]
}

func (c *compiler) layerNorm(ins *engine.Instr, in, out [][]float32) {
	w, eps := len(in[1]), C.float(ins.Attr.Eps)
	c.ranges(len(in[0])/w, w, func(r, to int) {
		i := r * w
		C.ci_layernorm(c.e.simd, C.long(to-r), C.long(w), fp(in[0][i:]), fp(from(in[3], i)), fp(in[1]), fp(in[2]), eps,
			fp(out[0][i:]), fp(out[1][2*r:]), fp(from(out[2], i)))
	})
}

func (c *compiler) layerNormGrad(ins *engine.Instr, in, out [][]float32) {
	w := len(in[1])
	c.ranges(len(in[0])/w, w, func(r, to int) {
		i := r * w
		C.ci_layernorm_grad(c.e.simd, C.long(to-r), C.long(w), fp(in[0][i:]), fp(in[1]), fp(in[2][2*r:]), fp(in[3][i:]),
			fp(from(in[4], i)), fp(out[0][i:]))
	})
}

func (c *compiler) layerNormParamGrad(ins *engine.Instr, in, out [][]float32) {
	w := len(out[0])
	c.add((w+63)/64, func(t, _ int) {
		C.ci_layernorm_param_grad(c.e.simd, C.long(len(in[0])/w), C.long(w), C.long(64*t), C.long(min(w, 64*t+64)), fp(in[0]), fp(in[1]),
			fp(in[2]), fp(out[0]), fp(out[1]))
	})
}

func (c *compiler) normalize(ins *engine.Instr, in, out [][]float32) {
	w := last(ins.In[0])
	if ins.Op == engine.Normalize {
		c.ranges(len(out[1]), w, func(r, to int) {
			C.ci_normalize(c.e.simd, C.long(to-r), C.long(w), fp(in[0][r*w:]), fp(out[0][r*w:]), fp(out[1][r:]))
		})
		return
	}
	c.ranges(len(in[1]), w, func(r, to int) {
		C.ci_normalize_grad(c.e.simd, C.long(to-r), C.long(w), fp(in[0][r*w:]), fp(in[1][r:]), fp(in[2][r*w:]), fp(out[0][r*w:]))
	})
}

// softmaxFamily: softmax and cross entropy with their gradients, all of which work row by row.
func (c *compiler) softmaxFamily(ins *engine.Instr, in, out [][]float32) {
	w := last(ins.In[0])
	if w == 0 {
		return
	}
	c.ranges(len(in[0])/w, 4*w, func(r, to int) {
		n, wide, x := C.long(to-r), C.long(w), fp(in[0][r*w:])
		switch ins.Op {
		case engine.Softmax:
			C.ci_softmax(c.e.simd, n, wide, x, fp(out[0][r*w:]))
		case engine.SoftmaxGrad:
			C.ci_softmax_grad(c.e.simd, n, wide, x, fp(in[1][r*w:]), fp(out[0][r*w:]))
		case engine.CrossEntropy:
			mustIndex(ins.Op, in[1][r:to], w)
			C.ci_cross_entropy(c.e.simd, n, wide, x, fp(in[1][r:]), fp(out[0][r:]))
		case engine.CrossEntropyGrad:
			mustIndex(ins.Op, in[1][r:to], w)
			C.ci_cross_entropy_grad(c.e.simd, n, wide, x, fp(in[1][r:]), fp(in[2][r:]), fp(out[0][r*w:]))
		}
	})
}
