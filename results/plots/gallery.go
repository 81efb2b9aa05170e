package plots

import (
	"fmt"
	"image"
	"image/color"

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
	const (
		side   = 1.25 * vg.Inch
		gap    = vg.Length(14)
		names  = 1.45 * vg.Inch
		below  = vg.Length(15) // line under a picture
		header = vg.Length(14)
	)
	f := &Figure{Title: "True triggers beside recovered ones", Photos: true,
		Caption: "Triggers at full contrast: a patch or blend on grey, a perturbation around grey, a warp by what it does to a chequered image. " +
			"Recovered for the target class; a detector looks for the easiest trigger, not for the true one.",
		width:  2*margin + names + vg.Length(len(heads))*(side+gap),
		height: 2*margin + 60 + header + vg.Length(len(rows))*(side+below)}
	if len(heads) > 3 {
		f.Caption += " Outcomes are those of " + heads[3] + "."
	}
	f.paint = func(c draw.Canvas) {
		c = draw.Crop(c, 0, 0, 0, -10)
		small := style(8.5, false)
		small.XAlign = text.XCenter
		at := func(col int) vg.Length { return c.Min.X + names + vg.Length(col)*(side+gap) }
		for i, h := range heads {
			if i > 2 {
				c.FillText(small, vg.Point{X: at(i) + side/2, Y: c.Max.Y + 11}, "recovered by")
			}
			c.FillText(small, vg.Point{X: at(i) + side/2, Y: c.Max.Y}, h)
		}
		for r, row := range rows {
			top := c.Max.Y - header - vg.Length(r)*(side+below)
			put := func(col int, img image.Image, under string) {
				hang(c, vg.Point{X: at(col), Y: top}, side, img, under)
			}
			m := row.Model
			left := style(9.5, true)
			c.FillText(left, vg.Point{X: c.Min.X, Y: top - 4}, m.Cell.Attack)
			target := fmt.Sprintf("class %d", m.Result.Target)
			if m.Result.Target < len(row.Classes) {
				target = row.Classes[m.Result.Target]
			}
			plain := style(8.5, false)
			for i, line := range []string{m.Cell.Dataset, fmt.Sprintf("seed %d", m.Cell.Seed), "target: " + target, row.Outcome} {
				c.FillText(plain, vg.Point{X: c.Min.X, Y: top - 19 - 12*vg.Length(i)}, line)
			}
			put(0, row.Picture, "")
			put(1, row.Triggered, fmt.Sprintf("PSNR %.1f dB", m.Result.PSNR))
			put(2, row.Trigger, fmt.Sprintf("ASR %.2f", m.Result.ASR))
			for _, got := range row.Recovered {
				put(column[got.Detector], got.Picture, fmt.Sprintf("index %.1f, ASR %.2f", got.Index, got.ASR))
			}
		}
	}
	return f, ""
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
