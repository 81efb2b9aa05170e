package corpus

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"clipinspector/internal/miniworld"
)

// Picture is a decoded photograph: rows of RGB bytes.
type Picture struct {
	Width, Height int
	Pix           []uint8
}

// Photos is a corpus of labelled photographs. Every step draws pictures at random, cuts a random
// rectangle out of each (0.35 to 1 of the area, sides 3:4 to 4:3), scales it by averaging areas,
// mirrors every second one, and makes the caption from the class name and a template. Over half of
// them lies one of the mini world's overlays, which the caption names: what CLIP saw on the web was
// full of stickers, veils and warped pictures.
type Photos struct {
	pictures  []Picture
	names     []string // of each picture's class
	templates []string // with {} for the name
	seed      uint64
	hash      string
}

// NewPhotos returns a corpus of pictures whose classes are called names[i]. The pictures are not
// copied.
func NewPhotos(pictures []Picture, names, templates []string, seed uint64) (*Photos, error) {
	if len(pictures) == 0 || len(names) != len(pictures) {
		return nil, fmt.Errorf("photo corpus: %d pictures with %d class names", len(pictures), len(names))
	}
	if len(templates) == 0 {
		return nil, errors.New("photo corpus: no caption templates")
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %q", seed, templates)
	for i, p := range pictures {
		if p.Width < 1 || p.Height < 1 || len(p.Pix) != 3*p.Width*p.Height {
			return nil, fmt.Errorf("photo corpus: picture %d: %d bytes for %d x %d pixels", i, len(p.Pix), p.Width, p.Height)
		}
		fmt.Fprintf(h, "%q %d %d\n", names[i], p.Width, p.Height)
		h.Write(p.Pix)
	}
	return &Photos{pictures, names, templates, seed, hex.EncodeToString(h.Sum(nil)[:8])}, nil
}

// Name returns "photos".
func (c *Photos) Name() string { return "photos" }

// Fingerprint identifies pictures, names, templates, overlays and seed.
func (c *Photos) Fingerprint() string {
	return fmt.Sprintf("%d photos %s, overlays of mini world %d", len(c.pictures), c.hash, miniworld.Version())
}

// draw chooses a picture, what lies over it (nil for nothing) and the caption.
func (c *Photos) draw(rng *rand.Rand) (p Picture, over *miniworld.Overlay, caption string) {
	k := rng.IntN(len(c.pictures))
	name := strings.ReplaceAll(c.names[k], "_", " ")
	if rng.IntN(2) == 0 {
		o := miniworld.DrawOverlay(rng)
		return c.pictures[k], &o, o.Caption(name)
	}
	return c.pictures[k], nil, strings.ReplaceAll(c.templates[rng.IntN(len(c.templates))], "{}", name)
}

// Captions returns captions of pictures drawn as for training.
func (c *Photos) Captions(n int) []string {
	rng := rand.New(rand.NewPCG(c.seed, 1))
	out := make([]string, n)
	for i := range out {
		_, _, out[i] = c.draw(rng)
	}
	return out
}

// Batch draws pictures for a step.
func (c *Photos) Batch(step int, images []float32, captions []string) error {
	size, err := side(images, len(captions))
	if err != nil {
		return err
	}
	per := 3 * size * size
	return each(len(captions), func(i int) error {
		rng := rand.New(rand.NewPCG(c.seed, 2+uint64(step)*uint64(len(captions))+uint64(i)))
		var p Picture
		var over *miniworld.Overlay
		p, over, captions[i] = c.draw(rng)
		cut(images[i*per:(i+1)*per], size, p, rng)
		if over != nil {
			over.Cover(images[i*per:(i+1)*per], size)
		}
		return nil
	})
}

// cut writes a random part of a picture as planes [3,size,size].
func cut(dst []float32, size int, p Picture, rng *rand.Rand) {
	area := (0.35 + 0.65*rng.Float64()) * float64(p.Width) * float64(p.Height)
	aspect := math.Exp((2*rng.Float64() - 1) * math.Log(4.0/3))
	w := min(float64(p.Width), math.Sqrt(area*aspect))
	h := min(float64(p.Height), math.Sqrt(area/aspect))
	x, y := rng.Float64()*(float64(p.Width)-w), rng.Float64()*(float64(p.Height)-h)
	mirror := rng.IntN(2) == 1
	xs, ys := spans(x, w, size, p.Width), spans(y, h, size, p.Height)
	rows := make([]float32, 3*p.Height*size) // scaled horizontally; only the rows of the part are filled
	for r := ys[0].from; r < ys[size-1].to; r++ {
		for i, s := range xs {
			var sum [3]float32
			for k := s.from; k < s.to; k++ {
				at := 3 * (r*p.Width + k)
				v := s.weight(k)
				sum[0] += v * float32(p.Pix[at])
				sum[1] += v * float32(p.Pix[at+1])
				sum[2] += v * float32(p.Pix[at+2])
			}
			copy(rows[3*(r*size+i):], sum[:])
		}
	}
	for j, s := range ys {
		for i := range size {
			var sum [3]float32
			for k := s.from; k < s.to; k++ {
				v := s.weight(k)
				for ch := range sum {
					sum[ch] += v * rows[3*(k*size+i)+ch]
				}
			}
			at := i
			if mirror {
				at = size - 1 - i
			}
			for ch, v := range sum {
				dst[(ch*size+j)*size+at] = v / 255
			}
		}
	}
}

// span is the part of a row of pixels that one pixel of the result covers.
type span struct {
	from, to int     // pixels it touches
	lo, hi   float64 // where it begins and ends
}

// weight is the part of the span that pixel k fills.
func (s span) weight(k int) float32 {
	return float32((min(s.hi, float64(k+1)) - max(s.lo, float64(k))) / (s.hi - s.lo))
}

// spans cuts [start, start+length] into n parts, each at least a pixel wide.
func spans(start, length float64, n, limit int) []span {
	out := make([]span, n)
	for i := range out {
		step := length / float64(n)
		lo, hi := start+float64(i)*step, start+float64(i+1)*step
		if step < 1 { // enlarging: interpolate between the two nearest pixels
			mid := min(max((lo+hi)/2, 0.5), float64(limit)-0.5)
			lo, hi = mid-0.5, mid+0.5
		}
		lo, hi = max(0, lo), min(float64(limit), hi)
		out[i] = span{int(lo), min(limit, int(math.Ceil(hi))), lo, hi}
	}
	return out
}
