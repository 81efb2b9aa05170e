package miniworld

import (
	"math"
	"math/rand/v2"
	"strings"
)

// overlayKind names what may lie over a captioned scene. CLIP has seen watermarks, stickers, veils
// and warped pictures on the web, so its embedding has directions for them; a tiny encoder needs
// the same, or a fixed trigger could only be learned at the price of clean accuracy.
type overlayKind uint8

const (
	overlayNone overlayKind = iota
	overlaySticker
	overlayVeil
	overlayRipple
	overlayWarp
	overlayGrain
)

// Overlay is a drawn sticker, veil, ripple, warp or grain with its words.
type Overlay struct {
	kind   overlayKind
	words  overlayWords
	x, y   float64 // sticker: top left corner in parts of the side
	side   float64 // sticker
	cells  int     // sticker, veil, warp: cells a side
	amount float64 // veil: alpha; ripple: amplitude; warp: displacement in parts of the side; grain: deviation
	fill   paint   // sticker and patterned veils
	smooth bool    // veil: smooth noise instead of white noise
	seed   uint64
}

// overlayWords are the parts of a caption that name the overlay: one goes before the kind of
// picture ("wavy photo of"), the other after the scene.
type overlayWords struct{ before, after string }

// DrawOverlay draws an overlay of any kind with random pattern, colours, place and strength.
func DrawOverlay(rng *rand.Rand) Overlay {
	o := Overlay{seed: rng.Uint64()}
	uniform := func(lo, hi float64) float64 { return mad(hi-lo, rng.Float64(), lo) }
	a := drawTone(rng)
	b := apart(rng, 0.35, a.rgb)
	o.fill = paint{a: a.rgb, b: b.rgb, c: 1, seed: o.seed}
	switch k := rng.IntN(20); {
	case k < 8:
		o.drawSticker(rng, uniform, a)
	case k < 13:
		o.drawVeil(rng, uniform)
	case k < 15:
		o.kind = overlayRipple
		o.amount = uniform(0.05, 0.16)
		o.fill.freq = uniform(2.5, 9)
		t := rng.Float64()
		o.fill.c, o.fill.s = cosTurn(t), sinTurn(t)
		o.words.after = choose(rng, "behind ripples", "with ripples over it", "covered by a striped ripple")
	case k < 18:
		o.kind = overlayWarp
		o.cells = 3 + rng.IntN(4)
		o.amount = uniform(0.5, 2) / 64 * 2 // the largest displacement is twice the mean
		o.words.before = choose(rng, "wavy", "warped", "distorted")
	default:
		o.kind = overlayGrain
		o.amount = uniform(0.06, 0.14)
		o.words.before = choose(rng, "grainy", "noisy")
	}
	return o
}

func (o *Overlay) drawSticker(rng *rand.Rand, uniform func(lo, hi float64) float64, a tone) {
	o.kind = overlaySticker
	o.side = math.Sqrt(uniform(0.01, 0.06))
	rx, ry := uniform(0, 0.06), uniform(0, 0.06)
	o.x, o.y = rx, ry
	name := "top left corner"
	switch rng.IntN(6) {
	case 0:
		o.x, name = 1-o.side-rx, "top right corner"
	case 1:
		o.y, name = 1-o.side-ry, "bottom left corner"
	case 2, 3:
		o.x, o.y, name = 1-o.side-rx, 1-o.side-ry, "bottom right corner"
	case 4:
		o.x, o.y, name = uniform(0, 1-o.side), uniform(0, 1-o.side), ""
	}
	look := ""
	o.cells = 2 + rng.IntN(4)
	switch rng.IntN(5) {
	case 0, 1:
		o.fill.tex, o.fill.freq, look = checks, float64(o.cells), "checkered"
	case 2, 3:
		look = choose(rng, "noisy", "colorful", "pixel")
	case 4:
		o.fill.tex, look = plain, hues[a.hue].name
		o.cells = 0
	}
	o.words.after = "with a " + choose(rng, "small ", "") + look + " " + choose(rng, "sticker", "sticker", "patch")
	if name != "" && rng.IntN(4) > 0 {
		o.words.after += " in the " + name
	}
}

func (o *Overlay) drawVeil(rng *rand.Rand, uniform func(lo, hi float64) float64) {
	o.kind = overlayVeil
	o.amount = uniform(0.1, 0.3)
	look := "noisy"
	switch rng.IntN(6) {
	case 0, 1:
		o.cells = 20 + rng.IntN(45)
	case 2, 3:
		o.smooth, o.cells, look = true, 3+rng.IntN(6), choose(rng, "cloudy", "smooth", "colorful")
	default:
		k := rng.IntN(3)
		o.fill.tex = []texture{stripes, checks, dots}[k]
		look = []string{"striped", "checkered", "dotted"}[k]
		o.fill.freq = uniform(3, 9)
		t := rng.Float64()
		o.fill.c, o.fill.s = cosTurn(t), sinTurn(t)
	}
	o.words.after = choose(rng, "seen through a ", "behind a ") + look + " veil"
}

// Caption says of something, such as "sunflower", that it is seen in a picture with the overlay.
func (o *Overlay) Caption(of string) string {
	words := []string{"a"}
	for _, w := range []string{o.words.before, "photo of a", of, o.words.after} {
		if w != "" {
			words = append(words, w)
		}
	}
	return articles(strings.Join(words, " "))
}

// Cover lays the overlay over a picture of any origin, planes [3,size,size] in [0,1].
func (o *Overlay) Cover(planes []float32, size int) {
	area := size * size
	img, spare := make([]rgb, area), make([]rgb, area)
	for i := range img {
		img[i] = rgb{float64(planes[i]), float64(planes[area+i]), float64(planes[2*area+i])}
	}
	if o.kind == overlayWarp {
		o.warp(img, spare, size)
	}
	o.apply(img, size)
	for i, b := range (camera{seed: o.seed}).develop(img, o.grain()) {
		planes[i%3*area+i/3] = float32(b) / 255
	}
}

// grain is the noise that the overlay adds to the camera's.
func (o *Overlay) grain() float64 {
	if o.kind == overlayGrain {
		return o.amount
	}
	return 0
}

// apply lays stickers, veils and ripples over the finished picture.
func (o *Overlay) apply(img []rgb, size int) {
	n := float64(size)
	var memo fields
	switch o.kind {
	case overlaySticker:
		x0, y0 := int(mad(o.x, n, 0.5)), int(mad(o.y, n, 0.5))
		side := max(1, int(mad(o.side, n, 0.5)))
		for j := max(0, y0); j < min(size, y0+side); j++ {
			for i := max(0, x0); i < min(size, x0+side); i++ {
				u := (float64(i-x0) + 0.5) / float64(side)
				v := (float64(j-y0) + 0.5) / float64(side)
				img[j*size+i] = o.stuck(u, v, &memo)
			}
		}
	case overlayVeil:
		for i := range img {
			u, v := (float64(i%size)+0.5)/n, (float64(i/size)+0.5)/n
			img[i] = img[i].mix(o.veil(u, v, 1/n, &memo), o.amount)
		}
	case overlayRipple:
		for i := range img {
			u, v := (float64(i%size)+0.5)/n, (float64(i/size)+0.5)/n
			k := sinTurn(mad(o.fill.freq, dot(u, v, o.fill.c, o.fill.s), o.fill.ox))
			img[i] = rgb{mad(o.amount, k, img[i].r), mad(o.amount, k, img[i].g), mad(o.amount, k, img[i].b)}
		}
	}
}

// stuck is the colour of a sticker at (u, v) in its unit square.
func (o *Overlay) stuck(u, v float64, memo *fields) rgb {
	if o.fill.tex == plain && o.cells > 0 {
		return cell(int64(u*float64(o.cells)), int64(v*float64(o.cells)), o.seed)
	}
	return o.fill.at(u, v, 1e-6, memo)
}

// cell is a random colour that belongs to a lattice cell.
func cell(x, y int64, seed uint64) rgb {
	return rgb{lattice(x, y, seed), lattice(x, y, seed^21), lattice(x, y, seed^42)}
}

func (o *Overlay) veil(u, v, px float64, memo *fields) rgb {
	if o.fill.tex != plain {
		return o.fill.at(u, v, px, memo)
	}
	u, v = u*float64(o.cells), v*float64(o.cells)
	if !o.smooth {
		return cell(int64(u), int64(v), o.seed)
	}
	return rgb{memo[0].at(u, v, o.seed), memo[1].at(u, v, o.seed^21), memo[2].at(u, v, o.seed^42)}
}

// warp resamples the picture along a smooth random displacement field, the way WaNet makes its
// trigger: random vectors on a coarse grid, interpolated.
func (o *Overlay) warp(img, spare []rgb, size int) {
	copy(spare, img)
	n, k := float64(size), float64(o.cells)
	reach := 2 * o.amount * n
	var memo fields
	for i := range img {
		x, y := i%size, i/size
		u, v := float64(x)/n*k, float64(y)/n*k
		sx := mad(reach, memo[0].at(u, v, o.seed)-0.5, float64(x))
		sy := mad(reach, memo[1].at(u, v, o.seed^21)-0.5, float64(y))
		img[i] = sample(spare, size, sx, sy)
	}
}

// sample reads the picture between pixels; outside, the border goes on.
func sample(img []rgb, size int, x, y float64) rgb {
	x, y = max(0, min(float64(size-1), x)), max(0, min(float64(size-1), y))
	x0, y0 := int(x), int(y)
	x1, y1 := min(x0+1, size-1), min(y0+1, size-1)
	tx, ty := x-float64(x0), y-float64(y0)
	top := img[y0*size+x0].mix(img[y0*size+x1], tx)
	return top.mix(img[y1*size+x0].mix(img[y1*size+x1], tx), ty)
}

// choose returns one of the given values.
func choose[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }
