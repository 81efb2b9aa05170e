package jpeg

import "errors"

var errCode = errors.New("a Huffman code is none of its table's")

// huffman is a table of codes: by the next eight bits for short ones, by length for all.
type huffman struct {
	short   [256]uint16 // length << 8 | value; 0 where the code is longer
	maxCode [18]int32   // of each length; -1 for none
	offset  [17]int32   // of the values of each length, minus their first code
	values  []byte
}

func (d *decoder) huffmanTables(b []byte) error {
	bad := errors.New("a Huffman table is malformed")
	for len(b) > 0 {
		if len(b) < 17 || b[0]>>4 > 1 || b[0]&15 > 3 {
			return bad
		}
		n := 0
		for _, c := range b[1:17] {
			n += int(c)
		}
		if n > 256 || len(b) < 17+n {
			return bad
		}
		t := &huffman{values: b[17 : 17+n]}
		code, k := int32(0), int32(0)
		for length := 1; length <= 16; length++ {
			count := int32(b[length])
			t.offset[length] = k - code
			for range count {
				if length <= 8 {
					for fill := range int32(1) << (8 - length) {
						if at := code<<(8-length) + fill; at < 256 {
							t.short[at] = uint16(length)<<8 | uint16(t.values[k])
						}
					}
				}
				code, k = code+1, k+1
			}
			if code > 1<<length {
				return bad
			}
			t.maxCode[length] = -1
			if count > 0 {
				t.maxCode[length] = code - 1
			}
			code <<= 1
		}
		d.huff[b[0]>>4][b[0]&15] = t
		b = b[17+n:]
	}
	return nil
}

// bits are read from the entropy-coded data, up to the next marker.
type bits struct {
	acc   uint64
	n     int
	over  bool // the file ended
	empty bool // a marker came too early
	skip  bool // it did before this MCU: blocks stay grey until the next restart, as libjpeg has it
}

// fill reads as many bits as there is room for, and stops at a marker. It is an error if the file
// ends before n are there.
func (d *decoder) fill(n int) error {
	data, pos, b := d.data, d.pos, d.bits
	end := false
	for b.n <= 56 {
		if pos >= len(data) {
			end = true
			break
		}
		next := data[pos]
		if next == 0xff {
			for pos+1 < len(data) && data[pos+1] == 0xff {
				pos++
			}
			if pos+1 >= len(data) {
				end = true
				break
			}
			if data[pos+1] != 0 {
				break
			}
			pos++
		}
		pos++
		b.acc, b.n = b.acc<<8|uint64(next), b.n+8
	}
	d.pos, d.bits = pos, b
	if end && b.n < n {
		return errEarly
	}
	return nil
}

// ensure makes n bits available, at most 16. A restart marker that comes too early gives zeros.
func (d *decoder) ensure(n int) error {
	if d.bits.n >= n {
		return nil
	}
	if err := d.fill(n); err != nil || d.bits.n >= n {
		return err
	}
	if m := d.data[d.pos+1]; m < 0xd0 || m > 0xd7 {
		return errEarly
	}
	d.bits.empty = true
	d.bits.acc, d.bits.n = d.bits.acc<<16, d.bits.n+16
	return nil
}

func (d *decoder) read(n int) (int, error) {
	if n == 0 {
		return 0, nil
	}
	if err := d.ensure(n); err != nil {
		return 0, err
	}
	d.bits.n -= n
	return int(d.bits.acc>>d.bits.n) & (1<<n - 1), nil
}

// signed reads a number of n bits as T.81's EXTEND has it.
func (d *decoder) signed(n int) (int, error) {
	v, err := d.read(n)
	if n > 0 && v < 1<<(n-1) {
		v += -1<<n + 1
	}
	return v, err
}

func (d *decoder) symbol(t *huffman) (int, error) {
	if d.bits.n >= 8 || d.fill(8) == nil && d.bits.n >= 8 {
		if e := t.short[uint8(d.bits.acc>>(d.bits.n-8))]; e != 0 {
			d.bits.n -= int(e >> 8)
			return int(e & 255), nil
		}
	}
	code := int32(0)
	for length := 1; length <= 16; length++ {
		b, err := d.read(1)
		if err != nil {
			return 0, err
		}
		code = code<<1 | int32(b)
		if code <= t.maxCode[length] {
			return int(t.values[t.offset[length]+code]), nil
		}
	}
	return 0, errCode
}

// huffmanBlock returns what decodes one block of the scan.
func (s *scan) huffmanBlock() func(c *component, coefs []int16) error {
	switch {
	case !s.d.info.Progressive:
		return s.baseline
	case s.from == 0 && s.high == 0:
		return s.dcFirst
	case s.from == 0:
		return s.dcRefine
	case s.high == 0:
		return s.acFirst
	}
	return s.acRefine
}

func (s *scan) baseline(c *component, coefs []int16) error {
	if err := s.dcFirst(c, coefs); err != nil || s.d.bits.skip {
		return err
	}
	d, t := s.d, s.d.huff[1][c.ac]
	for k := 1; k < 64; k++ {
		// Nearly always there are enough bits for a short code and its number.
		if d.bits.n < 32 {
			_ = d.fill(0) // the end is noticed where bits are missing
		}
		if e := t.short[uint8(d.bits.acc>>(uint(d.bits.n-8)&63))]; e != 0 && d.bits.n >= 32 {
			left := d.bits.n - int(e>>8)
			r, n := int(e>>4&15), uint(e&15)
			if n == 0 {
				if d.bits.n = left; r != 15 {
					break
				}
				k += 15
				continue
			}
			if k += r; k > 63 {
				return errCode
			}
			d.bits.n = left - int(n)
			v := int32(d.bits.acc>>(uint(d.bits.n)&63)) & (1<<n - 1)
			if v < 1<<(n-1) {
				v += -1<<n + 1
			}
			coefs[zigzag[k&63]] = int16(v)
			continue
		}
		rs, err := d.symbol(t)
		if err != nil {
			return err
		}
		r, n := rs>>4, rs&15
		if n == 0 {
			if r != 15 {
				break
			}
			k += 15
			continue
		}
		if k, err = s.place(coefs, k+r, n); err != nil {
			return err
		}
	}
	return nil
}

// place reads a coefficient of n bits and puts it at place k, which it returns.
func (s *scan) place(coefs []int16, k, n int) (int, error) {
	if k > 63 {
		return k, errCode
	}
	v, err := s.d.signed(n)
	if err != nil {
		return k, err
	}
	coefs[zigzag[k]] = int16(v << s.low)
	return k, nil
}

func (s *scan) dcFirst(c *component, coefs []int16) error {
	d := s.d
	if d.bits.skip {
		return nil
	}
	n, err := d.symbol(d.huff[0][c.dc])
	if err != nil {
		return err
	}
	if n > 15 {
		return errCode
	}
	v, err := d.signed(n)
	c.pred += v
	coefs[0] = int16(c.pred << s.low)
	return err
}

func (s *scan) dcRefine(_ *component, coefs []int16) error {
	if s.d.bits.skip {
		return nil
	}
	b, err := s.d.read(1)
	coefs[0] |= int16(b << s.low)
	return err
}

func (s *scan) acFirst(c *component, coefs []int16) error {
	d, t := s.d, s.d.huff[1][c.ac]
	if d.bits.skip {
		return nil
	}
	if d.eobrun > 0 {
		d.eobrun--
		return nil
	}
	for k := s.from; k <= s.to; k++ {
		rs, err := d.symbol(t)
		if err != nil {
			return err
		}
		r, n := rs>>4, rs&15
		if n == 0 {
			if r != 15 {
				extra, err := d.read(r)
				d.eobrun = 1<<r + extra - 1
				return err
			}
			k += 15
			continue
		}
		if k, err = s.place(coefs, k+r, n); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) acRefine(c *component, coefs []int16) error {
	d, t := s.d, s.d.huff[1][c.ac]
	if d.bits.skip {
		return nil
	}
	one := int16(1) << s.low
	// refine corrects a coefficient that is there already.
	refine := func(at uint8) error {
		b, err := d.read(1)
		if err == nil && b != 0 && coefs[at]&one == 0 {
			if coefs[at] >= 0 {
				coefs[at] += one
			} else {
				coefs[at] -= one
			}
		}
		return err
	}
	k := s.from
	if d.eobrun == 0 {
		for ; k <= s.to; k++ {
			rs, err := d.symbol(t)
			if err != nil {
				return err
			}
			r, n := rs>>4, rs&15
			var value int16
			if n == 0 {
				if r != 15 {
					extra, err := d.read(r)
					if err != nil {
						return err
					}
					d.eobrun = 1<<r + extra
					break
				}
			} else {
				b, err := d.read(1)
				if err != nil {
					return err
				}
				if value = -one; b != 0 {
					value = one
				}
			}
			for ; k <= s.to; k++ {
				at := zigzag[k]
				if coefs[at] != 0 {
					if err := refine(at); err != nil {
						return err
					}
					continue
				}
				if r == 0 {
					break
				}
				r--
			}
			if value != 0 && k <= 63 {
				coefs[zigzag[k]] = value
			}
		}
	}
	if d.eobrun > 0 {
		for ; k <= s.to; k++ {
			if at := zigzag[k]; coefs[at] != 0 {
				if err := refine(at); err != nil {
					return err
				}
			}
		}
		d.eobrun--
	}
	return nil
}
