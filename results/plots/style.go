package plots

import (
	"image/color"
	"math"
	"strconv"
	"strings"

	stdfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Every series differs from the others by lightness, dashes, glyph and hatching, so that a picture
// reads the same on a black and white printer; the colours are an extra.

var (
	ink   = color.Gray{Y: 30}
	faint = color.Gray{Y: 150}
	pale  = color.Gray{Y: 215}
)

// series is how the i-th detector (attack, figure, ...) of a picture looks.
type series struct {
	colour color.RGBA
	fill   color.RGBA
	dashes []vg.Length
	glyph  draw.GlyphDrawer
	hatch  hatching
}

// look is the appearance of the i-th of several series; after eight they repeat.
func look(i int) series { return looks[i%len(looks)] }

var looks = []series{
	{rgb(0x14, 0x2a, 0x5c), rgb(0x6f, 0x86, 0xba), nil, draw.CircleGlyph{}, 0},
	{rgb(0xc4, 0x4e, 0x12), rgb(0xf2, 0xb4, 0x82), dashes(6, 2.5), draw.SquareGlyph{}, rising},
	{rgb(0x2c, 0x8c, 0x78), rgb(0xff, 0xff, 0xff), dashes(1.5, 2), draw.PyramidGlyph{}, rising | falling},
	{rgb(0x7d, 0x5b, 0xa6), rgb(0xc9, 0xc9, 0xc9), dashes(8, 2, 1.5, 2), draw.CrossGlyph{}, 0},
	{rgb(0x80, 0x60, 0x10), rgb(0xff, 0xff, 0xff), dashes(3, 1.5), draw.RingGlyph{}, level},
	{rgb(0x30, 0x30, 0x30), rgb(0xe6, 0xe6, 0xe6), dashes(10, 3), draw.PlusGlyph{}, falling},
	{rgb(0x8c, 0x1c, 0x50), rgb(0x90, 0x90, 0x90), dashes(4, 2, 1, 2, 1, 2), draw.BoxGlyph{}, 0},
	{rgb(0x1b, 0x7a, 0xb0), rgb(0xff, 0xff, 0xff), dashes(1, 1), draw.TriangleGlyph{}, 0},
}

func rgb(r, g, b uint8) color.RGBA { return color.RGBA{R: r, G: g, B: b, A: 255} }

func dashes(points ...float64) (out []vg.Length) {
	for _, p := range points {
		out = append(out, vg.Points(p))
	}
	return out
}

func (s series) line() draw.LineStyle {
	return draw.LineStyle{Color: s.colour, Width: vg.Points(1.3), Dashes: s.dashes}
}

func (s series) mark(radius float64) draw.GlyphStyle {
	return draw.GlyphStyle{Color: s.colour, Radius: vg.Points(radius), Shape: s.glyph}
}

// hatching is a set of directions of lines over a bar.
type hatching int

const (
	rising hatching = 1 << iota
	falling
	level
)

// fillBox paints a rectangle with a series' fill, hatching and outline.
func fillBox(c *draw.Canvas, s series, lo, hi vg.Point) {
	c.FillPolygon(s.fill, []vg.Point{lo, {X: hi.X, Y: lo.Y}, hi, {X: lo.X, Y: hi.Y}})
	fine := draw.LineStyle{Color: s.colour, Width: vg.Points(0.6)}
	w, h := float64(hi.X-lo.X), float64(hi.Y-lo.Y)
	at := func(x, y float64) vg.Point { return vg.Point{X: lo.X + vg.Length(x), Y: lo.Y + vg.Length(y)} }
	const pitch = 4.0
	if s.hatch&(rising|falling) != 0 {
		for d := -math.Floor(w/pitch) * pitch; d < h; d += pitch {
			from, to := math.Max(0, -d), math.Min(w, h-d)
			if to <= from {
				continue
			}
			if s.hatch&rising != 0 {
				c.StrokeLines(fine, []vg.Point{at(from, from+d), at(to, to+d)})
			}
			if s.hatch&falling != 0 {
				c.StrokeLines(fine, []vg.Point{at(w-from, from+d), at(w-to, to+d)})
			}
		}
	}
	if s.hatch&level != 0 {
		for y := pitch / 2; y < h; y += pitch {
			c.StrokeLines(fine, []vg.Point{at(0, y), at(w, y)})
		}
	}
	edge := draw.LineStyle{Color: s.colour, Width: vg.Points(0.8)}
	c.StrokeLines(edge, []vg.Point{lo, {X: hi.X, Y: lo.Y}, hi, {X: lo.X, Y: hi.Y}, lo})
}

func style(size float64, bold bool) text.Style {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(size)}
	if bold {
		f.Weight = stdfont.WeightBold
	}
	return text.Style{Color: ink, Font: f, Handler: letters{text.Plain{Fonts: font.DefaultCache}}, XAlign: text.XLeft, YAlign: text.YTop}
}

// panel is an empty plot in the house style.
func panel(title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	p.Title.Text = title
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle = style(9, false)
		a.Label.TextStyle.XAlign, a.Label.TextStyle.YAlign = text.XCenter, text.YBottom
		a.Tick.Label.Font = style(8, false).Font
		a.Tick.Label.Handler = style(8, false).Handler
		a.Tick.Label.Color, a.Color, a.Tick.Color = ink, ink, ink
		a.Width, a.Tick.Width, a.Tick.Length, a.Padding = vg.Points(0.7), vg.Points(0.7), vg.Points(3.5), 0
		a.Label.Padding = vg.Points(3)
		a.Tick.Marker = ticks{}
	}
	p.X.Label.Text, p.Y.Label.Text = x, y
	return p
}

// longest is the room of a name on an axis, in a legend or above a panel.
const longest = vg.Length(110)

// nominal names the whole numbers of the horizontal axis from 0, at a slant where the names are
// long, and returns the height that they take beyond that of a number. Long names are cut; where
// there are more than fit side by side, every second, third and so on is named.
func nominal(p *plot.Plot, names []string, width vg.Length) (extra vg.Length) {
	s := style(8, false)
	each := width / vg.Length(max(1, len(names)))
	step := max(1, int(math.Ceil(11/float64(each))))
	const slant = math.Pi / 5
	label := func(limit func(i int) vg.Length) (ticks []plot.Tick, widest vg.Length) {
		for i := 0; i < len(names); i += step {
			n := shortened(s, limit(i), names[i])
			ticks = append(ticks, plot.Tick{Value: float64(i), Label: n})
			widest = max(widest, s.Width(n))
		}
		return ticks, widest
	}
	ticks, widest := label(func(int) vg.Length { return longest })
	if widest+vg.Points(4) > each*vg.Length(step) {
		// At a slant a name may reach to the edge of the picture and not beyond.
		ticks, widest = label(func(i int) vg.Length {
			return min(longest, (vg.Points(32)+each*vg.Length(float64(i)+0.5))/vg.Length(math.Cos(slant)))
		})
		p.X.Tick.Label.Rotation = slant
		p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = text.XRight, text.YCenter
		extra = widest * vg.Length(math.Sin(slant))
	}
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	p.X.Tick.Color = color.Transparent // keeps the labels off the axis
	return extra
}

// rates makes the vertical axis one of rates, from 0 to 1.
func rates(p *plot.Plot) {
	p.Y.Min, p.Y.Max = 0, 1
	p.Y.Tick.Marker = plot.ConstantTicks(every(0, 1, 0.2))
}

// ticks are gonum's, with labels as short as they can be.
type ticks struct{}

// Ticks implements plot.Ticker.
func (ticks) Ticks(low, high float64) []plot.Tick {
	out := plot.DefaultTicks{}.Ticks(low, high)
	for i, t := range out {
		if !t.IsMinor() {
			out[i].Label = strconv.FormatFloat(math.Round(t.Value*1e6)/1e6, 'g', -1, 64)
		}
	}
	return out
}

// every are ticks from low to high.
func every(low, high, step float64) (out []plot.Tick) {
	for i := 0; ; i++ {
		v := low + float64(i)*step
		if v > high+step/1e3 {
			return out
		}
		out = append(out, plot.Tick{Value: v, Label: strconv.FormatFloat(math.Round(v*1e6)/1e6, 'g', -1, 64)})
	}
}

// brief is a number in at most four digits.
func brief(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case v == math.Trunc(v) && math.Abs(v) < 1e7:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// wrap breaks a text into lines that are not wider than w.
func wrap(s text.Style, w vg.Length, words string) (lines []string) {
	line := ""
	for _, word := range strings.Fields(words) {
		if next := strings.TrimSpace(line + " " + word); line == "" || s.Width(next) <= w {
			line = next
			continue
		}
		lines, line = append(lines, line), word
	}
	return append(lines, line)
}
