package cpu

// #include "ci.h"
import "C"

import "clipinspector/engine"

// copies appends a step that copies rows of n numbers: row r from x[xFrom+r*xStep:] to
// y[yFrom+r*yStep:].
func (c *compiler) copies(rows, yFrom, yStep int, y []float32, xFrom, xStep int, x []float32, n int) {
	if n == 0 {
		return
	}
	if n <= tileSize {
		c.ranges(rows, n, func(r, to int) {
			for ; r < to; r++ {
				copy(y[yFrom+r*yStep:][:n], x[xFrom+r*xStep:][:n])
			}
		})
		return
	}
	parts := (n + tileSize - 1) / tileSize
	c.add(rows*parts, func(t, _ int) {
		r, lo := t/parts, t%parts*tileSize
		m := min(tileSize, n-lo)
		copy(y[yFrom+r*yStep+lo:][:m], x[xFrom+r*xStep+lo:][:m])
	})
}

// zeros appends a step that clears y.
func (c *compiler) zeros(y []float32) {
	c.ranges(len(y), 1, func(i, to int) { clear(y[i:to]) })
}

func (c *compiler) slice(ins *engine.Instr, in, out [][]float32) {
	outer, n, inner := around(ins.In[0].Shape, ins.Attr.Axis)
	m := ins.Out[0].Shape[ins.Attr.Axis] * inner
	c.copies(outer, 0, m, out[0], ins.Attr.From*inner, n*inner, in[0], m)
}

func (c *compiler) pad(ins *engine.Instr, in, out [][]float32) {
	outer, n, inner := around(ins.Out[0].Shape, ins.Attr.Axis)
	m := ins.In[0].Shape[ins.Attr.Axis] * inner
	c.zeros(out[0])
	c.copies(outer, ins.Attr.From*inner, n*inner, out[0], 0, m, in[0], m)
}

func (c *compiler) concat(ins *engine.Instr, in, out [][]float32) {
	outer, n, inner := around(ins.Out[0].Shape, ins.Attr.Axis)
	from := 0
	for i, x := range in {
		m := ins.In[i].Shape[ins.Attr.Axis] * inner
		c.copies(outer, from, n*inner, out[0], 0, m, x, m)
		from += m
	}
}

func (c *compiler) permute(ins *engine.Instr, in, out [][]float32) {
	sx := strides(ins.In[0].Shape)
	var loops []loop
	for i, a := range ins.Attr.Axes {
		loops = append(loops, loop{ins.Out[0].Shape[i], sx[a], 0})
	}
	loops = merge(loops)
	g := nest(loops)
	width := loops[len(loops)-1].n
	c.ranges(outer(loops), width, func(r, to int) {
		C.ci_permute(c.e.simd, g, C.long(r), C.long(to), fp(in[0]), fp(out[0]))
	})
}

func (c *compiler) gather(ins *engine.Instr, in, out [][]float32) {
	w := last(ins.In[0])
	c.ranges(len(in[1]), w, func(i, to int) {
		for ; i < to; i++ {
			copy(out[0][i*w:][:w], in[0][int(in[1][i])*w:][:w])
		}
	})
}

// scatterAdd: each task owns some columns and adds the rows in their order.
func (c *compiler) scatterAdd(ins *engine.Instr, in, out [][]float32) {
	w := last(ins.Out[0])
	const columns = 64
	c.add(1, func(int, int) { mustIndex(ins.Op, in[0], len(out[0])/w) })
	c.add((w+columns-1)/columns, func(t, _ int) {
		C.ci_scatter_add(c.e.simd, C.long(len(in[0])), C.long(w), C.long(len(out[0])/w), fp(in[0]), fp(in[1]), fp(out[0]),
			C.long(t*columns), C.long(min(w, (t+1)*columns)))
	})
}
