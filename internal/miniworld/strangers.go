package miniworld

import "math/rand/v2"

// strangers are pictures of things that no set has a class for: the out-of-distribution pool, and
// part of the corpus.
var strangers = &family{
	name:    "strangers",
	phrases: []string{"{}", "{} in {color}"},
	stage:   func(s *sketch) { s.backdrop() },
	subjects: []subject{
		{"blobs", (*sketch).blobs},
		{"scribbles", (*sketch).scribbles},
		{"letters", (*sketch).letters},
		{"gears", (*sketch).gears},
		{"pipes", (*sketch).pipes},
		{"clouds of noise", (*sketch).fractal},
		{"color blocks", (*sketch).blocks},
		{"bubbles", (*sketch).bubbleField},
		{"circuits", (*sketch).circuits},
		{"shards", (*sketch).shards},
		{"fireworks", (*sketch).fireworks},
		{"confetti", (*sketch).confetti},
		{"fish", one((*sketch).fish)},
		{"a robot", one((*sketch).robot)},
		{"a mushroom", one((*sketch).mushroom)},
		{"a cactus", one((*sketch).cactus)},
		{"a snowman", one((*sketch).snowman)},
		{"a planet", one((*sketch).planet)},
		{"bottles", one((*sketch).bottles)},
		{"a tent", one((*sketch).tent)},
		{"a snake", one((*sketch).snake)},
		{"a candle", one((*sketch).candle)},
	},
}

// drawStranger draws any of them; one picture in three shows two at once.
func drawStranger(rng *rand.Rand) *sketch {
	s := strangers.sketch(rng, rng.IntN(len(strangers.subjects)))
	if s.chance(0.33) {
		again := 12 + s.rng.IntN(len(strangers.subjects)-12)
		s.repaint()
		strangers.subjects[again].draw(s)
	}
	return s
}

// repaint draws new colours for the next thing on the same ground.
func (s *sketch) repaint() {
	s.at = affine{a: 0.5, d: 0.5, x: 0.5, y: 0.5}
	s.main = apart(s.rng, 0.42, s.ground.rgb)
	s.second = apart(s.rng, 0.38, s.main.rgb, s.ground.rgb)
	s.accent = apart(s.rng, 0.32, s.main.rgb, s.second.rgb)
}

// one poses a single thing.
func one(draw func(s *sketch)) func(s *sketch) {
	return func(s *sketch) {
		s.pose(0.5, 0.95, 0.08, true)
		draw(s)
	}
}

// any3 is one of the subject's colours.
func (s *sketch) any3() rgb { return choose(s.rng, s.main.rgb, s.second.rgb, s.accent.rgb) }

func (s *sketch) blobs() {
	for range 4 + s.rng.IntN(6) {
		x, y, r := s.uniform(-0.9, 0.9), s.uniform(-0.9, 0.9), s.uniform(0.12, 0.4)
		p := solid(s.any3())
		p.alpha = s.uniform(0.6, 1)
		for range 3 {
			s.oval(x+s.jitter(0, r*0.6), y+s.jitter(0, r*0.6), r, r*s.uniform(0.5, 1), s.rng.Float64(), p)
		}
	}
}

func (s *sketch) scribbles() {
	for range 1 + s.rng.IntN(3) {
		p, w := solid(s.any3()), s.uniform(0.03, 0.08)
		x, y := s.uniform(-0.8, 0.8), s.uniform(-0.8, 0.8)
		for range 7 + s.rng.IntN(8) {
			u, v := max(-1, min(1, x+s.jitter(0, 0.6))), max(-1, min(1, y+s.jitter(0, 0.6)))
			s.line(x, y, u, v, w, p)
			x, y = u, v
		}
	}
}

// letters are glyphs of straight and round strokes on a grid of lines, none of a real alphabet.
func (s *sketch) letters() {
	n := 1 + s.rng.IntN(3)
	k := 0.8 / float64(n)
	for j := range n {
		for i := range n {
			at := place(-1+(2*float64(i)+1)/float64(n), -1+(2*float64(j)+1)/float64(n), k, k, s.jitter(0, 0.02))
			s.within(at, func() {
				p, w := solid(s.main.rgb), s.uniform(0.12, 0.17)
				for range 2 + s.rng.IntN(3) {
					x, y := 0.6*float64(s.rng.IntN(3)-1), 0.7*float64(s.rng.IntN(3)-1)
					switch s.rng.IntN(3) {
					case 0:
						s.line(x, -0.8, x, 0.8, w, p)
					case 1:
						s.line(-0.6, y, 0.6, y, w, p)
					case 2:
						t := float64(s.rng.IntN(4)) / 4
						s.arc(0, y/2, 0.5, w, t, t+s.uniform(0.4, 0.75), p)
					}
				}
			})
		}
	}
}

func (s *sketch) gears() {
	for range 2 + s.rng.IntN(3) {
		x, y, r := s.uniform(-0.7, 0.7), s.uniform(-0.7, 0.7), s.uniform(0.25, 0.6)
		c, t, n := s.any3(), s.rng.Float64(), 7+s.rng.IntN(5)
		for i := range n {
			a := t + float64(i)/float64(n)
			s.tilted(mad(r, cosTurn(a), x), mad(r, sinTurn(a), y), r*0.2, r*0.15, 0.02, a, solid(c))
		}
		s.disc(x, y, r, solid(c))
		s.disc(x, y, r*0.6, solid(c.times(0.7)))
		s.disc(x, y, r*0.2, solid(s.ground.rgb))
	}
}

func (s *sketch) pipes() {
	for range 3 + s.rng.IntN(3) {
		x, y, c := s.uniform(-1, 1), s.uniform(-1, 1), s.any3()
		w := s.uniform(0.08, 0.16)
		for i := range 4 {
			u, v := x, y
			if i%2 == 0 {
				u = s.uniform(-1.1, 1.1)
			} else {
				v = s.uniform(-1.1, 1.1)
			}
			s.line(x, y, u, v, w, solid(c.times(0.7)))
			s.line(x-w*0.25, y-w*0.25, u-w*0.25, v-w*0.25, w*0.5, solid(c))
			x, y = u, v
		}
	}
}

func (s *sketch) fractal() {
	f := s.uniform(0.7, 2)
	for _, c := range []rgb{s.main.rgb, s.second.rgb, s.accent.rgb} {
		p := s.textured(mottle, c, s.ground.rgb, f, s.rng.Float64())
		p.alpha, p.bend = 0.55, s.uniform(0, 1)
		s.fillAll(p)
		f *= 1.8
	}
}

func (s *sketch) blocks() {
	x := -1.1
	for x < 1.1 {
		w := s.uniform(0.25, 0.8)
		y := -1.1
		for y < 1.1 {
			h := s.uniform(0.25, 0.9)
			s.box(x+w/2, y+h/2, w/2, h/2, 0, solid(rgb{0.05, 0.05, 0.05}))
			s.box(x+w/2, y+h/2, w/2-0.03, h/2-0.03, 0, solid(choose(s.rng, s.any3(), s.any3(), rgb{0.93, 0.93, 0.9})))
			y += h
		}
		x += w
	}
}

func (s *sketch) bubbleField() {
	s.fillAll(s.textured(bubbles, s.main.rgb, s.ground.rgb, s.uniform(1.5, 2.5), s.rng.Float64()))
}

func (s *sketch) circuits() {
	p := solid(s.main.rgb)
	for range 7 + s.rng.IntN(5) {
		x, y := 0.25*float64(s.rng.IntN(9)-4), 0.25*float64(s.rng.IntN(9)-4)
		u, v := 0.25*float64(s.rng.IntN(9)-4), 0.25*float64(s.rng.IntN(9)-4)
		s.path(0.04, p, x, y, u, y, u, v)
		s.disc(x, y, 0.09, solid(s.second.rgb))
	}
	s.box(s.jitter(0, 0.5), s.jitter(0, 0.5), s.uniform(0.2, 0.35), s.uniform(0.15, 0.3), 0.02, solid(s.accent.rgb))
}

func (s *sketch) shards() {
	for range 6 + s.rng.IntN(8) {
		x, y, r := s.uniform(-1, 1), s.uniform(-1, 1), s.uniform(0.2, 0.7)
		s.poly(0, veiled(s.any3(), s.uniform(0.6, 1)), x, y, x+s.jitter(0, r), y+s.jitter(0, r), x+s.jitter(0, r), y+s.jitter(0, r))
	}
}

func (s *sketch) fireworks() {
	for range 2 + s.rng.IntN(3) {
		x, y, r, n := s.uniform(-0.7, 0.7), s.uniform(-0.7, 0.7), s.uniform(0.3, 0.7), 9+s.rng.IntN(7)
		t, c := s.rng.Float64(), s.any3()
		for i := range n {
			a := t + float64(i)/float64(n)
			u, v := cosTurn(a), sinTurn(a)
			s.taper(mad(r*0.3, u, x), mad(r*0.3, v, y), mad(r, u, x), mad(r, v, y), 0.015, 0.05, solid(c))
		}
	}
}

func (s *sketch) confetti() {
	for range 25 + s.rng.IntN(20) {
		r := s.uniform(0.05, 0.12)
		s.tilted(s.uniform(-1, 1), s.uniform(-1, 1), r, r*s.uniform(0.4, 1), 0, s.rng.Float64(), solid(drawTone(s.rng).rgb))
	}
}
