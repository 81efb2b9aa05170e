package plots

import (
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// point is a value with its interval; lo and hi are NaN where there is none.
type point struct{ x, y, lo, hi float64 }

// curve draws points in a series' look, moved by a distance on the paper so that intervals of
// neighbours do not hide each other. Points whose y is not finite are left out and break the line.
type curve struct {
	series
	points []point
	shift  vg.Length
	joined bool    // by a line
	marked float64 // radius of the glyphs in points; 0 for none
}

// crowd is how many marks of a curve are all drawn; of more, one a place.
const crowd = 10_000

// Plot implements plot.Plotter.
func (s curve) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	var run []vg.Point
	flush := func() {
		if s.joined && len(run) > 1 {
			c.StrokeLines(s.line(), c.ClipLinesXY(run)...)
		}
		run = nil
	}
	for _, q := range s.points {
		if !finite(q.y) {
			flush()
			continue
		}
		run = append(run, vg.Point{X: tx(q.x) + s.shift, Y: ty(q.y)})
	}
	flush()
	drawn := map[[2]int]bool{} // places of marks, where there are so many that most hide behind others
	for _, q := range s.points {
		if !finite(q.y) {
			continue
		}
		x := tx(q.x) + s.shift
		whisker(&c, x, ty(q.lo), ty(q.hi), finite(q.lo) && finite(q.hi), s.colour, 0.8)
		if s.marked > 0 && len(s.points) > crowd {
			at := [2]int{int(float64(x) / s.marked), int(float64(ty(q.y)) / s.marked)}
			if drawn[at] {
				continue
			}
			drawn[at] = true
		}
		if s.marked > 0 {
			c.DrawGlyphNoClip(s.mark(s.marked), vg.Point{X: x, Y: ty(q.y)})
		}
	}
}

// DataRange implements plot.DataRanger.
func (s curve) DataRange() (xmin, xmax, ymin, ymax float64) {
	r := emptyRange()
	for _, q := range s.points {
		if finite(q.y) {
			r.add(q.x, q.y)
			for _, v := range []float64{q.lo, q.hi} {
				if finite(v) {
					r.add(q.x, v)
				}
			}
		}
	}
	return r.bounds()
}

// Thumbnail implements plot.Thumbnailer.
func (s curve) Thumbnail(c *draw.Canvas) {
	mid := c.Center()
	if s.joined {
		c.StrokeLine2(s.line(), c.Min.X, mid.Y, c.Max.X, mid.Y)
	}
	if s.marked > 0 {
		c.DrawGlyphNoClip(s.mark(s.marked), mid)
	}
}

func whisker(c *draw.Canvas, x, lo, hi vg.Length, ok bool, colour color.Color, width float64) {
	if !ok {
		return
	}
	l := draw.LineStyle{Color: colour, Width: vg.Points(width)}
	cap := vg.Points(2)
	c.StrokeLines(l, []vg.Point{{X: x, Y: lo}, {X: x, Y: hi}}, []vg.Point{{X: x - cap, Y: lo}, {X: x + cap, Y: lo}},
		[]vg.Point{{X: x - cap, Y: hi}, {X: x + cap, Y: hi}})
}

// levelled is an interval of x at a height, drawn as a level whisker.
type levelled struct {
	series
	y, lo, hi float64
}

// Plot implements plot.Plotter.
func (h levelled) Plot(c draw.Canvas, p *plot.Plot) {
	if !finite(h.y) || !finite(h.lo) || !finite(h.hi) {
		return
	}
	tx, ty := p.Transforms(&c)
	l := draw.LineStyle{Color: h.colour, Width: vg.Points(0.8)}
	y, cap := ty(h.y), vg.Points(2)
	for _, x := range []vg.Length{tx(h.lo), tx(h.hi)} {
		c.StrokeLine2(l, x, y-cap, x, y+cap)
	}
	c.StrokeLine2(l, tx(h.lo), y, tx(h.hi), y)
}

// bars draws one value and interval at each whole number of the horizontal axis: the i-th of n
// series side by side.
type bars struct {
	series
	points []point // x is the group's number
	i, n   int
}

// Plot implements plot.Plotter.
func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	width := 0.8 / float64(b.n)
	for _, q := range b.points {
		if !finite(q.y) {
			continue
		}
		left := q.x - 0.4 + float64(b.i)*width
		lo, hi := vg.Point{X: tx(left), Y: ty(0)}, vg.Point{X: tx(left + 0.92*width), Y: ty(q.y)}
		fillBox(&c, b.series, lo, hi)
		// White around the whisker, so that it shows on a hatched bar.
		x, ok := (lo.X+hi.X)/2, finite(q.lo) && finite(q.hi)
		whisker(&c, x, ty(q.lo), ty(q.hi), ok, color.White, 2.8)
		whisker(&c, x, ty(q.lo), ty(q.hi), ok, ink, 0.8)
	}
}

// Thumbnail implements plot.Thumbnailer.
func (b bars) Thumbnail(c *draw.Canvas) {
	fillBox(c, b.series, vg.Point{X: c.Min.X + 4, Y: c.Min.Y}, vg.Point{X: c.Max.X - 4, Y: c.Max.Y})
}

// band fills the area between two curves over x.
type band struct {
	colour    color.Color
	x, lo, hi []float64
}

// Plot implements plot.Plotter.
func (b band) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	var pts []vg.Point
	for i := range b.x {
		pts = append(pts, vg.Point{X: tx(b.x[i]), Y: ty(b.lo[i])})
	}
	for i := len(b.x) - 1; i >= 0; i-- {
		pts = append(pts, vg.Point{X: tx(b.x[i]), Y: ty(b.hi[i])})
	}
	if len(pts) > 0 {
		c.FillPolygon(b.colour, c.ClipPolygonXY(pts))
	}
}

// Thumbnail implements plot.Thumbnailer.
func (b band) Thumbnail(c *draw.Canvas) {
	c.FillPolygon(b.colour, []vg.Point{c.Min, {X: c.Max.X, Y: c.Min.Y}, c.Max, {X: c.Min.X, Y: c.Max.Y}})
}

// rule is a thin line across the panel at a value, of the vertical axis or, when upright, of the
// horizontal one; from corner to corner when diagonal.
type rule struct {
	at                float64
	upright, diagonal bool
}

func (rule) style() draw.LineStyle {
	return draw.LineStyle{Color: faint, Width: vg.Points(0.9), Dashes: dashes(3, 2)}
}

// Plot implements plot.Plotter.
func (r rule) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	switch {
	case r.diagonal:
		c.StrokeLine2(r.style(), c.Min.X, c.Min.Y, c.Max.X, c.Max.Y)
	case r.upright && r.at >= p.X.Min && r.at <= p.X.Max:
		c.StrokeLine2(r.style(), tx(r.at), c.Min.Y, tx(r.at), c.Max.Y)
	case !r.upright && r.at >= p.Y.Min && r.at <= p.Y.Max:
		c.StrokeLine2(r.style(), c.Min.X, ty(r.at), c.Max.X, ty(r.at))
	}
}

// Thumbnail implements plot.Thumbnailer.
func (r rule) Thumbnail(c *draw.Canvas) {
	c.StrokeLine2(r.style(), c.Min.X, c.Center().Y, c.Max.X, c.Center().Y)
}

// shade is a pale column over one whole number of the horizontal axis.
type shade struct{ at float64 }

// Plot implements plot.Plotter.
func (s shade) Plot(c draw.Canvas, p *plot.Plot) {
	tx, _ := p.Transforms(&c)
	lo, hi := max(c.Min.X, tx(s.at-0.5)), min(c.Max.X, tx(s.at+0.5))
	c.FillPolygon(pale, []vg.Point{{X: lo, Y: c.Min.Y}, {X: hi, Y: c.Min.Y}, {X: hi, Y: c.Max.Y}, {X: lo, Y: c.Max.Y}})
}

// Thumbnail implements plot.Thumbnailer.
func (shade) Thumbnail(c *draw.Canvas) { band{colour: pale}.Thumbnail(c) }

// note is a line of text in a panel, at a place counted in shares of its width and height.
type note struct {
	x, y float64
	text string
}

// Plot implements plot.Plotter.
func (n note) Plot(c draw.Canvas, _ *plot.Plot) {
	s := style(8, false)
	s.XAlign, s.YAlign = draw.XCenter, draw.YCenter
	c.FillText(s, vg.Point{X: c.X(n.x), Y: c.Y(n.y)}, n.text)
}

// tag is a small text beside a place in the data, at a distance to its right, or to its left where
// there is no room.
type tag struct {
	x, y  float64
	aside vg.Length
	text  string
}

// Plot implements plot.Plotter.
func (t tag) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	s := style(7, false)
	s.YAlign = draw.YCenter
	at := vg.Point{X: tx(t.x) + t.aside, Y: ty(t.y)}
	if w := s.Width(t.text); at.X+w > c.Max.X {
		at.X = tx(t.x) - t.aside - w
	}
	c.FillText(s, at, t.text)
}

type extent struct{ xmin, xmax, ymin, ymax float64 }

func emptyRange() *extent {
	return &extent{math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)}
}

func (r *extent) add(x, y float64) {
	r.xmin, r.xmax = math.Min(r.xmin, x), math.Max(r.xmax, x)
	r.ymin, r.ymax = math.Min(r.ymin, y), math.Max(r.ymax, y)
}

func (r *extent) bounds() (xmin, xmax, ymin, ymax float64) { return r.xmin, r.xmax, r.ymin, r.ymax }

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
