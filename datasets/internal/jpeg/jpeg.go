// Package jpeg reads JPEGs: any sampling of the components, arithmetic coding, restart markers out
// of order. Photographs that are too large to be held at full size are scaled down while they are
// decoded.
//
// It follows ITU-T T.81. Where that leaves a choice (inverse DCT, upsampling, colours, lost restart
// markers), it does bit for bit what libjpeg-turbo does, and so PIL. The pixels of the standard
// library differ from version to version (golang/go#75603).
package jpeg

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits on files from strangers, checked before memory is asked for.
const (
	MaxPixels = 256 << 20 // of the picture as stored
	MaxResult = 64 << 20  // of the picture as decoded: one with more is scaled down
	maxScans  = 64
	maxWork   = 2 << 30 // pixels x scans
)

// Info is what the header of a file says.
type Info struct {
	Width, Height int // pixels
	Components    int
	Progressive   bool
	Arithmetic    bool // arithmetic coding instead of Huffman's
	Scans         int
	samples       int // blocks of all components in one MCU
	maxH, maxV    int // size of an MCU, in blocks
}

// component is one plane of the picture.
type component struct {
	id, h, v, quant int
	table           *[64]uint16 // quantisation, as it was when the component's first scan began
	perRow, rows    int         // blocks, padded to whole MCUs
	ownRow, ownRows int         // blocks that hold picture
	w, hgt          int         // samples that hold picture
	stride          int         // samples in a row of plane
	plane           []uint8     // as many rows of MCUs as bands says, the newest in place of the oldest
	coefs           []int16     // 64 a block, where several scans make the picture
	done            bool
	dc, ac          int // tables of the scan
	pred            int
	context         int // of arithmetic coding's DC
}

type decoder struct {
	data     []byte
	pos      int
	info     Info
	comps    []*component
	maxH     int
	maxV     int
	scale    int // 1, 2, 4 or 8: the picture is decoded at 1/scale
	out      *output
	quant    [4]*[64]uint16
	huff     [2][4]*huffman
	cond     [2][4]byte // conditioning of arithmetic coding, DC and AC
	interval int        // MCUs between restart markers; 0 for none
	jfif     bool
	adobe    int // colour transform of an Adobe marker; -1 without
	bits     bits
	arith    *arithmetic
	eobrun   int
}

var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

var errEarly = errors.New("it ends early")

// Inspect reads a file's header and counts its scans, without decoding anything. Kinds that nothing
// here reads are refused by name.
func Inspect(data []byte) (Info, error) {
	d := &decoder{data: data, adobe: -1}
	err := d.segments(func(marker byte, body []byte) error {
		switch {
		case isFrame(marker):
			return d.frame(marker, body)
		case marker == 0xda:
			d.info.Scans++
			d.skipScan()
		}
		return nil
	})
	if err == nil && d.comps == nil {
		err = errors.New("it holds no picture")
	}
	// Every block takes a bit at least, two where all of it is in one scan; arithmetic coding may
	// take less.
	if least := d.info.blocks() / 8; err == nil && !d.info.Arithmetic && int64(len(data)) < least {
		err = errEarly
	}
	return d.info, err
}

// Decode decodes a file to RGB, height x width x 3 bytes, at 1/scale of its size (rounded up),
// which is the average of squares of the picture at full size; see Info.Scale and Info.Memory.
func Decode(data []byte) (pix []uint8, width, height, scale int, err error) {
	info, err := Inspect(data)
	if err != nil {
		return nil, 0, 0, 0, err
	}
	o, err := decode(data, info, info.Scale())
	if err != nil {
		return nil, 0, 0, 0, err
	}
	return o.pix, o.width, o.height, o.d.scale, nil
}

func decode(data []byte, info Info, scale int) (*output, error) {
	d := &decoder{data: data, adobe: -1, scale: scale}
	for i := range 4 {
		d.cond[0][i], d.cond[1][i] = 0x10, 5
	}
	err := d.segments(func(marker byte, body []byte) error {
		switch {
		case isFrame(marker):
			if err := d.frame(marker, body); err != nil {
				return err
			}
			d.allocate(info.whole())
		case marker == 0xdb:
			return d.quantisation(body)
		case marker == 0xc4:
			return d.huffmanTables(body)
		case marker == 0xcc:
			return d.conditioning(body)
		case marker == 0xdd && len(body) >= 2:
			d.interval = int(binary.BigEndian.Uint16(body))
		case marker == 0xe0 && len(body) >= 5 && string(body[:5]) == "JFIF\x00":
			d.jfif = true
		case marker == 0xee && len(body) >= 12 && string(body[:5]) == "Adobe":
			d.adobe = int(body[11])
		case marker == 0xda:
			return d.scan(body)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, c := range d.comps {
		if !c.done {
			return nil, errEarly
		}
	}
	if d.comps[0].coefs != nil {
		d.out = d.newOutput()
		d.out.fromCoefficients()
	}
	return d.out, nil
}

func ceil(a, b int) int { return (a + b - 1) / b }

// size is the picture's size at 1/scale.
func (i Info) size(scale int) (width, height int) { return ceil(i.Width, scale), ceil(i.Height, scale) }

// Scale is by how much the picture is scaled down: the least of 1, 2, 4 and 8 with which it has at
// most MaxResult pixels.
func (i Info) Scale() int {
	for scale := 1; ; scale *= 2 {
		if w, h := i.size(scale); w*h <= MaxResult || scale == 8 {
			return scale
		}
	}
}

// whole tells whether the picture has to be held as coefficients until the last scan has been read.
func (i Info) whole() bool { return i.Progressive || i.Scans > 1 }

// Memory is how many bytes decoding takes, beside the file's and those of the result.
func (i Info) Memory() int64 {
	mcus := int64(ceil(i.Width, 8*i.maxH))
	bytes := bands * 64 * mcus * int64(i.samples)
	if i.whole() {
		bytes += 2 * 64 * mcus * int64(ceil(i.Height, 8*i.maxV)) * int64(i.samples)
	}
	return bytes + 16*int64(i.Width)
}

// blocks is how many blocks the components have at least.
func (i Info) blocks() int64 {
	if i.maxH == 0 {
		return 0
	}
	return int64(i.Width/8) * int64(i.Height/8) * int64(i.samples) / int64(i.maxH*i.maxV)
}

func isFrame(marker byte) bool {
	return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc
}

// segments calls f with every marker of the file and what belongs to it, up to the end of the
// image.
func (d *decoder) segments(f func(marker byte, body []byte) error) error {
	if len(d.data) < 2 || d.data[0] != 0xff || d.data[1] != 0xd8 {
		return errors.New("it does not begin as a JPEG")
	}
	for d.pos = 2; ; {
		marker, ok := d.next()
		if !ok {
			return errEarly
		}
		d.pos += 2
		switch {
		case marker == 0xd9:
			return nil
		case marker >= 0xd0 && marker <= 0xd8 || marker == 1:
			continue
		}
		if d.pos+2 > len(d.data) {
			return errEarly
		}
		n := int(binary.BigEndian.Uint16(d.data[d.pos:]))
		if n < 2 || d.pos+n > len(d.data) {
			return errEarly
		}
		body := d.data[d.pos+2 : d.pos+n]
		d.pos += n
		if err := f(marker, body); err != nil {
			return err
		}
	}
}

// next goes to the next marker and returns it, without passing it.
func (d *decoder) next() (marker byte, ok bool) {
	for ; d.pos+1 < len(d.data); d.pos++ {
		if m := d.data[d.pos+1]; d.data[d.pos] == 0xff && m != 0 && m != 0xff {
			return m, true
		}
	}
	return 0, false
}

// frame reads a frame header.
func (d *decoder) frame(marker byte, b []byte) error {
	if d.comps != nil {
		return errors.New("it has two frames")
	}
	switch marker {
	case 0xc0, 0xc1:
	case 0xc2:
		d.info.Progressive = true
	case 0xc9:
		d.info.Arithmetic = true
	case 0xca:
		d.info.Progressive, d.info.Arithmetic = true, true
	case 0xc3, 0xcb:
		return errors.New("lossless JPEG is not read: convert it to PNG")
	default:
		return errors.New("hierarchical JPEG is not read: convert it to PNG")
	}
	if len(b) < 6 || len(b) != 6+3*int(b[5]) {
		return errors.New("its frame header is malformed")
	}
	if b[0] != 8 {
		return fmt.Errorf("JPEG with %d bits a sample is not read, as PIL does not: convert it to 8 bits", b[0])
	}
	d.info.Height, d.info.Width, d.info.Components = int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:])), int(b[5])
	if d.info.Width == 0 || d.info.Height == 0 || int64(d.info.Width)*int64(d.info.Height) > MaxPixels {
		return fmt.Errorf("%d x %d pixels, outside the limit of 1 to %d", d.info.Width, d.info.Height, MaxPixels)
	}
	if n := d.info.Components; n != 1 && n != 3 && n != 4 {
		return fmt.Errorf("%d components: want 1, 3 or 4", n)
	}
	for i := range d.info.Components {
		c := &component{id: int(b[6+3*i]), h: int(b[7+3*i] >> 4), v: int(b[7+3*i] & 15), quant: int(b[8+3*i])}
		if c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 || c.quant > 3 {
			return errors.New("its frame header is malformed")
		}
		d.comps = append(d.comps, c)
		d.maxH, d.maxV = max(d.maxH, c.h), max(d.maxV, c.v)
		d.info.samples += c.h * c.v
	}
	d.info.maxH, d.info.maxV = d.maxH, d.maxV
	for _, c := range d.comps {
		if d.maxH%c.h != 0 || d.maxV%c.v != 0 {
			return errors.New("its components are sampled at fractions of each other, which is not read, as PIL does not")
		}
	}
	return nil
}

// allocate makes room for the components: all of their coefficients, or what the one scan that
// holds everything needs at a time.
func (d *decoder) allocate(whole bool) {
	mcusX, mcusY := ceil(d.info.Width, 8*d.maxH), ceil(d.info.Height, 8*d.maxV)
	for _, c := range d.comps {
		c.perRow, c.rows = mcusX*c.h, mcusY*c.v
		c.w, c.hgt = ceil(d.info.Width*c.h, d.maxH), ceil(d.info.Height*c.v, d.maxV)
		c.ownRow, c.ownRows = ceil(c.w, 8), ceil(c.hgt, 8)
		c.stride = c.perRow * 8
		c.plane = make([]uint8, bands*8*c.v*c.stride)
		if whole {
			c.coefs = make([]int16, c.perRow*c.rows*64)
		}
	}
	if !whole {
		d.out = d.newOutput()
	}
}

func (d *decoder) quantisation(b []byte) error {
	for len(b) > 0 {
		size, id := 1+int(b[0]>>4), b[0]&15
		if size > 2 || id > 3 || len(b) < 1+64*size {
			return errors.New("a quantisation table is malformed")
		}
		t := new([64]uint16)
		for i := range 64 {
			if size == 1 {
				t[zigzag[i]] = uint16(b[1+i])
			} else {
				t[zigzag[i]] = binary.BigEndian.Uint16(b[1+2*i:])
			}
		}
		d.quant[id] = t
		b = b[1+64*size:]
	}
	return nil
}

func (d *decoder) conditioning(b []byte) error {
	for ; len(b) >= 2; b = b[2:] {
		class, id := b[0]>>4, b[0]&15
		if class > 1 || id > 3 || class == 0 && b[1]&15 > b[1]>>4 || class == 1 && (b[1] < 1 || b[1] > 63) {
			return errors.New("a conditioning of arithmetic coding is malformed")
		}
		d.cond[class][id] = b[1]
	}
	return nil
}
