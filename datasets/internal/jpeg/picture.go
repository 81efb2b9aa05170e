package jpeg

// output makes RGB of the components as their rows come, one row of MCUs after the other, and
// averages squares of it where the picture is scaled down. Of each component it needs three rows of
// MCUs: upsampling looks one row of samples up and down.
type output struct {
	d             *decoder
	width, height int // of the result
	pix           []uint8
	y             int        // the next row of the picture at full size
	rows          [4][]uint8 // this row of each component, upsampled
	line          []uint8    // and as RGB, where it is scaled down
	sums          []uint32   // of the rows of squares at hand
}

// bands is how many rows of MCUs of a component are held.
const bands = 3

func (d *decoder) newOutput() *output {
	w, h := d.info.size(d.scale)
	o := &output{d: d, width: w, height: h, pix: make([]uint8, 3*w*h)}
	for i := range d.comps {
		o.rows[i] = make([]uint8, d.info.Width+8)
	}
	if d.scale > 1 {
		o.line, o.sums = make([]uint8, 3*d.info.Width), make([]uint32, 3*w)
	}
	return o
}

// put computes the samples of a block and puts them into the bands of its component.
func (c *component) put(x, y int, coefs []int16) {
	if x < c.ownRow && y < c.ownRows {
		inverseDCT((*[64]int16)(coefs), c.table, c.plane[y%(bands*c.v)*8*c.stride+8*x:], c.stride)
	}
}

// decoded tells that row m of MCUs is complete: the row before has its neighbours now, and the last
// one has all there are.
func (o *output) decoded(m int) {
	d := o.d
	until := m * 8 * d.maxV
	if m == ceil(d.info.Height, 8*d.maxV)-1 {
		until = d.info.Height
	}
	for ; o.y < min(until, d.info.Height); o.y++ {
		o.row()
	}
}

// row makes the next row of the picture.
func (o *output) row() {
	d, w := o.d, o.d.info.Width
	var rows [4][]uint8
	for i, c := range d.comps {
		rows[i] = d.upsampled(c, o.y, o.rows[i])[:w]
	}
	if d.scale == 1 {
		d.colours(rows[:len(d.comps)], o.pix[3*o.y*w:][:3*w])
		return
	}
	d.colours(rows[:len(d.comps)], o.line)
	at, left := 0, d.scale
	for x := range w {
		s, p := o.sums[3*at:3*at+3], o.line[3*x:3*x+3]
		s[0], s[1], s[2] = s[0]+uint32(p[0]), s[1]+uint32(p[1]), s[2]+uint32(p[2])
		if left--; left == 0 {
			at, left = at+1, d.scale
		}
	}
	if o.y%d.scale < d.scale-1 && o.y < d.info.Height-1 {
		return
	}
	rowsHere := uint32(o.y%d.scale + 1)
	out := o.pix[3*(o.y/d.scale)*o.width:][:3*o.width]
	for x := range o.width {
		n := rowsHere * uint32(min(d.scale, w-x*d.scale))
		for i := 3 * x; i < 3*x+3; i++ {
			out[i], o.sums[i] = uint8((o.sums[i]+n/2)/n), 0
		}
	}
}

// fromCoefficients makes the picture of components whose coefficients are complete.
func (o *output) fromCoefficients() {
	for m := range ceil(o.d.info.Height, 8*o.d.maxV) {
		for _, c := range o.d.comps {
			for y := m * c.v; y < min((m+1)*c.v, c.ownRows); y++ {
				for x := range c.ownRow {
					c.put(x, y, c.coefs[64*(y*c.perRow+x):][:64])
				}
			}
		}
		o.decoded(m)
	}
}

// Constants of the DCT of Loeffler, Ligtenberg and Moschytz with 13 bits of fraction, as libjpeg's
// accurate integer DCT has them.
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

// inverseDCT dequantises a block and transforms it to samples: columns to two more bits than are
// kept, then rows. A block or column that holds nothing but its mean is that mean, which is what
// the transform comes to as well.
func inverseDCT(in *[64]int16, quant *[64]uint16, dst []uint8, stride int) {
	var work [64]int32
	if *(*[63]int16)(in[1:]) == [63]int16{} {
		s := level((int32(in[0])*int32(quant[0])<<2 + 1<<4) >> 5)
		for r := range 8 {
			row := dst[r*stride:][:8:8]
			for k := range row {
				row[k] = s
			}
		}
		return
	}
	for i := range 8 {
		if in[8+i]|in[16+i]|in[24+i]|in[32+i]|in[40+i]|in[48+i]|in[56+i] == 0 {
			v := int32(in[i]) * int32(quant[i]) << 2
			work[i], work[8+i], work[16+i], work[24+i] = v, v, v, v
			work[32+i], work[40+i], work[48+i], work[56+i] = v, v, v, v
			continue
		}
		e0, e1, e2, e3, t0, t1, t2, t3 := butterfly(int32(in[i])*int32(quant[i]), int32(in[8+i])*int32(quant[8+i]),
			int32(in[16+i])*int32(quant[16+i]), int32(in[24+i])*int32(quant[24+i]), int32(in[32+i])*int32(quant[32+i]),
			int32(in[40+i])*int32(quant[40+i]), int32(in[48+i])*int32(quant[48+i]), int32(in[56+i])*int32(quant[56+i]), 1<<10)
		work[i], work[56+i] = (e0+t3)>>11, (e0-t3)>>11
		work[8+i], work[48+i] = (e1+t2)>>11, (e1-t2)>>11
		work[16+i], work[40+i] = (e2+t1)>>11, (e2-t1)>>11
		work[24+i], work[32+i] = (e3+t0)>>11, (e3-t0)>>11
	}
	for r := range 8 {
		w := (*[8]int32)(work[8*r:])
		row := dst[r*stride:][:8:8]
		e0, e1, e2, e3, t0, t1, t2, t3 := butterfly(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], 1<<17)
		row[0], row[7] = level((e0+t3)>>18), level((e0-t3)>>18)
		row[1], row[6] = level((e1+t2)>>18), level((e1-t2)>>18)
		row[2], row[5] = level((e2+t1)>>18), level((e2-t1)>>18)
		row[3], row[4] = level((e3+t0)>>18), level((e3-t0)>>18)
	}
}

// butterfly is the transform of eight values up to its last additions: outputs k and 7-k are e[k]
// plus and minus t[3-k]. half rounds what is shifted out after them.
func butterfly(v0, v1, v2, v3, v4, v5, v6, v7, half int32) (e0, e1, e2, e3, t0, t1, t2, t3 int32) {
	z1 := (v2 + v6) * fix0541
	a2, a3 := z1-v6*fix1847, z1+v2*fix0765
	a0, a1 := (v0+v4)<<13+half, (v0-v4)<<13+half
	z1, z2, z3, z4 := v7+v1, v5+v3, v7+v3, v5+v1
	z5 := (z3 + z4) * fix1175
	z1, z2 = -z1*fix0899, -z2*fix2562
	z3, z4 = z5-z3*fix1961, z5-z4*fix0390
	return a0 + a3, a1 + a2, a1 - a2, a0 - a3,
		v7*fix0298 + z1 + z3, v5*fix2053 + z2 + z4, v3*fix3072 + z2 + z3, v1*fix1501 + z1 + z4
}

// level is a value around 0 as a sample.
func level(v int32) uint8 { return clip(v + 128) }

func clip(v int32) uint8 {
	if uint32(v) > 255 {
		return uint8(^(v >> 31))
	}
	return uint8(v)
}

// upsampled returns row y of a component at the width of the picture, in dst where it has fewer
// columns or rows than the picture. Twice as many are made by weights of 3/4 and 1/4 (libjpeg's
// "fancy" upsampling), with its rounding; other numbers by repetition.
func (d *decoder) upsampled(c *component, y int, dst []uint8) []uint8 {
	h, v := d.maxH/c.h, d.maxV/c.v
	line := func(y int) []uint8 { return c.plane[min(max(y, 0), c.hgt-1)%(bands*8*c.v)*c.stride:][:c.w] }
	near := line(y / v)
	far := near
	if v == 2 {
		far = line(y/2 - 1 + y%2*2)
	}
	switch {
	case h == 1 && (v == 1 || v > 2):
		return near
	case h == 1:
		round := 1 + y%2
		for x, s := range near {
			dst[x] = uint8((3*int(s) + int(far[x]) + round) >> 2)
		}
	case h == 2 && v == 1 && c.w > 2:
		last := c.w - 1
		left, this := int(near[0]), int(near[0])
		dst[0] = near[0]
		for x, s := range near[1:] {
			right := int(s)
			if x > 0 {
				dst[2*x] = uint8((3*this + left + 1) >> 2)
			}
			dst[2*x+1] = uint8((3*this + right + 2) >> 2)
			left, this = this, right
		}
		dst[2*last], dst[2*last+1] = uint8((3*this+left+1)>>2), uint8(this)
	case h == 2 && v == 2 && c.w > 2:
		last := c.w - 1
		far = far[:len(near)]
		this := 3*int(near[0]) + int(far[0])
		left := this
		dst[0] = uint8((4*this + 8) >> 4)
		for x, s := range near[1:] {
			right := 3*int(s) + int(far[x+1])
			if x > 0 {
				dst[2*x] = uint8((3*this + left + 8) >> 4)
			}
			dst[2*x+1] = uint8((3*this + right + 7) >> 4)
			left, this = this, right
		}
		dst[2*last], dst[2*last+1] = uint8((3*this+left+8)>>4), uint8((4*this+7)>>4)
	default:
		for x, s := range near {
			for i := range h {
				dst[h*x+i] = s
			}
		}
	}
	return dst
}

// colours makes a row of RGB of one of each component.
func (d *decoder) colours(rows [][]uint8, out []uint8) {
	ycc := d.ycc()
	switch {
	case len(rows) == 1:
		for x, s := range rows[0] {
			o := out[3*x : 3*x+3]
			o[0], o[1], o[2] = s, s, s
		}
		return
	case ycc:
		blueness, redness := rows[1][:len(rows[0])], rows[2][:len(rows[0])]
		const half = 1 << 15
		for x, s := range rows[0] {
			l, u, v := int32(s), int32(blueness[x])-128, int32(redness[x])-128
			o := out[3*x : 3*x+3]
			o[0], o[1], o[2] = clip(l+(91881*v+half)>>16), clip(l+(half-22554*u-46802*v)>>16), clip(l+(116130*u+half)>>16)
		}
	default:
		for x := range rows[0] {
			o := out[3*x : 3*x+3]
			o[0], o[1], o[2] = rows[0][x], rows[1][x], rows[2][x]
		}
	}
	if len(rows) == 4 {
		for x, k := range rows[3] {
			for i := 3 * x; i < 3*x+3; i++ {
				ink := out[i]
				if ycc { // YCCK holds the complement of the inks
					ink = 255 - ink
				}
				out[i] = paint(ink, k, d.adobe >= 0)
			}
		}
	}
}

// paint is how light a colour is after its ink and black, as PIL computes it. Adobe stores the
// complements.
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
