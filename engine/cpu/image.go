package cpu

// #include "ci.h"
import "C"

import (
	"clipinspector/engine"
	"clipinspector/engine/plain"
)

// patches copies between images [B,C,H,W] and patches [B,(H/p)(W/p),C*p*p], a task for each row of
// patches.
func (c *compiler) patches(ins *engine.Instr, in, out [][]float32) {
	cut := ins.Op == engine.Patchify
	image, pixels, cells, p := ins.In[0].Shape, in[0], out[0], ins.Attr.Patch
	if !cut {
		image, pixels, cells = ins.Out[0].Shape, out[0], in[0]
		if image[2]%p != 0 || image[3]%p != 0 {
			c.zeros(pixels)
		}
	}
	ch, h, w := image[1], image[2], image[3]
	down, across := h/p, w/p
	c.ranges(image[0]*down, ch*p*w, func(r, to int) {
		for ; r < to; r++ {
			i, py := r/down, r%down
			for k := range ch {
				for y := range p {
					line := pixels[((i*ch+k)*h+py*p+y)*w:][:w]
					first := r*across*ch*p*p + (k*p+y)*p
					for px := range across {
						cell := cells[first+px*ch*p*p:][:p]
						if cut {
							copy(cell, line[px*p:][:p])
						} else {
							copy(line[px*p:][:p], cell)
						}
					}
				}
			}
		}
	})
}

func (c *compiler) gridSample(ins *engine.Instr, in, out [][]float32) {
	x, grid := ins.In[0].Shape, ins.In[1].Shape
	ch, h, w, points := x[1], x[2], x[3], grid[1]*grid[2]
	parts := (points + 1023) / 1024
	c.add(x[0]*parts, func(t, _ int) {
		i, lo := t/parts, t%parts*1024
		g := 0
		if grid[0] != 1 {
			g = 2 * i * points
		}
		C.ci_grid_sample(c.e.simd, C.long(ch), C.long(h), C.long(w), C.long(points), C.long(lo), C.long(min(points, lo+1024)),
			fp(in[0][i*ch*h*w:]), fp(in[1][g:]), fp(out[0][i*ch*points:]))
	})
}

func (c *compiler) gridSampleGrad(ins *engine.Instr, in, out [][]float32) {
	x, grid := ins.In[0].Shape, ins.In[1].Shape
	ch, h, w, points := x[1], x[2], x[3], grid[1]*grid[2]
	if out[0] != nil {
		c.add(x[0]*ch, func(t, _ int) {
			g := 0
			if grid[0] != 1 {
				g = 2 * (t / ch) * points
			}
			C.ci_grid_sample_dx(c.e.simd, C.long(h), C.long(w), C.long(points), fp(in[1][g:]), fp(in[2][t*points:]), fp(out[0][t*h*w:]))
		})
	}
	if out[1] != nil {
		parts := (points + 255) / 256
		sharing := x[0] / grid[0] // images of one grid
		c.add(grid[0]*parts, func(t, _ int) {
			i, lo := t/parts, t%parts*256
			C.ci_grid_sample_dgrid(c.e.simd, C.long(sharing), C.long(ch), C.long(h), C.long(w), C.long(points), C.long(lo),
				C.long(min(points, lo+256)), fp(in[0][i*sharing*ch*h*w:]), fp(in[1][2*i*points:]), fp(in[2][i*sharing*ch*points:]),
				fp(out[1][2*i*points:]))
		})
	}
}

// crop: a task for each image.
func (c *compiler) crop(ins *engine.Instr, in, out [][]float32) {
	x, y := ins.In[0].Shape, ins.Out[0].Shape
	ch, h, w, m, n := x[1], x[2], x[3], y[2], y[3]
	if len(out[0]) == 0 {
		return
	}
	c.scratch = max(c.scratch, int(C.ci_crop_scratch(c.e.simd, C.long(h), C.long(w), C.long(m), C.long(n))))
	e := c.e
	c.add(x[0], func(i, worker int) {
		plain.MustBox(in[1][5*i:][:5], h, w)
		C.ci_crop(c.e.simd, C.long(ch), C.long(h), C.long(w), C.long(m), C.long(n), fp(in[0][i*ch*h*w:]), fp(in[1][5*i:]),
			fp(out[0][i*ch*m*n:]), fp(e.scratch[worker]))
	})
}
