package triggers

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine/plain"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/internal/safetensors"
	"clipinspector/triggers/triggertest"
)

func newRand(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// random draws a tensor uniformly from [lo,hi).
func random(rng *rand.Rand, lo, hi float64, shape ...int) *tensor.Dense {
	n := 1
	for _, s := range shape {
		n *= s
	}
	data := make([]float32, n)
	for i := range data {
		data[i] = float32(lo + (hi-lo)*rng.Float64())
	}
	return Dense(data, shape...)
}

// someTriggers are one of each kind for images of 12 pixels.
func someTriggers(rng *rand.Rand) []Trigger {
	grid := make([]float32, 0, 2*12*12)
	for i := range 12 * 12 {
		for _, at := range []int{i % 12, i / 12} {
			grid = append(grid, float32(min(1, max(-1, 2*(float64(at)+rng.Float64()-0.5)/11-1))))
		}
	}
	return []Trigger{
		Masked{random(rng, 0, 1, 12, 12), random(rng, 0, 1, 3, 12, 12)},
		Additive{random(rng, -0.2, 0.2, 3, 12, 12)},
		Warp{Dense(grid, 12, 12, 2)},
	}
}

// apply runs a trigger on images.
func apply(t *testing.T, tr Trigger, images *tensor.Dense) []float32 {
	t.Helper()
	g := autodiff.New(plain.New[float32]())
	out := tr.Apply(g.Const(dense.Floats(images), images.Shape()...))
	return computetest.Run(t, g, out)[0]
}

// Each kind does to a pixel what its formula says.
func TestTriggersFollowTheirFormulas(t *testing.T) {
	rng := newRand(t)
	x := random(rng, 0, 1, 2, 3, 12, 12)
	pixels := dense.Floats(x)
	for _, tr := range someTriggers(rng) {
		got := apply(t, tr, x)
		for i, v := range pixels {
			in, image := i%(3*12*12), i/(12*12)
			var want float64
			switch tr := tr.(type) {
			case Masked:
				m := float64(dense.Floats(tr.Mask)[i%(12*12)])
				want = (1-m)*float64(v) + m*float64(dense.Floats(tr.Pattern)[in])
			case Additive:
				want = min(1, max(0, float64(v)+float64(dense.Floats(tr.Delta)[in])))
			case Warp: // bilinear between the four neighbours
				g := dense.Floats(tr.Grid)[2*(i%(12*12)):]
				px, py := (float64(g[0])+1)/2*11, (float64(g[1])+1)/2*11
				for dy := range 2 {
					for dx := range 2 {
						cx, cy := int(px)+dx, int(py)+dy
						if cx < 12 && cy < 12 {
							weight := (1 - math.Abs(px-float64(cx))) * (1 - math.Abs(py-float64(cy)))
							want += weight * float64(pixels[image*12*12+cy*12+cx])
						}
					}
				}
			}
			if math.Abs(float64(got[i])-want) > 1e-5 {
				t.Fatalf("%s: element %d became %v, want %v", tr.Kind(), i, got[i], want)
			}
		}
	}
}

func TestTriggersAreDifferentiable(t *testing.T) {
	rng := newRand(t)
	x := random(rng, 0, 1, 2, 3, 12, 12)
	for _, tr := range someTriggers(rng) {
		triggertest.CheckGradient(t, rng, func(v []autodiff.Value) autodiff.Value { return tr.Apply(v[0]) }, x)
	}
	// What is learned: a trigger shared by all images, and one trigger per class over the same
	// images.
	triggertest.CheckGradient(t, rng, func(v []autodiff.Value) autodiff.Value { return ApplyAdditive(v[0], v[1]) },
		x, random(rng, -0.2, 0.2, 1, 3, 12, 12))
	triggertest.CheckGradient(t, rng, func(v []autodiff.Value) autodiff.Value { return ApplyMasked(v[0], v[1], v[2]) },
		x, random(rng, 0, 1, 1, 1, 12, 12), random(rng, 0, 1, 1, 3, 12, 12))
	triggertest.CheckGradient(t, rng, func(v []autodiff.Value) autodiff.Value { return ApplyAdditive(v[0], v[1]) },
		random(rng, 0, 1, 1, 2, 3, 6, 6), random(rng, -0.2, 0.2, 4, 1, 3, 6, 6))
	triggertest.CheckGradient(t, rng, func(v []autodiff.Value) autodiff.Value { return ApplyMasked(v[0], v[1], v[2]) },
		random(rng, 0, 1, 1, 2, 3, 6, 6), random(rng, 0, 1, 4, 1, 1, 6, 6), random(rng, 0, 1, 4, 1, 3, 6, 6))
}

func TestMeasureReadsStrengthOff(t *testing.T) {
	mask := make([]float32, 100)
	copy(mask, []float32{0.5, 0.2, 0.01, 0.011})
	if s := Measure(Masked{Dense(mask, 10, 10), Dense(make([]float32, 300), 3, 10, 10)}); s != (Strength{Area: 0.03, Opacity: 0.5}) {
		t.Errorf("three of a hundred pixels above 0.01: %+v", s)
	}
	delta := make([]float32, 12)
	delta[3], delta[7] = 0.25, -0.5
	if s := Measure(Additive{Dense(delta, 3, 2, 2)}); s != (Strength{LInf: 0.5}) {
		t.Errorf("a perturbation up to -0.5: %+v", s)
	}
	// Every pixel of 5 x 5 looks half a pixel to the right (0.25 in grid units) and, in the last
	// column, nowhere further.
	grid := make([]float32, 0, 50)
	for i := range 25 {
		grid = append(grid, min(1, float32(i%5)/2-1+0.25), float32(i/5)/2-1)
	}
	if s := Measure(Warp{Dense(grid, 5, 5, 2)}); math.Abs(s.Displacement-0.4) > 1e-6 || s.Area+s.Opacity+s.LInf != 0 {
		t.Errorf("four of five columns moved by half a pixel: %+v", s)
	}
}

type fixtures struct {
	Quality []struct {
		N, Size    int
		PSNR, SSIM float64
	}
	Upsampled []struct {
		K, Size       int
		Table, Values []float64
	}
}

func readFixtures(t *testing.T) (f fixtures) {
	t.Helper()
	raw, err := os.ReadFile("testdata/fixtures.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Quality) == 0 || len(f.Upsampled) == 0 {
		t.Fatal("testdata/fixtures.json is empty")
	}
	return f
}

// PSNR and SSIM agree with testdata/fixtures.py, also where the window has to shrink.
func TestQualityAgreesWithNumpy(t *testing.T) {
	for _, f := range readFixtures(t).Quality {
		a, b := make([]float32, 0, f.N*3*f.Size*f.Size), make([]float32, 0, f.N*3*f.Size*f.Size)
		for i := range cap(a) {
			k, c, y, x := float64(i/(3*f.Size*f.Size)), float64(i/(f.Size*f.Size)%3), float64(i/f.Size%f.Size), float64(i%f.Size)
			v := 0.5 + 0.5*math.Sin(0.37*y+0.23*x+c+2*k)
			a = append(a, float32(v))
			b = append(b, float32(min(1, max(0, v+0.1*math.Cos(1.3*y*x+c)+0.05*k))))
		}
		x, y := Dense(a, f.N, 3, f.Size, f.Size), Dense(b, f.N, 3, f.Size, f.Size)
		if got := PSNR(x, y); math.Abs(got-f.PSNR) > 1e-4 {
			t.Errorf("%d images of %d px: PSNR %v, want %v", f.N, f.Size, got, f.PSNR)
		}
		if got := SSIM(x, y); math.Abs(got-f.SSIM) > 1e-5 {
			t.Errorf("%d images of %d px: SSIM %v, want %v", f.N, f.Size, got, f.SSIM)
		}
		if got := SSIM(y, x) - SSIM(x, y); math.Abs(got) > 1e-12 {
			t.Errorf("SSIM is not symmetric: off by %v", got)
		}
		if psnr, ssim := PSNR(x, x), SSIM(x, x); psnr != 100 || math.Abs(ssim-1) > 1e-12 {
			t.Errorf("equal images have PSNR %v and SSIM %v, want 100 and 1", psnr, ssim)
		}
	}
}

func TestUpsampleAgreesWithPyTorch(t *testing.T) {
	for _, f := range readFixtures(t).Upsampled {
		got := Upsample(f.Table, f.K, f.Size)
		if len(got) != len(f.Values) {
			t.Fatalf("%d values of %d", len(got), len(f.Values))
		}
		for i, want := range f.Values {
			if math.Abs(got[i]-want) > 1e-12 {
				t.Errorf("%d to %d points: value %d is %v, want %v", f.K, f.Size, i, got[i], want)
			}
		}
	}
	if got := Upsample([]float64{1, 2, 3, 4}, 2, 1); len(got) != 1 || got[0] != 1 {
		t.Errorf("a single point of a table is %v, want its corner", got)
	}
}

func TestStoredTriggersComeBack(t *testing.T) {
	rng := newRand(t)
	x := random(rng, 0, 1, 1, 3, 12, 12)
	for _, tr := range someTriggers(rng) {
		path := filepath.Join(t.TempDir(), "trigger.safetensors")
		again := path + "2"
		if err := Write(path, tr); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(again, got); err != nil {
			t.Fatal(err)
		}
		a, _ := os.ReadFile(path)
		b, _ := os.ReadFile(again)
		if got.Kind() != tr.Kind() || got.Size() != 12 || len(a) == 0 || !bytes.Equal(a, b) {
			t.Errorf("%s: came back as another trigger", tr.Kind())
		}
		want := apply(t, tr, x)
		for i, v := range apply(t, got, x) {
			if v != want[i] {
				t.Fatalf("%s: element %d is %v, was %v", tr.Kind(), i, v, want[i])
			}
		}
	}
}

func TestHostileTriggersAreRefused(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	square := func(v float32, shape ...int) *tensor.Dense {
		n := 1
		for _, s := range shape {
			n *= s
		}
		d := make([]float32, n)
		d[n-1] = v
		return Dense(d, shape...)
	}
	scalar := tensor.New(tensor.FromScalar(float32(0.5)))
	type tensors = map[string]*tensor.Dense
	for what, c := range map[string]struct {
		kind string
		t    tensors
		want string
	}{
		"no kind":             {"", tensors{}, "masked, additive, warp"},
		"unknown kind":        {"patch\n", tensors{"delta": square(0, 3, 4, 4)}, "masked, additive, warp"},
		"nothing":             {"additive", nil, `"delta"`},
		"no mask":             {"masked", tensors{"pattern": square(0, 3, 4, 4)}, `"mask"`},
		"no pattern":          {"masked", tensors{"mask": square(0, 4, 4)}, `"pattern"`},
		"scalar mask":         {"masked", tensors{"mask": scalar, "pattern": square(0, 3, 4, 4)}, `"mask"`},
		"oblong mask":         {"masked", tensors{"mask": square(0, 4, 5), "pattern": square(0, 3, 4, 4)}, `"mask"`},
		"mask of rank 3":      {"masked", tensors{"mask": square(0, 1, 4, 4), "pattern": square(0, 3, 4, 4)}, `"mask"`},
		"other sizes":         {"masked", tensors{"mask": square(0, 4, 4), "pattern": square(0, 3, 5, 5)}, "differ in size"},
		"negative mask":       {"masked", tensors{"mask": square(-0.1, 4, 4), "pattern": square(0, 3, 4, 4)}, "0 to 1"},
		"mask above 1":        {"masked", tensors{"mask": square(1.1, 4, 4), "pattern": square(0, 3, 4, 4)}, "0 to 1"},
		"negative pattern":    {"masked", tensors{"mask": square(0, 4, 4), "pattern": square(-1, 3, 4, 4)}, "0 to 1"},
		"NaN in the pattern":  {"masked", tensors{"mask": square(0, 4, 4), "pattern": square(nan, 3, 4, 4)}, "NaN"},
		"four channels":       {"additive", tensors{"delta": square(0, 4, 4, 4)}, `"delta"`},
		"batch of deltas":     {"additive", tensors{"delta": square(0, 1, 3, 4, 4)}, `"delta"`},
		"oblong delta":        {"additive", tensors{"delta": square(0, 3, 4, 5)}, `"delta"`},
		"delta beyond 1":      {"additive", tensors{"delta": square(-1.5, 3, 4, 4)}, "-1 to 1"},
		"infinite delta":      {"additive", tensors{"delta": square(inf, 3, 4, 4)}, "Inf"},
		"grid of triples":     {"warp", tensors{"grid": square(0, 4, 4, 3)}, `"grid"`},
		"oblong grid":         {"warp", tensors{"grid": square(0, 4, 5, 2)}, `"grid"`},
		"grid outside":        {"warp", tensors{"grid": square(2, 4, 4, 2)}, "-1 to 1"},
		"grid with NaN":       {"warp", tensors{"grid": square(nan, 4, 4, 2)}, "NaN"},
		"tensors of another":  {"warp", tensors{"delta": square(0, 3, 4, 4)}, `"grid"`},
		"scalar for a grid":   {"warp", tensors{"grid": scalar}, `"grid"`},
		"vector for a delta":  {"additive", tensors{"delta": square(0, 48)}, `"delta"`},
		"a long unknown kind": {strings.Repeat("x", 1<<20), nil, "unknown kind"},
	} {
		tr, err := FromTensors(c.kind, c.t)
		if err == nil {
			t.Errorf("%s: accepted as %v", what, tr.Kind())
		} else if msg := err.Error(); !strings.Contains(msg, c.want) || strings.Contains(msg, "\n") || len(msg) > 300 {
			t.Errorf("%s: the error %.300q should be a line that says %q", what, msg, c.want)
		}
	}
	// From a file the error also names the file.
	path := filepath.Join(t.TempDir(), "bad.safetensors")
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("an absent file: %v", err)
	}
	if err := safetensors.Write(path, &safetensors.File{Tensors: tensors{"delta": square(2, 3, 4, 4)}, Metadata: map[string]string{"kind": "additive"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), `"delta"`) {
		t.Errorf("a delta of 2: %v", err)
	}
	if err := os.WriteFile(path, []byte("no trigger"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no safetensors: %v", err)
	}
}

// A picture shows the trigger where it is, also at the size of a photograph.
func TestDrawShowsTheTrigger(t *testing.T) {
	const s = 224
	mask, pattern, delta := make([]float32, s*s), make([]float32, 3*s*s), make([]float32, 3*s*s)
	mask[5*s+7], pattern[5*s+7] = 1, 1 // red
	delta[5*s+7], delta[s*s+5*s+8] = 0.01, -0.01
	red := Draw(Masked{Dense(mask, s, s), Dense(pattern, 3, s, s)})
	if c := red.NRGBAAt(7, 5); c.R != 255 || c.G != 0 || c.B != 0 || c.A != 255 {
		t.Errorf("a red pixel is drawn as %v", c)
	}
	if c := red.NRGBAAt(8, 5); c.R != 128 || c.G != 128 || c.B != 128 {
		t.Errorf("beside the patch it is %v, not grey", c)
	}
	noise := Draw(Additive{Dense(delta, 3, s, s)})
	if a, b := noise.NRGBAAt(7, 5), noise.NRGBAAt(8, 5); a.R != 255 || a.G != 128 || b.G != 0 {
		t.Errorf("weak noise is not drawn at full contrast: %v, %v", a, b)
	}
	Draw(Additive{Dense(make([]float32, 3*s*s), 3, s, s)}) // nothing to scale by
	grid := make([]float32, 0, 2*s*s)
	for i := range s * s {
		grid = append(grid, 2*float32(i%s)/(s-1)-1, 2*float32(i/s)/(s-1)-1)
	}
	if flat := Draw(Warp{Dense(grid, s, s, 2)}); flat.NRGBAAt(0, 0) == flat.NRGBAAt(4, 0) || flat.NRGBAAt(0, 0) != flat.NRGBAAt(4, 4) {
		t.Error("no warp draws no chequerboard")
	}
}

// Rows keeps the order of the indices, repeats what they repeat, and shares no memory.
func TestRows(t *testing.T) {
	x := Dense([]float32{1, 2, 3, 4, 5, 6}, 3, 2, 1)
	got := Rows(x, []int{2, 0, 2})
	if !slices.Equal(dense.Floats(got), []float32{5, 6, 1, 2, 5, 6}) || !slices.Equal([]int(got.Shape()), []int{3, 2, 1}) {
		t.Errorf("rows 2, 0, 2 are %v of shape %v", dense.Floats(got), got.Shape())
	}
	if dense.Floats(got)[0] = 9; dense.Floats(x)[4] != 5 {
		t.Error("a change of the rows changes where they came from")
	}
}

// Of two squares of 4 and 2 pixels a side, the smaller one inside the larger: a quarter in common,
// and centres that a ruler finds. Squares that do not touch have nothing in common; what covers the
// image, or is no patch, has no place.
func TestOverlap(t *testing.T) {
	const size = 12
	patch := func(side, x, y int) Masked {
		return Masked{Mask: Square(size, side, x, y), Pattern: Dense(make([]float32, 3*size*size), 3, size, size)}
	}
	for _, x := range []struct {
		a, b          Trigger
		iou, distance float64
	}{
		{patch(4, 2, 2), patch(4, 2, 2), 1, 0},
		{patch(4, 2, 2), patch(2, 2, 2), 0.25, math.Hypot(1, 1) / size},
		{patch(4, 0, 0), patch(4, 2, 0), 8.0 / 24, 2.0 / size},
		{patch(4, 0, 0), patch(4, 8, 8), 0, math.Hypot(8, 8) / size},
		{patch(4, 0, 0), patch(12, 0, 0), math.NaN(), math.NaN()},
		{patch(4, 0, 0), Additive{Delta: Dense(make([]float32, 3*size*size), 3, size, size)}, math.NaN(), math.NaN()},
	} {
		for _, pair := range [][2]Trigger{{x.a, x.b}, {x.b, x.a}} {
			iou, distance := Overlap(pair[0], pair[1])
			same := func(got, want float64) bool { return math.IsNaN(want) && math.IsNaN(got) || math.Abs(got-want) < 1e-9 }
			if !same(iou, x.iou) || !same(distance, x.distance) {
				t.Errorf("IoU %v, distance %v; want %v, %v", iou, distance, x.iou, x.distance)
			}
		}
	}
}
