package datasets

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Ranges of randomResizedCrop: torchvision's defaults.
const (
	cropMaxArea                = 1.0
	cropMinRatio, cropMaxRatio = 3.0 / 4.0, 4.0 / 3.0
	cropTries                  = 10
	flipProbability            = 0.5
)

// preprocess is CLIP's test transform up to the normalisation: the shorter side scaled to size (the
// longer to int(size*long/short)) with PIL's bicubic filter, the centre cropped to size x size,
// pixels in [0,1]. It returns 3 x size x size values (CHW). It panics when the picture is malformed
// or size is not positive.
func preprocess(img *RGB, size int) []float32 { return toCHW(centerCrop(img, size)) }

// centerCrop is preprocess before the conversion to float32: the resized and cropped picture in 8
// bit.
func centerCrop(img *RGB, size int) *RGB {
	if err := img.check(); err != nil || size <= 0 {
		panic(fmt.Sprintf("datasets: crop to %d px: %v", size, err))
	}
	w, h := size, size
	if img.Width <= img.Height {
		h = size * img.Height / img.Width
	} else {
		w = size * img.Width / img.Height
	}
	b := box{pyRoundHalf(w - size), pyRoundHalf(h - size), size, size}
	return resizeCrop(img, w, h, bicubicFilter, b)
}

// pyRoundHalf returns Python's round(n / 2): half to even.
func pyRoundHalf(n int) int { return int(math.RoundToEven(float64(n) / 2)) }

// randomResizedCrop is CLIP's and CoOp's training transform up to the normalisation: torchvision's
// RandomResizedCrop (area minArea to 1 of the picture, CoOp: 0.08; aspect ratio 3/4 to 4/3
// log-uniform, ten tries, then a centred crop) with PIL's bicubic filter, then a horizontal flip
// with probability 0.5. It returns 3 x size x size values (CHW) in [0,1]. The random numbers are
// Go's, so single crops differ from PyTorch's; their distribution is the same.
func randomResizedCrop(img *RGB, size int, minArea float64, rng *rand.Rand) []float32 {
	if err := img.check(); err != nil || size <= 0 {
		panic(fmt.Sprintf("datasets: random crop to %d px: %v", size, err))
	}
	b := randomBox(img.Width, img.Height, minArea, rng)
	part := resize(crop(img, b), size, size, bicubicFilter)
	if rng.Float64() < flipProbability {
		flip(part)
	}
	return toCHW(part)
}

// RandomCrop draws what randomResizedCrop draws for a picture of the given size in pixels: left,
// top, width and height of the box, and 1 if the crop is mirrored, else 0. That is a row of boxes
// for autodiff's Crop, which crops images on the device.
func RandomCrop(width, height int, minArea float64, rng *rand.Rand) [5]float32 {
	b := randomBox(width, height, minArea, rng)
	r := [5]float32{float32(b.x), float32(b.y), float32(b.w), float32(b.h), 0}
	if rng.Float64() < flipProbability {
		r[4] = 1
	}
	return r
}

// randomBox is torchvision's RandomResizedCrop.get_params.
func randomBox(width, height int, minArea float64, rng *rand.Rand) box {
	uniform := func(lo, hi float64) float64 { return lo + (hi-lo)*rng.Float64() }
	area := float64(width) * float64(height)
	for range cropTries {
		target := area * uniform(minArea, cropMaxArea)
		ratio := math.Exp(uniform(math.Log(cropMinRatio), math.Log(cropMaxRatio)))
		w := int(math.RoundToEven(math.Sqrt(target * ratio)))
		h := int(math.RoundToEven(math.Sqrt(target / ratio)))
		if 0 < w && w <= width && 0 < h && h <= height {
			y := rng.IntN(height - h + 1)
			x := rng.IntN(width - w + 1)
			return box{x, y, w, h}
		}
	}
	w, h := width, height
	switch ratio := float64(width) / float64(height); {
	case ratio < cropMinRatio:
		h = int(math.RoundToEven(float64(width) / cropMinRatio))
	case ratio > cropMaxRatio:
		w = int(math.RoundToEven(float64(height) * cropMaxRatio))
	}
	w, h = max(w, 1), max(h, 1)
	return box{(width - w) / 2, (height - h) / 2, w, h}
}

func crop(img *RGB, b box) *RGB {
	out := NewRGB(b.w, b.h)
	for y := range b.h {
		copy(out.Pix[3*y*b.w:3*(y+1)*b.w], img.Pix[3*((b.y+y)*img.Width+b.x):])
	}
	return out
}

// flip mirrors a picture left to right in place.
func flip(img *RGB) {
	for y := range img.Height {
		row := img.Pix[3*y*img.Width : 3*(y+1)*img.Width]
		for l, r := 0, img.Width-1; l < r; l, r = l+1, r-1 {
			for c := range 3 {
				row[3*l+c], row[3*r+c] = row[3*r+c], row[3*l+c]
			}
		}
	}
}

// toCHW converts 8-bit interleaved pixels to planes of float32 in [0,1] as torchvision's ToTensor
// does (v / 255).
func toCHW(img *RGB) []float32 {
	n := img.Width * img.Height
	out := make([]float32, 3*n)
	r, g, b := out[:n], out[n:2*n], out[2*n:]
	for i := range n {
		r[i] = float32(img.Pix[3*i]) / 255
		g[i] = float32(img.Pix[3*i+1]) / 255
		b[i] = float32(img.Pix[3*i+2]) / 255
	}
	return out
}

// FromCHW converts 3 x height x width planes in [0,1] to an 8-bit picture, rounded and clipped. It
// is the inverse of toCHW, for drawing triggers and triggered images. NaN becomes 0.
func FromCHW(planes []float32, width, height int) *RGB {
	n := width * height
	if len(planes) != 3*n {
		panic(fmt.Sprintf("datasets: %d values for a %d x %d picture", len(planes), width, height))
	}
	out := NewRGB(width, height)
	for c := range 3 {
		for i, v := range planes[c*n : (c+1)*n] {
			if v > 0 {
				out.Pix[3*i+c] = uint8(math.Round(255 * math.Min(1, float64(v))))
			}
		}
	}
	return out
}
