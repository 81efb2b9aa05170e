package plots

import (
	"fmt"
	"image"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Verdict is what a picture shows of one detector's finding on one model.
type Verdict struct {
	Title, Caption string
	Names          []string    // of the classes, by label
	Index          []float64   // anomaly index of each
	K              float64     // its threshold
	Suspect        int         // class of a model that is not called clean; negative for none
	Trigger        image.Image // recovered for it; nil for none
}

// mostNames is how many classes a picture of bars names.
const mostNames = 40

// lowestShown is where bars end that would flatten the others.
const lowestShown = -10

// Figure lays the picture out: the index of every class as bars, the suspect's hatched, the
// threshold, and the recovered trigger.
func (v Verdict) Figure() *Figure {
	p := panel("", "", "anomaly index")
	plain, marked := series{colour: rgb(0x70, 0x70, 0x70), fill: rgb(0xd7, 0xd7, 0xd7)}, look(1)
	others, suspect := bars{series: plain, n: 1}, bars{series: marked, n: 1}
	high, low := v.K+0.5, 0.0
	for i, x := range v.Index {
		at := point{float64(i), math.Max(lowestShown, x), math.NaN(), math.NaN()}
		if !finite(at.y) {
			continue
		}
		high, low = math.Max(high, at.y+0.3), math.Min(low, at.y-0.3)
		if i == v.Suspect {
			suspect.points = append(suspect.points, at)
		} else {
			others.points = append(others.points, at)
		}
	}
	p.Add(others, suspect, rule{at: v.K})
	n := len(v.Index)
	width, named := vg.Length(math.Max(4.6, math.Min(14, 0.045*float64(n)+1)))*vg.Inch, vg.Length(0)
	if n <= mostNames {
		named = nominal(p, slices.Clone(v.Names[:n]), width-0.8*vg.Inch)
	} else {
		p.X.Label.Text = "class, by label"
	}
	p.X.Min, p.X.Max = -0.6, float64(n)-0.4
	p.Y.Min, p.Y.Max = low, high
	keys := []key{{"class", others}}
	if len(suspect.points) > 0 {
		keys = append(keys, key{"suspect", suspect})
	}
	keys = append(keys, key{fmt.Sprintf("k = %g", v.K), rule{}})
	f := panels(&Figure{Title: v.Title, Caption: v.Caption, Photos: v.Trigger != nil}, keys, []*plot.Plot{p}, 1, width, 2.6*vg.Inch+named)
	if v.Trigger == nil {
		return f
	}
	const side = 1.7 * vg.Inch
	left, paint := f.width, f.paint
	f.width += side + 20
	f.paint = func(c draw.Canvas) {
		paint(draw.Crop(c, 0, left-f.width, 0, 0))
		max := vg.Point{X: c.Max.X, Y: c.Max.Y - 24}
		box := vg.Rectangle{Min: vg.Point{X: max.X - side, Y: max.Y - side}, Max: max}
		c.DrawImage(box, enlarged(v.Trigger))
		under := style(8.5, false)
		under.XAlign = text.XCenter
		c.FillText(under, vg.Point{X: max.X - side/2, Y: box.Min.Y - 4}, "recovered trigger")
	}
	return f
}
