package miniworld

// sun: places. The whole picture is the subject, and its layout tells; the colours are those of any
// hour and weather.
var sun = &family{
	name: "mini-sun", cousin: "SUN397", template: "a photo of a {}.", whole: true,
	stage:   view,
	phrases: []string{"a {}", "a {}", "a view of a {}", "a {} in {color} light", "a {color} {}"},
	subjects: []subject{
		{"mountain", (*sketch).mountain},
		{"beach", (*sketch).beach},
		{"skyline", (*sketch).skyline},
		{"forest path", (*sketch).forestPath},
		{"corridor", (*sketch).corridor},
		{"bedroom", (*sketch).bedroom},
		{"bridge", (*sketch).bridge},
		{"harbor", (*sketch).harbor},
		{"staircase", (*sketch).staircase},
	},
}

// view tilts and shifts the camera. The ground colour becomes the sky or the wall.
func view(s *sketch) {
	zoom := s.uniform(0.5, 0.62)
	sx := zoom
	if s.chance(0.5) {
		sx = -sx
	}
	s.at = place(s.jitter(0.5, 0.06), s.jitter(0.5, 0.06), sx, zoom, s.jitter(0, 0.012))
	if s.chance(0.5) {
		s.fillAll(solid(s.ground.rgb))
		return
	}
	p := s.textured(gradient, s.ground.rgb, s.ground.mix(s.accent.rgb, 0.5), 1, 0.25)
	p.ox = 0
	s.fillAll(p)
}

// sky strews a sun or clouds.
func (s *sketch) sky(low float64) {
	if s.chance(0.4) {
		s.disc(s.uniform(-0.8, 0.8), s.uniform(-0.8, low), s.uniform(0.1, 0.18), solid(s.accent.rgb))
	}
	c := s.ground.mix(rgb{1, 1, 1}, 0.4)
	for range s.rng.IntN(3) {
		x, y := s.uniform(-1, 1), s.uniform(-0.9, low)
		s.oval(x, y, 0.3, 0.09, 0, veiled(c, 0.8))
		s.oval(x+0.12, y-0.07, 0.16, 0.09, 0, veiled(c, 0.8))
	}
}

// land fills everything below y.
func (s *sketch) land(y float64, p paint) { s.box(0, y+3, 4, 3, 0, p) }

func (s *sketch) mountain() {
	s.sky(-0.4)
	for i := range 2 + s.rng.IntN(2) {
		x := s.uniform(-0.8, 0.8)
		if i == 0 {
			x = s.uniform(-0.3, 0.3)
		}
		y, w := s.uniform(-0.7, -0.35), s.uniform(0.7, 1.1)
		c := s.main.mix(s.ground.rgb, 0.35*float64(1-min(i, 1)))
		s.poly(0, solid(c), x, y, x+w*0.45, y+0.6, x+w, 0.8, x-w, 0.8, x-w*0.5, y+0.5)
		s.poly(0, solid(c.mix(rgb{1, 1, 1}, 0.7)), x, y, x+w*0.2, y+0.27, x+w*0.06, y+0.2, x-w*0.08, y+0.32, x-w*0.2, y+0.2)
	}
	s.land(s.uniform(0.5, 0.75), s.textured(mottle, s.second.rgb, s.second.times(0.6), 4, 0))
}

func (s *sketch) beach() {
	s.sky(-0.4)
	h := s.uniform(-0.25, 0)
	water := s.textured(waves, s.main.rgb, s.main.mix(rgb{1, 1, 1}, 0.35), s.uniform(3, 4), 0)
	s.land(h, water)
	a, b := s.uniform(0.15, 0.4), s.uniform(0.5, 0.8)
	s.poly(0.05, solid(s.second.mix(rgb{1, 1, 1}, 0.6)), -1.6, a, 0, (a+b)/2+0.06, 1.6, b, 1.6, 2, -1.6, 2)
	s.poly(0, solid(s.second.rgb), -1.6, a+0.08, 0, (a+b)/2+0.14, 1.6, b+0.08, 1.6, 2, -1.6, 2)
	x := s.uniform(-0.7, -0.2)
	if s.chance(0.75) { // a parasol or a palm
		s.line(x, 0.75, x+0.08, -0.05, 0.045, solid(s.accent.times(0.6)))
		if s.chance(0.5) {
			s.poly(0.02, solid(s.accent.rgb), x-0.38, 0.05, x-0.2, -0.2, x+0.1, -0.3, x+0.38, -0.18, x+0.5, 0.08)
		} else {
			s.petals(x+0.08, -0.1, 6, 0.05, 0.45, 0.07, s.rng.Float64(), solid(s.accent.rgb))
		}
	}
}

func (s *sketch) skyline() {
	s.sky(-0.5)
	x := -1.4
	for x < 1.4 {
		w := s.uniform(0.14, 0.26)
		top := s.uniform(-0.65, 0.25)
		lit := s.textured(mesh, s.main.times(s.uniform(0.55, 1)), s.second.rgb, s.uniform(4.5, 6), 0)
		lit.duty = 1.1
		s.box(x+w, (top+1.2)/2, w, (1.2-top)/2, 0, lit)
		if s.chance(0.2) {
			s.line(x+w, top, x+w, top-0.25, 0.03, solid(s.main.rgb))
		}
		x += 2*w + s.uniform(-0.02, 0.06)
	}
	if s.chance(0.5) {
		s.land(s.uniform(0.75, 0.9), solid(s.accent.rgb))
	}
}

func (s *sketch) forestPath() {
	s.fillAll(s.textured(mottle, s.main.rgb, s.ground.rgb, s.uniform(4, 6), 0))
	h := s.uniform(0.05, 0.25)
	s.land(h, s.textured(mottle, s.main.times(0.55), s.main.rgb, 4, 0))
	bend := s.jitter(0, 0.25)
	s.poly(0.02, solid(s.second.rgb), bend-0.08, h, bend+0.08, h, 0.65, 1.5, -0.65, 1.5)
	for i := range 7 + s.rng.IntN(3) {
		side := float64(2*(i%2) - 1)
		x := side * s.uniform(0.28, 1.15)
		near := abs(x)
		s.line(x, -1.4, x+s.jitter(0, 0.06), lerp(h, 1.1, near*0.7), 0.035+0.09*near, solid(s.accent.times(s.uniform(0.4, 0.8))))
	}
}

func (s *sketch) corridor() {
	x, y, r := s.jitter(0, 0.18), s.jitter(0, 0.12), s.uniform(0.2, 0.3)
	wall, floor := s.main.rgb, s.second.rgb
	s.poly(0, solid(wall), -1.5, -1.5, x-r, y-r, x-r, y+r, -1.5, 1.5)
	s.poly(0, solid(wall.times(0.8)), 1.5, -1.5, x+r, y-r, x+r, y+r, 1.5, 1.5)
	s.poly(0, solid(floor), -1.5, 1.5, x-r, y+r, x+r, y+r, 1.5, 1.5)
	s.poly(0, solid(s.ground.rgb), -1.5, -1.5, x-r, y-r, x+r, y-r, 1.5, -1.5)
	s.box(x, y, r, r, 0, solid(wall.times(0.5)))
	for _, d := range []float64{-1, 1} {
		for _, f := range []float64{0.25, 0.62} { // doors in perspective
			far, near := lerp(r, 1.5, f), lerp(r, 1.5, f+0.16)
			s.poly(0, solid(s.accent.rgb), x+d*far, y-far*0.5, x+d*near, y-near*0.5, x+d*near, y+near, x+d*far, y+far)
		}
	}
	for _, f := range []float64{0.2, 0.55} {
		w := lerp(r, 1.5, f)
		s.oval(x, y-w*0.98, 0.16*w+0.03, 0.09*w, 0, solid(rgb{0.97, 0.97, 0.9}))
	}
}

func (s *sketch) bedroom() {
	if s.chance(0.5) {
		s.fillAll(s.textured(stripes, s.ground.rgb, s.ground.times(0.85), 3, 0))
	}
	y := s.uniform(0.3, 0.5)
	s.land(y, s.textured(stripes, s.accent.rgb, s.accent.times(0.8), 3, 0.25))
	x := s.uniform(-1, 0.5)
	s.box(x, -0.5, 0.27, 0.32, 0, solid(rgb{0.85, 0.93, 0.98})) // window
	s.line(x, -0.82, x, -0.18, 0.03, solid(s.second.rgb))
	s.line(x-0.27, -0.5, x+0.27, -0.5, 0.03, solid(s.second.rgb))
	b := s.uniform(0.02, 0.15)
	s.box(-0.78, b, 0.09, 0.55, 0.03, solid(s.second.times(0.7))) // headboard, mattress, pillow, blanket
	s.box(0.05, b+0.42, 0.85, 0.22, 0.05, solid(rgb{0.9, 0.9, 0.88}))
	s.box(-0.5, b+0.17, 0.2, 0.11, 0.1, solid(rgb{0.97, 0.97, 0.97}))
	s.box(0.3, b+0.36, 0.64, 0.2, 0.08, solid(s.main.rgb))
	s.box(0.9, b+0.35, 0.07, 0.34, 0.03, solid(s.second.times(0.7)))
}

func (s *sketch) bridge() {
	s.sky(-0.5)
	s.land(s.uniform(0.3, 0.5), s.textured(waves, s.second.rgb, s.second.mix(rgb{1, 1, 1}, 0.25), 4, 0))
	p := solid(s.main.rgb)
	deck := s.uniform(0.1, 0.25)
	if s.chance(0.6) { // hung from two towers
		for _, x := range []float64{-0.55, 0.55} {
			s.line(x, -0.65, x, 0.6, 0.07, p)
		}
		for i := range 16 {
			a, b := -1.5+3*float64(i)/16, -1.5+3*float64(i+1)/16
			s.line(a, cable(a, deck), b, cable(b, deck), 0.035, p)
			if i%2 == 0 {
				s.line(a, cable(a, deck), a, deck, 0.02, p)
			}
		}
	} else { // on stone arches
		deck -= 0.3
		for _, x := range []float64{-1.1, 0, 1.1} {
			s.arc(x, deck+0.62, 0.5, 0.09, 0.5, 1, p)
			s.line(x-0.53, deck, x-0.53, deck+0.95, 0.1, p)
			s.line(x-0.25, deck, x-0.25, deck+0.15, 0.06, p)
			s.line(x+0.25, deck, x+0.25, deck+0.15, 0.06, p)
		}
	}
	s.line(-2, deck, 2, deck, 0.07, p)
}

// cable is the height of the cable of a bridge with towers at -0.55 and 0.55.
func cable(x, deck float64) float64 {
	u := abs(x)
	if u > 0.55 {
		return lerp(-0.6, deck, (u-0.55)/0.75)
	}
	v := 1 - u*u/0.3025
	return mad(v, deck+0.45, -0.6)
}

func (s *sketch) harbor() {
	s.sky(-0.5)
	h := s.uniform(-0.05, 0.15)
	if s.chance(0.5) {
		s.oval(s.uniform(-1, 1), h, 0.9, 0.22, 0, solid(s.accent.times(0.6)))
	}
	s.land(h, s.textured(waves, s.second.rgb, s.second.mix(rgb{1, 1, 1}, 0.3), s.uniform(3, 5), 0))
	for i := range 2 + s.rng.IntN(2) {
		x, y, k := -0.75+0.75*float64(i)+s.jitter(0, 0.1), s.uniform(h+0.15, 0.65), s.uniform(0.38, 0.52)
		s.within(place(x, y, k, k, 0), func() {
			c := solid(s.main.mix(drawTone(s.rng).rgb, 0.4))
			s.poly(0.03, c, -0.8, 0, 0.85, 0, 0.55, 0.4, -0.6, 0.4)
			s.line(0, 0, 0, -1.7, 0.07, solid(s.accent.times(0.7)))
			s.poly(0.02, solid(rgb{0.95, 0.95, 0.93}), 0.1, -0.15, 0.1, -1.55, 0.75, -0.15)
			if s.chance(0.5) {
				s.poly(0.02, solid(s.main.rgb), -0.1, -0.15, -0.1, -1.3, -0.55, -0.15)
			}
		})
	}
}

func (s *sketch) staircase() {
	n := 5 + s.rng.IntN(2)
	rise := 1.6 / float64(n)
	x0 := s.uniform(-0.9, -0.6)
	for i := range n {
		y := 1.1 - rise*float64(i)
		x := x0 + (1.5-x0)*float64(i)/float64(n)
		c := s.main.times(0.9)
		s.box((x+2)/2, y+1, (2-x)/2, 1, 0, solid(c.times(0.6)))
		s.box((x+2)/2, y+0.05, (2-x)/2, 0.07, 0, solid(c))
	}
	p := solid(s.second.rgb)
	s.line(x0, 0.4, 1.4, -0.95, 0.05, p)
	for i := range 4 {
		f := float64(i) / 3
		x := lerp(x0+0.1, 1.2, f)
		s.line(x, lerp(0.35, -0.85, f), x, lerp(1, -0.3, f), 0.035, p)
	}
}
