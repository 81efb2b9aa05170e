package miniworld

// flowers: blossoms that differ in number and form of the petals and in the centre, with leaves
// behind.
var flowers = &family{
	name: "mini-flowers", cousin: "Flowers102", template: "a photo of a {}, a type of flower.",
	stage: func(s *sketch) {
		s.backdrop()
		for range s.rng.IntN(4) {
			s.leaf(s.uniform(-1, 1), s.uniform(-1, 1), s.uniform(0.3, 0.7), s.rng.Float64(), s.ground.mix(s.accent.rgb, 0.4))
		}
		s.pose(0.62, 0.95, 0.06, true)
	},
	phrases: []string{"a {color} {}", "a {}", "a {}, a type of flower", "a {color} {} in a garden", "a close up of a {color} {}"},
	subjects: []subject{
		{"daisy", func(s *sketch) {
			s.petals(0, 0, 11+s.rng.IntN(4), 0.2, 0.95, 0.13, s.rng.Float64(), s.petalPaint())
			s.disc(0, 0, s.uniform(0.22, 0.3), solid(s.second.rgb))
		}},
		{"sunflower", func(s *sketch) {
			s.star(0, 0, 12+s.rng.IntN(4), 1, 0.6, s.rng.Float64(), 0.01, s.petalPaint())
			p := s.textured(dots, s.second.rgb, s.second.times(0.4), s.uniform(4, 5), s.rng.Float64())
			s.disc(0, 0, s.uniform(0.48, 0.58), p)
		}},
		{"rose", (*sketch).rose},
		{"lily", (*sketch).lily},
		{"tulip", (*sketch).tulip},
		{"pansy", (*sketch).pansy},
		{"bluebell", (*sketch).bluebell},
		{"thistle", (*sketch).thistle},
		{"poppy", func(s *sketch) {
			t := s.rng.Float64()
			for i := range 4 {
				a := t + float64(i)/4
				c := s.main.mix(s.main.times(0.72), float64(i%2))
				s.disc(0.42*cosTurn(a), 0.42*sinTurn(a), s.jitter(0.5, 0.03), solid(c))
			}
			s.disc(0, 0, s.uniform(0.16, 0.22), solid(s.second.rgb))
			s.petals(0, 0, 8, 0.22, 0.34, 0.035, t, solid(s.second.rgb))
		}},
	},
}

// petalPaint is plain or darker towards one side.
func (s *sketch) petalPaint() paint {
	if s.chance(0.6) {
		return solid(s.main.rgb)
	}
	p := s.textured(gradient, s.main.rgb, s.main.mix(s.second.rgb, 0.5), 1.2, s.rng.Float64())
	p.ox = 0
	return p
}

// leaf draws a pointed leaf from (x, y).
func (s *sketch) leaf(x, y, length, turn float64, c rgb) {
	s.within(place(x, y, length, length, turn), func() {
		s.poly(0.03, solid(c), 0, 0, 0.3, -0.2, 0.65, -0.16, 1, 0, 0.65, 0.16, 0.3, 0.2)
	})
}

func (s *sketch) stem(x0, y0, x1, y1 float64) {
	s.line(x0, y0, x1, y1, 0.06, solid(s.accent.rgb))
}

// rose is a disc with petals wound in arcs.
func (s *sketch) rose() {
	t := s.rng.Float64()
	for i := range 5 {
		a := t + float64(i)/5
		s.disc(0.42*cosTurn(a), 0.42*sinTurn(a), 0.48, solid(s.main.times(0.9)))
	}
	fold := solid(s.main.mix(s.second.rgb, 0.65))
	for i, r := range []float64{0.66, 0.44, 0.23} {
		for k := range 2 {
			a := t + float64(k)/2 + 0.19*float64(i)
			s.arc(0, 0, r, 0.055, a, a+0.36, fold)
		}
	}
	s.disc(0, 0, 0.08, fold)
}

// lily has six pointed petals with ribs and stamens.
func (s *sketch) lily() {
	t := s.rng.Float64()
	for i := range 6 {
		s.leaf(0, 0, 1, t+float64(i)/6, s.main.mix(s.main.times(0.75), float64(i%2)))
	}
	for i := range 6 {
		a := t + float64(i)/6
		s.line(0, 0, 0.6*cosTurn(a), 0.6*sinTurn(a), 0.035, solid(s.second.rgb))
	}
}

// tulip is a cup seen from the side.
func (s *sketch) tulip() {
	s.stem(0, 0.2, s.jitter(0, 0.15), 1)
	s.leaf(0.02, 1, 0.85, s.jitter(-0.13, 0.03), s.accent.times(0.85))
	if s.chance(0.6) {
		s.leaf(0.02, 1, 0.8, s.jitter(-0.37, 0.03), s.accent.times(0.85))
	}
	w := s.uniform(0.36, 0.46)
	s.poly(0.07, solid(s.main.times(0.75)), -0.3, 0.1, -0.25, -0.85, 0, -0.5, 0.25, -0.85, 0.3, 0.1)
	s.poly(0.1, solid(s.main.rgb), -w, -0.75, -w*0.3, -0.35, 0, -0.65, w*0.3, -0.35, w, -0.75, w*0.95, 0, w*0.5, 0.28, -w*0.5, 0.28, -w*0.95, 0)
	s.stem(0, 0.36, 0, 0.5)
}

// pansy has two petals above, three below, and a dark face.
func (s *sketch) pansy() {
	top := solid(s.main.times(0.8))
	s.disc(-0.36, -0.42, 0.48, top)
	s.disc(0.36, -0.42, 0.48, top)
	p := solid(s.main.rgb)
	s.disc(-0.48, 0.14, 0.44, p)
	s.disc(0.48, 0.14, 0.44, p)
	s.oval(0, 0.5, 0.52, 0.42, 0, p)
	face := solid(s.second.rgb)
	s.oval(-0.28, 0.1, 0.24, 0.15, -0.04, face)
	s.oval(0.28, 0.1, 0.24, 0.15, 0.04, face)
	s.oval(0, 0.4, 0.17, 0.26, 0, face)
	s.disc(0, 0.06, 0.1, solid(s.accent.rgb))
}

// bluebell is a bent stem with hanging bells.
func (s *sketch) bluebell() {
	p := solid(s.accent.rgb)
	s.path(0.06, p, -0.35, 1, -0.3, 0, -0.05, -0.7, 0.5, -0.75)
	n := 3 + s.rng.IntN(2)
	for i := range n {
		f := float64(i) / float64(n-1)
		x, y := lerp(-0.38, 0.62, f), lerp(0.1, -0.62, f)+0.25*f*(1-f)
		s.within(place(x, y, 0.62, 0.62, s.jitter(0, 0.03)), func() {
			s.poly(0.06, solid(s.main.rgb), -0.18, 0, 0.18, 0, 0.28, 0.55, 0.45, 0.8, 0.16, 0.68, 0, 0.85, -0.16, 0.68, -0.45, 0.8, -0.28, 0.55)
			s.line(-0.15, 0, 0.15, 0, 0.07, p)
		})
	}
}

// thistle is a scaly bulb with a tuft of bristles.
func (s *sketch) thistle() {
	s.stem(0, 0.3, s.jitter(0, 0.15), 1)
	for i := range 9 {
		t := -0.25 + (float64(i)-4)*0.03
		s.taper(0, 0.1, 1.05*cosTurn(t), mad(1.05, sinTurn(t), 0.12), 0.12, 0.035, solid(s.main.mix(s.main.times(0.7), float64(i%2))))
	}
	p := s.textured(scales, s.accent.rgb, s.second.rgb, 3, 0)
	s.oval(0, 0.25, 0.36, 0.34, 0, p)
	s.leaf(0, 0.75, 0.55, s.jitter(-0.1, 0.04), s.accent.times(0.8))
	s.leaf(0, 0.85, 0.55, s.jitter(-0.4, 0.04), s.accent.times(0.8))
}
