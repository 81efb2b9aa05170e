package plain

import (
	"math"

	"clipinspector/engine"
)

// heads calls f for each image and head with the places of the head's first q, k and v numbers in
// qkv, of its first number in o, and of its first number in lse.
func heads(ins *engine.Instr, f func(q, k, v, o, lse int)) {
	s, w, d, _ := headSizes(ins)
	for i := range ins.In[0].Shape[0] {
		for h := range ins.Attr.Heads {
			q := i*s*3*w + h*d
			f(q, q+w, q+2*w, i*s*w+h*d, (i*ins.Attr.Heads+h)*s)
		}
	}
}

// headSizes returns the length S, the width W, the width d of a head and the factor 1/sqrt(d).
func headSizes(ins *engine.Instr) (s, w, d int, scale float64) {
	shape := ins.In[0].Shape
	s, w = shape[1], shape[2]/3
	d = w / ins.Attr.Heads
	return s, w, d, 1 / math.Sqrt(float64(d))
}

// visible returns how many of s positions the row i sees.
func visible(ins *engine.Instr, i, s int) int {
	if ins.Attr.Causal {
		return i + 1
	}
	return s
}

func dot[T Float](a, b []T) float64 {
	var s float64
	for i, x := range a {
		s += float64(x) * float64(b[i])
	}
	return s
}

func attention[T Float](ins *engine.Instr, in, out [][]T) {
	qkv, o, lse := in[0], out[0], out[1]
	s, w, d, scale := headSizes(ins)
	p := make([]float64, s)
	acc := make([]float64, d)
	heads(ins, func(q, k, v, oo, ll int) {
		for i := range s {
			n := visible(ins, i, s)
			qi := qkv[q+i*3*w:][:d]
			peak := math.Inf(-1)
			for j := range n {
				p[j] = scale * dot(qi, qkv[k+j*3*w:][:d])
				peak = max(peak, p[j])
			}
			var sum float64
			clear(acc)
			for j := range n {
				e := math.Exp(p[j] - peak)
				sum += e
				for c, x := range qkv[v+j*3*w:][:d] {
					acc[c] += e * float64(x)
				}
			}
			for c := range d {
				o[oo+i*w+c] = T(acc[c] / sum)
			}
			lse[ll+i] = T(peak + math.Log(sum))
		}
	})
}

// attentionGrad: with P = softmax(scale*q·kᵀ) = exp(scale*q·kᵀ - lse), dP = do·vᵀ and D_i =
// sum(do_i*o_i), the gradient of the scaled scores is dS = P*(dP - D), so that dq = scale*dS·k, dk
// = scale*dSᵀ·q and dv = Pᵀ·do.
func attentionGrad[T Float](ins *engine.Instr, in, out [][]T) {
	qkv, o, lse, do, dqkv := in[0], in[1], in[2], in[3], out[0]
	s, w, d, scale := headSizes(ins)
	clear(dqkv)
	dk, dv, dq := make([]float64, s*d), make([]float64, s*d), make([]float64, d)
	heads(ins, func(q, k, v, oo, ll int) {
		clear(dk)
		clear(dv)
		for i := range s {
			qi, doi := qkv[q+i*3*w:][:d], do[oo+i*w:][:d]
			di := dot(doi, o[oo+i*w:][:d])
			clear(dq)
			for j := range visible(ins, i, s) {
				kj, vj := qkv[k+j*3*w:][:d], qkv[v+j*3*w:][:d]
				p := math.Exp(scale*dot(qi, kj) - float64(lse[ll+i]))
				ds := scale * p * (dot(doi, vj) - di)
				for c := range d {
					dq[c] += ds * float64(kj[c])
					dk[j*d+c] += ds * float64(qi[c])
					dv[j*d+c] += p * float64(doi[c])
				}
			}
			for c := range d {
				dqkv[q+i*3*w+c] = T(dq[c])
			}
		}
		for j := range s {
			for c := range d {
				dqkv[k+j*3*w+c] = T(dk[j*d+c])
				dqkv[v+j*3*w+c] = T(dv[j*d+c])
			}
		}
	})
}
