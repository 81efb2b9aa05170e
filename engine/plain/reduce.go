package plain

import "clipinspector/engine"

func sumTo[T Float](ins *engine.Instr, in, out [][]T) {
	x, y := ins.In[0].Shape, ins.Out[0].Shape
	// The coordinates of x are those of y plus those in summed, the dimensions that disappear.
	var buf [maxRank]int
	summed := append(buf[:0], x...)
	for k, n := range y {
		if n == x[k] {
			summed[k] = 1
		}
	}
	sx := strides(x)
	for i := range out[0] {
		base := place(unravel(i, y), sx)
		var s float64
		for j := range engine.Size(summed) {
			s += float64(in[0][base+place(unravel(j, summed), sx)])
		}
		out[0][i] = T(ins.Attr.Alpha * s)
	}
}

func broadcastTo[T Float](ins *engine.Instr, in, out [][]T) {
	y := ins.Out[0].Shape
	sx := broadcastStrides(ins.In[0].Shape, y)
	for i := range out[0] {
		out[0][i] = in[0][place(unravel(i, y), sx)]
	}
}

func maxAxis[T Float](ins *engine.Instr, in, out [][]T) {
	x, y, idx := in[0], out[0], out[1]
	outer, n, inner := around(ins.In[0].Shape, ins.Attr.Axis)
	for o := range outer {
		for i := range inner {
			best := 0
			for k := range n {
				if x[(o*n+k)*inner+i] > x[(o*n+best)*inner+i] {
					best = k
				}
			}
			y[o*inner+i], idx[o*inner+i] = x[(o*n+best)*inner+i], T(best)
		}
	}
}

func maxAxisGrad[T Float](ins *engine.Instr, in, out [][]T) {
	idx, dy, dx := in[0], in[1], out[0]
	outer, n, inner := around(ins.Out[0].Shape, ins.Attr.Axis)
	clear(dx)
	for o := range outer {
		for i := range inner {
			dx[(o*n+int(idx[o*inner+i]))*inner+i] = dy[o*inner+i]
		}
	}
}

func argMax[T Float](ins *engine.Instr, in, out [][]T) {
	w := last(ins.In[0])
	for r := range out[0] {
		out[0][r] = T(largest(in[0][r*w:][:w], -1))
	}
}

// largest returns the place of the largest number, the first of equals, leaving out the place
// except.
func largest[T Float](x []T, except int) int {
	best := -1
	for i, v := range x {
		if i != except && (best < 0 || v > x[best]) {
			best = i
		}
	}
	return best
}
