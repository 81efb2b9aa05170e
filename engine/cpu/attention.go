package cpu

// #include "ci.h"
import "C"

import "clipinspector/engine"

// perHead appends a step that calls f for every image and head, with the places of the head's first
// numbers in qkv, o and lse.
func (c *compiler) perHead(ins *engine.Instr, f func(qkv, o, lse int, s, w, d C.long, scratch []float32)) {
	shape := ins.In[0].Shape
	b, s, w, heads := shape[0], shape[1], shape[2]/3, ins.Attr.Heads
	d := w / heads
	c.scratch = max(c.scratch, int(C.ci_attention_scratch(c.e.simd, C.long(s))))
	n, e := b*heads, c.e
	group := max(1, min(n, (1<<18)/max(1, s*s*d))) // small heads are done several at a time
	c.add((n+group-1)/group, func(t, worker int) {
		for i := t * group; i < min(n, (t+1)*group); i++ {
			image, h := i/heads, i%heads
			f(image*s*3*w+h*d, image*s*w+h*d, i*s, C.long(s), C.long(w), C.long(d), e.scratch[worker])
		}
	})
}

func (c *compiler) attention(ins *engine.Instr, in, out [][]float32) {
	qkv, o, lse := in[0], out[0], out[1]
	causal := bit(ins.Attr.Causal)
	c.perHead(ins, func(q, oo, ll int, s, w, d C.long, scratch []float32) {
		C.ci_attention(c.e.simd, s, w, d, causal, fp(qkv[q:]), fp(o[oo:]), fp(lse[ll:]), fp(scratch))
	})
}

func (c *compiler) attentionGrad(ins *engine.Instr, in, out [][]float32) {
	qkv, o, lse, do, dqkv := in[0], in[1], in[2], in[3], out[0]
	causal := bit(ins.Attr.Causal)
	c.perHead(ins, func(q, oo, ll int, s, w, d C.long, scratch []float32) {
		C.ci_attention_grad(c.e.simd, s, w, d, causal, fp(qkv[q:]), fp(o[oo:]), fp(lse[ll:]), fp(do[oo:]), fp(dqkv[q:]), fp(scratch))
	})
}
