package datasets

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	stdjpeg "image/jpeg"
	"image/png"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/image/tiff"

	"clipinspector/datasets/internal/jpeg"
)

func encode(t testing.TB, write func(b *bytes.Buffer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTIFF(t *testing.T) {
	img := hashPicture(31, 17)
	for name, o := range map[string]*tiff.Options{"plain": nil, "deflate": {Compression: tiff.Deflate, Predictor: true}} {
		got, err := decode(encode(t, func(b *bytes.Buffer) error { return tiff.Encode(b, img.NRGBA(), o) }))
		if err != nil || got.Width != 31 || got.Height != 17 || !slices.Equal(got.Pix, img.Pix) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !isPicture("a.TIF") || !isPicture("a.jfif") || isPicture("a.avif") {
		t.Error("endings of pictures")
	}
}

// Black and white in fax compression are what the file calls black and white.
func TestFaxTIFF(t *testing.T) {
	for photometric, want := range map[byte]uint8{0: 255, 1: 0} { // eight rows of the code for "as above": all 0
		b := []byte("II*\x00\x08\x00\x00\x00")
		entries := [][2]uint32{{256, 8}, {257, 8}, {258, 1}, {259, 4}, {262, uint32(photometric)}, {273, 200}, {277, 1}, {278, 8}, {279, 4}}
		b = append(b, byte(len(entries)), 0)
		for _, e := range entries {
			b = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(b, uint16(e[0])), 3)
			b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, 1), e[1])
		}
		b = append(append(b, make([]byte, 200-len(b))...), "\xff\x00\x10\x01"...)
		img, err := decode(b)
		if err != nil || img.Width != 8 || slices.ContainsFunc(img.Pix, func(v uint8) bool { return v != want }) {
			t.Errorf("photometric interpretation %d: %v, %v, want %d", photometric, img, err, want)
		}
	}
}

// A WebP that moves is said to be one: the decoder would call it damaged.
func TestAnimatedWebP(t *testing.T) {
	header := "RIFF\x1a\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00\x3f\x00\x00\x3f\x00\x00"
	if _, err := decode([]byte(header)); err == nil || !strings.Contains(err.Error(), "(animated): convert") {
		t.Errorf("got %v, want that it is animated", err)
	}
}

// The transparent colour of a GIF is the palette's, as PIL's convert("RGB") has it.
func TestTransparentGIF(t *testing.T) {
	img := image.NewPaletted(image.Rect(0, 0, 2, 1), color.Palette{color.RGBA{1, 2, 3, 255}, color.RGBA{200, 100, 50, 255}})
	img.Pix[1] = 1
	b := encode(t, func(b *bytes.Buffer) error { return gif.Encode(b, img, nil) })
	at := 13
	if b[10]&0x80 != 0 {
		at += 6 << (b[10] & 7)
	}
	b = slices.Insert(b, at, []byte("\x21\xf9\x04\x01\x00\x00\x01\x00")...)
	got, err := decode(b)
	if err != nil || !slices.Equal(got.Pix, []uint8{1, 2, 3, 200, 100, 50}) {
		t.Errorf("%v, %v", got, err)
	}
}

// A JPEG's pixels are the decoder's in datasets/internal/jpeg, the same under every version of Go.
func TestJPEGPixels(t *testing.T) {
	data := encode(t, func(b *bytes.Buffer) error { return stdjpeg.Encode(b, hashPicture(61, 43).NRGBA(), nil) })
	want, width, height, _, err := jpeg.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(data)
	if err != nil || got.Width != width || got.Height != height || !slices.Equal(got.Pix, want) {
		t.Errorf("other pixels, %v", err)
	}
}

// A photograph of more than maxPixels is scaled down while it is decoded.
func TestHugePhotograph(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	big := image.NewGray(image.Rect(0, 0, 10_000, 7_000))
	for y := range 7_000 {
		row := big.Pix[y*big.Stride:]
		for x := range 10_000 {
			row[x] = uint8(x*255/10_000/2 + y*255/7_000/2)
		}
	}
	data := encode(t, func(b *bytes.Buffer) error { return stdjpeg.Encode(b, big, nil) })
	img, err := decode(data)
	if err != nil || img.Width != 5_000 || img.Height != 3_500 {
		t.Fatalf("%v", err)
	}
	for _, at := range [][2]int{{0, 0}, {2_500, 1_700}, {4_999, 3_499}} {
		got, want := int(img.Pix[3*(at[1]*img.Width+at[0])]), int(big.Pix[2*at[1]*big.Stride+2*at[0]])
		if got-want > 3 || want-got > 3 {
			t.Errorf("at %v: %d, want about %d", at, got, want)
		}
	}
}

// greyJPEG is a grey JPEG of a size in as few bytes as there can be: every block is one or two
// bits.
func greyJPEG(t testing.TB, width, height, sampling int, progressive bool) []byte {
	t.Helper()
	b := []byte("\xff\xd8\xff\xdb\x00\x43\x00")
	b = append(b, bytes.Repeat([]byte{1}, 64)...)
	frame, bits, spectrum := byte(0xc0), 2, "\x00\x3f\x00"
	if progressive {
		frame, bits, spectrum = 0xc2, 1, "\x00\x00\x00"
	}
	b = append(b, 0xff, frame, 0, 17, 8, byte(height>>8), byte(height), byte(width>>8), byte(width), 3,
		1, byte(sampling<<4|sampling), 0, 2, 0x11, 0, 3, 0x11, 0)
	for _, class := range []byte{0x00, 0x10} { // one code, 0, for the value 0
		b = append(append(b, 0xff, 0xc4, 0, 20, class, 1), make([]byte, 16)...)
	}
	b = append(append(b, "\xff\xda\x00\x0c\x03\x01\x00\x02\x00\x03\x00"...), spectrum...)
	side := 8 * sampling
	blocks := (width + side - 1) / side * ((height + side - 1) / side) * (sampling*sampling + 2)
	return append(append(b, make([]byte, (blocks*bits+7)/8)...), 0xff, 0xd9)
}

// peak is how many bytes more the process holds at its height while f runs than before.
func peak(t *testing.T, f func()) int64 {
	t.Helper()
	of := func(field string) int64 {
		text, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Skip("the memory of a process is read from Linux's /proc")
		}
		_, rest, _ := strings.Cut(string(text), field+":")
		var kB int64
		if _, err := fmt.Sscan(rest, &kB); err != nil {
			t.Fatal(err)
		}
		return kB << 10
	}
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skip("the peak of a process cannot be reset here")
	}
	before := of("VmRSS")
	f()
	return of("VmHWM") - before
}

// Decoding takes what docs/datasets.md says: at most 384 MB beside the bytes of the file and of the
// result.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	flat := func(width, height int) []byte { // an RGB PNG
		b := []byte("\x89PNG\r\n\x1a\n")
		chunk := func(name string, data []byte) {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(data))), name...)
			b = binary.BigEndian.AppendUint32(append(b, data...), crc32.ChecksumIEEE(append([]byte(name), data...)))
		}
		chunk("IHDR", append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(width)), uint32(height)), 8, 2, 0, 0, 0))
		var z bytes.Buffer
		w, _ := zlib.NewWriterLevel(&z, zlib.BestSpeed)
		for range height {
			if _, err := w.Write(make([]byte, 3*width+1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		chunk("IDAT", z.Bytes())
		chunk("IEND", nil)
		return b
	}
	for _, c := range []struct {
		name    string
		data    []byte
		refused bool
	}{
		{"baseline of 108 megapixels", greyJPEG(t, 12_000, 9_000, 2, false), false},
		{"baseline of 256 megapixels", greyJPEG(t, 16_000, 16_000, 1, false), false},
		{"progressive of 108 megapixels", greyJPEG(t, 12_000, 9_000, 2, true), false},
		{"progressive of 108 megapixels, 4:4:4", greyJPEG(t, 12_000, 9_000, 1, true), true},
		{"progressive of 65 megapixels, 4:4:4", greyJPEG(t, 8_192, 8_000, 1, true), false},
		{"PNG of 64 megapixels", flat(8_000, 8_000), false},
	} {
		var img *RGB
		var err error
		start := time.Now()
		bytes := peak(t, func() { img, err = decode(c.data) })
		took := time.Since(start)
		limit := int64(100 << 20)
		if err == nil {
			limit = maxDecodeBytes + int64(len(img.Pix)) + 16<<20 // and the process's own
		}
		t.Logf("%s: %d MB in %v, %v", c.name, bytes>>20, took.Round(time.Millisecond), err)
		if (err != nil) != c.refused || bytes > limit || c.refused && took > time.Second {
			t.Errorf("%s: %v, %d MB, want at most %d", c.name, err, bytes>>20, limit>>20)
		}
	}
}

// Pictures that would take too much memory are refused before it is asked for, in a second and 100
// MB.
func TestPicturesThatAreBombs(t *testing.T) {
	deep := encode(t, func(b *bytes.Buffer) error {
		return png.Encode(b, image.NewNRGBA64(image.Rect(0, 0, 4, 4)))
	})
	size := func(b []byte, w, h uint32) []byte {
		b = bytes.Clone(b)
		binary.BigEndian.PutUint32(b[16:], w)
		binary.BigEndian.PutUint32(b[20:], h)
		binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
		return b
	}
	flat := encode(t, func(b *bytes.Buffer) error { return png.Encode(b, image.NewNRGBA(image.Rect(0, 0, 4, 4))) })
	page := encode(t, func(b *bytes.Buffer) error { return tiff.Encode(b, image.NewRGBA(image.Rect(0, 0, 4, 4)), nil) })
	lie := func(tag uint16, value uint32) []byte {
		b := bytes.Clone(page)
		dir := binary.LittleEndian.Uint32(b[4:])
		for i := range uint32(binary.LittleEndian.Uint16(b[dir:])) {
			if e := b[dir+2+12*i:]; binary.LittleEndian.Uint16(e) == tag {
				binary.LittleEndian.PutUint16(e[2:], 4)
				binary.LittleEndian.PutUint32(e[8:], value)
			}
		}
		return b
	}
	for name, data := range map[string][]byte{
		"PNG of 16 bits":  size(deep, 8_000, 8_000),
		"PNG too large":   size(flat, 60_000, 60_000),
		"PNG cut":         size(flat, 2_000, 2_000),
		"TIFF too large":  lie(256, 1<<30),
		"TIFF cut":        lie(257, 2_000),
		"TIFF of strips":  lie(278, 1<<31-1),
		"TIFF far away":   []byte("II*\x00.\xff\xfaK\xff\xff\x00G\x00\xff\x00c)\xffR\xff\xf7\xff\xa0 \xff\xff\r\x00\x00\x01\x03\x00\x01\x00\xff"),
		"JPEG too large":  greyJPEG(t, 65_535, 65_535, 2, false)[:2_000_000],
		"JPEG cut":        greyJPEG(t, 16_000, 16_000, 2, false)[:100_000],
		"JPEG of nothing": append(bytes.Clone(greyJPEG(t, 64, 64, 2, true)[:100]), "\xff\xd9"...),
		"text":            []byte("nothing"),
		"web page":        []byte("<html>"),
		"git-lfs pointer": []byte("version https://git-lfs.github.com/spec/v1\n"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, err := decode(data)
		runtime.ReadMemStats(&after)
		took, bytes := time.Since(start), after.TotalAlloc-before.TotalAlloc
		if name != "TIFF of strips" && err == nil || took > time.Second || bytes > 100<<20 {
			t.Errorf("%s: %v after %v and %d bytes", name, err, took, bytes)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q", name, err)
		}
	}
}
