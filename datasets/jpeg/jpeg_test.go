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
	"strings"
	"testing"
	"time"
)

type sample struct {
	Name, SHA256 string
	JPEG         []byte
}

// samples are small JPEGs that libjpeg-turbo's cjpeg 2.1 and Pillow 13 wrote of a picture of noise, with the sum of what Pillow reads.
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

const plenty = 1 << 28

// Every kind is read bit for bit as PIL reads it.
func TestPixelsArePILs(t *testing.T) {
	for _, s := range samples(t) {
		pix, w, h, scale, err := Decode(s.JPEG, plenty, plenty)
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

// What does not fit is scaled down: to about the averages of what it is at full size.
func TestScaledDown(t *testing.T) {
	for _, s := range samples(t) {
		full, w, h, _, err := Decode(s.JPEG, plenty, plenty)
		if err != nil || strings.HasPrefix(s.Name, "restart") || strings.HasSuffix(s.Name, "3x1") || strings.HasSuffix(s.Name, "1x4") {
			continue // grey stripes, or chroma much coarser than the picture
		}
		for want, limit := range map[int]int64{2: 37 * 26 / 2, 4: 19*13 - 1, 8: 10*7 - 1} {
			pix, sw, sh, scale, err := Decode(s.JPEG, limit, plenty)
			if err != nil || scale != want || sw != (w+want-1)/want || sh != (h+want-1)/want {
				t.Fatalf("%s: %d x %d at 1/%d, want 1/%d, %v", s.Name, sw, sh, scale, want, err)
			}
			worst := 0
			for y := range h / want {
				for x := range w / want {
					for c := range 3 {
						sum := 0
						for i := range want {
							for j := range want {
								sum += int(full[3*((y*want+i)*w+x*want+j)+c])
							}
						}
						d := sum/(want*want) - int(pix[3*(y*sw+x)+c])
						worst = max(worst, d, -d)
					}
				}
			}
			if worst > 48 { // chroma of noise, clipped at both ends
				t.Errorf("%s at 1/%d: %d levels off", s.Name, want, worst)
			}
		}
		if _, _, _, _, err := Decode(s.JPEG, 5, plenty); err == nil {
			t.Errorf("%s: decoded into five pixels", s.Name)
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
			one[scan-scan+8] = 0 // the DC alone
			b = b[:scan]
			for range 1000 {
				b = append(b, one...)
			}
			return append(b, 0xff, 0xd9)
		}), "no picture needs so many"},
	} {
		start := time.Now()
		_, _, _, _, err := Decode(c.data, plenty, plenty)
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
		pix, w, h, _, err := Decode(data, plenty, plenty)
		if err == nil && (w != info.Width || h != info.Height || len(pix) != 3*w*h) {
			t.Fatalf("%d x %d with %d bytes, the header says %d x %d", w, h, len(pix), info.Width, info.Height)
		}
	})
}
