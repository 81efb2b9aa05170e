package jpeg

import (
	"errors"
	"fmt"
)

// skipScan goes to the marker that ends the scan at hand.
func (d *decoder) skipScan() {
	for {
		m, ok := d.next()
		if !ok || m < 0xd0 || m > 0xd7 {
			return
		}
		d.pos += 2
	}
}

// scan decodes one scan.
func (d *decoder) scan(b []byte) error {
	if d.comps == nil || len(b) < 1 || len(b) != 4+2*int(b[0]) || b[0] < 1 || b[0] > 4 {
		return errors.New("a scan header is malformed")
	}
	n := int(b[0])
	if d.info.Scans++; d.info.Scans > maxScans || int64(d.info.Scans)*int64(d.info.Width)*int64(d.info.Height) > maxWork {
		return fmt.Errorf("%d x %d pixels in %d scans or more: no picture needs so many", d.info.Width, d.info.Height, d.info.Scans)
	}
	var comps []*component
	blocks := 0
	for i := range n {
		for _, c := range d.comps {
			if c.id != int(b[1+2*i]) {
				continue
			}
			for _, other := range comps {
				if other == c {
					return errors.New("a scan header names a component twice")
				}
			}
			c.dc, c.ac, c.pred = int(b[2+2*i]>>4), int(b[2+2*i]&15), 0
			c.context = 0
			if c.dc > 3 || c.ac > 3 {
				return errors.New("a scan header is malformed")
			}
			if c.table == nil {
				if c.table = d.quant[c.quant]; c.table == nil {
					return errors.New("a quantisation table is missing")
				}
			}
			comps = append(comps, c)
			blocks += c.h * c.v
			break
		}
	}
	if len(comps) != n || n > 1 && blocks > 10 {
		return errors.New("a scan header is malformed")
	}
	s := scan{d: d, from: int(b[1+2*n]), to: int(b[2+2*n]), high: int(b[3+2*n] >> 4), low: int(b[3+2*n] & 15)}
	if !d.info.Progressive {
		s.from, s.to, s.high, s.low = 0, 63, 0, 0
		for _, c := range comps {
			if c.done {
				return errors.New("a component is there twice")
			}
		}
	} else if s.from > s.to || s.to > 63 || s.from == 0 && s.to != 0 || s.from > 0 && n != 1 || s.low > 13 || s.high != 0 && s.high-1 != s.low {
		return errors.New("a scan header is malformed")
	}
	if !d.info.Arithmetic {
		for _, c := range comps {
			if s.from == 0 && s.high == 0 && d.huff[0][c.dc] == nil || s.to > 0 && d.huff[1][c.ac] == nil {
				return errors.New("a Huffman table is missing")
			}
		}
	}
	if d.out != nil && n != len(d.comps) {
		return errEarly // it is the only scan
	}
	if err := s.run(comps); err != nil {
		return err
	}
	for _, c := range comps {
		c.done = true
	}
	return nil
}

// scan is the part of the spectrum that a scan holds.
type scan struct {
	d         *decoder
	from, to  int
	high, low int
	expected  byte // number of the next restart marker
	block     [64]int16
}

func (s *scan) run(comps []*component) error {
	d := s.d
	decode := s.huffmanBlock()
	if d.info.Arithmetic {
		d.arith = newArithmetic()
		decode = s.arithmeticBlock()
	}
	d.bits = bits{}
	d.eobrun = 0
	mcusX, mcusY := ceil(d.info.Width, 8*d.maxH), ceil(d.info.Height, 8*d.maxV)
	single := len(comps) == 1
	if single {
		mcusX, mcusY = comps[0].ownRow, comps[0].ownRows
	}
	left := d.interval
	for my := range mcusY {
		for mx := range mcusX {
			if d.interval > 0 {
				if left == 0 {
					s.restart(comps)
					left = d.interval
				}
				left--
			}
			if d.bits.over {
				return errEarly
			}
			d.bits.skip = d.bits.empty
			for _, c := range comps {
				h, v := c.h, c.v
				if single {
					h, v = 1, 1
				}
				for by := range v {
					for bx := range h {
						x, y := mx*h+bx, my*v+by
						if c.coefs != nil {
							if err := decode(c, c.coefs[64*(y*c.perRow+x):][:64]); err != nil {
								return err
							}
							continue
						}
						s.block = [64]int16{}
						if err := decode(c, s.block[:]); err != nil {
							return err
						}
						c.put(x, y, s.block[:])
					}
				}
			}
		}
		switch {
		case d.out == nil:
		case !single:
			d.out.decoded(my)
		case (my+1)%comps[0].v == 0 || my == mcusY-1:
			d.out.decoded(my / comps[0].v)
		}
	}
	return nil
}

// restart passes the restart marker that is due. Where it is another one it does as libjpeg does:
// what is from before is skipped, what is one or two ahead is waited for (the blocks in between
// stay grey), everything else is taken for the right one.
func (s *scan) restart(comps []*component) {
	d := s.d
	for _, c := range comps {
		c.pred, c.context = 0, 0
	}
	d.eobrun = 0
	d.bits.acc, d.bits.n = 0, 0
	if d.arith != nil {
		d.arith = newArithmetic()
	}
	want := s.expected
	s.expected = (s.expected + 1) & 7
	for {
		m, ok := d.next()
		if !ok {
			return
		}
		is := m - 0xd0
		switch {
		case m == 0xd0+want:
		case m < 0xc0:
			d.pos += 2
			continue
		case m < 0xd0 || m > 0xd7 || is == (want+1)&7 || is == (want+2)&7:
			return // it stays ahead: what is read now is empty
		case is == (want-1)&7 || is == (want-2)&7:
			d.pos += 2
			continue
		}
		d.pos += 2
		d.bits.empty = false
		return
	}
}
