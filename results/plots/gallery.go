package plots

import (
	"fmt"
	"image"
	"image/color"
	"slices"
	"strings"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// gallery shows, for the backdoored cases, a picture without and with the trigger, the trigger, and
// what the detectors recovered for the target class.
func gallery(cases []Case) (*Figure, string) {
	var rows []Case
	heads := []string{"test picture", "with the trigger", "true trigger"}
	column := map[string]int{}
	for _, c := range cases {
		if !c.Model.Result.Backdoored || c.Trigger == nil {
			continue
		}
		rows = append(rows, c)
		for _, r := range c.Recovered {
			if _, ok := column[r.Detector]; !ok {
				column[r.Detector] = len(heads)
				heads = append(heads, r.Detector)
			}
		}
	}
	if len(rows) == 0 {
		return nil, "no chosen model is backdoored and has its trigger on the disk"
	}
	f := &Figure{Title: "True triggers beside recovered ones", Photos: true,
		Caption: "Triggers at full contrast: a patch or blend on grey, a perturbation around grey, a warp by what it does to a chequered image. " +
			"Recovered for the target class; a detector looks for the easiest trigger, not for the true one."}
	if len(heads) > 3 {
		f.Caption += " Outcomes are those of " + heads[3] + "."
	}
	var lines []pictures
	for _, row := range rows {
		m := row.Model
		line := pictures{about: append(row.about(), row.Outcome), hung: make([]*picture, len(heads))}
		line.hung[0] = &picture{row.Picture, ""}
		line.hung[1] = &picture{row.Triggered, fmt.Sprintf("PSNR %.1f dB", m.Result.PSNR)}
		line.hung[2] = &picture{row.Trigger, fmt.Sprintf("ASR %.2f", m.Result.ASR)}
		for _, got := range row.Recovered {
			line.hung[column[got.Detector]] = &picture{got.Picture, fmt.Sprintf("index %.1f, ASR %.2f", got.Index, got.ASR)}
		}
		lines = append(lines, line)
	}
	for i := range heads[3:] {
		heads[3+i] = "recovered by\n" + heads[3+i]
	}
	f.hang(heads, lines)
	return f, ""
}

// about says which model a case is about, the attack first.
func (c Case) about() []string {
	about := []string{c.Model.Cell.Attack, c.Model.Cell.Dataset, fmt.Sprintf("seed %d", c.Model.Cell.Seed)}
	if c.Model.Result.Backdoored {
		about = append(about, "target: "+c.class(c.Model.Result.Target))
	}
	return about
}

func (c Case) class(i int) string {
	if i >= 0 && i < len(c.Classes) {
		return c.Classes[i]
	}
	return fmt.Sprintf("class %d", i)
}

// pictures are a row of pictures beside lines about them, the first one bold, and above a line of
// text, or none.
type pictures struct {
	about []string
	hung  []*picture // nil for none
	below string
}

// picture has a line below it; without an image it is not at hand.
type picture struct {
	image image.Image
	under string
}

// hang lays rows of pictures out under the heads of their columns, of up to two lines each.
func (f *Figure) hang(heads []string, rows []pictures) {
	const (
		side   = 1.25 * vg.Inch
		gap    = vg.Length(14)
		names  = 1.45 * vg.Inch
		header = vg.Length(14)
	)
	below := vg.Length(15) // line under a picture
	if slices.ContainsFunc(rows, func(r pictures) bool { return r.below != "" }) {
		below *= 2
	}
	f.width = 2*margin + names + vg.Length(max(3, len(heads)))*(side+gap)
	f.height = 2*margin + 60 + header + vg.Length(len(rows))*(side+below)
	f.paint = func(c draw.Canvas) {
		c = draw.Crop(c, 0, 0, 0, -10)
		plain, centred := style(8.5, false), style(8.5, false)
		centred.XAlign = text.XCenter
		at := func(col int) vg.Length { return c.Min.X + names + vg.Length(col)*(side+gap) }
		for i, head := range heads {
			for j, line := range strings.Split(head, "\n") {
				c.FillText(centred, vg.Point{X: at(i) + side/2, Y: c.Max.Y + 11*vg.Length(strings.Count(head, "\n")-j)}, line)
			}
		}
		for i, r := range rows {
			top := c.Max.Y - header - vg.Length(i)*(side+below)
			for j, line := range r.about {
				if j == 0 {
					c.FillText(style(9.5, true), vg.Point{X: c.Min.X, Y: top - 4}, line)
					continue
				}
				c.FillText(plain, vg.Point{X: c.Min.X, Y: top - 7 - 12*vg.Length(j)}, shortened(plain, names-gap, line))
			}
			for j, p := range r.hung {
				if p != nil {
					hang(c, vg.Point{X: at(j), Y: top}, side, p.image, p.under)
				}
			}
			c.FillText(plain, vg.Point{X: at(0), Y: top - side - 15}, shortened(plain, c.Max.X-at(0), r.below))
		}
	}
}

// hang draws a picture in a frame, its upper left corner at a place, with a line below it.
func hang(c draw.Canvas, at vg.Point, side vg.Length, img image.Image, under string) {
	small := style(8.5, false)
	small.XAlign = text.XCenter
	box := vg.Rectangle{Min: vg.Point{X: at.X, Y: at.Y - side}, Max: vg.Point{X: at.X + side, Y: at.Y}}
	if img == nil {
		s := small
		s.YAlign = text.YCenter
		c.FillText(s, vg.Point{X: at.X + side/2, Y: at.Y - side/2}, "not at hand")
	} else {
		c.DrawImage(box, enlarged(img))
	}
	c.StrokeLines(draw.LineStyle{Color: faint, Width: vg.Points(0.6)},
		[]vg.Point{box.Min, {X: box.Max.X, Y: box.Min.Y}, box.Max, {X: box.Min.X, Y: box.Max.Y}, box.Min})
	c.FillText(small, vg.Point{X: at.X + side/2, Y: at.Y - side - 2}, shortened(small, side, under))
}

// Explanation is what a picture shows of the trigger that a class answers to: it alone, and images
// without and with it.
type Explanation struct {
	Title, Caption string
	Trigger        image.Image
	Kind           string // of the trigger
	Examples       []Example
}

// Example is an image without and with a trigger, and what the model takes either for.
type Example struct {
	Before, After image.Image
	Was, Is       string
}

// Figure lays the picture out: the trigger, and beside it the images above each other.
func (x Explanation) Figure() *Figure {
	const (
		side  = 1.25 * vg.Inch
		gap   = vg.Length(14)
		below = vg.Length(18) // line under a picture
	)
	f := &Figure{Title: x.Title, Caption: x.Caption, Photos: true}
	f.width = 2*margin + vg.Length(1+len(x.Examples))*(side+gap) - gap
	lines := len(wrap(style(8.5, false), f.width-2*margin, f.Caption))
	f.height = 2*margin + 28 + vg.Length(10.7*float64(lines)) + 2*(side+below)
	f.paint = func(c draw.Canvas) {
		for i, e := range x.Examples {
			at := vg.Point{X: c.Min.X + vg.Length(i+1)*(side+gap), Y: c.Max.Y}
			hang(c, at, side, e.Before, e.Was)
			at.Y -= side + below
			hang(c, at, side, e.After, e.Is)
		}
		hang(c, vg.Point{X: c.Min.X, Y: c.Max.Y - (side+below)/2}, side, x.Trigger, x.Kind)
	}
	return f
}

// enlarged repeats pixels until a picture is at least 200 wide, so that viewers do not blur them.
func enlarged(img image.Image) image.Image {
	b := img.Bounds()
	n := (199 + b.Dx()) / max(1, b.Dx())
	out := image.NewNRGBA(image.Rect(0, 0, n*b.Dx(), n*b.Dy()))
	for y := range n * b.Dy() {
		for x := range n * b.Dx() {
			out.SetNRGBA(x, y, color.NRGBAModel.Convert(img.At(b.Min.X+x/n, b.Min.Y+y/n)).(color.NRGBA))
		}
	}
	return out
}
