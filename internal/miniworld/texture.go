package miniworld

import "math"

// texture names a pattern: a function of the plane to [0, 1] that mixes the two colours of a paint.
type texture uint8

const (
	plain texture = iota
	stripes
	checks
	dots
	zigzag
	mesh
	cracks
	marble
	swirl
	scales
	weave
	mottle
	rings
	bricks
	speckle
	gradient
	waves
	bubbles
)

// paint is how a figure is filled: two colours mixed by a texture that moves with the object.
type paint struct {
	tex    texture
	a, b   rgb
	freq   float64 // repeats per object unit
	c, s   float64 // direction of the pattern
	ox, oy float64 // phase
	duty   float64 // share of the first colour in stripes, dots and the like; 0 stands for one half
	bend   float64 // amplitude of the smooth noise that bends the pattern, in object units
	alpha  float64 // 0 stands for opaque, so that the zero value of a paint is usable
	seed   uint64
}

// solid fills with one colour.
func solid(c rgb) paint { return paint{a: c} }

// veiled fills with one colour that lets the ground through.
func veiled(c rgb, alpha float64) paint { return paint{a: c, alpha: alpha} }

// at returns the colour of the paint at the object point (x, y); px is the width of a pixel in
// object units, over which the edges of a pattern are softened.
func (p *paint) at(x, y, px float64, memo *fields) rgb {
	if p.tex == plain {
		return p.a
	}
	if p.bend > 0 {
		dx, dy := memo[0].at(2*x, 2*y, p.seed^1)-0.5, memo[1].at(2*x, 2*y, p.seed^2)-0.5
		x, y = mad(p.bend, dx, x), mad(p.bend, dy, y)
	}
	u := mad(p.freq, dot(x, y, p.c, p.s), p.ox)
	v := mad(p.freq, dot(x, y, -p.s, p.c), p.oy)
	return p.a.mix(p.b, p.pattern(u, v, p.freq*px, memo))
}

// edge turns a signed distance in pattern units into a coverage: 1 where d is positive.
func edge(d, soft float64) float64 { return clamp01(mad(d, 1/max(soft, 1e-6), 0.5)) }

// pattern evaluates the texture where one repeat is one unit and soft is the width of a pixel.
func (p *paint) pattern(u, v, soft float64, memo *fields) float64 {
	duty := p.duty
	if duty == 0 {
		duty = 0.5
	}
	switch p.tex {
	case stripes:
		return edge(math.Abs(frac(u)-0.5)-duty/2, soft)
	case checks:
		a, b := math.Abs(frac(u/2)-0.5)-0.25, math.Abs(frac(v/2)-0.5)-0.25
		s := edge(4*a*2*b*2*min(1, 1/(4*max(math.Abs(a), math.Abs(b)))), soft/2)
		return s
	case dots:
		row := math.Floor(v)
		du, dv := frac(u+0.5*(row-2*math.Floor(row/2)))-0.5, frac(v)-0.5
		return edge(mad(-0.62, duty, norm(du, dv)), soft)
	case zigzag:
		t := math.Abs(frac(u)-0.5) * 1.1
		return edge(math.Abs(frac(v+t)-0.5)-duty/2, soft)
	case mesh:
		d := min(0.5-math.Abs(frac(u)-0.5), 0.5-math.Abs(frac(v)-0.5))
		return edge(d-duty/4, soft)
	case cracks:
		return edge(mad(-0.28, duty, cellGap(u, v, p.seed)), soft)
	case marble:
		w := mad(0.8, memo[3].at(u*1.7, v*1.7, p.seed^3), mad(0.35, u, 0))
		return mad(0.5, sinTurn(mad(2.4, memo[2].at(u*0.7, v*0.7, p.seed), w)), 0.5)
	case swirl:
		r := norm(u, v)
		return edge(0.25-math.Abs(frac(mad(0.9, r, -atanTurn(v, u)))-0.5), soft)
	case scales:
		return scale(u, v, soft)
	case weave:
		iu, iv := math.Floor(u), math.Floor(v)
		over := math.Mod(math.Abs(iu+iv), 2) == 0
		du, dv := math.Abs(frac(u)-0.5), math.Abs(frac(v)-0.5)
		if !over {
			du, dv = dv, du
		}
		return mad(0.45, edge(dv-0.36, soft), mad(1.1, du, 0.05))
	case mottle:
		return mad(0.65, memo[2].at(u, v, p.seed), float64(0.35*memo[3].at(2.3*u, 2.3*v, p.seed^5)))
	case rings:
		return edge(math.Abs(frac(norm(u, v))-0.5)-duty/2, soft)
	case bricks:
		row := math.Floor(v)
		du := 0.5 - math.Abs(frac(u/2+0.5*(row-2*math.Floor(row/2)))-0.5)
		return edge(min(2*du, 0.5-math.Abs(frac(v)-0.5))-duty/5, soft)
	case speckle:
		return edge(mad(-0.25, duty, memo[2].at(u*2, v*2, p.seed)-0.38), soft)
	case gradient:
		return clamp01(u*0.5 + 0.5)
	case waves:
		return edge(math.Abs(frac(mad(0.22, sinTurn(0.6*u), v))-0.5)-duty/2, soft)
	case bubbles:
		return bubble(u, v, soft, p.seed)
	}
	return 0
}

// cellGap is the difference of the distances to the two nearest points of a jittered lattice: zero
// on the borders of its Voronoi cells.
func cellGap(u, v float64, seed uint64) float64 {
	fu, fv := math.Floor(u), math.Floor(v)
	first, second := 9.0, 9.0
	for j := -1.0; j <= 1; j++ {
		for i := -1.0; i <= 1; i++ {
			x, y := fu+i, fv+j
			du := x + lattice(int64(x), int64(y), seed) - u
			dv := y + lattice(int64(x), int64(y), seed^9) - v
			d := dot(du, dv, du, dv)
			if d < first {
				first, second = d, first
			} else if d < second {
				second = d
			}
		}
	}
	return math.Sqrt(second) - math.Sqrt(first)
}

// scale is a roof of overlapping half discs.
func scale(u, v, soft float64) float64 {
	for k := 1.0; k >= 0; k-- { // the row above lies on top of the one below
		row := math.Floor(v*2) - k
		du := frac(u+0.5*(row-2*math.Floor(row/2))) - 0.5
		dv := v - row/2
		if r := norm(du, dv); r < 0.54 {
			return dot(0.35, 0.8, r, edge(r-0.43, soft))
		}
	}
	return 1
}

// bubble is a field of rings of different sizes.
func bubble(u, v, soft float64, seed uint64) float64 {
	fu, fv := math.Floor(u), math.Floor(v)
	r := mad(0.2, lattice(int64(fu), int64(fv), seed), 0.24)
	x := mad(1-2*r, lattice(int64(fu), int64(fv), seed^4), r)
	y := mad(1-2*r, lattice(int64(fu), int64(fv), seed^6), r)
	return edge(math.Abs(norm(u-fu-x, v-fv-y)-r+0.07)-0.08, soft)
}
