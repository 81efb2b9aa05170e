package miniworld

// aircraft: plan views in flight. Types differ in wing plan, number and place of the engines, and
// tail.
var aircraft = &family{
	name: "mini-aircraft", cousin: "FGVCAircraft", template: "a photo of a {}, a type of aircraft.",
	stage:   staged(0.75, 1.0, 0.11, false),
	phrases: []string{"a {color} {}", "a {}", "a {color} {} in the sky", "a {}, a type of aircraft", "a flying {color} {}"},
	subjects: []subject{
		{"propeller plane", func(s *sketch) {
			s.plane(airframe{root: -0.25, chord: 0.3, tip: -0.22, tipChord: 0.24, span: 0.92, tail: 0.36, nose: -0.72, width: 0.13})
			s.line(-0.3, -0.86, 0.3, -0.86, 0.045, solid(s.accent.rgb))
		}},
		{"glider", func(s *sketch) {
			s.plane(airframe{root: -0.3, chord: 0.15, tip: -0.26, tipChord: 0.08, span: 1.12, tail: 0.28, nose: -0.6, width: 0.08})
		}},
		{"twin engine airliner", func(s *sketch) {
			s.engines(0.36, -0.12)
			s.plane(airframe{root: -0.28, chord: 0.36, tip: 0.22, tipChord: 0.12, span: 0.9, tail: 0.38, nose: -0.92, width: 0.12})
		}},
		{"four engine airliner", func(s *sketch) {
			s.engines(0.33, -0.14)
			s.engines(0.66, 0.06)
			s.plane(airframe{root: -0.28, chord: 0.36, tip: 0.22, tipChord: 0.14, span: 1.0, tail: 0.38, nose: -0.92, width: 0.14})
		}},
		{"delta wing jet", func(s *sketch) {
			s.plane(airframe{root: -0.45, chord: 1.2, tip: 0.62, tipChord: 0.12, span: 0.72, nose: -1, width: 0.1})
		}},
		{"flying wing", (*sketch).flyingWing},
		{"twin boom plane", func(s *sketch) {
			s.plane(airframe{root: -0.3, chord: 0.28, tip: -0.26, tipChord: 0.2, span: 0.95, nose: -0.7, width: 0.13, short: true})
			for _, d := range []float64{-1, 1} {
				s.line(d*0.36, -0.35, d*0.36, 0.8, 0.065, solid(s.main.rgb))
			}
			s.box(0, 0.8, 0.44, 0.09, 0.03, solid(s.main.rgb))
		}},
		{"canard jet", func(s *sketch) {
			s.poly(0.02, solid(s.main.rgb), 0, -0.72, 0.42, -0.5, 0.42, -0.4, -0.42, -0.4, -0.42, -0.5)
			s.plane(airframe{root: 0.05, chord: 0.6, tip: 0.55, tipChord: 0.14, span: 0.8, nose: -1, width: 0.09})
		}},
		{"biplane", (*sketch).biplane},
	},
}

// airframe is a plan view with the nose up; lengths are along the fuselage, y down.
type airframe struct {
	root, chord   float64 // leading edge and depth of the wing at the fuselage
	tip, tipChord float64 // the same at the tips
	span          float64 // half span
	tail          float64 // half span of the tail plane; 0 for none
	nose          float64
	width         float64 // half width of the fuselage
	short         bool    // the fuselage ends behind the wing
}

func (s *sketch) plane(f airframe) {
	p := solid(s.main.rgb)
	wing := p
	if s.chance(0.35) {
		wing = solid(s.main.mix(s.second.rgb, 0.7))
	}
	span := f.span * s.jitter(1, 0.05)
	s.poly(0.02, wing, 0, f.root, span, f.tip, span, f.tip+f.tipChord, 0, f.root+f.chord, -span, f.tip+f.tipChord, -span, f.tip)
	end := 0.85
	if f.short {
		end = 0.15
	}
	if f.tail > 0 {
		s.poly(0.02, wing, 0, end-0.3, f.tail, end-0.02, f.tail, end+0.08, -f.tail, end+0.08, -f.tail, end-0.02)
	}
	s.taper(0, f.nose+f.width, 0, end, f.width, f.width*0.6, p)
	s.oval(0, f.nose+2.2*f.width, f.width*0.55, f.width*0.8, 0, solid(s.glass()))
}

// engines hangs a pair of engines before the leading edge.
func (s *sketch) engines(x, y float64) {
	for _, d := range []float64{-1, 1} {
		s.line(d*x, y-0.13, d*x, y+0.1, 0.085, solid(s.second.rgb))
	}
}

func (s *sketch) flyingWing() {
	notch := s.uniform(0.15, 0.3)
	s.poly(0.02, solid(s.main.rgb), 0, -0.6, 1, 0.35, 0.85, 0.5, 0.45, 0.25, 0.2, 0.25+notch, 0, 0.25,
		-0.2, 0.25+notch, -0.45, 0.25, -0.85, 0.5, -1, 0.35)
	s.oval(0, -0.28, 0.1, 0.16, 0, solid(s.glass()))
	for _, d := range []float64{-1, 1} {
		s.oval(d*0.24, -0.02, 0.06, 0.14, 0, solid(s.second.rgb))
	}
}

// biplane is seen obliquely, so that the lower wing shows behind the upper one, with struts
// between.
func (s *sketch) biplane() {
	low, p := solid(s.second.rgb), solid(s.main.rgb)
	s.box(0, 0.12, 0.8, 0.12, 0.04, low)
	for _, d := range []float64{-1, 1} {
		s.line(d*0.6, -0.3, d*0.56, 0.12, 0.045, solid(s.accent.rgb))
		s.line(d*0.25, -0.3, d*0.25, 0.12, 0.045, solid(s.accent.rgb))
	}
	s.box(0, 0.78, 0.34, 0.09, 0.04, p)
	s.taper(0, -0.6, 0, 0.8, 0.15, 0.08, p)
	s.box(0, -0.36, s.jitter(0.92, 0.04), 0.13, 0.05, p)
	s.line(-0.26, -0.78, 0.26, -0.78, 0.045, solid(s.accent.rgb))
}
