package plots

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"

	"clipinspector/results/stats"
)

// sweep draws the figures of the detectors, and where it is a setting of models theirs, against a
// setting.
func sweep(w *stats.Sweep) (*Figure, string) {
	if len(w.Detectors) == 0 && len(w.Attacks) == 0 {
		return nil, "no cell is finished"
	}
	axis := newAxis(w.Values)
	var plots []*plot.Plot
	var keys []key
	lines := func(title string, names []string, offset int, at func(i, j int) point) {
		p := panel(title, w.Path, "")
		for i := range names {
			c := curve{series: look(i + offset), joined: !axis.nominal, marked: 3,
				shift: vg.Length(4 * (float64(i) - float64(len(names)-1)/2))}
			for j := range w.Values {
				q := at(i, j)
				q.x = axis.at[j]
				c.points = append(c.points, q)
			}
			p.Add(c)
		}
		rates(p)
		axis.set(p)
		plots = append(plots, p)
	}
	var detectors, attacks []string
	for i, e := range w.Detectors {
		detectors = append(detectors, e.Name)
		keys = append(keys, key{e.Name, curve{series: look(i), joined: !axis.nominal, marked: 3}})
	}
	of := func(value func(stats.Figures) (stats.Num, stats.Interval)) func(i, j int) point {
		return func(i, j int) point {
			v, in := value(w.Detectors[i].Value[j])
			return point{0, float64(v), float64(in[0]), float64(in[1])}
		}
	}
	if len(detectors) > 0 {
		lines("AUROC", detectors, 0, of(func(f stats.Figures) (stats.Num, stats.Interval) { return f.AUROC, f.AUROCInterval }))
		lines("accuracy", detectors, 0, of(func(f stats.Figures) (stats.Num, stats.Interval) { return f.Accuracy, f.AccuracyInterval }))
		lines("true-positive rate", detectors, 0, of(func(f stats.Figures) (stats.Num, stats.Interval) { return f.TPR, f.TPRInterval }))
		lines("false-positive rate", detectors, 0, of(func(f stats.Figures) (stats.Num, stats.Interval) { return f.FPR, f.FPRInterval }))
	}
	for i, e := range w.Attacks {
		attacks = append(attacks, e.Name)
		keys = append(keys, key{e.Name + " (models)", curve{series: look(i + len(detectors)), joined: !axis.nominal, marked: 3}})
	}
	if len(attacks) > 0 {
		lines("mean ACC of the models", attacks, len(detectors), func(i, j int) point {
			return point{0, float64(w.Attacks[i].Value[j].ACCMean), math.NaN(), math.NaN()}
		})
		lines("mean ASR of the models", attacks, len(detectors), func(i, j int) point {
			return point{0, float64(w.Attacks[i].Value[j].ASRMean), math.NaN(), math.NaN()}
		})
	}
	most := 0
	for _, e := range w.Detectors {
		for _, f := range e.Value {
			most = max(most, f.Models)
		}
	}
	caption := fmt.Sprintf("Each value: up to %d verdicts a detector. Bars: 95 %% intervals, bootstrap over datasets for AUROC, Wilson for rates.", most)
	if len(w.Others) > 0 {
		caption += " Pooled over " + strings.Join(w.Others, ", ") + "."
	}
	return panels(&Figure{Title: "Sweep of " + w.Path, Caption: caption}, keys, plots, 2, 3.6*vg.Inch, 2.3*vg.Inch), ""
}

// axis is the horizontal axis of a sweep: numbers on a linear or logarithmic scale, or names side
// by side.
type axis struct {
	at      []float64
	labels  []string
	nominal bool
	log     bool
}

func newAxis(values []any) (a axis) {
	least, most := math.Inf(1), math.Inf(-1)
	for i, v := range values {
		x, ok := number(v)
		switch {
		case ok:
			a.at, a.labels = append(a.at, x), append(a.labels, brief(x))
			least, most = math.Min(least, x), math.Max(most, x)
		default:
			a.nominal = true
			a.at, a.labels = append(a.at, float64(i)), append(a.labels, label(v))
		}
	}
	if a.nominal {
		for i := range a.at {
			a.at[i] = float64(i)
		}
	}
	a.log = !a.nominal && least > 0 && most/least >= 5
	return a
}

func label(v any) string {
	switch x := v.(type) {
	case nil:
		return "none"
	case string:
		return x
	}
	return fmt.Sprint(v)
}

func number(v any) (float64, bool) {
	switch x := v.(type) {
	case int:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}

// set gives a panel the axis.
func (a axis) set(p *plot.Plot) {
	if a.nominal {
		nominal(p, a.labels, 2.8*vg.Inch)
		return
	}
	ticks := make([]plot.Tick, len(a.at))
	for i := range a.at {
		ticks[i] = plot.Tick{Value: a.at[i], Label: a.labels[i]}
	}
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	p.X.Min, p.X.Max = slices.Min(a.at), slices.Max(a.at)
	room := 0.06
	if a.log {
		p.X.Scale = plot.LogScale{}
		room = math.Pow(p.X.Max/p.X.Min, room)
		p.X.Min, p.X.Max = p.X.Min/room, p.X.Max*room
		return
	}
	room *= p.X.Max - p.X.Min
	p.X.Min, p.X.Max = p.X.Min-room, p.X.Max+room
}
