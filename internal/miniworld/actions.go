package miniworld

// ucf: people doing things. Poses tell, and where there is one, the thing in the hands; clothes and
// ground do not.
var ucf = &family{
	name: "mini-ucf", cousin: "UCF101", template: "a photo of a person doing {}.",
	stage:   staged(0.78, 1.0, 0.03, true),
	phrases: []string{"a person doing {}", "a person in {color} doing {}", "someone doing {}", "{}", "a person doing {} in a {color} shirt"},
	subjects: []subject{
		{"archery", (*sketch).archery},
		{"biking", (*sketch).biking},
		{"weight lifting", (*sketch).weightLifting},
		{"handstand", (*sketch).handstand},
		{"jumping jacks", (*sketch).jumpingJacks},
		{"juggling", (*sketch).juggling},
		{"push ups", (*sketch).pushUps},
		{"rowing", (*sketch).rowing},
		{"golf", (*sketch).golf},
	},
}

// posture is where the joints are; the first of a pair is drawn behind the body, the second before
// it.
type posture struct {
	head, neck, hip point
	elbows, hands   [2]point
	knees, feet     [2]point
}

// person draws a figure; every joint but the hands and the feet, which hold and stand on things, is
// moved a little.
func (s *sketch) person(p posture) {
	const by = 0.035
	move := func(q *point) { q.x, q.y = s.jitter(q.x, by), s.jitter(q.y, by) }
	for _, q := range []*point{&p.head, &p.neck, &p.hip, &p.elbows[0], &p.elbows[1], &p.knees[0], &p.knees[1]} {
		move(q)
	}
	bulk := s.uniform(0.9, 1.2)
	for side := range 2 {
		skin, cloth, legs := s.second.rgb, s.main.rgb, s.accent.rgb
		if side == 0 {
			skin, cloth, legs = skin.times(0.75), cloth.times(0.75), legs.times(0.75)
		}
		s.taper(p.hip.x, p.hip.y, p.knees[side].x, p.knees[side].y, 0.11*bulk, 0.085*bulk, solid(legs))
		s.taper(p.knees[side].x, p.knees[side].y, p.feet[side].x, p.feet[side].y, 0.085*bulk, 0.07*bulk, solid(legs))
		if side == 1 {
			s.taper(p.neck.x, p.neck.y, p.hip.x, p.hip.y, 0.16*bulk, 0.13*bulk, solid(cloth))
		}
		s.line(p.neck.x, p.neck.y, p.elbows[side].x, p.elbows[side].y, 0.075*bulk, solid(cloth))
		s.line(p.elbows[side].x, p.elbows[side].y, p.hands[side].x, p.hands[side].y, 0.065*bulk, solid(skin))
	}
	s.oval(p.head.x, p.head.y, 0.15, 0.17, 0, solid(s.second.rgb))
}

// thing is the paint of what a person holds.
func (s *sketch) thing() paint { return solid(apart(s.rng, 0.35, s.ground.rgb).rgb) }

func (s *sketch) archery() {
	y := s.jitter(-0.36, 0.05)
	s.person(posture{
		head: point{-0.15, -0.68}, neck: point{-0.17, -0.42}, hip: point{-0.2, 0.12},
		elbows: [2]point{{0.15, y}, {-0.6, y - 0.05}}, hands: [2]point{{0.5, y}, {-0.2, y}},
		knees: [2]point{{-0.42, 0.52}, {0.02, 0.52}}, feet: [2]point{{-0.5, 0.95}, {0.12, 0.95}},
	})
	p := s.thing()
	s.arc(0.02, y, 0.55, 0.05, -0.17, 0.17, p)
	s.path(0.025, p, 0.28, y-0.48, -0.18, y, 0.28, y+0.48)
	s.line(-0.18, y, 0.85, y, 0.03, p)
}

func (s *sketch) biking() {
	p := s.thing()
	r := s.uniform(0.3, 0.36)
	s.ring(-0.55, 0.6, r, 0.05, p)
	s.ring(0.55, 0.6, r, 0.05, p)
	s.path(0.045, p, -0.55, 0.6, -0.25, 0.1, 0.35, 0.1, 0, 0.6, -0.55, 0.6)
	s.path(0.045, p, 0.55, 0.6, 0.38, -0.05)
	lean := s.uniform(0, 0.2)
	s.person(posture{
		head: point{0.1 + lean, -0.78}, neck: point{0.02 + lean, -0.52}, hip: point{-0.28, 0},
		elbows: [2]point{{0.22, -0.2}, {0.25, -0.22}}, hands: [2]point{{0.42, -0.08}, {0.42, -0.08}},
		knees: [2]point{{0.12, 0.12}, {0.16, 0.26}}, feet: [2]point{{0.12, 0.5}, {-0.05, 0.72}},
	})
}

func (s *sketch) weightLifting() {
	x, y := s.uniform(0.3, 0.45), s.uniform(-0.88, -0.72)
	squat := s.uniform(0, 0.2)
	s.person(posture{
		head: point{0, -0.52}, neck: point{0, -0.28}, hip: point{0, 0.25},
		elbows: [2]point{{-x - 0.08, -0.45}, {x + 0.08, -0.45}}, hands: [2]point{{-x, y}, {x, y}},
		knees: [2]point{{-0.22 - squat, 0.58}, {0.22 + squat, 0.58}}, feet: [2]point{{-0.3, 0.95}, {0.3, 0.95}},
	})
	p := s.thing()
	s.line(-0.9, y, 0.9, y, 0.04, p)
	for _, d := range []float64{-1, 1} {
		s.box(d*0.78, y, 0.07, s.uniform(0.2, 0.28), 0.03, p)
		s.box(d*0.93, y, 0.06, 0.15, 0.03, p)
	}
}

func (s *sketch) handstand() {
	open := s.uniform(0, 0.35)
	s.person(posture{
		head: point{0, 0.62}, neck: point{0, 0.38}, hip: point{0, -0.18},
		elbows: [2]point{{-0.24, 0.6}, {0.24, 0.6}}, hands: [2]point{{-0.26, 0.95}, {0.26, 0.95}},
		knees: [2]point{{-0.1 - open*0.6, -0.55}, {0.1 + open*0.6, -0.55}}, feet: [2]point{{-0.1 - open, -0.95}, {0.1 + open, -0.92}},
	})
}

func (s *sketch) jumpingJacks() {
	up, wide := s.uniform(0.65, 0.95), s.uniform(0.4, 0.6)
	s.shadow(0, 0.98, 0.5, 0.06)
	s.person(posture{
		head: point{0, -0.66}, neck: point{0, -0.42}, hip: point{0, 0.1},
		elbows: [2]point{{-0.36, -0.55}, {0.36, -0.55}}, hands: [2]point{{-0.62, -up}, {0.62, -up}},
		knees: [2]point{{-wide * 0.6, 0.42}, {wide * 0.6, 0.42}}, feet: [2]point{{-wide, 0.8}, {wide, 0.8}},
	})
}

func (s *sketch) juggling() {
	s.person(posture{
		head: point{0, -0.4}, neck: point{0, -0.16}, hip: point{0, 0.32},
		elbows: [2]point{{-0.34, 0.12}, {0.34, 0.12}}, hands: [2]point{{-0.55, -0.12}, {0.55, -0.12}},
		knees: [2]point{{-0.13, 0.62}, {0.13, 0.62}}, feet: [2]point{{-0.17, 0.97}, {0.17, 0.97}},
	})
	p := s.thing()
	n := 3 + s.rng.IntN(3)
	for i := range n {
		t := 0.52 + 0.46*float64(i)/float64(n-1)
		s.disc(0.6*cosTurn(t), mad(0.68, sinTurn(t), s.jitter(-0.22, 0.05)), 0.11, p)
	}
}

func (s *sketch) pushUps() {
	up := s.uniform(0, 0.3)
	s.person(posture{
		head: point{0.78, 0.12 - up}, neck: point{0.52, 0.3 - up}, hip: point{-0.1, 0.45 - up/2},
		elbows: [2]point{{0.38, 0.5 - up/2}, {0.4, 0.52 - up/2}}, hands: [2]point{{0.52, 0.8}, {0.56, 0.8}},
		knees: [2]point{{-0.5, 0.58 - up/4}, {-0.5, 0.6 - up/4}}, feet: [2]point{{-0.92, 0.76}, {-0.92, 0.78}},
	})
}

func (s *sketch) rowing() {
	lean := s.uniform(-0.25, 0.2)
	p := s.thing()
	s.person(posture{
		head: point{lean - 0.05, -0.5}, neck: point{lean, -0.25}, hip: point{-0.1, 0.3},
		elbows: [2]point{{lean + 0.25, 0.05}, {lean + 0.25, 0.1}}, hands: [2]point{{0.42, 0.1}, {0.42, 0.12}},
		knees: [2]point{{0.25, 0.12}, {0.27, 0.14}}, feet: [2]point{{0.5, 0.4}, {0.5, 0.4}},
	})
	s.poly(0.04, p, -0.98, 0.28, -0.6, 0.38, 0.6, 0.38, 0.98, 0.28, 0.75, 0.65, -0.75, 0.65)
	reach := s.uniform(-0.5, 0.1)
	s.line(0.45, 0.1, reach, 0.85, 0.035, solid(s.second.times(0.6)))
	s.oval(reach, 0.87, 0.07, 0.15, 0.07, solid(s.second.times(0.6)))
}

func (s *sketch) golf() {
	p := s.thing()
	a := posture{
		head: point{0.05, -0.6}, neck: point{-0.02, -0.36}, hip: point{-0.25, 0.12},
		elbows: [2]point{{0.05, -0.05}, {0.12, -0.08}}, hands: [2]point{{0.22, 0.2}, {0.22, 0.2}},
		knees: [2]point{{-0.3, 0.52}, {-0.1, 0.52}}, feet: [2]point{{-0.42, 0.95}, {0, 0.95}},
	}
	hx, hy, cx, cy := 0.22, 0.2, s.uniform(0.55, 0.75), 0.9
	if s.chance(0.4) { // at the end of the swing
		a.elbows, a.hands = [2]point{{-0.25, -0.55}, {-0.3, -0.5}}, [2]point{{-0.42, -0.75}, {-0.42, -0.75}}
		hx, hy, cx, cy = -0.42, -0.75, 0.35, -0.95
	}
	s.line(hx, hy, cx, cy, 0.035, p)
	s.line(cx, cy, cx+0.14, cy-0.02, 0.06, p)
	s.person(a)
	s.disc(0.88, 0.92, 0.07, solid(rgb{0.97, 0.97, 0.97}))
}
