package miniworld

// pets: heads of cats and dogs. Breeds differ in ears, muzzle, fur and where the coat is dark,
// never in its colour.
var pets = &family{
	name: "mini-pets", cousin: "OxfordPets", template: "a photo of a {}, a type of pet.",
	stage:   staged(0.66, 0.95, 0.05, true),
	phrases: []string{"a {color} {}", "a {}", "a {}, a type of pet", "the face of a {color} {}", "a cute {color} {}"},
	subjects: []subject{
		{"siamese cat", func(s *sketch) { s.head(breed{ears: earsPointed, mask: true, slim: true}) }},
		{"tabby cat", func(s *sketch) { s.head(breed{ears: earsPointed, striped: true}) }},
		{"persian cat", func(s *sketch) { s.head(breed{ears: earsTiny, shaggy: true, flat: true}) }},
		{"sphynx cat", func(s *sketch) { s.head(breed{ears: earsHuge, slim: true, bigEyes: true}) }},
		{"beagle", func(s *sketch) { s.head(breed{ears: earsHanging, snout: true, blaze: true}) }},
		{"pug", func(s *sketch) { s.head(breed{ears: earsFolded, flat: true, darkMuzzle: true, bigEyes: true}) }},
		{"husky", func(s *sketch) { s.head(breed{ears: earsPointed, snout: true, cap: true}) }},
		{"poodle", func(s *sketch) { s.head(breed{ears: earsHanging, snout: true, curls: true}) }},
		{"dalmatian", func(s *sketch) { s.head(breed{ears: earsFolded, snout: true, spotted: true}) }},
	},
}

type ears uint8

const (
	earsPointed ears = iota
	earsTiny
	earsHuge
	earsHanging
	earsFolded
)

// breed is what a head is made of.
type breed struct {
	ears                                           ears
	slim, flat, snout                              bool // skull and muzzle
	shaggy, curls                                  bool // outline of the fur
	mask, striped, blaze, darkMuzzle, cap, spotted bool // coat pattern in the second colour
	bigEyes                                        bool
}

func (s *sketch) head(b breed) {
	coat, mark := s.main.rgb, s.second.rgb
	wide, high := s.jitter(0.68, 0.05), s.jitter(0.62, 0.05)
	switch {
	case b.slim:
		wide, high = wide*0.82, high*1.05
	case b.flat:
		wide *= 1.08
	}
	earColour := coat
	if b.mask || b.darkMuzzle || b.cap || b.blaze || b.spotted {
		earColour = mark
	}
	if b.ears != earsHanging && b.ears != earsFolded {
		s.pointedEars(b, wide, earColour)
	}
	if b.shaggy {
		s.star(0, 0.12, 11, wide+0.32, wide+0.08, s.rng.Float64(), 0.03, solid(coat))
	}
	p := solid(coat)
	switch {
	case b.striped:
		p = s.textured(stripes, coat, mark, s.uniform(2.0, 2.6), 0)
		p.ox, p.duty, p.bend = 0.25, 0.55, 0.25
	case b.spotted:
		p = s.textured(dots, mark, coat, s.uniform(2.1, 2.7), s.rng.Float64())
		p.duty, p.bend = 0.45, 0.5
	}
	s.oval(0, 0.1, wide, high, 0, p)
	if b.curls {
		for i := range 7 {
			t := 0.5 + float64(i)/12
			s.disc(0.5*cosTurn(t), 0.55*sinTurn(t)-0.15, s.uniform(0.22, 0.28), solid(coat.mix(mark, 0.12*float64(i%2))))
		}
	}
	if b.cap { // dark forehead with a light face below
		s.poly(0.1, solid(mark), -0.55, -0.2, -0.35, -0.42, 0.35, -0.42, 0.55, -0.2, 0.1, -0.12, 0, 0.15, -0.1, -0.12)
	}
	if b.blaze { // dark sides with a light stripe between the eyes
		s.oval(-0.4, -0.1, 0.3, 0.4, 0, solid(mark))
		s.oval(0.4, -0.1, 0.3, 0.4, 0, solid(mark))
	}
	if b.mask {
		s.oval(0, 0.28, 0.4, 0.42, 0, solid(mark))
	}
	s.muzzle(b, coat, mark)
	s.eyes(b, coat, mark)
	if b.ears == earsHanging || b.ears == earsFolded {
		s.droppedEars(b, wide, earColour)
	}
}

func (s *sketch) pointedEars(b breed, wide float64, c rgb) {
	size, tip, base := s.jitter(0.5, 0.05), -0.95, 0.12
	switch b.ears {
	case earsTiny:
		size, tip = 0.34, -0.72
	case earsHuge:
		size, tip, base = 0.62, -1.0, 0.05
	}
	for _, d := range []float64{-1, 1} {
		out := wide + 0.02
		if b.ears == earsHuge {
			out = wide + 0.4
		}
		s.poly(0.06, solid(c), d*base, -0.4, d*(out-0.1), tip, d*wide*0.98, tip+2*size)
		s.poly(0.01, solid(s.accent.rgb), d*(base+0.2), -0.4, d*(out-0.13), tip+0.17, d*wide*0.85, tip+1.4*size)
	}
}

func (s *sketch) droppedEars(b breed, wide float64, c rgb) {
	for _, d := range []float64{-1, 1} {
		switch {
		case b.curls:
			for i := range 3 {
				s.disc(d*(wide+0.06), -0.05+0.28*float64(i), 0.24, solid(c.times(0.85)))
			}
		case b.ears == earsHanging:
			s.taper(d*wide*0.8, -0.35, d*(wide+0.14), s.jitter(0.5, 0.08), 0.16, 0.24, solid(c.times(0.8)))
		default:
			s.poly(0.07, solid(c.times(0.85)), d*0.3, -0.5, d*(wide+0.1), -0.4, d*(wide+0.02), -0.02)
		}
	}
}

func (s *sketch) muzzle(b breed, coat, mark rgb) {
	dark := rgb{0.06, 0.05, 0.05}
	pale := coat.mix(rgb{1, 1, 1}, 0.35)
	switch {
	case b.darkMuzzle:
		s.oval(0, 0.42, 0.42, 0.3, 0, solid(mark.mix(dark, 0.4)))
		s.line(-0.25, -0.28, 0.25, -0.28, 0.05, solid(mark.mix(coat, 0.3)))
	case b.snout:
		s.oval(0, 0.42, 0.3, 0.4, 0, solid(pale))
	}
	y := 0.4
	if b.snout {
		y = 0.3
		s.oval(0, y, 0.17, 0.12, 0, solid(dark))
		s.line(0, y, 0, y+0.25, 0.03, solid(dark))
		if s.chance(0.3) {
			s.oval(0, y+0.42, 0.1, 0.15, 0, solid(s.accent.rgb))
		}
		return
	}
	if b.flat {
		y = 0.28
	}
	s.poly(0.03, solid(dark), -0.1, y-0.06, 0.1, y-0.06, 0, y+0.06)
	s.arc(-0.1, y+0.1, 0.1, 0.03, 0.02, 0.45, solid(dark))
	s.arc(0.1, y+0.1, 0.1, 0.03, 0.05, 0.48, solid(dark))
}

func (s *sketch) eyes(b breed, coat, mark rgb) {
	dark := rgb{0.05, 0.05, 0.05}
	r, x, y := 0.12, s.jitter(0.3, 0.02), s.jitter(-0.02, 0.03)
	if b.bigEyes {
		r = 0.18
	}
	for _, d := range []float64{-1, 1} {
		if b.snout {
			s.disc(d*x, y-0.08, r*0.9, solid(dark))
			s.disc(d*x-0.03, y-0.12, 0.04, solid(rgb{0.9, 0.9, 0.9}))
			continue
		}
		s.oval(d*x, y, r*1.25, r, d*-0.03, solid(s.accent.mix(rgb{0.9, 0.95, 0.6}, 0.6)))
		s.oval(d*x, y, r*0.5, r*0.95, 0, solid(dark))
	}
}
