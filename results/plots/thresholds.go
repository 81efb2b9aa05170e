package plots

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"

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

// pValues draws the p-values that clean models' indices stand for against what calibrated ones would be: on the diagonal as many
// clean models are below a level as the level says, under it more.
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
