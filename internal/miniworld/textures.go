package miniworld

// dtd: pictures full of one texture, bent, scaled and lit at random. What makes it hard is that the
// class is in the statistics of the whole picture, with no object to find.
var dtd = &family{
	name: "mini-dtd", cousin: "DTD", template: "a photo of a {} texture.", whole: true,
	phrases: []string{"a {} texture", "a {} pattern", "{} texture", "a {} {color} surface", "a {color} {} texture", "a close up of a {} surface"},
	subjects: []subject{
		{"striped", surface(stripes, 1.3, 3.2)},
		{"checkered", surface(checks, 1.4, 3.0)},
		{"dotted", surface(dots, 1.2, 2.6)},
		{"zigzag", surface(zigzag, 1.0, 2.0)},
		{"meshed", surface(mesh, 1.2, 2.6)},
		{"cracked", surface(cracks, 1.2, 2.6)},
		{"marbled", surface(marble, 1.2, 2.4)},
		{"swirly", surface(swirl, 0.9, 1.8)},
		{"scaly", surface(scales, 1.1, 2.0)},
	},
}

// surface fills the picture with a texture of low to high repeats per half picture side.
func surface(t texture, low, high float64) func(s *sketch) {
	return func(s *sketch) {
		p := s.textured(t, s.main.rgb, s.ground.rgb, s.uniform(low, high), s.rng.Float64())
		if t == scales { // a roof has an up
			p.c, p.s = cosTurn(s.jitter(0, 0.12)), sinTurn(s.jitter(0, 0.12))
		}
		if t == swirl {
			p.ox, p.oy = s.uniform(-0.5, 0.5), s.uniform(-0.5, 0.5)
		}
		p.b = p.a.mix(p.b, s.uniform(0.45, 1))
		p.duty = s.uniform(0.4, 0.65)
		p.bend = s.uniform(0, 0.35)
		s.fillAll(p)
		s.fillAll(s.stains())
	}
}

// stains is a cloud of another colour over a surface.
func (s *sketch) stains() paint {
	c := s.textured(mottle, s.accent.rgb, s.main.rgb, s.uniform(0.6, 2), 0)
	c.alpha = s.uniform(0.05, 0.35)
	return c
}
