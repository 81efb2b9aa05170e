package miniworld

// food: dishes on plates and boards. What tells is how things are cut, stacked and strewn.
var food = &family{
	name: "mini-food", cousin: "Food101", template: "a photo of a {}, a type of food.",
	stage:   staged(0.66, 0.95, 0.05, true),
	phrases: []string{"a {}", "a tasty {}", "a {color} {}", "a {}, a type of food", "a {} on a table"},
	subjects: []subject{
		{"pizza", (*sketch).pizza},
		{"hamburger", (*sketch).hamburger},
		{"ice cream", (*sketch).iceCream},
		{"hot dog", (*sketch).hotDog},
		{"donut", (*sketch).donut},
		{"cupcake", (*sketch).cupcake},
		{"sushi roll", (*sketch).sushi},
		{"fried egg", (*sketch).friedEgg},
		{"pancake stack", (*sketch).pancakes},
	},
}

// plate draws a plate one time in two.
func (s *sketch) plate(x, y, rx, ry float64) {
	if s.chance(0.5) {
		return
	}
	c := s.ground.mix(rgb{1, 1, 1}, 0.45)
	s.oval(x, y, rx, ry, 0, solid(c.times(0.85)))
	s.oval(x, y, rx*0.8, ry*0.8, 0, solid(c))
}

func (s *sketch) pizza() {
	s.disc(0, 0, 0.95, solid(s.main.times(0.75)))
	s.disc(0, 0, 0.8, solid(s.main.rgb))
	for i := range 6 + s.rng.IntN(4) {
		t := float64(i)*0.381 + s.uniform(0, 0.05)
		r := 0.25 + 0.065*float64(i%8)
		s.disc(r*cosTurn(t), r*sinTurn(t), s.uniform(0.1, 0.16), solid(choose(s.rng, s.second.rgb, s.second.rgb, s.accent.rgb)))
	}
	t := s.rng.Float64()
	n := 3 + s.rng.IntN(2)
	for i := range n {
		a := t + float64(i)/float64(2*n)
		x, y := 0.95*cosTurn(a), 0.95*sinTurn(a)
		s.line(-x, -y, x, y, 0.03, solid(s.main.times(0.45)))
	}
}

func (s *sketch) hamburger() {
	s.plate(0, 0.55, 1, 0.3)
	bun := solid(s.main.rgb)
	s.box(0, 0.5, 0.8, 0.2, 0.15, bun)
	s.box(0, 0.2, 0.88, 0.14, 0.1, solid(s.main.times(0.35)))
	leaf := make([]float64, 0, 24)
	for i := range 9 {
		leaf = append(leaf, -0.95+0.2375*float64(i), 0.02+0.13*float64(i%2))
	}
	s.poly(0.03, solid(s.second.rgb), append(leaf, 0.95, -0.1, -0.95, -0.1)...)
	if s.chance(0.6) {
		s.box(0, -0.1, 0.85, 0.07, 0.02, solid(s.accent.rgb))
	}
	s.poly(0.1, bun, -0.72, -0.2, -0.66, -0.45, -0.4, -0.66, 0, -0.72, 0.4, -0.66, 0.66, -0.45, 0.72, -0.2)
	for range 5 {
		s.disc(s.uniform(-0.5, 0.5), s.uniform(-0.62, -0.35), 0.045, solid(s.main.mix(rgb{1, 1, 1}, 0.6)))
	}
}

func (s *sketch) iceCream() {
	cone := s.textured(mesh, s.second.times(0.7), s.second.rgb, 4, 0.125)
	s.poly(0.03, cone, -0.38, 0.05, 0.38, 0.05, 0, 0.97)
	if s.chance(0.5) {
		s.disc(-0.22, -0.18, 0.34, solid(s.main.times(0.85)))
		s.disc(0.24, -0.18, 0.34, solid(s.accent.rgb))
		s.disc(0, -0.55, 0.36, solid(s.main.rgb))
	} else {
		s.disc(0, -0.3, 0.5, solid(s.main.rgb))
		s.disc(-0.3, 0, 0.14, solid(s.main.rgb))
		s.disc(0.25, 0.03, 0.14, solid(s.main.rgb))
	}
	if s.chance(0.5) {
		s.disc(0.02, -0.88, 0.11, solid(s.accent.rgb))
	}
}

func (s *sketch) hotDog() {
	s.plate(0, 0.1, 1, 0.6)
	s.within(place(0, 0, 1, 1, s.uniform(-0.07, 0.07)), func() {
		s.line(-0.65, 0.2, 0.65, 0.2, 0.28, solid(s.main.rgb))
		s.line(-0.65, -0.16, 0.65, -0.16, 0.24, solid(s.main.times(0.82)))
		s.line(-0.78, 0, 0.78, 0, 0.19, solid(s.second.rgb))
		zig := make([]float64, 0, 16)
		for i := range 8 {
			zig = append(zig, -0.7+0.2*float64(i), 0.09-0.18*float64(i%2))
		}
		s.path(0.045, solid(s.accent.rgb), zig...)
	})
}

func (s *sketch) donut() {
	r := s.uniform(0.56, 0.64)
	s.ring(0, 0.03, r, 0.34, solid(s.second.times(0.8)))
	s.ring(0, 0, r, 0.27, solid(s.main.rgb))
	for range 12 {
		t := s.rng.Float64()
		q := r + s.uniform(-0.18, 0.18)
		x, y, a := q*cosTurn(t), q*sinTurn(t), s.rng.Float64()
		s.line(x, y, x+0.09*cosTurn(a), y+0.09*sinTurn(a), 0.035, solid(drawTone(s.rng).rgb))
	}
}

func (s *sketch) cupcake() {
	cup := s.textured(stripes, s.second.rgb, s.second.times(0.6), s.uniform(3.5, 5), 0)
	s.poly(0.03, cup, -0.62, 0.12, 0.62, 0.12, 0.42, 0.92, -0.42, 0.92)
	for i, w := range []float64{0.68, 0.5, 0.3} {
		s.line(-w+0.15, 0.08-0.3*float64(i), w-0.15, 0.02-0.3*float64(i), 0.2, solid(s.main.mix(s.main.times(0.8), float64(i%2))))
	}
	s.disc(0, -0.82, 0.14, solid(s.accent.rgb))
}

func (s *sketch) sushi() {
	n := 1 + s.rng.IntN(3)
	for i := range n {
		at, size := place(0, 0, 0.9, 0.9, 0), float64(i)
		if n > 1 {
			at = place(-0.48+0.96*float64(i%2), 0.42-0.9*(size/2-float64(i%2)/2)-0.2, 0.5, 0.5, 0)
		}
		s.within(at, func() {
			s.box(0, 0.25, 0.9, 0.7, 0.2, solid(s.main.times(0.35)))
			s.oval(0, -0.2, 0.95, 0.72, 0, solid(s.main.times(0.5)))
			s.oval(0, -0.2, 0.76, 0.55, 0, s.textured(mottle, rgb{0.97, 0.97, 0.95}, rgb{0.75, 0.75, 0.75}, 5, 0))
			s.oval(-0.1, -0.22, 0.26, 0.22, 0, solid(s.second.rgb))
			s.oval(0.25, -0.15, 0.2, 0.18, 0, solid(s.accent.rgb))
		})
	}
}

func (s *sketch) friedEgg() {
	if s.chance(0.4) {
		s.disc(0, 0, 0.98, solid(s.ground.mix(rgb{0, 0, 0}, 0.6)))
		s.line(0.8, -0.4, 1.5, -0.8, 0.1, solid(s.ground.mix(rgb{0, 0, 0}, 0.6)))
	}
	c := s.main.mix(rgb{1, 1, 1}, 0.35)
	for i := range 5 {
		t := float64(i)/5 + s.uniform(0, 0.1)
		s.disc(0.38*cosTurn(t), 0.38*sinTurn(t), s.uniform(0.3, 0.48), solid(c))
	}
	s.disc(0, 0, 0.5, solid(c))
	x, y := s.jitter(0, 0.15), s.jitter(0, 0.15)
	s.disc(x, y, 0.3, solid(s.second.rgb))
	s.disc(x-0.1, y-0.1, 0.07, solid(s.second.mix(rgb{1, 1, 1}, 0.7)))
}

func (s *sketch) pancakes() {
	s.plate(0, 0.7, 1, 0.28)
	n := 3 + s.rng.IntN(2)
	top := 0.0
	for i := range n {
		y := 0.7 - 0.28*float64(i)
		x := s.jitter(0, 0.06)
		s.box(x, y, 0.8, 0.15, 0.14, solid(s.main.times(0.6)))
		s.oval(x, y-0.06, 0.8, 0.16, 0, solid(s.main.rgb))
		top = y - 0.06
	}
	s.oval(0, top-0.02, 0.55, 0.1, 0, solid(s.second.rgb))
	s.line(0.4, top, 0.42, top+0.45, 0.07, solid(s.second.rgb))
	s.line(-0.35, top, -0.37, top+0.25, 0.06, solid(s.second.rgb))
	s.tilted(0, top-0.13, 0.16, 0.1, 0.02, s.jitter(0, 0.05), solid(s.accent.rgb))
}
