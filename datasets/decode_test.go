package datasets

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	stdjpeg "image/jpeg"
	"image/png"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/image/tiff"
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
		got, err := Decode(encode(t, func(b *bytes.Buffer) error { return tiff.Encode(b, img.NRGBA(), o) }))
		if err != nil || got.Width != 31 || got.Height != 17 || !slices.Equal(got.Pix, img.Pix) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !isPicture("a.TIF") || !isPicture("a.jfif") || isPicture("a.avif") {
		t.Error("endings of pictures")
	}
}

// JPEGs that the standard library reads have its pixels, as in every earlier version.
func TestJPEGsKeepTheirPixels(t *testing.T) {
	data := encode(t, func(b *bytes.Buffer) error { return stdjpeg.Encode(b, hashPicture(61, 43).NRGBA(), nil) })
	want, err := stdjpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil || !slices.Equal(got.Pix, toRGB(want).Pix) {
		t.Errorf("other pixels, %v", err)
	}
}

// A photograph of more than MaxPixels is scaled down while it is decoded.
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
	img, err := Decode(data)
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

// Pictures that would take too much memory are refused before it is asked for, in a second and 100 MB.
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
		"text":            []byte("nothing"),
		"web page":        []byte("<html>"),
		"git-lfs pointer": []byte("version https://git-lfs.github.com/spec/v1\n"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, err := Decode(data)
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
