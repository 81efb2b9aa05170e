package plots

import (
	"fmt"
	"image"
	"slices"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// explanations shows, for each second look at one of the cases, a picture as it is, with the true
// trigger and with the recovered one, both triggers alone, and what was said. Columns of which
// nothing is at hand are left out; nil and the reason where there is no second look.
func explanations(cases []Case) (*Figure, string) {
	type line struct {
		Case
		Explained
	}
	columns := []struct {
		head  string
		shown func(l line) image.Image
		under func(l line) string
	}{
		{"test picture", func(l line) image.Image {
			if l.Before != nil {
				return l.Before
			}
			return l.Picture
		}, func(line) string { return "" }},
		{"with the true trigger", func(l line) image.Image { return l.Triggered },
			func(l line) string { return fmt.Sprintf("PSNR %.1f dB", l.Model.Result.PSNR) }},
		{"with the recovered one", func(l line) image.Image { return l.After },
			func(l line) string { return fmt.Sprintf("PSNR %.1f dB", l.Explained.Result.PSNR) }},
		{"true trigger", func(l line) image.Image { return l.Case.Trigger },
			func(l line) string { return fmt.Sprintf("ASR %.2f", l.Model.Result.ASR) }},
		{"recovered trigger", func(l line) image.Image { return l.Explained.Trigger },
			func(l line) string { return l.Explained.Result.Strongest }},
	}
	var lines []line
	for _, c := range cases {
		for _, x := range c.Explained {
			lines = append(lines, line{c, x})
		}
	}
	if len(lines) == 0 {
		return nil, "no second look at a chosen model is finished"
	}
	shown := columns[:0]
	for _, c := range columns {
		if slices.ContainsFunc(lines, func(l line) bool { return c.shown(l) != nil }) {
			shown = append(shown, c)
		}
	}
	const (
		side   = 1.25 * vg.Inch
		gap    = vg.Length(14)
		names  = 1.45 * vg.Inch
		below  = vg.Length(30) // lines under a picture
		header = vg.Length(14)
	)
	f := &Figure{Title: "What models answer to", Photos: true,
		Caption: "True triggers beside those that a second look recovered for the suspect, at full contrast: a patch or blend on grey, " +
			"a perturbation around grey, a warp by what it does to a chequered image.",
		width:  2*margin + names + vg.Length(max(3, len(shown)))*(side+gap),
		height: 2*margin + 60 + header + vg.Length(len(lines))*(side+below)}
	f.paint = func(c draw.Canvas) {
		c = draw.Crop(c, 0, 0, 0, -10)
		centred := style(8.5, false)
		centred.XAlign = text.XCenter
		at := func(col int) vg.Length { return c.Min.X + names + vg.Length(col)*(side+gap) }
		for i, s := range shown {
			c.FillText(centred, vg.Point{X: at(i) + side/2, Y: c.Max.Y}, s.head)
		}
		for r, l := range lines {
			top := c.Max.Y - header - vg.Length(r)*(side+below)
			c.FillText(style(9.5, true), vg.Point{X: c.Min.X, Y: top - 4}, l.Model.Cell.Attack)
			name := func(class int) string {
				if class >= 0 && class < len(l.Classes) {
					return l.Classes[class]
				}
				return fmt.Sprintf("class %d", class)
			}
			plain := style(8.5, false)
			about := []string{l.Model.Cell.Dataset, fmt.Sprintf("seed %d", l.Model.Cell.Seed)}
			if l.Model.Result.Backdoored {
				about = append(about, "target: "+name(l.Model.Result.Target))
			}
			for i, line := range append(about, "suspect: "+name(l.Explained.Result.Class), l.Outcome) {
				c.FillText(plain, vg.Point{X: c.Min.X, Y: top - 19 - 12*vg.Length(i)}, shortened(plain, names-gap, line))
			}
			for i, s := range shown {
				if img := s.shown(l); img != nil {
					hang(c, vg.Point{X: at(i), Y: top}, side, img, s.under(l))
				}
			}
			c.FillText(plain, vg.Point{X: at(0), Y: top - side - 15}, shortened(plain, c.Max.X-at(0), "said: "+l.Says))
		}
	}
	return f, ""
}
