package datasets

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	_ "image/gif" // register the format
	_ "image/png" // register the format
	"os"
	"path/filepath"
	"strings"

	_ "golang.org/x/image/bmp"  // register the format
	_ "golang.org/x/image/tiff" // register the format
	_ "golang.org/x/image/webp" // register the format

	"clipinspector/datasets/internal/jpeg"
	"clipinspector/internal/files"
)

// Limits on pictures from strangers, checked before memory is asked for.
const (
	maxPixels    = 64 << 20  // pixels of one decoded picture (64 Mi)
	maxFileBytes = 256 << 20 // bytes of one image file
)

// extensions are the file name endings, in lower case, that count as pictures.
var extensions = []string{".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}

// isPicture tells by its name whether a file is a picture; hidden files are none.
func isPicture(name string) bool {
	base := filepath.Base(name)
	if strings.HasPrefix(base, ".") {
		return false
	}
	ext := strings.ToLower(filepath.Ext(base))
	for _, e := range extensions {
		if e == ext {
			return true
		}
	}
	return false
}

// readImage reads and decodes one picture file (JPEG, PNG, WebP, BMP, TIFF's first page, GIF's
// first frame) as RGB. JPEGs of more than maxPixels are scaled down while they are decoded. Alpha
// is dropped as PIL's convert("RGB") does, not blended. Dimensions are checked before decoding.
// Errors name the file and the reason.
func readImage(path string) (*RGB, error) { return readHashed(path, nil, 0) }

// readHashed is readImage for file i of a list whose contents may be known: they must still be the
// same.
func readHashed(path string, known *contents, i int) (*RGB, error) {
	fail := func(err error) (*RGB, error) { return nil, fmt.Errorf("image %s: %w", path, err) }
	data, err := files.Read(path, maxFileBytes)
	if err != nil {
		return fail(reason(err))
	}
	if known != nil {
		if want, ok := known.of(i); ok && sha256.Sum256(data) != want {
			return fail(errors.New("the file was changed after this run had looked at it: start it again"))
		}
	}
	img, err := decode(data)
	if err != nil {
		return fail(err)
	}
	return img, nil
}

// decode decodes one picture held in memory; see readImage.
func decode(data []byte) (img *RGB, err error) {
	if len(data) > 2 && data[0] == 0xff && data[1] == 0xd8 && data[2] == 0xff {
		return decodeJPEG(data)
	}
	if len(data) > 20 && string(data[:4]) == "RIFF" && string(data[8:16]) == "WEBPVP8X" && data[20]&2 != 0 {
		return nil, errors.New("a kind of webp picture that is not read (animated): convert its first frame to PNG")
	}
	cfg, format, err := image.DecodeConfig(anywhere{bytes.NewReader(data)})
	if err != nil {
		if errors.Is(err, image.ErrFormat) {
			if err := notText(data); err != nil {
				return nil, err
			}
			return nil, errors.New("not a JPEG, PNG, WebP, BMP, TIFF or GIF picture")
		}
		return nil, undecodable(format, err)
	}
	if cfg.Width <= 0 || cfg.Height <= 0 || int64(cfg.Width)*int64(cfg.Height) > maxPixels {
		return nil, fmt.Errorf("%d x %d pixels, outside the limit of 1 to %d: scale it down, or save it as a JPEG, which may have more",
			cfg.Width, cfg.Height, maxPixels)
	}
	bytes := decodeBytes(format, cfg, data)
	if bytes > maxDecodeBytes {
		return nil, tooLarge(format+" picture", cfg.Width, cfg.Height, bytes, "scale it down or save it as a JPEG")
	}
	defer claim(bytes)()
	return decodeStandard(data, format)
}

// anywhere is a file that decoders may read at any place. Package image hides that from them where
// it cannot peek itself, and the TIFF decoder would then make a copy of everything up to where the
// file points, gigabytes for a hostile one.
type anywhere struct{ *bytes.Reader }

// Peek returns the next n bytes, or as many as there are and why.
func (a anywhere) Peek(n int) ([]byte, error) {
	b := make([]byte, n)
	k, err := a.ReadAt(b, a.Size()-int64(a.Len()))
	return b[:k], err
}

// decodeStandard decodes with the standard library's decoders and those beside it.
func decodeStandard(data []byte, format string) (img *RGB, err error) {
	// The decoders are not ours; a panic on a hostile file must stay an error about that file.
	defer func() {
		if r := recover(); r != nil {
			img, err = nil, fmt.Errorf("damaged %s picture: %v", format, r)
		}
	}()
	src, _, err := image.Decode(anywhere{bytes.NewReader(data)})
	if format == "gif" {
		if opaque, _, err := image.Decode(anywhere{bytes.NewReader(opaqueGIF(data))}); err == nil {
			src = opaque
		}
	}
	if err != nil {
		return nil, undecodable(format, err)
	}
	b := src.Bounds()
	if b.Empty() || int64(b.Dx())*int64(b.Dy()) > maxPixels {
		return nil, fmt.Errorf("damaged %s picture: bounds %v", format, b)
	}
	if format == "webp" {
		if y, ok := src.(*image.YCbCr); ok {
			return webpRGB(y), nil
		}
		if y, ok := src.(*image.NYCbCrA); ok {
			return webpRGB(&y.YCbCr), nil
		}
	}
	out := toRGB(src)
	if format == "tiff" && faxBlackIsZero(data) {
		for i, v := range out.Pix {
			out.Pix[i] = ^v
		}
	}
	return out, nil
}

// undecodable is the error of a picture that a decoder does not take.
func undecodable(format string, err error) error {
	if strings.Contains(err.Error(), "unsupported") {
		return fmt.Errorf("a kind of %s picture that is not read (%w): convert it to PNG", format, err)
	}
	return fmt.Errorf("damaged %s picture: %w", format, err)
}

// opaqueGIF is a GIF whose first frame has no transparent colour: the decoder would blank it, PIL
// keeps what the palette says.
func opaqueGIF(data []byte) []byte {
	if len(data) < 13 {
		return data
	}
	pos := 13
	if flags := data[10]; flags&0x80 != 0 {
		pos += 6 << (flags & 7)
	}
	for pos+8 <= len(data) && data[pos] == 0x21 {
		if data[pos+1] == 0xf9 && data[pos+3]&1 != 0 {
			data = bytes.Clone(data)
			data[pos+3] &^= 1
		}
		for pos += 2; pos < len(data) && data[pos] != 0; {
			pos += 1 + int(data[pos])
		}
		pos++
	}
	return data
}

// faxBlackIsZero tells whether a TIFF's first page is in a fax compression with black as 0: the
// decoder takes it for white, libtiff and so PIL do not.
func faxBlackIsZero(data []byte) bool {
	var order binary.ByteOrder = binary.LittleEndian
	if data[0] == 'M' {
		order = binary.BigEndian
	}
	at := int64(order.Uint32(data[4:]))
	if at+2 > int64(len(data)) {
		return false
	}
	n := int64(order.Uint16(data[at:]))
	var compression, photometric uint16
	for e := data[at+2:]; n > 0 && len(e) >= 12; e, n = e[12:], n-1 {
		switch order.Uint16(e) { // values of type SHORT
		case 259:
			compression = order.Uint16(e[8:])
		case 262:
			photometric = order.Uint16(e[8:])
		}
	}
	return (compression == 3 || compression == 4) && photometric == 1
}

// decodeJPEG decodes with a decoder of our own: the standard library's has other pixels in each of
// its versions.
func decodeJPEG(data []byte) (*RGB, error) {
	fail := func(err error) (*RGB, error) { return nil, fmt.Errorf("damaged jpeg picture: %w", err) }
	info, err := jpeg.Inspect(data)
	if err != nil {
		return fail(err)
	}
	bytes := info.Memory()
	if bytes > maxDecodeBytes {
		return nil, tooLarge("progressive JPEG", info.Width, info.Height, bytes, "scale it down or save it without progressive coding")
	}
	defer claim(bytes + 3*int64(info.Width)*int64(info.Height)/int64(info.Scale()*info.Scale()))()
	pix, width, height, _, err := jpeg.Decode(data)
	if err != nil {
		return fail(err)
	}
	return &RGB{Width: width, Height: height, Pix: pix}, nil
}

// toRGB copies a decoded picture. Colours are taken as stored, alpha is ignored.
func toRGB(src image.Image) *RGB {
	b := src.Bounds()
	out := NewRGB(b.Dx(), b.Dy())
	var pix []uint8
	var stride int
	switch s := src.(type) {
	case *image.NRGBA:
		pix, stride = s.Pix[s.PixOffset(b.Min.X, b.Min.Y):], s.Stride
	case *image.CMYK, *image.Gray, *image.RGBA:
		// Opaque kinds (Go's RGBA from PNG is opaque: pictures with alpha decode to NRGBA), with
		// fast paths in draw. Row by row, so that the picture is there only once more.
		d := image.NewRGBA(image.Rect(0, 0, b.Dx(), 1))
		for y := range out.Height {
			draw.Draw(d, d.Bounds(), src, image.Pt(b.Min.X, b.Min.Y+y), draw.Src)
			dst := out.Pix[3*y*out.Width:]
			for x := range out.Width {
				dst[3*x], dst[3*x+1], dst[3*x+2] = d.Pix[4*x], d.Pix[4*x+1], d.Pix[4*x+2]
			}
		}
		return out
	default:
		for y := 0; y < out.Height; y++ {
			for x := 0; x < out.Width; x++ {
				c := color.NRGBAModel.Convert(src.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA)
				o := 3 * (y*out.Width + x)
				out.Pix[o], out.Pix[o+1], out.Pix[o+2] = c.R, c.G, c.B
			}
		}
		return out
	}
	for y := 0; y < out.Height; y++ {
		row, dst := pix[y*stride:], out.Pix[3*y*out.Width:]
		for x := 0; x < out.Width; x++ {
			dst[3*x], dst[3*x+1], dst[3*x+2] = row[4*x], row[4*x+1], row[4*x+2]
		}
	}
	return out
}

// reason strips the path from a file error, since the message names it already.
func reason(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
