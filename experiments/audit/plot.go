package audit

import (
	"fmt"
	"image"
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"clipinspector/results/plots"
)

// mostNames is how many classes a picture names.
const mostNames = 40

// drawFinding draws the index of every class, or of the encoder, as bars, the suspect's of a model that is not clean black, the threshold k, and the recovered trigger, as PNG.
func drawFinding(w io.Writer, f *Report, trigger *image.NRGBA) error {
	p := plot.New()
	for _, s := range []*text.Style{&p.Title.TextStyle, &p.X.Tick.Label, &p.X.Label.TextStyle, &p.Y.Label.TextStyle} {
		s.Handler = plots.Letters()
	}
	p.Title.Text = fmt.Sprintf("%s: index %.2f, k = %g", f.Decision, float64(f.Index), f.K)
	flagged := f.Suspect != "" && f.Decision != DecisionClean
	if flagged {
		p.Title.Text += fmt.Sprintf(", suspect %.40q", f.Suspect)
	}
	p.Y.Label.Text = "anomaly index"
	rows := f.rows()
	n := len(rows)
	others, suspect := make(plotter.Values, n), make(plotter.Values, n)
	for i, c := range rows {
		v := math.Max(-10, float64(c.Index)) // one far below must not flatten the rest
		if flagged && i == f.report.Suspect {
			suspect[i] = v
		} else {
			others[i] = v
		}
	}
	width := vg.Points(math.Max(1, math.Min(14, 280/float64(n))))
	for _, bars := range []struct {
		values plotter.Values
		shade  color.Gray
	}{{others, color.Gray{190}}, {suspect, color.Gray{0}}} {
		b, err := plotter.NewBarChart(bars.values, width)
		if err != nil {
			return fmt.Errorf("drawing the verdict: %w", err)
		}
		b.Color = bars.shade
		p.Add(b)
	}
	line, err := plotter.NewLine(plotter.XYs{{X: -0.7, Y: f.K}, {X: float64(n) - 0.3, Y: f.K}})
	if err != nil {
		return fmt.Errorf("drawing the verdict: %w", err)
	}
	line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
	p.Add(line)
	p.Legend.Add(fmt.Sprintf("k = %g", f.K), line)
	p.Legend.Top = true
	p.Y.Max = math.Max(p.Y.Max, f.K+0.5)
	if n <= mostNames {
		names := make([]string, n)
		for i, c := range rows {
			names[i] = fmt.Sprintf("%.24s", c.Class)
		}
		p.NominalX(names...)
		p.X.Tick.Label.Rotation = math.Pi / 4
		p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = vgdraw.XRight, vgdraw.YCenter
	} else {
		p.X.Label.Text = "class, by label"
	}
	const height, wide, side = vg.Length(260), vg.Length(480), vg.Length(170)
	img := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(wide+side, height), vgimg.UseDPI(144))}
	c := vgdraw.New(img)
	p.Draw(vgdraw.Crop(c, 0, -side, 0, 0))
	if trigger != nil {
		at := vgdraw.Crop(c, wide+8, -8, 50, -50)
		at.DrawImage(vg.Rectangle{Min: at.Min, Max: vg.Point{X: at.Max.X, Y: at.Min.Y + at.Max.X - at.Min.X}}, trigger)
		c.FillText(p.X.Label.TextStyle, vg.Point{X: wide + 20, Y: 32}, "recovered trigger")
	}
	_, err = img.WriteTo(w)
	return err
}
