package corpus

import (
	"math"
	"slices"
	"strings"
	"testing"

	"clipinspector/clip"
)

var _, _ clip.Corpus = Mini{}, (*Photos)(nil)

func TestBatchesDependOnTheStepAlone(t *testing.T) {
	photos, err := NewPhotos([]Picture{ramp(40, 30), ramp(9, 50)}, []string{"ramp", "small_ramp"}, []string{"a photo of a {}."}, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []clip.Corpus{Mini{Seed: 2}, photos} {
		read := func(step int) ([]float32, []string) {
			images, captions := make([]float32, 6*3*16*16), make([]string, 6)
			if err := c.Batch(step, images, captions); err != nil {
				t.Fatal(err)
			}
			return images, captions
		}
		x, a := read(4)
		other, _ := read(5)
		y, b := read(4)
		if !slices.Equal(x, y) || !slices.Equal(a, b) {
			t.Errorf("%s: step 4 is not the same twice", c.Name())
		}
		if slices.Equal(x, other) {
			t.Errorf("%s: steps 4 and 5 have the same images", c.Name())
		}
		for _, v := range x {
			if v < 0 || v > 1.00001 {
				t.Fatalf("%s: pixel %v", c.Name(), v)
			}
		}
		if err := c.Batch(0, make([]float32, 100), make([]string, 6)); err == nil {
			t.Errorf("%s: 100 numbers were filled as 6 images", c.Name())
		}
		if got := c.Captions(3); len(got) != 3 || !slices.Equal(got, c.Captions(3)) {
			t.Errorf("%s: captions %q", c.Name(), got)
		}
	}
}

func TestPhotoCaptions(t *testing.T) {
	if _, err := NewPhotos([]Picture{{Width: 2, Height: 2, Pix: make([]uint8, 11)}}, []string{"x"}, []string{"{}"}, 1); err == nil {
		t.Error("a picture with a byte missing was taken")
	}
	photos, err := NewPhotos([]Picture{ramp(8, 8)}, []string{"sea_horse"}, []string{"a photo of a {}.", "the {}"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(photos.Captions(50), "|")
	if !strings.Contains(all, "a photo of a sea horse.") || !strings.Contains(all, "the sea horse") {
		t.Errorf("captions %s", all)
	}
}

// ramp is a picture whose red grows to the right and whose green grows downwards, linearly.
func ramp(width, height int) Picture {
	p := Picture{width, height, make([]uint8, 3*width*height)}
	for y := range height {
		for x := range width {
			p.Pix[3*(y*width+x)] = uint8(255 * (2*x + 1) / (2 * width))
			p.Pix[3*(y*width+x)+1] = uint8(255 * (2*y + 1) / (2 * height))
		}
	}
	return p
}

// A part of a ramp is a ramp, mirrored or not; here at least 0.397 of it across. What lies over
// some is named.
func TestCutsAreParts(t *testing.T) {
	photos, err := NewPhotos([]Picture{ramp(200, 120)}, []string{"ramp"}, []string{"{}"}, 5)
	if err != nil {
		t.Fatal(err)
	}
	const n, size = 80, 16
	images, captions := make([]float32, n*3*size*size), make([]string, n)
	if err := photos.Batch(0, images, captions); err != nil {
		t.Fatal(err)
	}
	mirrored, plain, straight := 0, 0, 0
	for i := range n {
		red, green := images[i*3*size*size:][:size*size], images[(i*3+1)*size*size:][:size*size]
		across, down := float64(red[size-1]-red[0]), float64(green[(size-1)*size]-green[0])
		if captions[i] != "ramp" {
			if uneven(red[5*size:][:size]) < 0.005 {
				straight++ // a sticker elsewhere
			}
			continue
		}
		plain++
		if across < 0 {
			mirrored++
		}
		if a := math.Abs(across) * size / (size - 1); a < 0.39 || a > 1.02 || down < 0.6 || down > 1.02 {
			t.Errorf("part %d spans %.2f by %.2f", i, across, down)
		}
		if d := uneven(red[5*size:][:size]); d > 0.01 {
			t.Errorf("part %d strays from its line by %.3f", i, d)
		}
	}
	if plain < 25 || plain > 55 || mirrored < plain/4 || mirrored > 3*plain/4 {
		t.Errorf("of %d parts, %d have nothing over them, and %d of these are mirrored", n, plain, mirrored)
	}
	if 2*straight > n-plain {
		t.Errorf("%d of the %d parts whose captions name something over them show nothing", straight, n-plain)
	}
}

// uneven is how far a row strays from the straight line between its ends.
func uneven(row []float32) (most float64) {
	n := len(row) - 1
	for k, v := range row {
		line := float64(row[0]) + float64(row[n]-row[0])*float64(k)/float64(n)
		most = max(most, math.Abs(float64(v)-line))
	}
	return most
}
