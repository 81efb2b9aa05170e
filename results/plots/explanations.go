package plots

import (
	"fmt"
	"image"
	"slices"
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
	f := &Figure{Title: "What models answer to", Photos: true,
		Caption: "True triggers beside those that a second look recovered for the suspect, at full contrast: a patch or blend on grey, " +
			"a perturbation around grey, a warp by what it does to a chequered image."}
	var heads []string
	rows := make([]pictures, len(lines))
	for i, l := range lines {
		rows[i] = pictures{about: append(l.about(), "suspect: "+l.class(l.Explained.Result.Class), l.Outcome), below: "said: " + l.Says}
	}
	for _, s := range shown {
		heads = append(heads, s.head)
		for i, l := range lines {
			var p *picture
			if img := s.shown(l); img != nil {
				p = &picture{img, s.under(l)}
			}
			rows[i].hung = append(rows[i].hung, p)
		}
	}
	f.hang(heads, rows)
	return f, ""
}
