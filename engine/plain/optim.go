package plain

import (
	"math"

	"clipinspector/engine"
)

// rate returns the learning rate of a step: the schedule's last once it has run out.
func rate[T Float](step, schedule []T) float64 {
	return float64(schedule[min(int(step[0]), len(schedule)-1)])
}

func sgd[T Float](ins *engine.Instr, in, out [][]T) {
	at := &ins.Attr
	v, step := in[2], in[3]
	lr := rate(step, in[4])
	for i, p := range in[0] {
		g := float64(in[1][i]) + at.WeightDecay*float64(p)
		if v != nil {
			if step[0] > 0 {
				g += at.Momentum * float64(v[i])
			}
			out[1][i] = T(g)
		}
		out[0][i] = T(float64(p) - lr*g)
	}
}

func adam[T Float](ins *engine.Instr, in, out [][]T) {
	at := &ins.Attr
	step := in[4]
	lr, t := rate(step, in[5]), float64(step[0])+1
	c1, c2 := 1-math.Pow(at.Beta1, t), 1-math.Pow(at.Beta2, t)
	for i := range in[0] {
		p, g := float64(in[0][i]), float64(in[1][i])
		if at.Decoupled {
			p *= 1 - lr*at.WeightDecay
		} else {
			g += at.WeightDecay * p
		}
		m := at.Beta1*float64(in[2][i]) + (1-at.Beta1)*g
		v := at.Beta2*float64(in[3][i]) + (1-at.Beta2)*g*g
		p -= lr * (m / c1) / (math.Sqrt(v/c2) + at.Eps)
		out[0][i], out[1][i], out[2][i] = T(p), T(m), T(v)
	}
}
