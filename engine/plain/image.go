package plain

import (
	"fmt"
	"math"

	"clipinspector/engine"
)

// patches calls f with the place of each pixel in an image [B,C,H,W] and in its patches
// [B,(H/p)(W/p),C*p*p].
func patches(image []int, p int, f func(pixel, patch int)) {
	b, c, h, w := image[0], image[1], image[2], image[3]
	patch := 0
	for i := range b {
		for py := range h / p {
			for px := range w / p {
				for k := range c {
					for y := range p {
						for x := range p {
							f(((i*c+k)*h+py*p+y)*w+px*p+x, patch)
							patch++
						}
					}
				}
			}
		}
	}
}

func patchify[T Float](ins *engine.Instr, in, out [][]T) {
	patches(ins.In[0].Shape, ins.Attr.Patch, func(pixel, patch int) { out[0][patch] = in[0][pixel] })
}

func unpatchify[T Float](ins *engine.Instr, in, out [][]T) {
	clear(out[0])
	patches(ins.Out[0].Shape, ins.Attr.Patch, func(pixel, patch int) { out[0][pixel] = in[0][patch] })
}

// corner is one of the four pixels around a sampled point: its place in a plane, its weight, and
// the weight's derivatives with respect to the point's coordinates in the grid. A pixel outside the
// image is at -1.
type corner struct {
	at           int
	weight       float64
	dwdgx, dwdgy float64
}

// corners returns the pixels around the point (gx, gy) of [-1,1]² in a plane of h x w pixels.
func corners(gx, gy float64, h, w int) (c [4]corner) {
	sx, sy := float64(w-1)/2, float64(h-1)/2
	px, py := (gx+1)*sx, (gy+1)*sy
	x0, y0 := math.Floor(px), math.Floor(py)
	fx, fy := px-x0, py-y0
	wx, wy := [2]float64{1 - fx, fx}, [2]float64{1 - fy, fy}
	for i := range 4 {
		x, y := x0+float64(i%2), y0+float64(i/2)
		c[i] = corner{-1, wx[i%2] * wy[i/2], float64(2*(i%2)-1) * wy[i/2] * sx, float64(2*(i/2)-1) * wx[i%2] * sy}
		if x >= 0 && y >= 0 && x < float64(w) && y < float64(h) {
			c[i].at = int(y)*w + int(x)
		}
	}
	return c
}

// samples calls f for each point of the grid with the image's number and the point's places in the
// grid and in a plane of the output, which has n points.
func samples(ins *engine.Instr, f func(image, g, point, n int)) {
	grid := ins.In[1].Shape
	n := grid[1] * grid[2]
	for i := range ins.In[0].Shape[0] {
		for j := range n {
			g := 2 * j
			if grid[0] != 1 {
				g += 2 * i * n
			}
			f(i, g, j, n)
		}
	}
}

func gridSample[T Float](ins *engine.Instr, in, out [][]T) {
	x, grid, y := in[0], in[1], out[0]
	c, h, w := ins.In[0].Shape[1], ins.In[0].Shape[2], ins.In[0].Shape[3]
	samples(ins, func(image, g, point, n int) {
		cs := corners(float64(grid[g]), float64(grid[g+1]), h, w)
		for k := range c {
			plane := x[(image*c+k)*h*w:][:h*w]
			var s float64
			for _, q := range cs {
				if q.at >= 0 {
					s += q.weight * float64(plane[q.at])
				}
			}
			y[(image*c+k)*n+point] = T(s)
		}
	})
}

func gridSampleGrad[T Float](ins *engine.Instr, in, out [][]T) {
	x, grid, dy, dx, dgrid := in[0], in[1], in[2], out[0], out[1]
	c, h, w := ins.In[0].Shape[1], ins.In[0].Shape[2], ins.In[0].Shape[3]
	clear(dx)
	clear(dgrid)
	samples(ins, func(image, g, point, n int) {
		cs := corners(float64(grid[g]), float64(grid[g+1]), h, w)
		var dgx, dgy float64
		for k := range c {
			d := float64(dy[(image*c+k)*n+point])
			first := (image*c + k) * h * w
			for _, q := range cs {
				if q.at < 0 {
					continue
				}
				if dx != nil {
					dx[first+q.at] += T(d * q.weight)
				}
				v := d * float64(x[first+q.at])
				dgx += v * q.dwdgx
				dgy += v * q.dwdgy
			}
		}
		if dgrid != nil {
			dgrid[g] += T(dgx)
			dgrid[g+1] += T(dgy)
		}
	})
}

// MustBox panics unless a box of Crop lies inside an image of h x w pixels.
func MustBox[T Float](box []T, h, w int) {
	if !(box[0] >= 0 && box[1] >= 0 && box[2] >= 1 && box[3] >= 1 && box[0]+box[2] <= T(w) && box[1]+box[3] <= T(h)) {
		panic(fmt.Sprintf("crop: box %v is not inside an image %d px wide and %d px high", box[:4], w, h))
	}
}

// taps returns the weights of pixel i of n, to which a line of so many pixels is scaled, and the
// first pixel that they are of: Pillow's precompute_coeffs (src/libImaging/Resample.c) for its
// bicubic filter.
func taps(i, n, length int) (first int, weight []float64) {
	scale := float64(length) / float64(n)
	centre, wide := (float64(i)+0.5)*scale, max(scale, 1)
	first = max(int(centre-2*wide+0.5), 0)
	sum := 0.0
	for x := first; x < min(int(centre+2*wide+0.5), length); x++ {
		weight = append(weight, cubic((float64(x)-centre+0.5)/wide))
		sum += weight[len(weight)-1]
	}
	for k := range weight {
		weight[k] /= sum
	}
	return first, weight
}

// cubic is the bicubic filter with a = -0.5.
func cubic(x float64) float64 {
	switch x = math.Abs(x); {
	case x < 1:
		return (1.5*x-2.5)*x*x + 1
	case x < 2:
		return ((-0.5*x+2.5)*x-4)*x + 2
	}
	return 0
}

func crop[T Float](ins *engine.Instr, in, out [][]T) {
	x, y := ins.In[0].Shape, ins.Out[0].Shape
	c, h, w, m, n := x[1], x[2], x[3], y[2], y[3]
	for i := range x[0] {
		box := in[1][5*i:][:5]
		MustBox(box, h, w)
		left, top, width, height := int(box[0]), int(box[1]), int(box[2]), int(box[3])
		for row := range m {
			above, down := taps(row, m, height)
			for column := range n {
				before, across := taps(column, n, width)
				at := column
				if box[4] != 0 {
					at = n - 1 - column
				}
				for k := range c {
					s := 0.0
					for p, v := range down {
						line := in[0][((i*c+k)*h+top+above+p)*w+left+before:]
						for q, u := range across {
							s += v * u * float64(line[q])
						}
					}
					out[0][((i*c+k)*m+row)*n+at] = T(s)
				}
			}
		}
	}
}
