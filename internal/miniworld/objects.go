package miniworld

// caltech: everyday things before a cluttered ground, told apart by their silhouettes.
var caltech = &family{
	name: "mini-caltech", cousin: "Caltech101", template: "a photo of a {}.",
	stage:   staged(0.55, 0.88, 0.09, true),
	phrases: []string{"a {color} {}", "a {}", "a {color} {} on a wall", "a close up of a {}"},
	subjects: []subject{
		{"anchor", (*sketch).anchor},
		{"butterfly", (*sketch).butterfly},
		{"chair", (*sketch).chair},
		{"cup", (*sketch).cup},
		{"key", (*sketch).key},
		{"lamp", (*sketch).lamp},
		{"scissors", (*sketch).scissors},
		{"umbrella", (*sketch).umbrella},
		{"wrench", (*sketch).wrench},
	},
}

// staged is the usual stage: a backdrop, then a pose between two sizes.
func staged(small, large, tilt float64, mirror bool) func(s *sketch) {
	return func(s *sketch) {
		s.backdrop()
		s.pose(small, large, tilt, mirror)
	}
}

func (s *sketch) anchor() {
	p := solid(s.main.rgb)
	w := s.uniform(0.09, 0.13)
	bar := s.uniform(0.3, 0.5)
	s.line(0, -0.6, 0, 0.85, w, p)
	s.ring(0, -0.75, 0.18, 0.08, p)
	s.line(-bar, -0.35, bar, -0.35, w*0.9, p)
	s.arc(0, 0.1, 0.75, w, 0.04, 0.46, p)
	for _, d := range []float64{-1, 1} {
		s.poly(0.02, p, d*0.95, 0.02, d*0.9, 0.45, d*0.5, 0.22)
	}
}

func (s *sketch) butterfly() {
	p := solid(s.main.rgb)
	if s.chance(0.5) {
		p = s.textured(choose(s.rng, dots, stripes, mottle), s.main.rgb, s.second.rgb, s.uniform(1.5, 3), s.rng.Float64())
	}
	up, low := s.uniform(0.42, 0.55), s.uniform(0.28, 0.4)
	for _, d := range []float64{-1, 1} {
		s.oval(d*0.5, -0.32, up, 0.4, d*-0.08, p)
		s.oval(d*0.4, 0.42, low, 0.34, d*0.1, p)
		s.disc(d*0.55, -0.35, 0.15, solid(s.second.rgb))
		s.line(0, -0.5, d*0.25, -0.95, 0.035, solid(s.accent.rgb))
	}
	s.line(0, -0.5, 0, 0.6, 0.1, solid(s.accent.rgb))
}

func (s *sketch) chair() {
	s.at = s.at.then(place(0, 0, 1.2, 1, 0))
	p := solid(s.main.rgb)
	back := s.uniform(0.75, 0.95)
	s.line(-0.5, 0.05, -0.5, 0.9, 0.08, p)
	s.line(0.5, 0.05, 0.55, 0.9, 0.08, p)
	s.line(-0.2, 0.2, -0.22, 0.7, 0.07, solid(s.main.times(0.7)))
	s.line(0.32, 0.2, 0.3, 0.7, 0.07, solid(s.main.times(0.7)))
	if s.chance(0.5) { // a closed back or slats
		s.poly(0.05, solid(s.second.rgb), -0.55, 0, -0.62, -back, -0.35, -back, -0.3, 0)
	} else {
		s.line(-0.5, 0, -0.6, -back, 0.08, p)
		s.line(-0.25, 0, -0.35, -back, 0.07, p)
		for _, y := range []float64{-0.25, -0.5, -0.75} {
			s.line(-0.55, y*back/0.9, -0.3, y*back/0.9, 0.06, p)
		}
	}
	s.poly(0.07, p, -0.55, 0.05, 0.5, 0.05, 0.38, 0.2, -0.55, 0.2)
}

func (s *sketch) cup() {
	p := solid(s.main.rgb)
	h, taper := s.uniform(0.55, 0.75), s.uniform(0.05, 0.22)
	s.arc(0.45, 0.05, 0.34, 0.09, -0.27, 0.27, p)
	if s.chance(0.4) {
		p = s.textured(choose(s.rng, stripes, dots, checks), s.main.rgb, s.second.rgb, 2, choose(s.rng, 0, 0.25))
	}
	s.poly(0.06, p, -0.6, -h, 0.5, -h, 0.5-taper, h, -0.6+taper, h)
	s.oval(-0.05, -h, 0.6, 0.16, 0, solid(s.main.times(0.75)))
	s.oval(-0.05, -h+0.02, 0.47, 0.1, 0, solid(s.accent.rgb))
	if s.chance(0.3) {
		s.oval(-0.05, h+0.1, 0.85, 0.12, 0, solid(s.second.rgb))
	}
}

func (s *sketch) key() {
	p := solid(s.main.rgb)
	r := s.uniform(0.24, 0.32)
	s.within(place(0, 0, 1, 1, choose(s.rng, 0, 0.125, 0.25)), func() {
		if s.chance(0.5) {
			s.ring(-0.6, 0, r, 0.1, p)
		} else {
			s.ngon(-0.6, 0, 4, r+0.1, 0.125, 0.05, p)
			s.disc(-0.6, 0, 0.16, solid(s.ground.rgb))
		}
		s.line(-0.3, 0, 0.9, 0, 0.1, p)
		teeth := 2 + s.rng.IntN(2)
		for i := range teeth {
			x := 0.85 - 0.25*float64(i)
			s.box(x, 0.2, 0.08, s.uniform(0.16, 0.24), 0.02, p)
		}
	})
}

func (s *sketch) lamp() {
	w := s.uniform(0.25, 0.42)
	s.line(0, -0.3, 0, 0.8, 0.07, solid(s.second.rgb))
	if s.chance(0.4) {
		s.oval(0, 0.4, 0.24, 0.32, 0, solid(s.second.rgb))
	}
	s.oval(0, 0.85, 0.42, 0.13, 0, solid(s.second.rgb))
	p := solid(s.main.rgb)
	if s.chance(0.4) {
		p = s.textured(choose(s.rng, stripes, dots), s.main.rgb, s.accent.rgb, 2.5, 0)
	}
	s.poly(0.04, p, -w, -0.92, w, -0.92, 0.68, -0.15, -0.68, -0.15)
}

func (s *sketch) scissors() {
	open := s.uniform(0.045, 0.09)
	s.within(place(0, 0, 1, 1, choose(s.rng, 0, 0.25, 0.125)), func() {
		for _, d := range []float64{-1, 1} {
			s.within(place(0, 0.1, 1, 1, d*open), func() {
				s.taper(0, 0.15, 0, -1, 0.12, 0.04, solid(s.second.rgb))
				s.ring(-d*0.1, 0.6, 0.24, 0.085, solid(s.main.rgb))
				s.line(0, 0, 0, 0.35, 0.1, solid(s.main.rgb))
			})
		}
		s.disc(0, 0.1, 0.07, solid(s.accent.rgb))
	})
}

func (s *sketch) umbrella() {
	h := s.uniform(0.6, 0.8)
	s.line(0, -0.75, 0, 0.7, 0.06, solid(s.second.rgb))
	s.arc(0.17, 0.7, 0.17, 0.06, 0, 0.5, solid(s.second.rgb))
	n := 4 + s.rng.IntN(2)
	top := make([]float64, 0, 40)
	for i := range 11 {
		t := 0.5 + float64(i)/20
		top = append(top, 0.95*cosTurn(t), h*sinTurn(t)+0.05)
	}
	for i := range 4*n - 1 { // scalloped rim
		t := float64(i+1) / float64(4*n)
		top = append(top, 0.95-1.9*t, 0.05-0.12*abs(sinTurn(t*float64(n)/2)))
	}
	p := solid(s.main.rgb)
	if s.chance(0.5) {
		p = s.textured(stripes, s.main.rgb, s.accent.rgb, float64(n)/1.9, 0)
	}
	s.poly(0, p, top...)
	s.line(0, -0.75, 0, -0.92, 0.04, solid(s.second.rgb))
}

func (s *sketch) wrench() {
	p := solid(s.main.rgb)
	s.within(place(0, 0, 1, 1, choose(s.rng, 0, 0.125, 0.25)), func() {
		s.line(-0.45, 0, 0.5, 0, s.uniform(0.11, 0.15), p)
		s.arc(-0.68, 0, 0.24, 0.12, -0.36, 0.36, p)
		if s.chance(0.5) {
			s.ring(0.7, 0, 0.2, 0.1, p)
		} else {
			s.arc(0.7, 0, 0.22, 0.11, 0.14, 0.86, p)
		}
	})
}
