package jpeg

import "errors"

var errArithmetic = errors.New("its arithmetic coding leaves the spectrum")

// estimate is one state of the probability estimation: the interval of the less probable symbol,
// the states after either symbol, and whether the less probable one changes places with the other.
type estimate struct {
	less             uint16
	afterLess, after uint8
	swap             uint8
}

// estimates are ITU-T T.81, table D.3, and a state of one half that never moves.
var estimates = [114]estimate{
	{0x5a1d, 1, 1, 1}, {0x2586, 14, 2, 0}, {0x1114, 16, 3, 0}, {0x080b, 18, 4, 0}, {0x03d8, 20, 5, 0}, {0x01da, 23, 6, 0},
	{0x00e5, 25, 7, 0}, {0x006f, 28, 8, 0}, {0x0036, 30, 9, 0}, {0x001a, 33, 10, 0}, {0x000d, 35, 11, 0}, {0x0006, 9, 12, 0},
	{0x0003, 10, 13, 0}, {0x0001, 12, 13, 0}, {0x5a7f, 15, 15, 1}, {0x3f25, 36, 16, 0}, {0x2cf2, 38, 17, 0}, {0x207c, 39, 18, 0},
	{0x17b9, 40, 19, 0}, {0x1182, 42, 20, 0}, {0x0cef, 43, 21, 0}, {0x09a1, 45, 22, 0}, {0x072f, 46, 23, 0}, {0x055c, 48, 24, 0},
	{0x0406, 49, 25, 0}, {0x0303, 51, 26, 0}, {0x0240, 52, 27, 0}, {0x01b1, 54, 28, 0}, {0x0144, 56, 29, 0}, {0x00f5, 57, 30, 0},
	{0x00b7, 59, 31, 0}, {0x008a, 60, 32, 0}, {0x0068, 62, 33, 0}, {0x004e, 63, 34, 0}, {0x003b, 32, 35, 0}, {0x002c, 33, 9, 0},
	{0x5ae1, 37, 37, 1}, {0x484c, 64, 38, 0}, {0x3a0d, 65, 39, 0}, {0x2ef1, 67, 40, 0}, {0x261f, 68, 41, 0}, {0x1f33, 69, 42, 0},
	{0x19a8, 70, 43, 0}, {0x1518, 72, 44, 0}, {0x1177, 73, 45, 0}, {0x0e74, 74, 46, 0}, {0x0bfb, 75, 47, 0}, {0x09f8, 77, 48, 0},
	{0x0861, 78, 49, 0}, {0x0706, 79, 50, 0}, {0x05cd, 48, 51, 0}, {0x04de, 50, 52, 0}, {0x040f, 50, 53, 0}, {0x0363, 51, 54, 0},
	{0x02d4, 52, 55, 0}, {0x025c, 53, 56, 0}, {0x01f8, 54, 57, 0}, {0x01a4, 55, 58, 0}, {0x0160, 56, 59, 0}, {0x0125, 57, 60, 0},
	{0x00f6, 58, 61, 0}, {0x00cb, 59, 62, 0}, {0x00ab, 61, 63, 0}, {0x008f, 61, 32, 0}, {0x5b12, 65, 65, 1}, {0x4d04, 80, 66, 0},
	{0x412c, 81, 67, 0}, {0x37d8, 82, 68, 0}, {0x2fe8, 83, 69, 0}, {0x293c, 84, 70, 0}, {0x2379, 86, 71, 0}, {0x1edf, 87, 72, 0},
	{0x1aa9, 87, 73, 0}, {0x174e, 72, 74, 0}, {0x1424, 72, 75, 0}, {0x119c, 74, 76, 0}, {0x0f6b, 74, 77, 0}, {0x0d51, 75, 78, 0},
	{0x0bb6, 77, 79, 0}, {0x0a40, 77, 48, 0}, {0x5832, 80, 81, 1}, {0x4d1c, 88, 82, 0}, {0x438e, 89, 83, 0}, {0x3bdd, 90, 84, 0},
	{0x34ee, 91, 85, 0}, {0x2eae, 92, 86, 0}, {0x299a, 93, 87, 0}, {0x2516, 86, 71, 0}, {0x5570, 88, 89, 1}, {0x4ca9, 95, 90, 0},
	{0x44d9, 96, 91, 0}, {0x3e22, 97, 92, 0}, {0x3824, 99, 93, 0}, {0x32b4, 99, 94, 0}, {0x2e17, 93, 86, 0}, {0x56a8, 95, 96, 1},
	{0x4f46, 101, 97, 0}, {0x47e5, 102, 98, 0}, {0x41cf, 103, 99, 0}, {0x3c3d, 104, 100, 0}, {0x375e, 99, 93, 0}, {0x5231, 105, 102, 0},
	{0x4c0f, 106, 103, 0}, {0x4639, 107, 104, 0}, {0x415e, 103, 99, 0}, {0x5627, 105, 106, 1}, {0x50e7, 108, 107, 0}, {0x4b85, 109, 103, 0},
	{0x5597, 110, 109, 0}, {0x504f, 111, 107, 0}, {0x5a10, 110, 111, 1}, {0x5522, 112, 109, 0}, {0x59eb, 112, 111, 1}, {0x5a1d, 113, 113, 0},
}

const fixed = 113 // the state of one half

// arithmetic is T.81's binary arithmetic decoder with its statistics: a state in the low seven
// bits, the more probable symbol above.
type arithmetic struct {
	code, width uint32
	shift       int
	dc          [4][64]uint8
	ac          [4][256]uint8
	half        uint8
}

// newArithmetic starts decoding.
func newArithmetic() *arithmetic { return &arithmetic{shift: -16, half: fixed} }

// byte gives the next byte of the data; before a marker zeros, which encoders leave out.
func (d *decoder) byte() uint32 {
	if d.pos >= len(d.data) {
		d.bits.over = true
		return 0
	}
	b := d.data[d.pos]
	if b == 0xff {
		next := d.pos + 1
		for next < len(d.data) && d.data[next] == 0xff {
			next++
		}
		if next >= len(d.data) || d.data[next] != 0 {
			return 0
		}
		d.pos = next
	}
	d.pos++
	return uint32(b)
}

// bit decodes one decision with a statistic.
func (d *decoder) bit(state *uint8) uint8 {
	a := d.arith
	for a.width < 0x8000 {
		if a.shift--; a.shift < 0 {
			a.code = a.code<<8 | d.byte()
			if a.shift += 8; a.shift < 0 {
				if a.shift++; a.shift == 0 {
					a.width = 0x8000
				}
			}
		}
		a.width <<= 1
	}
	s := *state
	e := &estimates[s&0x7f]
	less := uint32(e.less)
	a.width -= less
	toLess, to := s&0x80^(e.swap<<7|e.afterLess), s&0x80^e.after
	switch at := a.width << a.shift; {
	case a.code >= at:
		a.code -= at
		if a.width < less {
			*state = to
		} else {
			*state = toLess
			s ^= 0x80
		}
		a.width = less
	case a.width < 0x8000:
		if a.width < less {
			*state = toLess
			s ^= 0x80
		} else {
			*state = to
		}
	}
	return s >> 7
}

// magnitude decodes a magnitude less one from the statistics at first, which is followed by those
// at rest for its length.
func (d *decoder) magnitude(stats []uint8, first, rest int, twice bool) (size, value int, err error) {
	size = int(d.bit(&stats[first]))
	at := first
	if size != 0 && (!twice || d.bit(&stats[first]) != 0) {
		if twice {
			size <<= 1
		}
		for at = rest; d.bit(&stats[at]) != 0; at++ {
			if size <<= 1; size == 0x8000 {
				return 0, 0, errArithmetic
			}
		}
	}
	value = size
	for m := size >> 1; m != 0; m >>= 1 {
		if d.bit(&stats[at+14]) != 0 {
			value |= m
		}
	}
	return size, value + 1, nil
}

// arithmeticBlock returns what decodes one block of the scan.
func (s *scan) arithmeticBlock() func(c *component, coefs []int16) error {
	switch {
	case !s.d.info.Progressive:
		return func(c *component, coefs []int16) error {
			if err := s.arithmeticDC(c, coefs); err != nil {
				return err
			}
			return s.arithmeticAC(c, coefs, 1)
		}
	case s.from == 0 && s.high == 0:
		return s.arithmeticDC
	case s.from == 0:
		return func(_ *component, coefs []int16) error {
			coefs[0] |= int16(s.d.bit(&s.d.arith.half)) << s.low
			return nil
		}
	case s.high == 0:
		return func(c *component, coefs []int16) error { return s.arithmeticAC(c, coefs, s.from) }
	}
	return s.arithmeticRefine
}

func (s *scan) arithmeticDC(c *component, coefs []int16) error {
	d := s.d
	stats := d.arith.dc[c.dc][:]
	at := c.context
	c.context = 0
	if d.bit(&stats[at]) != 0 {
		sign := int(d.bit(&stats[at+1]))
		size, v, err := d.magnitude(stats, at+2+sign, 20, false)
		if err != nil {
			return err
		}
		cond := d.cond[0][c.dc]
		switch {
		case size < 1<<(cond&15)>>1:
		case size > 1<<(cond>>4)>>1:
			c.context = 12 + 4*sign
		default:
			c.context = 4 + 4*sign
		}
		if sign != 0 {
			v = -v
		}
		c.pred += v
	}
	coefs[0] = int16(c.pred << s.low)
	return nil
}

func (s *scan) arithmeticAC(c *component, coefs []int16, from int) error {
	d := s.d
	stats := d.arith.ac[c.ac][:]
	for k := from; k <= s.to; k++ {
		if d.bit(&stats[3*(k-1)]) != 0 {
			break
		}
		for d.bit(&stats[3*(k-1)+1]) == 0 {
			if k++; k > s.to {
				return errArithmetic
			}
		}
		sign := d.bit(&d.arith.half)
		rest := 217
		if k <= int(d.cond[1][c.ac]) {
			rest = 189
		}
		_, v, err := d.magnitude(stats, 3*(k-1)+2, rest, true)
		if err != nil {
			return err
		}
		if sign != 0 {
			v = -v
		}
		coefs[zigzag[k]] = int16(v << s.low)
	}
	return nil
}

func (s *scan) arithmeticRefine(c *component, coefs []int16) error {
	d, one := s.d, int16(1)<<s.low
	stats := d.arith.ac[c.ac][:]
	last := s.to
	for last > 0 && coefs[zigzag[last]] == 0 {
		last--
	}
	for k := s.from; k <= s.to; k++ {
		if k > last && d.bit(&stats[3*(k-1)]) != 0 {
			break
		}
		for {
			v := &coefs[zigzag[k]]
			if *v != 0 {
				if d.bit(&stats[3*(k-1)+2]) != 0 {
					if *v < 0 {
						*v -= one
					} else {
						*v += one
					}
				}
				break
			}
			if d.bit(&stats[3*(k-1)+1]) != 0 {
				if *v = one; d.bit(&d.arith.half) != 0 {
					*v = -one
				}
				break
			}
			if k++; k > s.to {
				return errArithmetic
			}
		}
	}
	return nil
}
