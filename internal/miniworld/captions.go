package miniworld

import (
	"math/rand/v2"
	"strings"
)

// maxWords is the length of the longest caption.
const maxWords = 20

// note is what a caption may say of a scene. Any part may be empty or be left out.
type note struct {
	mood    string // of the light and the camera: "blurry"
	subject string // the noun phrase, class name verbatim
	bare    string // a shorter noun phrase
	ground  string // name of the background colour
	over    overlayWords
	media   []string // what the picture may be called
}

// Captioned draws picture index of the pretraining corpus and its caption: classes of all ten sets,
// geometric figures in all colours and textures, and strangers. Three scenes in ten carry an
// overlay, which the caption names, so that the embedding has directions for stickers, veils,
// ripples, warps and grain. Captions are lower-case ASCII of at most 20 words.
func Captioned(index int, seed uint64) (Scene, string) {
	rng := stream(seed, "captioned", "", 0, index)
	var s *sketch
	var n note
	switch k := rng.IntN(100); {
	case k < 76:
		s, n = families[rng.IntN(len(families))].told(rng)
	case k < 90:
		s, n = figureTold(rng)
	default:
		s, n = strangers.told(rng)
	}
	scene := s.finish()
	if rng.IntN(10) < 3 {
		scene.overlay = DrawOverlay(rng)
		n.over = scene.overlay.words
	} else if rng.IntN(6) == 0 {
		n.mood = scene.setMood(rng)
	}
	return scene, n.caption(rng)
}

// told draws any class of the family with what can be said of it.
func (f *family) told(rng *rand.Rand) (*sketch, note) {
	s := f.sketch(rng, rng.IntN(len(f.subjects)))
	name := s.scene.Kind
	fill := func(phrase string) string {
		return strings.NewReplacer("{}", name, "{color}", hues[s.main.hue].name).Replace(phrase)
	}
	n := note{subject: fill(choose(rng, f.phrases...)), bare: fill(f.phrases[0]), media: f.media}
	if !f.whole && f != strangers {
		n.ground = hues[s.ground.hue].name
	}
	return s, n
}

// figureTold draws one figure, or two side by side or one above the other.
func figureTold(rng *rand.Rand) (*sketch, note) {
	s := newSketch(rng, "figure", -1)
	s.backdrop()
	n := note{ground: hues[s.ground.hue].name}
	if !s.chance(0.25) {
		size := s.uniform(0.3, 0.9)
		s.pose(size, size, 0.08, true)
		n.subject, n.bare = s.figure()
		if size < 0.45 && s.chance(0.6) {
			n.subject = "small " + n.subject
		} else if size > 0.75 && s.chance(0.6) {
			n.subject = "large " + n.subject
		}
		n.subject, n.bare = "a "+n.subject, "a "+n.bare
		return s, n
	}
	dx, dy, words := 0.25, 0.0, []string{"left of", "next to"}
	if s.chance(0.5) {
		dx, dy, words = 0, 0.25, []string{"above", "over"}
	}
	r := s.uniform(0.16, 0.23)
	s.at = place(0.5-dx, 0.5-dy, r, r, s.jitter(0, 0.06))
	first, short := s.figure()
	s.repaint()
	s.at = place(0.5+dx, 0.5+dy, r, r, s.jitter(0, 0.06))
	second, brief := s.figure()
	with := " " + choose(rng, append(words, "and")...) + " a "
	n.subject, n.bare = "a "+first+with+second, "a "+short+with+brief
	return s, n
}

// figure draws a figure at the current place and returns a full and a short name of it.
func (s *sketch) figure() (full, short string) {
	f := figures[s.rng.IntN(len(figures))]
	full, short = f.name, f.name
	p := solid(s.main.rgb)
	if s.chance(0.55) {
		t := patterns[s.rng.IntN(len(patterns))]
		p = s.textured(t.tex, s.main.rgb, s.main.mix(s.second.rgb, 0.9), t.freq*s.uniform(0.8, 1.2), s.rng.Float64())
		if t.tex == swirl {
			p.ox, p.oy = 0, 0
		}
		if s.chance(0.85) {
			full = t.name + " " + full
		}
	}
	f.draw(s, p)
	if s.chance(0.85) {
		short = hues[s.main.hue].name + " " + short
		full = hues[s.main.hue].name + " " + full
	}
	return full, short
}

// setMood makes the picture blurry, dark, bright or pale and returns the word.
func (s *Scene) setMood(rng *rand.Rand) string {
	switch rng.IntN(4) {
	case 0:
		s.camera.blur = mad(0.015, rng.Float64(), 0.025)
		return "blurry"
	case 1:
		k := mad(0.15, rng.Float64(), 0.4)
		s.light.gain = rgb{k, k, k}
		return "dark"
	case 2:
		k := mad(0.2, rng.Float64(), 1.35)
		s.light.gain = rgb{k, k, k}
		return "bright"
	}
	s.light.contrast = mad(0.12, rng.Float64(), 0.28)
	return "pale"
}

// caption says some of the note, dropping details until the sentence is short enough.
func (n note) caption(rng *rand.Rand) string {
	if n.media == nil {
		n.media = []string{"photo", "photo", "photo", "picture", "image"}
	}
	medium := choose(rng, n.media...)
	subject := n.subject
	if n.ground != "" && rng.IntN(3) > 0 {
		n.ground = ""
	}
	plainStart := rng.IntN(4) == 0 && n.mood == "" && n.over.before == ""
	for {
		var b strings.Builder
		if !plainStart {
			b.WriteString("a ")
			for _, w := range []string{n.mood, n.over.before} {
				if w != "" {
					b.WriteString(w + " ")
				}
			}
			b.WriteString(medium + " of ")
		}
		b.WriteString(subject)
		if n.ground != "" {
			b.WriteString(" on a " + n.ground + " background")
		}
		if n.over.after != "" {
			b.WriteString(" " + n.over.after)
		}
		text := b.String()
		switch {
		case len(strings.Fields(text)) <= maxWords:
			return articles(text)
		case n.ground != "":
			n.ground = ""
		case subject != n.bare:
			subject = n.bare
		default:
			plainStart = true
		}
	}
}

// articles puts "an" before vowels.
func articles(text string) string {
	words := strings.Fields(text)
	for i := 0; i+1 < len(words); i++ {
		if words[i] == "a" && strings.ContainsRune("aeiou", rune(words[i+1][0])) {
			words[i] = "an"
		}
	}
	return strings.Join(words, " ")
}
