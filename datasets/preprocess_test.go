package datasets

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/image/tiff"

	"clipinspector/autodiff"
	"clipinspector/engine/plain"
)

// hashPicture repeats picture() of testdata/pil_oracle.py.
func hashPicture(width, height int) *RGB {
	img := NewRGB(width, height)
	for i := range img.Pix {
		h := uint32(uint64(i)*2654435761 + 40503*uint64(width) + uint64(height))
		h ^= h >> 15
		h *= 2246822519
		switch h % 5 {
		case 0:
			img.Pix[i] = 0
		case 1:
			img.Pix[i] = 255
		default:
			img.Pix[i] = uint8(h >> 24)
		}
	}
	return img
}

func sum(img *RGB) string {
	s := sha256.Sum256(img.Pix)
	return hex.EncodeToString(s[:])
}

func fixture(t testing.TB, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("fixture %s: %v", file, err)
	}
}

func TestResizeEqualsPIL(t *testing.T) {
	var fix struct {
		Resize []struct {
			Width, Height  int
			OutWidth       int `json:"out_width"`
			OutHeight      int `json:"out_height"`
			Filter, SHA256 string
		}
		Clip []struct {
			Width, Height, Size int
			SHA256              string
		}
		Decode []struct{ File, SHA256 string }
	}
	fixture(t, "pil.json", &fix)
	if len(fix.Resize) < 20 || len(fix.Clip) < 40 || len(fix.Decode) < 10 {
		t.Fatal("fixtures are cut short")
	}
	filters := map[string]filter{"bicubic": bicubicFilter, "bilinear": bilinearFilter}
	for _, c := range fix.Resize {
		if got := sum(resize(hashPicture(c.Width, c.Height), c.OutWidth, c.OutHeight, filters[c.Filter])); got != c.SHA256 {
			t.Errorf("resize %s %dx%d to %dx%d differs from PIL", c.Filter, c.Width, c.Height, c.OutWidth, c.OutHeight)
		}
	}
	for _, c := range fix.Clip {
		if got := sum(centerCrop(hashPicture(c.Width, c.Height), c.Size)); got != c.SHA256 {
			t.Errorf("CLIP transform of %dx%d to %d differs from PIL", c.Width, c.Height, c.Size)
		}
	}
	for _, c := range fix.Decode {
		img, err := readImage(filepath.Join("testdata", c.File))
		if err != nil {
			t.Error(err)
		} else if sum(img) != c.SHA256 {
			t.Errorf("%s decodes differently from PIL", c.File)
		}
	}
}

func TestPreprocessGivesPlanesInUnitRange(t *testing.T) {
	img := hashPicture(50, 40)
	size := 32
	got, want := preprocess(img, size), centerCrop(img, size)
	for y := range size {
		for x := range size {
			for c := range 3 {
				if v, w := got[c*size*size+y*size+x], float32(want.Pix[3*(y*size+x)+c])/255; v != w || v < 0 || v > 1 {
					t.Fatalf("channel %d at %d,%d: %v, want %v", c, x, y, v, w)
				}
			}
		}
	}
	if back := FromCHW(got, size, size); !slices.Equal(back.Pix, want.Pix) {
		t.Error("FromCHW does not undo ToCHW")
	}
}

func TestExtremeAspectRatiosNeedLittleMemory(t *testing.T) {
	for _, size := range [][2]int{{1, 1 << 20}, {1 << 20, 1}} {
		if got := len(preprocess(NewRGB(size[0], size[1]), 224)); got != 3*224*224 {
			t.Errorf("%v: %d values", size, got)
		}
	}
}

// A crop on the device is the host's but for the latter's 8 bits: it rounds after each of two
// passes (half a step each, the first one weighted up to 1.25 times), and there it also clips what
// overshoots at edges.
func TestCropsOnTheDeviceAreTheHosts(t *testing.T) {
	const side, size = 60, 36
	worst := map[bool]float64{}
	for _, clips := range []bool{false, true} {
		img := hashPicture(side, side)
		if !clips {
			for i, v := range img.Pix {
				img.Pix[i] = 64 + v/2
			}
		}
		g := autodiff.New(plain.New[float32]())
		boxes := g.Input(1, 5)
		y := g.Const(toCHW(img), 1, 3, side, side).Crop(boxes, size, size).Clamp(0, 1)
		p, err := g.Compile(y)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Free()
		mirrored := 0
		for k := range uint64(40) {
			want := randomResizedCrop(img, size, 0.08, rand.New(rand.NewPCG(1, k)))
			box := RandomCrop(side, side, 0.08, rand.New(rand.NewPCG(1, k)))
			mirrored += int(box[4])
			if err := errors.Join(p.Write(boxes, box[:]), p.Run()); err != nil {
				t.Fatal(err)
			}
			got, err := p.Read(y)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				worst[clips] = max(worst[clips], 255*math.Abs(float64(v-want[i])))
			}
		}
		if mirrored < 8 || mirrored > 32 {
			t.Errorf("%d of 40 crops are mirrored", mirrored)
		}
	}
	t.Logf("largest difference in steps of 8 bits: %.3f, with clipping between the passes %.3f", worst[false], worst[true])
	if worst[false] > 1.13 || worst[true] > 32 {
		t.Errorf("crops differ by %v and %v steps of 8 bits", worst[false], worst[true])
	}
}

func TestRandomBoxFollowsTorchvision(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var areas, ratios []float64
	for range 20000 {
		b := randomBox(640, 480, 0.08, rng)
		if b.x < 0 || b.y < 0 || b.w < 1 || b.h < 1 || b.x+b.w > 640 || b.y+b.h > 480 {
			t.Fatalf("box %v leaves the picture", b)
		}
		areas = append(areas, float64(b.w*b.h)/(640*480))
		ratios = append(ratios, math.Log(float64(b.w)/float64(b.h)))
	}
	for _, a := range areas {
		if a < 0.078 || a > 1.001 {
			t.Fatalf("area %v outside 0.08 to 1", a)
		}
	}
	for _, r := range ratios {
		if math.Abs(r) > math.Log(4.0/3)+0.02 {
			t.Fatalf("log ratio %v outside 3/4 to 4/3", r)
		}
	}
	// Means of torchvision's published procedure written in Python with Python's random: 640 x 480,
	// 300,000 draws.
	for _, m := range []struct {
		what      string
		got, want float64
	}{{"area", mean(areas), 0.4326}, {"log ratio", mean(ratios), 0.0304}} {
		if math.Abs(m.got-m.want) > 0.01 {
			t.Errorf("mean %s %v, torchvision %v", m.what, m.got, m.want)
		}
	}
	if b := randomBox(1000, 3, 0.08, rng); b.h != 3 || b.w != 4 {
		t.Errorf("fallback on a strip: %v, want the centred 4 x 3", b)
	}
}

func mean(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v
	}
	return s / float64(len(x))
}

func TestFlipMirrors(t *testing.T) {
	img := hashPicture(5, 3)
	want := hashPicture(5, 3)
	flip(img)
	for y := range 3 {
		for x := range 5 {
			if !slices.Equal(img.Pix[3*(y*5+x):][:3], want.Pix[3*(y*5+4-x):][:3]) {
				t.Fatalf("pixel %d,%d is not mirrored", x, y)
			}
		}
	}
}

func FuzzDecodeNeverPanics(f *testing.F) {
	for _, o := range []*tiff.Options{nil, {Compression: tiff.Deflate, Predictor: true}} {
		f.Add(encode(f, func(b *bytes.Buffer) error { return tiff.Encode(b, hashPicture(9, 7).NRGBA(), o) }))
	}
	files, _ := filepath.Glob("testdata/*.*")
	for _, file := range files {
		if isPicture(file) {
			data, _ := os.ReadFile(file)
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, _, err := image.DecodeConfig(anywhere{bytes.NewReader(data)})
		if err == nil && cfg.Width*cfg.Height > 1<<20 && cfg.Width*cfg.Height <= maxPixels {
			t.Skip("allowed, but slow to fuzz")
		}
		if img, err := decode(data); err == nil {
			if err := img.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkPreprocess(b *testing.B) {
	for _, s := range [][2]int{{224, 224}, {300, 200}, {1024, 768}} {
		img := hashPicture(s[0], s[1])
		b.Run(fmt.Sprintf("%dx%d", s[0], s[1]), func(b *testing.B) {
			for range b.N {
				preprocess(img, 224)
			}
		})
	}
}
