package datasets

import "image"

// webpRGB converts a lossy WebP picture as libwebp (and so PIL) does: limited-range BT.601 in
// 14-bit fixed point, with "fancy" chroma upsampling (each chroma sample is 9/16 nearest, 3/16 +
// 3/16 next, 1/16 diagonal). The standard library would read the planes as full range, 6.5 levels
// off on average.
func webpRGB(src *image.YCbCr) *RGB {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	out := NewRGB(w, h)
	cw, ch := (w+1)/2, (h+1)/2
	for y := 0; y < h; y++ {
		cy := y / 2
		ny := cy + 1 // the chroma row next nearest to this luma row
		if y%2 == 0 {
			ny = cy - 1
		}
		if ny < 0 || ny >= ch {
			ny = cy
		}
		for x := 0; x < w; x++ {
			cx := x / 2
			nx := cx + 1
			if x%2 == 0 {
				nx = cx - 1
			}
			if nx < 0 || nx >= cw {
				nx = cx
			}
			var c [2]int
			for k, plane := range [2][]uint8{src.Cb, src.Cr} {
				near, side := int(plane[cy*src.CStride+cx]), int(plane[cy*src.CStride+nx])
				vert, diag := int(plane[ny*src.CStride+cx]), int(plane[ny*src.CStride+nx])
				c[k] = fancy(near, side, vert, diag, nx == cx)
			}
			o := 3 * (y*w + x)
			l := int(src.Y[y*src.YStride+x]) * 19077 >> 8
			u, v := c[0], c[1]
			out.Pix[o] = clip6(l + v*26149>>8 - 14234)
			out.Pix[o+1] = clip6(l - u*6419>>8 - v*13320>>8 + 8708)
			out.Pix[o+2] = clip6(l + u*33050>>8 - 17685)
		}
	}
	return out
}

// fancy mixes four chroma samples with libwebp's rounding, which averages in two steps.
func fancy(near, side, vert, diag int, edge bool) int {
	if edge { // first or last column: only the rows are mixed
		return (3*near + vert + 2) >> 2
	}
	avg := near + side + vert + diag + 8
	return (near + (avg+2*(side+vert))>>3) >> 1
}

func clip6(v int) uint8 { return uint8(min(max(v>>6, 0), 255)) }
