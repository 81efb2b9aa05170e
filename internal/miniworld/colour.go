package miniworld

import "math/rand/v2"

// rgb is a colour with channels in [0, 1]; sums may leave the range and are clamped when a picture
// is written.
type rgb struct{ r, g, b float64 }

// mix goes from c to d as t goes from 0 to 1.
func (c rgb) mix(d rgb, t float64) rgb {
	return rgb{lerp(c.r, d.r, t), lerp(c.g, d.g, t), lerp(c.b, d.b, t)}
}

// times scales the brightness.
func (c rgb) times(k float64) rgb { return rgb{float64(c.r * k), float64(c.g * k), float64(c.b * k)} }

// far is the largest difference of the channels plus half of the others': a cheap measure of how
// easily two colours are told apart.
func (c rgb) far(d rgb) float64 {
	a, b, e := abs(c.r-d.r), abs(c.g-d.g), abs(c.b-d.b)
	return mad(0.5, max(a, b, e), (a+b+e)/3)
}

func abs(v float64) float64 {
	if v < 0 {
		return -v
	}
	return v
}

// hue is a colour that captions can name.
type hue struct {
	name string
	base rgb
}

var hues = []hue{
	{"red", rgb{0.85, 0.13, 0.12}}, {"orange", rgb{0.95, 0.52, 0.10}}, {"yellow", rgb{0.95, 0.87, 0.18}},
	{"green", rgb{0.18, 0.62, 0.20}}, {"teal", rgb{0.12, 0.65, 0.66}}, {"blue", rgb{0.14, 0.28, 0.85}},
	{"purple", rgb{0.50, 0.18, 0.70}}, {"pink", rgb{0.96, 0.55, 0.72}}, {"brown", rgb{0.45, 0.27, 0.13}},
	{"black", rgb{0.07, 0.07, 0.08}}, {"gray", rgb{0.52, 0.52, 0.53}}, {"white", rgb{0.94, 0.94, 0.93}},
}

// tone is a colour as drawn and the hue that names it.
type tone struct {
	rgb
	hue int
}

// drawTone draws a hue and a shade of it that still deserves the name.
func drawTone(rng *rand.Rand) tone { return shadeOf(rng, rng.IntN(len(hues))) }

// mostly is the share of a class's examples that come in its typical hue.
const mostly = 0.7

// typicalHue returns the hue that a class of a set mostly comes in; classes of one set differ in
// it.
func typicalHue(set, class int) int { return (5*class + 3*set) % len(hues) }

// shadeOf draws a shade of a hue.
func shadeOf(rng *rand.Rand, h int) tone {
	c := hues[h].base
	k := mad(0.3, rng.Float64(), 0.82)
	c = c.times(k)
	c.r = clamp01(mad(0.14, rng.Float64()-0.5, c.r))
	c.g = clamp01(mad(0.14, rng.Float64()-0.5, c.g))
	c.b = clamp01(mad(0.14, rng.Float64()-0.5, c.b))
	return tone{c, h}
}

// apart draws a tone of another hue at a visible distance from all of the given colours.
func apart(rng *rand.Rand, gap float64, from ...rgb) tone {
	best, far := tone{}, -1.0
	for range 24 {
		t := drawTone(rng)
		d := 9.0
		for _, c := range from {
			d = min(d, t.far(c))
		}
		if d >= gap {
			return t
		}
		if d > far {
			best, far = t, d
		}
	}
	return best
}
