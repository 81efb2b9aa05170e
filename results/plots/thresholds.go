package plots

import (
	"fmt"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"clipinspector/results/stats"
)

// thresholds draws what each detector would do at every threshold of the index.
func thresholds(d *Data) (*Figure, string) {
	var plots []*plot.Plot
	kinds := []string{"accuracy", "TPR", "FPR"}
	var own []float64
	for _, name := range d.detectors() {
		vs := d.of(name)
		p := panel(name, "threshold k of the anomaly index", "rate")
		lines := make([]curve, len(kinds))
		bands := make([]band, len(kinds))
		for i := range kinds {
			lines[i] = curve{series: look(i), joined: true}
			bands[i] = band{colour: color.NRGBA{look(i).colour.R, look(i).colour.G, look(i).colour.B, 36}}
		}
		for step := range 121 {
			k := float64(step) / 20
			var tp, fp, pos, neg int
			for _, v := range vs {
				flagged := v.score() > k
				if v.model.Result.Backdoored {
					pos, tp = pos+1, tp+count(flagged)
				} else {
					neg, fp = neg+1, fp+count(flagged)
				}
			}
			for i, r := range [][2]int{{tp + neg - fp, pos + neg}, {tp, pos}, {fp, neg}} {
				if r[1] == 0 {
					continue
				}
				lo, hi := stats.Wilson(r[0], r[1])
				lines[i].points = append(lines[i].points, point{k, float64(r[0]) / float64(r[1]), math.NaN(), math.NaN()})
				bands[i].x, bands[i].lo, bands[i].hi = append(bands[i].x, k), append(bands[i].lo, lo), append(bands[i].hi, hi)
			}
		}
		for i := range kinds {
			p.Add(bands[i])
		}
		if k, ok := vs[0].k(); ok {
			p.Add(rule{at: k, upright: true})
			own = append(own, k)
		}
		for i := range kinds {
			p.Add(lines[i])
		}
		rates(p)
		p.X.Min, p.X.Max = 0, 6
		p.X.Tick.Marker = plot.ConstantTicks(every(0, 6, 1))
		plots = append(plots, p)
	}
	var keys []key
	for i, name := range kinds {
		keys = append(keys, key{name, curve{series: look(i), joined: true}})
	}
	if len(own) > 0 {
		keys = append(keys, key{"the threshold in use", rule{}})
	}
	return panels(&Figure{Title: "Every threshold k, suite " + d.Suite,
		Caption: "Verdicts that the stored indices would give at another k; shaded: 95 % Wilson intervals. No inversion runs again."},
		keys, plots, 3, 3.1*vg.Inch, 2.8*vg.Inch), ""
}

// fewestClean is how many clean models it takes for their p-values to say anything together.
const fewestClean = 5

// pValues draws the p-values that clean models' indices stand for against what calibrated ones
// would be: on the diagonal as many clean models are below a level as the level says, under it
// more.
func pValues(d *Data) (*Figure, string) {
	var plots []*plot.Plot
	for _, name := range d.detectors() {
		var index []float64
		for _, v := range d.of(name) {
			if !v.model.Result.Backdoored {
				index = append(index, v.score())
			}
		}
		if len(index) < fewestClean {
			continue
		}
		p := panel(fmt.Sprintf("%s, %d clean models", name, len(index)), "expected p", "observed p")
		observed := curve{series: look(0), joined: true}
		for i, x := range stats.PValues(index) {
			observed.points = append(observed.points, point{(float64(i) + 0.5) / float64(len(index)), x, math.NaN(), math.NaN()})
		}
		p.Add(curve{series: look(1), joined: true, points: []point{{0, 0, math.NaN(), math.NaN()}, {1, 1, math.NaN(), math.NaN()}}}, observed)
		rates(p)
		p.X.Min, p.X.Max = 0, 1
		p.X.Tick.Marker = plot.ConstantTicks(every(0, 1, 0.25))
		plots = append(plots, p)
	}
	if len(plots) == 0 {
		return nil, fmt.Sprintf("fewer than %d clean models", fewestClean)
	}
	return panels(&Figure{Title: "P-values of clean models, suite " + d.Suite,
		Caption: "Each index as the p-value that it stands for, sorted, against what as many calibrated ones would be. " +
			"Points below the diagonal flag more clean models than the level says, points above it fewer."},
		[]key{{"observed", curve{series: look(0), joined: true}}, {"as calibrated ones would be", curve{series: look(1), joined: true}}},
		plots, 3, 3.1*vg.Inch, 3*vg.Inch), ""
}

// Beside is what a picture shows of a model beside clean references.
type Beside struct {
	P      float64   // probability of the model's evidence on a clean model
	Others []float64 // that of each reference beside the others
	Level  float64   // of p, below which a model is called backdoored
}

// leastP is where the axis of p-values ends at the latest: what is smaller stands there.
const leastP = 1e-12

// Figure lays the picture out: p-values on a logarithmic axis, further right more suspicious.
func (b Beside) Figure() *Figure {
	p := panel("", "p: chance that a clean model looks as suspicious", "")
	model, others := curve{series: look(1), marked: 4.5}, curve{series: look(0), marked: 3.2}
	others.glyph = draw.RingGlyph{}
	shown := func(p float64) float64 { return math.Max(leastP, math.Min(1, p)) }
	least := shown(b.P)
	model.points = []point{{shown(b.P), 1, math.NaN(), math.NaN()}}
	for _, x := range b.Others {
		if finite(x) {
			others.points = append(others.points, point{shown(x), 0, math.NaN(), math.NaN()})
			least = math.Min(least, shown(x))
		}
	}
	p.Add(others, model, rule{at: b.Level, upright: true})
	decades := max(3, int(math.Ceil(-math.Log10(least)-1e-9)))
	p.X.Scale = plot.InvertedScale{Normalizer: plot.LogScale{}}
	p.X.Min, p.X.Max = math.Pow(10, -float64(decades)-0.2), math.Pow(10, 0.2)
	var at []plot.Tick
	for i := range decades + 1 {
		t := plot.Tick{Value: math.Pow(10, -float64(i))}
		if step := (decades + 6) / 7; i%step == 0 {
			t.Label = strconv.FormatFloat(t.Value, 'g', 1, 64)
		}
		at = append(at, t)
	}
	p.X.Tick.Marker = plot.ConstantTicks(at)
	p.Y.Min, p.Y.Max = -0.5, 1.5
	p.Y.Tick.Marker = plot.ConstantTicks([]plot.Tick{{Value: 0, Label: "clean references"}, {Value: 1, Label: "this model"}})
	p.Y.Tick.Color = color.Transparent
	caption := "Right of the level a model is called backdoored."
	if len(others.points) > 0 {
		caption += " Each reference is compared with the others by the same rule."
	}
	if b.P < leastP {
		caption += fmt.Sprintf(" What is below %g stands at the edge.", leastP)
	}
	return panels(&Figure{Title: fmt.Sprintf("p = %.3g among its references", b.P), Caption: caption},
		[]key{{"this model", model}, {"clean reference", others}, {fmt.Sprintf("level %.3g", b.Level), rule{}}}, []*plot.Plot{p}, 1, 6*vg.Inch, 1.3*vg.Inch)
}
