package jpeg

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"image"
	stdjpeg "image/jpeg"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

type sample struct {
	Name, SHA256 string
	JPEG         []byte
}

// samples are small JPEGs that libjpeg-turbo's cjpeg 2.1 and Pillow 13 wrote of a picture of noise,
// with the sum of what Pillow reads.
func samples(t testing.TB) []sample {
	t.Helper()
	data, err := os.ReadFile("testdata/pil.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct{ Name, SHA256, JPEG string }
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	var out []sample
	for _, r := range rows {
		b, err := base64.StdEncoding.DecodeString(r.JPEG)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, sample{r.Name, r.SHA256, b})
	}
	return out
}

// Every kind is read bit for bit as PIL reads it.
func TestPixelsArePILs(t *testing.T) {
	for _, s := range samples(t) {
		pix, w, h, scale, err := Decode(s.JPEG)
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
			continue
		}
		sum := sha256.Sum256(pix)
		if got := hex.EncodeToString(sum[:]); got != s.SHA256 || w != 37 || h != 26 || scale != 1 {
			t.Errorf("%s: %d x %d at 1/%d, sha256 %s, want %s", s.Name, w, h, scale, got, s.SHA256)
		}
	}
}

// Scaled down, a picture is the average of squares of what it is at full size, whatever its
// sampling.
func TestScaledDown(t *testing.T) {
	for _, s := range samples(t) {
		info, err := Inspect(s.JPEG)
		if err != nil {
			t.Fatal(err)
		}
		full, err := decode(s.JPEG, info, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, scale := range []int{2, 4, 8} {
			o, err := decode(s.JPEG, info, scale)
			if err != nil || o.width != (full.width+scale-1)/scale || o.height != (full.height+scale-1)/scale {
				t.Fatalf("%s: %d x %d at 1/%d, %v", s.Name, o.width, o.height, scale, err)
			}
			for y := range o.height {
				for x := range o.width {
					for c := range 3 {
						sum, n := 0, 0
						for fy := y * scale; fy < min((y+1)*scale, full.height); fy++ {
							for fx := x * scale; fx < min((x+1)*scale, full.width); fx++ {
								sum, n = sum+int(full.pix[3*(fy*full.width+fx)+c]), n+1
							}
						}
						if got, want := int(o.pix[3*(y*o.width+x)+c]), (sum+n/2)/n; got != want {
							t.Fatalf("%s at 1/%d, %d, %d: %d, want %d", s.Name, scale, x, y, got, want)
						}
					}
				}
			}
		}
	}
}

// A picture is scaled down by its size alone.
func TestScale(t *testing.T) {
	for _, c := range []struct{ width, height, want int }{{8192, 8192, 1}, {8193, 8192, 2}, {12000, 9000, 2}, {16384, 16384, 2}, {16383, 16385, 4}, {65535, 4096, 2}} {
		if got := (Info{Width: c.width, Height: c.height}).Scale(); got != c.want {
			t.Errorf("%d x %d at 1/%d, want 1/%d", c.width, c.height, got, c.want)
		}
	}
}

// Files that lie about themselves are refused at once and without memory.
func TestHostileFiles(t *testing.T) {
	var b bytes.Buffer
	if err := stdjpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 64, 64)), nil); err != nil {
		t.Fatal(err)
	}
	good := b.Bytes()
	frame := bytes.Index(good, []byte{0xff, 0xc0})
	scan := bytes.Index(good, []byte{0xff, 0xda})
	change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"huge":           {change(func(b []byte) []byte { copy(b[frame+5:], "\xff\xff\xff\xff"); return b }), "outside the limit"},
		"larger":         {change(func(b []byte) []byte { copy(b[frame+5:], "\x3f\xff\x3f\xff"); return b }), "ends early"},
		"empty":          {change(func(b []byte) []byte { copy(b[frame+5:], "\x00\x00\x00\x40"); return b }), "outside the limit"},
		"twelve bits":    {change(func(b []byte) []byte { b[frame+4] = 12; return b }), "12 bits"},
		"lossless":       {change(func(b []byte) []byte { b[frame+1] = 0xc3; return b }), "lossless"},
		"hierarchical":   {change(func(b []byte) []byte { b[frame+1] = 0xc5; return b }), "hierarchical"},
		"cut":            {good[:len(good)-20], "ends early"},
		"two frames":     {append(bytes.Clone(good[:scan]), good[frame:]...), "two frames"},
		"no picture":     {append(bytes.Clone(good[:frame]), 0xff, 0xd9), "no picture"},
		"quantisation 9": {change(func(b []byte) []byte { b[frame+12] = 9; return b }), "malformed"},
		"many scans": {change(func(b []byte) []byte {
			b[frame+1] = 0xc2
			one := bytes.Clone(b[scan : len(b)-2])
			one[8] = 0 // the DC alone
			b = b[:scan]
			for range 1000 {
				b = append(b, one...)
			}
			return append(b, 0xff, 0xd9)
		}), "no picture needs so many"},
	} {
		start := time.Now()
		_, _, _, _, err := Decode(c.data)
		if err == nil || !strings.Contains(err.Error(), c.want) || time.Since(start) > time.Second {
			t.Errorf("%s: %v after %v, want %q", name, err, time.Since(start), c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.JPEG)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := Inspect(data)
		if err != nil || int64(info.Width)*int64(info.Height) > 1<<20 {
			return
		}
		pix, w, h, _, err := Decode(data)
		if err == nil && (w != info.Width || h != info.Height || len(pix) != 3*w*h) {
			t.Fatalf("%d x %d with %d bytes, the header says %d x %d", w, h, len(pix), info.Width, info.Height)
		}
	})
}

// Photographs are read as PIL reads them. CLIPINSPECTOR_DATA names the photographs,
// CLIPINSPECTOR_PYTHON a Python with Pillow.
func TestPhotographsArePILs(t *testing.T) {
	root, python := os.Getenv("CLIPINSPECTOR_DATA"), os.Getenv("CLIPINSPECTOR_PYTHON")
	if root == "" || python == "" || testing.Short() {
		t.Skip("needs CLIPINSPECTOR_DATA, a folder of photographs, and CLIPINSPECTOR_PYTHON, a Python with Pillow")
	}
	const script = `
import hashlib, os, sys
from PIL import Image
found = sorted(os.path.join(d, f) for d, _, fs in os.walk(sys.argv[1]) for f in fs if f.lower().endswith((".jpg", ".jpeg")))
for p in found[:: max(1, len(found) // int(sys.argv[2]))]:
    im = Image.open(p)
    if im.format == "JPEG":
        print(hashlib.sha256(im.convert("RGB").tobytes()).hexdigest(), p)
`
	out, err := exec.Command(python, "-c", script, root, "300").Output()
	if err != nil {
		t.Skipf("%s cannot read photographs with Pillow: %v", python, err)
	}
	n := 0
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		want, path, _ := strings.Cut(line, " ")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		pix, _, _, _, err := Decode(data)
		sum := sha256.Sum256(pix)
		if got := hex.EncodeToString(sum[:]); err != nil || got != want {
			t.Errorf("%s: sha256 %s, want %s, %v", path, got, want, err)
		}
		n++
	}
	if n == 0 {
		t.Fatalf("no photograph below %s", root)
	}
	t.Logf("%d photographs", n)
}

// photograph is something with edges, gradients and noise, as a JPEG.
func photograph(t testing.TB, width, height int) []byte {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	seed := uint32(1)
	for y := range height {
		for x := range width {
			seed = seed*1664525 + 1013904223
			p := img.Pix[img.PixOffset(x, y):]
			p[0], p[1], p[2], p[3] = uint8(x*255/width), uint8(y*255/height), uint8((x/40+y/30)%2*120)+uint8(seed>>27), 255
		}
	}
	var b bytes.Buffer
	if err := stdjpeg.Encode(&b, img, &stdjpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// BenchmarkDecode compares with the standard library, which gives YCbCr and not RGB.
func BenchmarkDecode(b *testing.B) {
	data := photograph(b, 1024, 768)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			if _, _, _, _, err := Decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("standard", func(b *testing.B) {
		for b.Loop() {
			if _, err := stdjpeg.Decode(bytes.NewReader(data)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
