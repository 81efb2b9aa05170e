package datasets

import (
	"fmt"
	"math"
)

// filter is one of PIL's antialiased resampling filters.
type filter struct {
	support float64 // half width at scale 1
	weight  func(x float64) float64
}

// The filters of PIL (Pillow's src/libImaging/Resample.c).
var (
	bilinearFilter = filter{1, func(x float64) float64 { return max(0, 1-math.Abs(x)) }}
	bicubicFilter  = filter{2, bicubic} // a = -0.5
)

func bicubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return (((x-5)*x+8)*x - 4) * a
	}
	return 0
}

const precisionBits = 32 - 8 - 2 // fixed-point fraction of PIL's 8-bit resampler

// taps are the weights of one axis: output i sums weight[i][k] * input[first[i]+k].
type taps struct {
	first  []int
	weight [][]int32
}

// makeTaps computes the weights of outputs from, ..., to-1 of an axis scaled from in to out pixels,
// as PIL's precompute_coeffs and normalize_coeffs_8bpc do.
func makeTaps(in, out, from, to int, f filter) taps {
	t := taps{make([]int, to-from), make([][]int32, to-from)}
	scale := float64(in) / float64(out)
	filterScale := max(scale, 1)
	support := f.support * filterScale
	inv := 1 / filterScale
	var w []float64
	for i := range t.first {
		center := (float64(from+i) + 0.5) * scale
		lo := max(int(center-support+0.5), 0)
		hi := min(int(center+support+0.5), in)
		w = w[:0]
		sum := 0.0
		for x := lo; x < hi; x++ {
			v := f.weight((float64(x) - center + 0.5) * inv)
			w = append(w, v)
			sum += v
		}
		t.first[i], t.weight[i] = lo, make([]int32, len(w))
		for k, v := range w {
			if sum != 0 {
				v /= sum
			}
			t.weight[i][k] = int32(v*(1<<precisionBits) + math.Copysign(0.5, v)) // half away from zero
		}
	}
	return t
}

// resize scales a picture to the given size in pixels, bit for bit as PIL's Image.resize does for
// RGB: horizontally, rounded and clipped to 8 bit, then vertically. That is Pillow below 13, which
// made all published CLIP results; Pillow 13 goes vertically first for very tall pictures
// (python-pillow/Pillow#9549). It panics when anything is empty.
func resize(img *RGB, width, height int, f filter) *RGB {
	return resizeCrop(img, width, height, f, box{0, 0, width, height})
}

// box is a rectangle of pixels: left, top, width, height.
type box struct{ x, y, w, h int }

// resizeCrop returns what Resize followed by a crop to b returns, without computing the rest. That
// also bounds the memory of extreme aspect ratios.
func resizeCrop(img *RGB, width, height int, f filter, b box) *RGB {
	if err := img.check(); err != nil || b.x < 0 || b.y < 0 || b.w <= 0 || b.h <= 0 ||
		b.x+b.w > width || b.y+b.h > height {
		panic(fmt.Sprintf("datasets: resize of %d x %d picture to %d x %d, crop %v: %v",
			img.Width, img.Height, width, height, b, err))
	}
	if width == img.Width && height == img.Height {
		return crop(img, b)
	}
	columns := makeTaps(img.Width, width, b.x, b.x+b.w, f)
	rows := makeTaps(img.Height, height, b.y, b.y+b.h, f)
	last := b.h - 1
	from, to := rows.first[0], rows.first[last]+len(rows.weight[last])
	mid := resizeRows(img, columns, from, to)
	for i := range rows.first {
		rows.first[i] -= from
	}
	return resizeColumns(mid, rows)
}

// resizeRows is the horizontal pass over the rows from, ..., to-1.
func resizeRows(img *RGB, t taps, from, to int) *RGB {
	out := NewRGB(len(t.first), to-from)
	for y := range out.Height {
		src := img.Pix[3*(from+y)*img.Width : 3*(from+y+1)*img.Width]
		dst := out.Pix[3*y*out.Width : 3*(y+1)*out.Width]
		for x, weights := range t.weight {
			var r, g, b int32 = half, half, half
			p := src[3*t.first[x]:]
			for k, w := range weights {
				q := p[3*k : 3*k+3 : 3*k+3]
				r += int32(q[0]) * w
				g += int32(q[1]) * w
				b += int32(q[2]) * w
			}
			dst[3*x], dst[3*x+1], dst[3*x+2] = clip8(r), clip8(g), clip8(b)
		}
	}
	return out
}

// resizeColumns is the vertical pass.
func resizeColumns(img *RGB, t taps) *RGB {
	n := 3 * img.Width
	out := NewRGB(img.Width, len(t.first))
	sum := make([]int32, n)
	for y, weights := range t.weight {
		for i := range sum {
			sum[i] = half
		}
		for k, w := range weights {
			row := img.Pix[(t.first[y]+k)*n:][:n]
			for i, v := range row {
				sum[i] += int32(v) * w
			}
		}
		dst := out.Pix[y*n:][:n]
		for i, s := range sum {
			dst[i] = clip8(s)
		}
	}
	return out
}

const half = 1 << (precisionBits - 1)

func clip8(v int32) uint8 { return uint8(min(max(v>>precisionBits, 0), 255)) }
