package miniworld

// cars: side views. Body styles differ in silhouette and windows, never in colour.
var cars = &family{
	name: "mini-cars", cousin: "StanfordCars", template: "a photo of a {}.",
	stage:   road,
	phrases: []string{"a {color} {}", "a {}", "a {color} {} on the road", "a {}, a type of car", "a parked {color} {}"},
	subjects: []subject{
		{"sedan", func(s *sketch) { s.car(sedanBody) }},
		{"hatchback", func(s *sketch) { s.car(hatchBody) }},
		{"van", func(s *sketch) { s.car(vanBody) }},
		{"pickup", func(s *sketch) { s.car(pickupBody) }},
		{"truck", (*sketch).truck},
		{"bus", func(s *sketch) { s.car(busBody) }},
		{"convertible", func(s *sketch) { s.car(convertibleBody) }},
		{"beetle", func(s *sketch) { s.car(beetleBody) }},
		{"sports car", func(s *sketch) { s.car(sportsBody) }},
	},
}

// body is a car in profile, looking to the right.
type body struct {
	outline []float64
	windows [][]float64
	wheels  [2]float64 // x of the axles
	radius  float64
	round   float64
	driver  bool
}

var (
	sedanBody = body{
		outline: []float64{-0.93, 0.25, -0.93, -0.05, -0.6, -0.1, -0.38, -0.42, 0.2, -0.42, 0.45, -0.1, 0.9, 0, 0.93, 0.25},
		windows: [][]float64{{-0.45, -0.1, -0.3, -0.33, -0.1, -0.33, -0.1, -0.1}, {0.02, -0.1, 0.02, -0.33, 0.14, -0.33, 0.3, -0.1}},
		wheels:  [2]float64{-0.57, 0.57}, radius: 0.19, round: 0.05,
	}
	hatchBody = body{
		outline: []float64{-0.7, 0.25, -0.72, -0.1, -0.62, -0.52, 0.15, -0.52, 0.42, -0.12, 0.74, -0.02, 0.76, 0.25},
		windows: [][]float64{{-0.55, -0.12, -0.5, -0.42, -0.22, -0.42, -0.22, -0.12}, {-0.08, -0.12, -0.08, -0.42, 0.08, -0.42, 0.26, -0.12}},
		wheels:  [2]float64{-0.45, 0.47}, radius: 0.2, round: 0.05,
	}
	vanBody = body{
		outline: []float64{-0.88, 0.3, -0.88, -0.62, 0.35, -0.62, 0.66, -0.12, 0.88, 0, 0.88, 0.3},
		windows: [][]float64{{0.1, -0.15, 0.1, -0.5, 0.28, -0.5, 0.48, -0.15}},
		wheels:  [2]float64{-0.52, 0.55}, radius: 0.19, round: 0.05,
	}
	pickupBody = body{
		outline: []float64{-0.95, 0.25, -0.95, -0.08, -0.12, -0.08, -0.1, -0.52, 0.3, -0.52, 0.5, -0.1, 0.9, -0.04, 0.93, 0.25},
		windows: [][]float64{{0, -0.13, 0, -0.42, 0.22, -0.42, 0.35, -0.13}},
		wheels:  [2]float64{-0.58, 0.58}, radius: 0.22, round: 0.04,
	}
	busBody = body{
		outline: []float64{-0.95, 0.35, -0.95, -0.55, 0.92, -0.55, 0.97, 0, 0.97, 0.35},
		windows: [][]float64{{-0.82, -0.1, -0.82, -0.4, -0.52, -0.4, -0.52, -0.1}, {-0.38, -0.1, -0.38, -0.4, -0.08, -0.4, -0.08, -0.1},
			{0.06, -0.1, 0.06, -0.4, 0.36, -0.4, 0.36, -0.1}, {0.5, -0.1, 0.5, -0.4, 0.84, -0.4, 0.88, -0.1}},
		wheels: [2]float64{-0.55, 0.6}, radius: 0.17, round: 0.04,
	}
	convertibleBody = body{
		outline: []float64{-0.92, 0.25, -0.92, -0.08, -0.5, -0.12, -0.3, 0.02, 0.18, 0.02, 0.3, -0.12, 0.9, -0.02, 0.93, 0.25},
		wheels:  [2]float64{-0.55, 0.57}, radius: 0.2, round: 0.05, driver: true,
	}
	beetleBody = body{
		outline: []float64{-0.8, 0.22, -0.72, -0.08, -0.52, -0.36, -0.22, -0.55, 0.1, -0.56, 0.35, -0.42, 0.48, -0.12, 0.7, 0, 0.8, 0.22},
		windows: [][]float64{{-0.4, -0.18, -0.2, -0.4, 0, -0.4, 0, -0.18}, {0.1, -0.18, 0.1, -0.4, 0.22, -0.36, 0.3, -0.18}},
		wheels:  [2]float64{-0.5, 0.5}, radius: 0.23, round: 0.08,
	}
	sportsBody = body{
		outline: []float64{-0.95, 0.22, -0.93, -0.12, -0.5, -0.2, -0.2, -0.3, 0.05, -0.3, 0.4, -0.05, 0.95, 0.1, 0.97, 0.22},
		windows: [][]float64{{-0.32, -0.1, -0.15, -0.22, 0.03, -0.22, 0.24, -0.06}},
		wheels:  [2]float64{-0.6, 0.58}, radius: 0.19, round: 0.03,
	}
)

// road paints a ground with a horizon one time in two, and places a car.
func road(s *sketch) {
	s.backdrop()
	s.pose(0.72, 0.98, 0.025, true)
	if s.chance(0.6) {
		s.box(0, 1.4+s.uniform(0.2, 0.4), 4, 1.4, 0, solid(s.ground.mix(s.accent.rgb, 0.3)))
	}
}

func (s *sketch) car(b body) {
	s.within(place(0, 0.08, 1, 1.1, 0), func() {
		s.shadow(0, 0.42, 0.9, 0.1)
		tall := s.jitter(1, 0.06)
		s.within(place(0, 0, 1, tall, 0), func() {
			if b.driver { // people and a windscreen are what shows of an open car
				s.disc(-0.05, -0.28, 0.13, solid(s.accent.rgb))
				s.line(-0.05, -0.1, -0.05, 0.1, 0.12, solid(s.second.rgb))
				s.line(0.3, -0.1, 0.14, -0.36, 0.045, solid(s.main.times(0.6)))
			}
			s.poly(b.round, solid(s.main.rgb), b.outline...)
			glass := solid(s.glass())
			for _, w := range b.windows {
				s.poly(0.015, glass, w...)
			}
			if s.chance(0.4) {
				s.box(0, 0.12, 0.88*b.wheels[1]+0.25, 0.035, 0, solid(s.second.rgb))
			}
		})
		for _, x := range b.wheels {
			s.wheel(x, 0.28, b.radius)
		}
	})
}

// truck is a cab with a separate cargo box, the one body of two colours.
func (s *sketch) truck() {
	s.shadow(0, 0.5, 0.95, 0.1)
	load := solid(s.second.rgb)
	if s.chance(0.5) {
		load = s.textured(stripes, s.second.rgb, s.accent.rgb, s.uniform(1, 3), choose(s.rng, 0, 0.25))
	}
	s.box(-0.32, -0.22, 0.62, s.jitter(0.48, 0.05), 0.02, load)
	s.box(0, 0.32, 0.95, 0.07, 0.02, solid(s.main.times(0.5)))
	s.poly(0.04, solid(s.main.rgb), 0.4, 0.3, 0.4, -0.35, 0.68, -0.35, 0.9, 0, 0.92, 0.3)
	s.poly(0.01, solid(s.glass()), 0.52, -0.02, 0.52, -0.26, 0.66, -0.26, 0.8, -0.02)
	for _, x := range []float64{-0.68, -0.25, 0.66} {
		s.wheel(x, 0.38, 0.18)
	}
}

// glass is pale or dark, whichever shows on the body.
func (s *sketch) glass() rgb {
	c := rgb{0.8, 0.88, 0.92}
	if s.main.far(c) < 0.4 {
		c = rgb{0.12, 0.14, 0.18}
	}
	return c
}

func (s *sketch) wheel(x, y, r float64) {
	s.disc(x, y, r, solid(rgb{0.07, 0.07, 0.07}))
	s.disc(x, y, r*0.5, solid(rgb{0.65, 0.65, 0.66}))
}
