package miniworld

import (
	"math/rand/v2"
	"slices"
)

// sketch is a scene being drawn: a random source, the colours of the subject, and where parts go.
// Drawings are written in object coordinates, x right and y down, with the object filling [-1, 1]².
type sketch struct {
	rng   *rand.Rand
	scene *Scene
	at    affine
	shade point

	ground tone // background
	main   tone // the subject's colour, the one that captions name
	second tone // a colour of the subject that stands out from main
	accent tone // a colour that stands out from both
}

// newSketch draws the colours. Things of the world have colours that they often come in: typical is
// the hue of most examples of a class, -1 for things that come in all of them. A colour says little
// by itself, since each hue is typical of a class in most sets and random in a third of the
// examples, on any ground.
func newSketch(rng *rand.Rand, kind string, typical int) *sketch {
	s := &sketch{rng: rng, scene: &Scene{Kind: kind}, at: affine{a: 0.5, d: 0.5, x: 0.5, y: 0.5}}
	s.scene.layers = make([]layer, 0, 32)
	s.main = drawTone(rng)
	if typical >= 0 && rng.Float64() < mostly {
		s.main = shadeOf(rng, typical)
	}
	s.ground = apart(rng, 0.42, s.main.rgb)
	s.second = apart(rng, 0.38, s.main.rgb, s.ground.rgb)
	s.accent = apart(rng, 0.32, s.main.rgb, s.second.rgb)
	s.shade = point{s.uniform(-0.2, 0.2), s.uniform(-0.3, 0.05)}
	return s
}

func (s *sketch) uniform(lo, hi float64) float64 { return mad(hi-lo, s.rng.Float64(), lo) }

// jitter returns v changed by up to the given amount.
func (s *sketch) jitter(v, by float64) float64 { return mad(2*by, s.rng.Float64()-0.5, v) }

func (s *sketch) chance(p float64) bool { return s.rng.Float64() < p }

// within draws with another coordinate system laid inside the current one.
func (s *sketch) within(m affine, draw func()) {
	before := s.at
	s.at = before.then(m)
	draw()
	s.at = before
}

func (s *sketch) add(f shape, p paint) {
	s.scene.layers = append(s.scene.layers, layer{figure: f, fill: p, at: s.at, shade: s.shade})
}

// fillAll paints the whole picture.
func (s *sketch) fillAll(p paint) {
	s.scene.layers = append(s.scene.layers, layer{figure: shape{kind: shapeAll}, fill: p, at: s.at})
}

// oval draws an ellipse with radii rx and ry, turned clockwise.
func (s *sketch) oval(x, y, rx, ry, turn float64, p paint) {
	s.add(shape{kind: shapeOval, x0: x, y0: y, x1: rx, y1: ry, c: cosTurn(turn), s: sinTurn(turn)}, p)
}

func (s *sketch) disc(x, y, r float64, p paint) { s.oval(x, y, r, r, 0, p) }

// box draws a rectangle with half sides hx and hy and rounded corners.
func (s *sketch) box(x, y, hx, hy, round float64, p paint) { s.tilted(x, y, hx, hy, round, 0, p) }

// tilted draws a rectangle turned clockwise.
func (s *sketch) tilted(x, y, hx, hy, round, turn float64, p paint) {
	s.add(shape{kind: shapeBox, x0: x, y0: y, x1: hx, y1: hy, r: min(round, hx, hy), c: cosTurn(turn), s: sinTurn(turn)}, p)
}

// line draws a stroke with round ends and the given half width.
func (s *sketch) line(x0, y0, x1, y1, half float64, p paint) { s.taper(x0, y0, x1, y1, half, half, p) }

// taper draws a stroke whose half width goes from r0 to r1.
func (s *sketch) taper(x0, y0, x1, y1, r0, r1 float64, p paint) {
	s.add(shape{kind: shapeCapsule, x0: x0, y0: y0, x1: x1, y1: y1, r: r0, r2: r1}, p)
}

// path draws strokes from point to point.
func (s *sketch) path(half float64, p paint, xy ...float64) {
	for i := 0; i+3 < len(xy); i += 2 {
		s.line(xy[i], xy[i+1], xy[i+2], xy[i+3], half, p)
	}
}

// poly draws a polygon with corners xy, grown and rounded by round.
func (s *sketch) poly(round float64, p paint, xy ...float64) {
	points := make([]point, len(xy)/2)
	for i := range points {
		points[i] = point{xy[2*i], xy[2*i+1]}
	}
	s.add(shape{kind: shapePolygon, points: points, r: round}, p)
}

// arc draws a part of a ring of radius r: the turns from and to run clockwise from the right.
func (s *sketch) arc(x, y, r, half, from, to float64, p paint) {
	mid, open := (from+to)/2, (to-from)/2
	s.add(shape{kind: shapeArc, x0: x, y0: y, x1: r, r: half,
		c: cosTurn(mid), s: sinTurn(mid), c2: cosTurn(open), s2: sinTurn(open)}, p)
}

// ring draws a full ring.
func (s *sketch) ring(x, y, r, half float64, p paint) { s.arc(x, y, r, half, 0, 0.9999, p) }

// star draws a star of n points with outer and inner radius; equal radii give a polygon of 2n
// corners.
func (s *sketch) star(x, y float64, n int, outer, inner, turn, round float64, p paint) {
	points := make([]point, 0, 2*n)
	for i := range 2 * n {
		r := outer
		if i%2 == 1 {
			r = inner
		}
		t := turn + float64(i)/float64(2*n) - 0.25
		points = append(points, point{mad(r, cosTurn(t), x), mad(r, sinTurn(t), y)})
	}
	s.add(shape{kind: shapePolygon, points: points, r: round}, p)
}

// ngon draws a regular polygon.
func (s *sketch) ngon(x, y float64, n int, r, turn, round float64, p paint) {
	points := make([]point, n)
	for i := range points {
		t := turn + float64(i)/float64(n) - 0.25
		points[i] = point{mad(r, cosTurn(t), x), mad(r, sinTurn(t), y)}
	}
	s.add(shape{kind: shapePolygon, points: points, r: round}, p)
}

// petals draws n ovals around a centre; each reaches from near to far and is as wide as 2*half.
func (s *sketch) petals(x, y float64, n int, near, far, half, turn float64, p paint) {
	for i := range n {
		t := turn + float64(i)/float64(n)
		m := (near + far) / 2
		s.oval(mad(m, cosTurn(t), x), mad(m, sinTurn(t), y), (far-near)/2, half, t, p)
	}
}

// textured returns a paint with a random phase and seed; freq counts repeats per object unit.
func (s *sketch) textured(t texture, a, b rgb, freq, turn float64) paint {
	return paint{tex: t, a: a, b: b, freq: freq, c: cosTurn(turn), s: sinTurn(turn),
		ox: s.uniform(-8, 8), oy: s.uniform(-8, 8), seed: s.rng.Uint64()}
}

// pose places the subject: its size is a part of the picture side, it is turned by up to tilt
// turns, and one side in two it is seen from the other side when mirror is set.
func (s *sketch) pose(small, large, tilt float64, mirror bool) {
	size := s.uniform(small, large) / 2
	stretch := s.uniform(0.9, 1.1)
	free := max(0, 0.5-size)
	sx := size * stretch
	if mirror && s.chance(0.5) {
		sx = -sx
	}
	turn := mad(2*tilt, s.rng.Float64()-0.5, 0)
	s.at = place(s.jitter(0.5, free*0.5), s.jitter(0.5, free*0.5), sx, size/stretch, turn)
}

// finish draws light and camera and returns the scene.
func (s *sketch) finish() Scene {
	s.scene.light = light{
		gain:     rgb{s.uniform(0.88, 1.1), s.uniform(0.88, 1.1), s.uniform(0.88, 1.1)},
		slope:    point{s.uniform(-0.3, 0.3), s.uniform(-0.3, 0.3)},
		contrast: s.uniform(0.85, 1.1),
	}
	s.scene.camera = camera{blur: s.uniform(0, 0.01), noise: s.uniform(0, 0.025), seed: s.rng.Uint64()}
	s.scene.layers = slices.Clip(s.scene.layers)
	return *s.scene
}
