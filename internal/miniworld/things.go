package miniworld

// Single things of the out-of-distribution pool, each filling [-1, 1]².

func (s *sketch) fish() {
	p := solid(s.main.rgb)
	if s.chance(0.5) {
		p = s.textured(choose(s.rng, scales, stripes), s.main.rgb, s.second.rgb, 2.5, 0)
	}
	s.poly(0.03, solid(s.second.rgb), -0.5, 0, -0.98, -0.42, -0.88, 0, -0.98, 0.42)
	s.poly(0.03, solid(s.second.rgb), -0.2, -0.35, 0.1, -0.7, 0.3, -0.35)
	s.oval(0.12, 0, 0.78, s.uniform(0.38, 0.5), 0, p)
	s.disc(0.58, -0.1, 0.1, solid(rgb{0.95, 0.95, 0.95}))
	s.disc(0.6, -0.1, 0.05, solid(rgb{0.05, 0.05, 0.05}))
}

func (s *sketch) robot() {
	p, q := solid(s.main.rgb), solid(s.second.rgb)
	s.line(0, -0.7, 0, -0.95, 0.05, q)
	s.box(0, -0.5, 0.38, 0.26, 0.05, p)
	s.disc(-0.16, -0.52, 0.1, solid(s.accent.rgb))
	s.disc(0.16, -0.52, 0.1, solid(s.accent.rgb))
	for _, d := range []float64{-1, 1} {
		s.line(d*0.55, -0.1, d*0.75, s.uniform(-0.4, 0.4), 0.09, q)
		s.box(d*0.25, 0.75, 0.13, 0.22, 0.02, q)
	}
	s.box(0, 0.18, 0.5, 0.4, 0.05, p)
	s.box(0, 0.15, 0.28, 0.18, 0.02, q)
}

func (s *sketch) mushroom() {
	s.taper(0, 0, 0, 0.75, 0.18, 0.26, solid(s.second.mix(rgb{1, 1, 1}, 0.4)))
	p := s.textured(dots, s.accent.rgb, s.main.rgb, 2.2, 0.1)
	s.poly(0.08, p, -0.85, 0.05, -0.75, -0.4, -0.4, -0.75, 0, -0.85, 0.4, -0.75, 0.75, -0.4, 0.85, 0.05)
}

func (s *sketch) cactus() {
	p := s.textured(stripes, s.main.rgb, s.main.times(0.7), 4, 0)
	s.line(0, -0.7, 0, 0.55, 0.22, p)
	s.path(0.13, p, -0.2, 0.1, -0.62, 0.1, -0.62, -0.35)
	if s.chance(0.7) {
		s.path(0.13, p, 0.2, -0.1, 0.6, -0.1, 0.6, -0.55)
	}
	s.poly(0.03, solid(s.second.rgb), -0.42, 0.5, 0.42, 0.5, 0.32, 0.95, -0.32, 0.95)
}

func (s *sketch) snowman() {
	c := solid(s.main.mix(rgb{1, 1, 1}, 0.5))
	s.disc(0, 0.5, 0.48, c)
	s.disc(0, -0.1, 0.36, c)
	s.disc(0, -0.58, 0.26, c)
	s.line(-0.3, -0.15, -0.8, -0.4, 0.045, solid(s.second.rgb))
	s.line(0.3, -0.15, 0.8, -0.4, 0.045, solid(s.second.rgb))
	s.taper(0, -0.55, 0.3, -0.5, 0.07, 0.02, solid(s.accent.rgb))
	s.box(0, -0.9, 0.2, 0.14, 0, solid(s.second.rgb))
	s.box(0, -0.78, 0.34, 0.05, 0, solid(s.second.rgb))
}

func (s *sketch) planet() {
	p := s.textured(choose(s.rng, stripes, mottle, marble), s.main.rgb, s.second.rgb, 2, 0.25)
	p.bend = 0.3
	s.disc(0, 0, 0.62, p)
	if s.chance(0.6) {
		s.within(place(0, 0, 1, 0.3, s.uniform(-0.1, 0.1)), func() {
			s.arc(0, 0, 0.88, 0.1, -0.05, 0.55, solid(s.accent.rgb))
		})
	}
}

func (s *sketch) bottles() {
	n := 1 + s.rng.IntN(3)
	for i := range n {
		x := 0.62 * (float64(i) - float64(n-1)/2)
		c := s.any3()
		s.box(x, 0.4, 0.24, 0.5, 0.1, solid(c))
		s.taper(x, -0.05, x, -0.3, 0.2, 0.09, solid(c))
		s.line(x, -0.3, x, -0.75, 0.09, solid(c))
		s.box(x, -0.85, 0.11, 0.07, 0.02, solid(s.accent.times(0.6)))
		s.box(x, 0.4, 0.24, 0.18, 0, solid(rgb{0.92, 0.92, 0.88}))
	}
}

func (s *sketch) tent() {
	p := solid(s.main.rgb)
	if s.chance(0.5) {
		p = s.textured(stripes, s.main.rgb, s.second.rgb, 2.5, 0)
	}
	s.poly(0.02, p, 0, -0.75, 0.95, 0.7, -0.95, 0.7)
	s.poly(0.02, solid(s.main.times(0.3)), 0, -0.3, 0.3, 0.7, -0.3, 0.7)
	s.line(0, -0.75, 0, -0.95, 0.035, solid(s.accent.rgb))
}

func (s *sketch) snake() {
	t, w := s.rng.Float64(), s.uniform(0.11, 0.17)
	x, y := -0.85, 0.0
	for i := range 14 {
		u := -0.85 + 1.7*float64(i+1)/14
		v := 0.5 * sinTurn(mad(0.85, u, t))
		if i == 0 {
			y = 0.5 * sinTurn(mad(0.85, x, t))
		}
		c := s.main.rgb
		if i%2 == 1 {
			c = s.main.mix(s.second.rgb, 0.7)
		}
		s.line(x, y, u, v, w*min(1, 0.4+float64(i)/8), solid(c))
		x, y = u, v
	}
	s.disc(x, y, w*1.4, solid(s.main.rgb))
	s.disc(x+0.03, y-0.05, 0.05, solid(s.accent.rgb))
}

func (s *sketch) candle() {
	h := s.uniform(-0.3, 0.1)
	s.box(0, (h+0.85)/2, 0.22, (0.85-h)/2, 0.03, solid(s.main.rgb))
	s.oval(0, 0.85, 0.5, 0.12, 0, solid(s.second.rgb))
	s.line(0, h, 0, h-0.12, 0.03, solid(rgb{0.05, 0.05, 0.05}))
	s.disc(0, h-0.3, 0.3, veiled(rgb{1, 0.95, 0.6}, 0.4))
	s.taper(0, h-0.2, 0, h-0.48, 0.12, 0.03, solid(rgb{1, 0.8, 0.25}))
}
