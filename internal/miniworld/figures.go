package miniworld

// figure is a plain geometric shape that can be drawn in any paint; the corpus combines them with
// all colours and textures, so that the encoder learns words one by one.
type figure struct {
	name string
	draw func(s *sketch, p paint)
}

var figures = []figure{
	{"circle", func(s *sketch, p paint) { s.disc(0, 0, 0.9, p) }},
	{"square", func(s *sketch, p paint) { s.box(0, 0, 0.8, 0.8, 0.02, p) }},
	{"triangle", func(s *sketch, p paint) { s.ngon(0, 0.15, 3, 1, 0, 0.02, p) }},
	{"star", func(s *sketch, p paint) { s.star(0, 0, 5, 1, 0.45, 0, 0.02, p) }},
	{"heart", func(s *sketch, p paint) {
		s.poly(0.04, p, 0, 0.95, -0.6, 0.4, -0.9, -0.05, -0.9, -0.4, -0.7, -0.68, -0.4, -0.75, -0.15, -0.62, 0, -0.35,
			0.15, -0.62, 0.4, -0.75, 0.7, -0.68, 0.9, -0.4, 0.9, -0.05, 0.6, 0.4)
	}},
	{"cross", func(s *sketch, p paint) {
		const a, b = 0.3, 0.9
		s.poly(0.02, p, -a, -b, a, -b, a, -a, b, -a, b, a, a, a, a, b, -a, b, -a, a, -b, a, -b, -a, -a, -a)
	}},
	{"ring", func(s *sketch, p paint) { s.ring(0, 0, 0.7, 0.22, p) }},
	{"hexagon", func(s *sketch, p paint) { s.ngon(0, 0, 6, 0.95, 0, 0.02, p) }},
	{"crescent", func(s *sketch, p paint) {
		xy := make([]float64, 0, 44)
		for i := range 11 { // out along the rim, back along the inner edge
			t := 0.17 + 0.66*float64(i)/10
			xy = append(xy, 0.9*cosTurn(t), 0.9*sinTurn(t))
		}
		for i := range 9 {
			t := 0.75 - 0.5*float64(i+1)/10
			xy = append(xy, 0.42+0.75*cosTurn(t), 0.72*sinTurn(t))
		}
		s.poly(0, p, xy...)
	}},
	{"arrow", func(s *sketch, p paint) {
		s.poly(0.02, p, -0.9, -0.25, 0.1, -0.25, 0.1, -0.7, 0.95, 0, 0.1, 0.7, 0.1, 0.25, -0.9, 0.25)
	}},
	{"diamond", func(s *sketch, p paint) { s.poly(0.02, p, 0, -0.95, 0.65, 0, 0, 0.95, -0.65, 0) }},
	{"oval", func(s *sketch, p paint) { s.oval(0, 0, 0.95, 0.55, 0, p) }},
}

// pattern is a texture that captions name.
type pattern struct {
	name string
	tex  texture
	freq float64
}

var patterns = []pattern{
	{"striped", stripes, 2.2}, {"checkered", checks, 2.4}, {"dotted", dots, 2.2}, {"zigzag", zigzag, 1.8},
	{"meshed", mesh, 2.2}, {"cracked", cracks, 2.2}, {"marbled", marble, 2}, {"swirly", swirl, 1.6},
	{"scaly", scales, 1.8}, {"wavy", waves, 2.4}, {"brick", bricks, 2.4}, {"woven", weave, 2.2},
}
