package plain

import (
	"math"

	"clipinspector/engine"
)

// logSumExp returns log(sum(exp(x))).
func logSumExp[T Float](x []T) float64 {
	peak := float64(x[largest(x, -1)])
	var s float64
	for _, v := range x {
		s += math.Exp(float64(v) - peak)
	}
	return peak + math.Log(s)
}

func softmax[T Float](ins *engine.Instr, in, out [][]T) {
	w := last(ins.In[0])
	for r := 0; r < len(in[0]); r += w {
		x := in[0][r : r+w]
		lse := logSumExp(x)
		for i, v := range x {
			out[0][r+i] = T(math.Exp(float64(v) - lse))
		}
	}
}

func softmaxGrad[T Float](ins *engine.Instr, in, out [][]T) {
	w := last(ins.In[0])
	for r := 0; r < len(in[0]); r += w {
		y, dy := in[0][r:r+w], in[1][r:r+w]
		s := dot(y, dy)
		for i := range y {
			out[0][r+i] = T(float64(y[i]) * (float64(dy[i]) - s))
		}
	}
}

func crossEntropy[T Float](ins *engine.Instr, in, out [][]T) {
	w := last(ins.In[0])
	for r, label := range in[1] {
		x := in[0][r*w:][:w]
		out[0][r] = T(logSumExp(x) - float64(x[int(label)]))
	}
}

func crossEntropyGrad[T Float](ins *engine.Instr, in, out [][]T) {
	w := last(ins.In[0])
	for r, label := range in[1] {
		x := in[0][r*w:][:w]
		lse, d := logSumExp(x), float64(in[2][r])
		for i, v := range x {
			p := math.Exp(float64(v) - lse)
			if i == int(label) {
				p--
			}
			out[0][r*w+i] = T(p * d)
		}
	}
}

func margin[T Float](ins *engine.Instr, in, out [][]T) {
	w := last(ins.In[0])
	for r, label := range in[1] {
		x := in[0][r*w:][:w]
		other := largest(x, int(label))
		out[0][r] = T(max(0, ins.Attr.Alpha+float64(x[other])-float64(x[int(label)])))
	}
}

func marginGrad[T Float](ins *engine.Instr, in, out [][]T) {
	w := last(ins.In[0])
	clear(out[0])
	for r, label := range in[1] {
		x := in[0][r*w:][:w]
		other := largest(x, int(label))
		if ins.Attr.Alpha+float64(x[other])-float64(x[int(label)]) > 0 {
			out[0][r*w+other], out[0][r*w+int(label)] = in[2][r], -in[2][r]
		}
	}
}
