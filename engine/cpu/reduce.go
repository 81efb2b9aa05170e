package cpu

// #include "ci.h"
import "C"

import (
	"clipinspector/engine"
)

// sumTo: the dimensions of x are split into those that stay and those that are summed.
func (c *compiler) sumTo(ins *engine.Instr, in, out [][]float32) {
	x, y, alpha := in[0], out[0], ins.Attr.Alpha
	if len(y) == 0 {
		return
	}
	if len(x) == 0 {
		c.add(1, func(int, int) { clear(y) })
		return
	}
	sx := strides(ins.In[0].Shape)
	// b tells the two kinds apart, so that merge joins only dimensions of the same kind.
	var all, kept, summed []loop
	for k, n := range ins.In[0].Shape {
		kind := 1
		if ins.Out[0].Shape[k] == 1 {
			kind = 0
		}
		all = append(all, loop{n, sx[k], kind * sx[k]})
	}
	for _, l := range merge(all) {
		if l.b != 0 {
			kept = append(kept, loop{l.n, l.a, 0})
		} else {
			summed = append(summed, loop{l.n, l.a, 0})
		}
	}
	all = merge(all)
	switch innermost := all[len(all)-1]; {
	case len(summed) == 0:
		c.ranges(len(y), 1, func(i, to int) {
			C.ci_unary(c.e.simd, C.CI_AFFINE, C.long(to-i), fp(x[i:]), fp(y[i:]), C.float(alpha), 0)
		})
	case innermost.b != 0:
		// Columns lie side by side: rows are added to them.
		g, width := nest(summed), innermost.n
		rows := len(x) / len(y)
		firsts := kept[:len(kept)-1]
		part := min(width, max(64, roundUp(tileSize/rows, 64)))
		parts := (width + part - 1) / part
		c.add(len(y)/width*parts, func(t, _ int) {
			r, lo := t/parts, t%parts*part
			n := min(part, width-lo)
			C.ci_sum_columns(c.e.simd, g, C.long(n), fp(x[offset(firsts, r)+lo:]), C.double(alpha), fp(y[r*width+lo:]))
		})
	default:
		// Whole rows disappear.
		g, rows, width := nest(summed), outer(summed), innermost.n
		if len(x)/len(y) < 4*tileSize || len(y) > 64 {
			c.ranges(len(y), len(x)/len(y), func(i, to int) {
				for ; i < to; i++ {
					y[i] = float32(alpha * float64(C.ci_sum_all(c.e.simd, g, 0, C.long(rows), 0, C.long(width), fp(x[offset(kept, i):]))))
				}
			})
			return
		}
		// Few long sums: first partial sums of pieces, then their sums.
		var pieces, perRow, perPiece int
		if width > tileSize {
			perRow, perPiece = (width+tileSize-1)/tileSize, 1
			pieces = rows * perRow
		} else {
			perRow, perPiece = 1, max(1, tileSize/width)
			pieces = (rows + perPiece - 1) / perPiece
		}
		partial := make([]float64, len(y)*pieces)
		c.add(len(partial), func(t, _ int) {
			i, p := t/pieces, t%pieces
			r, lo := p/perRow*perPiece, p%perRow*tileSize
			hi := min(width, lo+tileSize)
			partial[t] = float64(C.ci_sum_all(c.e.simd, g, C.long(r), C.long(min(rows, r+perPiece)), C.long(lo), C.long(hi),
				fp(x[offset(kept, i):])))
		})
		c.add(1, func(int, int) {
			for i := range y {
				var s float64
				for _, v := range partial[i*pieces:][:pieces] {
					s += v
				}
				y[i] = float32(alpha * s)
			}
		})
	}
}

// offset returns the place of iteration i of a nest in its first operand.
func offset(loops []loop, i int) (o int) {
	for k := len(loops) - 1; k >= 0; k-- {
		o += i % loops[k].n * loops[k].a
		i /= loops[k].n
	}
	return o
}

func (c *compiler) maxAxis(ins *engine.Instr, in, out [][]float32) {
	x, y, index := in[0], out[0], out[1]
	_, n, inner := around(ins.In[0].Shape, ins.Attr.Axis)
	c.ranges(len(y), n, func(i, to int) {
		for ; i < to; i++ {
			first := i/inner*n*inner + i%inner
			best := 0
			for k := 1; k < n; k++ {
				if x[first+k*inner] > x[first+best*inner] {
					best = k
				}
			}
			y[i], index[i] = x[first+best*inner], float32(best)
		}
	})
}

func (c *compiler) maxAxisGrad(ins *engine.Instr, in, out [][]float32) {
	index, dy, dx := in[0], in[1], out[0]
	outer, n, inner := around(ins.Out[0].Shape, ins.Attr.Axis)
	c.ranges(outer, n*inner, func(o, to int) {
		clear(dx[o*n*inner : to*n*inner])
		for ; o < to; o++ {
			for i := range inner {
				dx[(o*n+int(index[o*inner+i]))*inner+i] = dy[o*inner+i]
			}
		}
	})
}

func (c *compiler) argMax(ins *engine.Instr, in, out [][]float32) {
	w := last(ins.In[0])
	c.ranges(len(out[0]), 8*w, func(r, to int) {
		for ; r < to; r++ {
			row := in[0][r*w:][:w]
			best := 0
			for i, v := range row {
				if v > row[best] {
					best = i
				}
			}
			out[0][r] = float32(best)
		}
	})
}
