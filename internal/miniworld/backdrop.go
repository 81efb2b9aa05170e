package miniworld

// backdrop paints what lies behind a subject: a wall, a texture, a horizon or soft blobs, in shades
// of the ground colour, with clutter. It is drawn alike for all classes of a set.
func (s *sketch) backdrop() {
	g := s.ground.rgb
	near := g.mix(drawTone(s.rng).rgb, s.uniform(0.15, 0.4))
	switch s.rng.IntN(6) {
	case 0:
		s.fillAll(solid(g))
	case 1:
		p := s.textured(gradient, g, near, 1, s.rng.Float64())
		p.ox, p.oy = 0, 0
		s.fillAll(p)
	case 2:
		s.fillAll(s.textured(mottle, g, near, s.uniform(1, 4), s.rng.Float64()))
	case 3:
		t := choose(s.rng, stripes, checks, waves, bricks, speckle, weave)
		s.fillAll(s.textured(t, g, g.mix(near, 0.5), s.uniform(1.5, 4), s.rng.Float64()))
	case 4:
		s.fillAll(s.textured(mottle, g, near, s.uniform(0.5, 1.5), 0))
		y := s.uniform(-0.2, 0.7)
		s.tilted(0, y+2, 4, 2, 0, s.uniform(-0.02, 0.02), s.textured(mottle, near, g, s.uniform(2, 5), 0))
	case 5:
		s.fillAll(solid(g))
		for range 3 + s.rng.IntN(4) {
			s.oval(s.uniform(-1, 1), s.uniform(-1, 1), s.uniform(0.2, 0.7), s.uniform(0.2, 0.7), s.rng.Float64(),
				veiled(near, s.uniform(0.3, 0.8)))
		}
	}
	for range s.rng.IntN(4) {
		s.clutter(s.uniform(0.08, 0.2))
	}
}

// clutter draws one small thing of no meaning near the border of the picture.
func (s *sketch) clutter(r float64) {
	t := s.rng.Float64()
	far := s.uniform(0.75, 1.05)
	x, y := far*cosTurn(t)*1.1, far*sinTurn(t)*1.1
	p := solid(drawTone(s.rng).mix(s.ground.rgb, 0.3))
	switch s.rng.IntN(4) {
	case 0:
		s.oval(x, y, r, r*s.uniform(0.5, 1), s.rng.Float64(), p)
	case 1:
		s.tilted(x, y, r, r*s.uniform(0.4, 1), 0.02, s.rng.Float64(), p)
	case 2:
		s.ngon(x, y, 3, r, s.rng.Float64(), 0.02, p)
	case 3:
		a := s.rng.Float64()
		s.line(x, y, mad(2*r, cosTurn(a), x), mad(2*r, sinTurn(a), y), 0.05, p)
	}
}

// obstruct puts up to three plain things in front of the subject.
func (s *sketch) obstruct() {
	s.at = affine{a: 0.5, d: 0.5, x: 0.5, y: 0.5}
	for range 1 + s.rng.IntN(3) {
		x, y, r := s.uniform(-0.8, 0.8), s.uniform(-0.8, 0.8), s.uniform(0.1, 0.26)
		p := solid(drawTone(s.rng).mix(s.ground.rgb, 0.3))
		if s.chance(0.5) {
			s.oval(x, y, r, r*s.uniform(0.5, 1), s.rng.Float64(), p)
		} else {
			s.tilted(x, y, 2*r, r*s.uniform(0.2, 0.6), 0.02, s.rng.Float64(), p)
		}
	}
}

// shadow draws a soft dark oval under the subject.
func (s *sketch) shadow(x, y, rx, ry float64) {
	s.oval(x, y, rx, ry, 0, veiled(s.ground.times(0.35), 0.6))
}
