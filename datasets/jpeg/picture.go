package jpeg

// put computes the samples of a block and puts them into the plane of its component, scaled down by averages.
func (d *decoder) put(c *component, x, y int, coefs []int16) {
	var out [64]uint8
	inverseDCT(coefs, c.table, &out)
	w, h := 8/c.sx, 8/c.sy
	dst := c.plane[y*h*c.stride+x*w:]
	if c.sx == 1 && c.sy == 1 {
		for r := range 8 {
			copy(dst[r*c.stride:][:8], out[8*r:])
		}
		return
	}
	area := c.sx * c.sy
	for r := range h {
		for q := range w {
			sum := area / 2
			for i := range c.sy {
				for j := range c.sx {
					sum += int(out[8*(r*c.sy+i)+q*c.sx+j])
				}
			}
			dst[r*c.stride+q] = uint8(sum / area)
		}
	}
}

// inverse computes the samples of a component whose coefficients are complete.
func (d *decoder) inverse(c *component) {
	for y := range c.ownRows {
		for x := range c.ownRow {
			d.put(c, x, y, c.coefs[64*(y*c.perRow+x):][:64])
		}
	}
	c.coefs = nil
}

// Constants of the DCT of Loeffler, Ligtenberg and Moschytz with 13 bits of fraction, as libjpeg's accurate integer DCT has them.
const (
	fix0298 = 2446
	fix0390 = 3196
	fix0541 = 4433
	fix0765 = 6270
	fix0899 = 7373
	fix1175 = 9633
	fix1501 = 12299
	fix1847 = 15137
	fix1961 = 16069
	fix2053 = 16819
	fix2562 = 20995
	fix3072 = 25172
)

// inverseDCT dequantises a block and transforms it to samples: columns to two more bits than are kept, then rows.
func inverseDCT(in []int16, quant *[64]uint16, out *[64]uint8) {
	var work [64]int32
	for i := range 8 {
		var v [8]int32
		for k := range v {
			v[k] = int32(in[8*k+i]) * int32(quant[8*k+i])
		}
		v = transform(v, 11)
		for k := range v {
			work[8*k+i] = v[k]
		}
	}
	for i := range 8 {
		v := transform([8]int32(work[8*i:8*i+8]), 18)
		for k := range v {
			out[8*i+k] = uint8(min(max(v[k]+128, 0), 255))
		}
	}
}

func transform(v [8]int32, shift uint) [8]int32 {
	z1 := (v[2] + v[6]) * fix0541
	a2, a3 := z1-v[6]*fix1847, z1+v[2]*fix0765
	a0, a1 := (v[0]+v[4])<<13, (v[0]-v[4])<<13
	e0, e3, e1, e2 := a0+a3, a0-a3, a1+a2, a1-a2
	t0, t1, t2, t3 := v[7], v[5], v[3], v[1]
	z1, z2, z3, z4 := t0+t3, t1+t2, t0+t2, t1+t3
	z5 := (z3 + z4) * fix1175
	t0, t1, t2, t3 = t0*fix0298, t1*fix2053, t2*fix3072, t3*fix1501
	z1, z2 = -z1*fix0899, -z2*fix2562
	z3, z4 = -z3*fix1961+z5, -z4*fix0390+z5
	t0, t1, t2, t3 = t0+z1+z3, t1+z2+z4, t2+z2+z3, t3+z1+z4
	half := int32(1) << (shift - 1)
	return [8]int32{(e0 + t3 + half) >> shift, (e1 + t2 + half) >> shift, (e2 + t1 + half) >> shift, (e3 + t0 + half) >> shift,
		(e3 - t0 + half) >> shift, (e2 - t1 + half) >> shift, (e1 - t2 + half) >> shift, (e0 - t3 + half) >> shift}
}

// row writes row y of the picture of a component that has fewer columns or rows into dst. Twice as many are made by weights of 3/4 and
// 1/4 (libjpeg's "fancy" upsampling), with its rounding; other numbers by repetition.
func (d *decoder) row(c *component, y int, dst []uint8) {
	h, v := d.maxH/c.h*c.sx/d.scale, d.maxV/c.v*c.sy/d.scale
	line := func(y int) []uint8 { return c.plane[min(max(y, 0), c.hgt-1)*c.stride:][:c.w] }
	near := line(y / v)
	far := near
	if v == 2 {
		far = line(y/2 - 1 + y%2*2)
	}
	switch {
	case h == 1 && v == 1:
		copy(dst, near)
	case h == 2 && v == 1 && c.w > 2:
		last := c.w - 1
		for x, s := range near {
			left, right := int(s), int(s)
			if x > 0 {
				left = (3*int(s) + int(near[x-1]) + 1) >> 2
			}
			if x < last {
				right = (3*int(s) + int(near[x+1]) + 2) >> 2
			}
			dst[2*x], dst[2*x+1] = uint8(left), uint8(right)
		}
	case h == 1 && v == 2:
		for x, s := range near {
			dst[x] = uint8((3*int(s) + int(far[x]) + 1 + y%2) >> 2)
		}
	case h == 2 && v == 2 && c.w > 2:
		last := c.w - 1
		sum := func(x int) int { return 3*int(near[x]) + int(far[x]) }
		for x := range near {
			this := sum(x)
			left, right := (4*this+8)>>4, (4*this+7)>>4
			if x > 0 {
				left = (3*this + sum(x-1) + 8) >> 4
			}
			if x < last {
				right = (3*this + sum(x+1) + 7) >> 4
			}
			dst[2*x], dst[2*x+1] = uint8(left), uint8(right)
		}
	default:
		for x, s := range near {
			for i := range h {
				dst[h*x+i] = s
			}
		}
	}
}

// picture makes RGB of the planes.
func (d *decoder) picture() (pix []uint8, width, height int, err error) {
	width, height = ceil(d.info.Width, d.scale), ceil(d.info.Height, d.scale)
	pix = make([]uint8, 3*width*height)
	var rows [4][]uint8
	for i := range d.comps {
		rows[i] = make([]uint8, width+8)
	}
	clip := func(v int) uint8 { return uint8(min(max(v, 0), 255)) }
	rgb := func(x int) (r, g, b uint8) {
		l, u, v := int(rows[0][x]), int(rows[1][x])-128, int(rows[2][x])-128
		const half = 1 << 15
		return clip(l + (91881*v+half)>>16), clip(l + (-22554*u-46802*v+half)>>16), clip(l + (116130*u+half)>>16)
	}
	ycc := d.ycc()
	for y := range height {
		for i, c := range d.comps {
			d.row(c, y, rows[i])
		}
		out := pix[3*y*width:][:3*width]
		for x := range width {
			o := out[3*x : 3*x+3]
			switch {
			case len(d.comps) == 1:
				o[0], o[1], o[2] = rows[0][x], rows[0][x], rows[0][x]
			case !ycc:
				o[0], o[1], o[2] = rows[0][x], rows[1][x], rows[2][x]
			default:
				o[0], o[1], o[2] = rgb(x)
			}
			if len(d.comps) == 4 {
				k := rows[3][x]
				for i := range o {
					ink := o[i]
					if ycc { // YCCK holds the complement of the inks
						ink = 255 - ink
					}
					o[i] = paint(ink, k, d.adobe >= 0)
				}
			}
		}
	}
	return pix, width, height, nil
}

// paint is how light a colour is after its ink and black, as PIL computes it. Adobe stores the complements.
func paint(ink, black uint8, complement bool) uint8 {
	if complement {
		ink, black = 255-ink, 255-black
	}
	light := 255 - int(black)
	t := int(ink)*light + 128
	return uint8(min(max(light-(t>>8+t)>>8, 0), 255))
}

// ycc reports whether the components are luma and chroma, as libjpeg guesses it.
func (d *decoder) ycc() bool {
	switch len(d.comps) {
	case 3:
		ids := [3]int{d.comps[0].id, d.comps[1].id, d.comps[2].id}
		return d.jfif || d.adobe > 0 || d.adobe < 0 && ids != [3]int{'R', 'G', 'B'}
	case 4:
		return d.adobe > 0
	}
	return false
}
