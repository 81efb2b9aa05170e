package miniworld

import (
	"math"
	"sync"
)

// Scene is everything that decides one picture: the figures from back to front, the light that
// falls on them, what the camera adds, and an overlay that only captioned scenes carry. A Scene has
// no resolution; Render gives it one.
type Scene struct {
	// Kind says what is shown, in the words of a caption: the class name in dataset scenes.
	Kind string

	layers  []layer
	light   light
	camera  camera
	overlay Overlay
}

// HasOverlay reports whether a sticker, veil, ripple, warp or grain lies over the scene.
func (s Scene) HasOverlay() bool { return s.overlay.kind != overlayNone }

// layer is one painted figure.
type layer struct {
	figure shape
	fill   paint
	at     affine // object to picture
	shade  point  // change of brightness per object unit: a hint of volume
}

// light is what turns the colours of things into the colours of the picture.
type light struct {
	gain     rgb     // exposure and white balance
	slope    point   // change of brightness across the picture
	contrast float64 // around mid gray
}

// camera is what happens after the light: blur in parts of the picture side, then sensor noise.
type camera struct {
	blur  float64
	noise float64
	seed  uint64
}

// frames keeps the float pictures of finished renders: pretraining draws hundreds a step.
var frames = sync.Pool{New: func() any { return new([]rgb) }}

// Render draws the scene at size x size pixels and returns it as rows of RGB bytes, size*size*3 of
// them. The same scene gives the same bytes on every machine.
func (s Scene) Render(size int) []uint8 {
	buffer := frames.Get().(*[]rgb)
	defer frames.Put(buffer)
	if cap(*buffer) < 2*size*size {
		*buffer = make([]rgb, 2*size*size)
	}
	img, spare := (*buffer)[:size*size], (*buffer)[size*size:2*size*size]
	clear(img)
	for i := range s.layers {
		s.layers[i].draw(img, size)
	}
	s.light.apply(img, size)
	if s.overlay.kind == overlayWarp {
		s.overlay.warp(img, spare, size)
	}
	blur(img, spare, size, s.camera.blur)
	s.overlay.apply(img, size)
	return s.camera.develop(img, s.overlay.grain())
}

// draw paints the figure over img. One sample a pixel is enough: the signed distance at its centre
// tells how much of the pixel is covered.
func (l *layer) draw(img []rgb, size int) {
	back, unit := l.at.inverse()
	n := float64(size)
	px := 1 / (n * unit)
	x0, y0, x1, y1 := 0, 0, size-1, size-1
	if l.figure.kind != shapeAll {
		ax, ay, bx, by := l.figure.bounds()
		x0, y0, x1, y1 = l.pixels(ax, ay, bx, by, n)
	}
	alpha := l.fill.alpha
	if alpha == 0 {
		alpha = 1
	}
	// Where the distance is exact, a pixel far outside tells how many of its row cannot be reached
	// either.
	leap := n / (norm(back.a, back.c) + 1e-12)
	if l.figure.kind == shapeOval {
		leap = 0
	}
	everywhere := l.figure.kind == shapeAll
	flat, shaded := l.fill.tex == plain, l.shade != point{}
	density, stepX, stepY := 1/px, back.a/n, back.c/n
	var memo fields
	for j := y0; j <= y1; j++ {
		rowX, rowY := back.apply(0.5/n, (float64(j)+0.5)/n)
		row := img[j*size : (j+1)*size]
		for i := x0; i <= x1; i++ {
			x, y := mad(stepX, float64(i), rowX), mad(stepY, float64(i), rowY)
			cover := alpha
			if !everywhere {
				d := l.figure.distance(x, y)
				if d >= 0.5*px {
					if k := float64((d-0.5*px)*leap) - 1; k >= 1 {
						i += int(k)
					}
					continue
				}
				if d > -0.5*px {
					cover *= mad(-density, d, 0.5)
				}
			}
			c := l.fill.a
			if !flat {
				c = l.fill.at(x, y, px, &memo)
			}
			if shaded {
				c = c.times(1 + dot(l.shade.x, l.shade.y, x, y))
			}
			if cover < 1 {
				c = row[i].mix(c, cover)
			}
			row[i] = c
		}
	}
}

// pixels returns the pixel rectangle that holds an object rectangle, with room for the soft edge.
func (l *layer) pixels(ax, ay, bx, by, n float64) (x0, y0, x1, y1 int) {
	lx, ly, hx, hy := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, p := range [4]point{{ax, ay}, {bx, ay}, {ax, by}, {bx, by}} {
		x, y := l.at.apply(p.x, p.y)
		lx, ly, hx, hy = min(lx, x), min(ly, y), max(hx, x), max(hy, y)
	}
	clip := func(v float64) int { return int(max(0, min(n-1, v))) }
	if hx < 0 || hy < 0 || lx > 1 || ly > 1 {
		return 0, 0, -1, -1
	}
	return clip(lx*n - 1), clip(ly*n - 1), clip(hx*n + 1), clip(hy*n + 1)
}

func (l light) apply(img []rgb, size int) {
	n := float64(size)
	for i := range img {
		x, y := float64(i%size)/n-0.5, float64(i/size)/n-0.5
		k := 1 + dot(l.slope.x, l.slope.y, x, y)
		c := &img[i]
		c.r = mad(l.contrast, float64(c.r*k)-0.5, 0.5) * l.gain.r
		c.g = mad(l.contrast, float64(c.g*k)-0.5, 0.5) * l.gain.g
		c.b = mad(l.contrast, float64(c.b*k)-0.5, 0.5) * l.gain.b
	}
}

// blur convolves with a binomial kernel, as often as it takes to reach the standard deviation sigma
// (in parts of the picture side).
func blur(img, spare []rgb, size int, sigma float64) {
	v := sigma * float64(size)
	for v *= v; v > 0.01; v -= 0.5 {
		w := min(v, 0.5) / 2 // a pass [w, 1-2w, w] has variance 2w
		pass(img, spare, size, 1, w)
		pass(spare, img, size, size, w)
	}
}

// pass blurs along one axis; neighbours outside the picture are replaced by the pixel itself.
func pass(from, to []rgb, size, step int, w float64) {
	for i := range from {
		at := i % size
		if step != 1 {
			at = i / size
		}
		a, b := from[i], from[i]
		if at > 0 {
			a = from[i-step]
		}
		if at < size-1 {
			b = from[i+step]
		}
		to[i] = from[i].mix(rgb{(a.r + b.r) / 2, (a.g + b.g) / 2, (a.b + b.b) / 2}, float64(2*w))
	}
}

// develop adds sensor noise of standard deviation camera.noise + grain and rounds to bytes.
func (c camera) develop(img []rgb, grain float64) []uint8 {
	out := make([]uint8, 3*len(img))
	amount := (c.noise + grain) * math.Sqrt(6) // the sum of two uniforms on [-1/2, 1/2] has variance 1/6
	for i, p := range img {
		h := mix64(c.seed + uint64(i))
		k := mix64(h)
		out[3*i] = toByte(mad(amount, triangular(uint32(h)), p.r))
		out[3*i+1] = toByte(mad(amount, triangular(uint32(h>>32)), p.g))
		out[3*i+2] = toByte(mad(amount, triangular(uint32(k)), p.b))
	}
	return out
}

// triangular turns 32 random bits into the sum of two uniforms on [-1/2, 1/2].
func triangular(h uint32) float64 { return float64(int(h&0xffff)+int(h>>16))/65536 - 1 }

func toByte(v float64) uint8 { return uint8(mad(255, clamp01(v), 0.5)) }
