package miniworld

// eurosat: land cover from above. Colours are those of any band combination, so that only layout
// tells.
var eurosat = &family{
	name: "mini-eurosat", cousin: "EuroSAT", template: "a satellite photo of {}.", whole: true,
	stage: func(s *sketch) {
		zoom := s.uniform(0.5, 0.7)
		s.at = place(0.5, 0.5, zoom, zoom, s.rng.Float64())
		s.fillAll(s.soil(s.ground.rgb))
	},
	phrases: []string{"{}", "{}", "{} seen from above", "{} in {color} from above"},
	media:   []string{"satellite photo", "satellite photo", "satellite image", "aerial view"},
	subjects: []subject{
		{"woodland", (*sketch).woodland},
		{"crop fields", (*sketch).cropFields},
		{"a highway", (*sketch).highway},
		{"factories", (*sketch).factories},
		{"houses", (*sketch).houses},
		{"a river", (*sketch).river},
		{"a lake", (*sketch).lake},
		{"pasture", (*sketch).pasture},
		{"an orchard", (*sketch).orchard},
	},
}

// soil is a mottled ground of nearly one colour.
func (s *sketch) soil(c rgb) paint {
	return s.textured(mottle, c, c.mix(s.accent.rgb, 0.3), s.uniform(1.5, 4), 0)
}

// plots lays a patchwork of fields with boundaries on part of the ground: what surrounds roads,
// rivers and farms.
func (s *sketch) plots(p float64) {
	for i := range 3 {
		for j := range 3 {
			if !s.chance(p) {
				continue
			}
			c := s.ground.mix(drawTone(s.rng).rgb, s.uniform(0.2, 0.5))
			s.box(-0.95+0.95*float64(i), -0.95+0.95*float64(j), 0.46, 0.46, 0.02, s.soil(c))
		}
	}
}

func (s *sketch) woodland() {
	s.fillAll(s.soil(s.main.times(0.6)))
	for range 70 {
		r := s.uniform(0.09, 0.17)
		x, y := s.uniform(-1.3, 1.3), s.uniform(-1.3, 1.3)
		s.disc(x, y, r, solid(s.main.times(0.5)))
		s.disc(x-0.03, y-0.03, r*0.75, solid(s.main.mix(s.second.rgb, s.uniform(0, 0.3))))
	}
}

func (s *sketch) cropFields() {
	x := -1.4
	for x < 1.4 {
		w := s.uniform(0.35, 0.6)
		y := -1.4
		for y < 1.4 {
			h := s.uniform(0.35, 0.8)
			c := choose(s.rng, s.main.rgb, s.second.rgb, s.accent.rgb, s.ground.rgb)
			c = c.mix(drawTone(s.rng).rgb, 0.25)
			p := s.textured(stripes, c, c.times(0.7), s.uniform(3.5, 5.5), choose(s.rng, 0, 0.25))
			s.box(x+w/2, y+h/2, w/2-0.025, h/2-0.025, 0, p)
			y += h
		}
		x += w
	}
}

func (s *sketch) highway() {
	s.plots(0.4)
	w := s.uniform(0.14, 0.2)
	bend, y := s.jitter(0, 0.5), s.jitter(0, 0.3)
	road := func(half float64, c rgb) {
		s.path(half, solid(c), -1.6, y, -0.6, y+bend*0.2, 0.2, y+bend*0.25, 1.6, y+bend)
		if bend > 0.15 { // an exit
			s.path(half*0.6, solid(c), -0.5, y+bend*0.2, 0, y-0.5, 0.3, -1.6)
		}
	}
	road(w+0.04, s.main.times(0.6))
	road(w, s.main.rgb)
	s.path(0.03, solid(s.second.rgb), -1.6, y, -0.6, y+bend*0.2, 0.2, y+bend*0.25, 1.6, y+bend)
	for i := range 4 {
		f := float64(i)/2 - 1
		s.tilted(f+s.jitter(0, 0.2), y+w*0.5*float64(2*(i%2)-1)+bend*0.22, 0.08, 0.045, 0.02, 0, solid(drawTone(s.rng).rgb))
	}
}

func (s *sketch) factories() {
	s.box(s.jitter(0, 0.6), 0, 0.09, 2, 0, solid(s.ground.times(0.6)))
	for i := range 2 {
		for j := range 2 {
			x, y := -0.52+1.04*float64(i)+s.jitter(0, 0.08), -0.52+1.04*float64(j)+s.jitter(0, 0.08)
			hx, hy := s.uniform(0.28, 0.46), s.uniform(0.28, 0.46)
			s.box(x+0.07, y+0.07, hx, hy, 0, solid(rgb{0.08, 0.08, 0.08}))
			c := s.main.mix(s.second.rgb, s.rng.Float64())
			roof := solid(c)
			if s.chance(0.5) {
				roof = s.textured(stripes, c, c.times(0.75), s.uniform(2, 4), choose(s.rng, 0, 0.25))
			}
			s.box(x, y, hx, hy, 0, roof)
			for range s.rng.IntN(3) {
				s.box(x+s.jitter(0, 0.2), y+s.jitter(0, 0.2), 0.07, 0.07, 0, solid(s.accent.rgb))
			}
		}
	}
}

func (s *sketch) houses() {
	street := solid(s.second.rgb)
	lanes := []float64{-0.72, 0.1, 0.92}
	for _, y := range lanes {
		s.box(0, y, 2, 0.07, 0, street)
	}
	s.box(s.jitter(0, 0.7), 0, 0.07, 2, 0, street)
	for _, y := range lanes {
		for _, d := range []float64{-0.24, 0.24} {
			for x := -1.3 + s.uniform(0, 0.2); x < 1.4; x += s.uniform(0.3, 0.4) {
				if s.chance(0.1) {
					continue
				}
				c := s.main.mix(s.accent.rgb, s.uniform(0, 0.5))
				s.box(x+0.03, y+d+0.03, 0.12, 0.1, 0, solid(rgb{0.08, 0.08, 0.08}))
				s.box(x, y+d, s.uniform(0.09, 0.13), s.uniform(0.08, 0.11), 0, solid(c))
			}
		}
	}
}

func (s *sketch) river() {
	s.plots(0.35)
	w, swing, phase := s.uniform(0.16, 0.26), s.uniform(0.25, 0.45), s.rng.Float64()
	at := func(x float64) float64 { return swing * sinTurn(mad(0.5, x, phase)) }
	for k, c := range []rgb{s.main.mix(s.ground.rgb, 0.5), s.main.rgb} {
		for i := range 12 {
			a, b := -1.6+3.2*float64(i)/12, -1.6+3.2*float64(i+1)/12
			s.line(a, at(a), b, at(b), w-0.06*float64(k), solid(c))
		}
	}
}

func (s *sketch) lake() {
	s.plots(0.3)
	t := s.rng.Float64()
	for k, c := range []rgb{s.main.mix(s.ground.rgb, 0.5), s.main.rgb} {
		p := solid(c)
		s.oval(0.1, 0, 0.75-0.06*float64(k), 0.55-0.06*float64(k), t, p)
		for i := range 3 {
			a := t + float64(i)/3
			s.disc(0.5*cosTurn(a), 0.42*sinTurn(a), 0.38-0.06*float64(k), p)
		}
	}
}

func (s *sketch) pasture() {
	s.fillAll(s.soil(s.main.rgb))
	hedge := solid(s.main.times(0.5))
	x, y := s.jitter(0, 0.5), s.jitter(0, 0.5)
	s.line(-1.6, y, 1.6, y+s.jitter(0, 0.3), 0.035, hedge)
	s.line(x, y, x+s.jitter(0, 0.3), 1.6, 0.035, hedge)
	for range 4 + s.rng.IntN(5) {
		s.disc(s.uniform(-1, 1), s.uniform(-1, 1), s.uniform(0.06, 0.1), hedge)
	}
	for range 4 + s.rng.IntN(6) {
		s.disc(s.uniform(-0.9, 0.9), s.uniform(-0.9, 0.9), 0.035, solid(s.second.rgb))
	}
}

func (s *sketch) orchard() {
	step := s.uniform(0.27, 0.36)
	r := step * s.uniform(0.3, 0.38)
	for y := -1.5; y < 1.5; y += step {
		for x := -1.5; x < 1.5; x += step {
			if s.chance(0.04) {
				continue
			}
			u, v := x+s.jitter(0, 0.02), y+s.jitter(0, 0.02)
			s.disc(u, v, r, solid(s.main.rgb))
		}
	}
	if s.chance(0.5) {
		s.box(0, s.jitter(0, 0.8), 2, 0.06, 0, solid(s.second.rgb))
	}
}
