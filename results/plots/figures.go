package plots

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// Omitted is a figure that does not apply to a suite, and why.
type Omitted struct{ Name, Reason string }

// mostDatasets is how many datasets a figure has side by side.
const mostDatasets = 100

// Figures lays out all figures that apply to a suite, and says which do not. cases are the models
// to show class by class and, where they have pictures, in the gallery.
func Figures(d *Data, cases []Case) (figures []*Figure, omitted []Omitted) {
	add := func(name string, f *Figure, reason string) {
		if f == nil {
			omitted = append(omitted, Omitted{name, reason})
			return
		}
		f.Name = name
		figures = append(figures, f)
	}
	noVerdict := ""
	if len(d.verdicts) == 0 {
		noVerdict = "no detection is finished"
	}
	swept := ""
	if len(d.Sweeps) > 0 {
		var paths []string
		for _, s := range d.Sweeps {
			paths = append(paths, s.Path)
		}
		swept = "the suite sweeps " + strings.Join(paths, ", ") + ": see its sweeps"
	}
	crowded := ""
	if n := len(d.datasets()); n > mostDatasets {
		crowded = fmt.Sprintf("%d datasets cannot be read side by side; at most %d can", n, mostDatasets)
	}
	for _, p := range []struct {
		name   string
		make   func() (*Figure, string)
		reason string
	}{
		{"roc", func() (*Figure, string) { return ROC(d) }, cmp.Or(noVerdict, swept)},
		{"accuracy-by-dataset", func() (*Figure, string) { return accuracy(d, "dataset") }, cmp.Or(noVerdict, swept, crowded)},
		{"accuracy-by-attack", func() (*Figure, string) { return accuracy(d, "attack") }, cmp.Or(noVerdict, swept)},
		{"models", func() (*Figure, string) { return models(d) }, cmp.Or(swept, crowded)},
		{"indices", func() (*Figure, string) { return Indices(d, cases) }, cmp.Or(noVerdict, swept)},
		{"losses", func() (*Figure, string) { return Losses(d) }, cmp.Or(noVerdict, swept)},
		{"thresholds", func() (*Figure, string) { return thresholds(d) }, cmp.Or(noVerdict, swept)},
		{"p-values", func() (*Figure, string) { return pValues(d) }, cmp.Or(noVerdict, swept)},
		{"gallery", func() (*Figure, string) { return gallery(cases) }, cmp.Or(noVerdict, swept)},
		{"explanations", func() (*Figure, string) { return explanations(cases) }, cmp.Or(noVerdict, swept)},
	} {
		if p.reason != "" {
			add(p.name, nil, p.reason)
			continue
		}
		f, reason := p.make()
		add(p.name, f, reason)
	}
	for i := range d.Sweeps {
		f, reason := sweep(&d.Sweeps[i])
		add("sweep-"+d.Sweeps[i].Path, f, reason)
	}
	if len(d.Sweeps) == 0 {
		add("sweep", nil, "no setting varies in this suite")
	}
	return figures, omitted
}

// interval prints a value with its interval.
func interval(v stats.Num, i stats.Interval) string {
	if !i.Defined() {
		return fmt.Sprintf("%.3f", float64(v))
	}
	return fmt.Sprintf("%.3f [%.3f, %.3f]", float64(v), float64(i[0]), float64(i[1]))
}

// ROC draws the curves of all detectors together, and each alone with its band; nil and the reason
// where there are none.
func ROC(d *Data) (*Figure, string) {
	var keys []key
	together := panel("all detectors", "false-positive rate", "true-positive rate")
	plots := []*plot.Plot{together}
	at := make([]float64, 101)
	for i := range at {
		at[i] = float64(i) / 100
	}
	for i, name := range d.detectors() {
		var scores []float64
		var labels []bool
		var clusters []string
		var truePositives, falsePositives, positives, negatives int
		for _, v := range d.of(name) {
			truth := v.model.Result.Backdoored
			scores, labels, clusters = append(scores, v.score()), append(labels, truth), append(clusters, v.model.Cell.Dataset)
			switch {
			case truth:
				positives++
				truePositives += count(v.Result.Backdoored)
			default:
				negatives++
				falsePositives += count(v.Result.Backdoored)
			}
		}
		curvePoints := stats.ROC(scores, labels)
		if curvePoints == nil {
			continue
		}
		c := curve{series: look(i), joined: true}
		for _, p := range curvePoints {
			c.points = append(c.points, point{p.FPR, p.TPR, math.NaN(), math.NaN()})
		}
		f := row(d, name).Figures
		own := panel(name, "false-positive rate", "true-positive rate")
		if lo, hi := stats.ROCBand(scores, labels, clusters, at, stats.Resamples, stats.BootstrapSeed); lo != nil {
			own.Add(band{colour: pale, x: at, lo: lo, hi: hi})
		}
		own.Add(rule{diagonal: true}, c, note{0.64, 0.12, "AUROC " + interval(f.AUROC, f.AUROCInterval)})
		chosen := curve{series: look(i), marked: 3.6, points: []point{{float64(falsePositives) / float64(negatives),
			float64(truePositives) / float64(positives), float64(f.TPRInterval[0]), float64(f.TPRInterval[1])}}}
		own.Add(chosen, levelled{look(i), chosen.points[0].y, float64(f.FPRInterval[0]), float64(f.FPRInterval[1])})
		together.Add(c, curve{series: chosen.series, marked: 3.6, points: []point{{chosen.points[0].x, chosen.points[0].y, math.NaN(), math.NaN()}}})
		shown := c
		shown.marked = 3.6
		keys = append(keys, key{name + ", AUROC " + interval(f.AUROC, f.AUROCInterval), shown})
		plots = append(plots, own)
	}
	if len(plots) == 1 {
		return nil, "ROC curves need finished verdicts on backdoored and on clean models"
	}
	together.Add(rule{diagonal: true})
	for _, p := range plots {
		rates(p)
		p.X.Min, p.X.Max = 0, 1
		p.X.Tick.Marker = plot.ConstantTicks(every(0, 1, 0.2))
	}
	keys = append(keys, key{"guessing", rule{}})
	columns := len(plots)
	if len(plots) > 3 {
		columns = (len(plots) + 1) / 2
	}
	return panels(&Figure{Title: "ROC of the detectors, suite " + d.Suite,
		Caption: fmt.Sprintf("%d models, %d of them backdoored. Mark: the detector's own threshold, with the Wilson intervals of both rates. "+
			"Grey: 95 %% bootstrap band, whole datasets drawn with replacement. A slope: models of equal index.", len(d.models), d.Summary.Backdoored)},
		keys, plots, columns, 3*vg.Inch, 2.9*vg.Inch), ""
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// row is the summary's row of a detector.
func row(d *Data, name string) stats.DetectorFigures {
	i := slices.IndexFunc(d.Summary.Detectors, func(r stats.DetectorFigures) bool { return r.Name == name })
	return d.Summary.Detectors[i]
}

// accuracy draws the share of correct verdicts by dataset or by attack, as grouped bars.
func accuracy(d *Data, by string) (*Figure, string) {
	var names []string
	var keys []key
	detectors := d.detectors()
	p := panel("", "", "share of correct verdicts")
	groups := func(r stats.DetectorFigures) stats.Object[stats.Figures] {
		if by == "dataset" {
			return r.ByDataset
		}
		return r.ByAttack
	}
	for _, name := range detectors {
		for _, e := range groups(row(d, name)) {
			if !slices.Contains(names, e.Name) {
				names = append(names, e.Name)
			}
		}
	}
	for i, name := range detectors {
		b := bars{series: look(i), i: i, n: len(detectors)}
		for x, group := range names {
			if f, ok := groups(row(d, name)).Get(group); ok {
				b.points = append(b.points, point{float64(x), float64(f.Accuracy), float64(f.AccuracyInterval[0]), float64(f.AccuracyInterval[1])})
			}
		}
		f := row(d, name).Figures
		keys = append(keys, key{fmt.Sprintf("%s, %d/%d in all", name, f.Correct, f.Models), b})
		p.Add(b)
	}
	rates(p)
	per := 0.18*float64(len(detectors)) + 0.25
	width := vg.Length(math.Max(6, 0.8+per*float64(len(names)))) * vg.Inch
	named := nominal(p, names, width-0.8*vg.Inch)
	counts := map[int]bool{}
	for _, name := range detectors {
		for _, e := range groups(row(d, name)) {
			counts[e.Value.Models] = true
		}
	}
	each := "several models"
	if len(counts) == 1 {
		for n := range counts {
			each = fmt.Sprintf("%d models", n)
		}
	}
	return panels(&Figure{Title: "Correct verdicts by " + by + ", suite " + d.Suite,
		Caption: fmt.Sprintf("Share of the verdicts that are right, with 95 %% Wilson intervals; %s in each group. Clean models count where they are passed.", each)},
		keys, []*plot.Plot{p}, 1, width, 3.3*vg.Inch+named), ""
}

// models draws accuracy and success rate of every model.
func models(d *Data) (*Figure, string) {
	if len(d.models) == 0 {
		return nil, "no model is finished"
	}
	datasets := d.datasets()
	var seeds []int
	clean := map[string]float64{} // by dataset and seed
	at := func(m store.ModelRow) string { return fmt.Sprint(m.Cell.Dataset, m.Cell.Seed) }
	for _, m := range d.models {
		if !slices.Contains(seeds, m.Cell.Seed) {
			seeds = append(seeds, m.Cell.Seed)
		}
		if !m.Result.Backdoored {
			clean[at(m)] = m.Result.ACC
		}
	}
	acc := curve{series: look(0), marked: 3, shift: -4}
	asr := curve{series: look(1), marked: 3.4, shift: 6}
	asr.glyph = draw.TriangleGlyph{}
	before := curve{series: series{colour: rgb(0x70, 0x70, 0x70), glyph: dashGlyph{}}, marked: 4, shift: -4}
	width := vg.Length(math.Max(6, 0.8+0.78*float64(len(datasets)))) * vg.Inch
	var plots []*plot.Plot
	lowest, named := 0.8, vg.Length(0)
	attacks := d.attacks()
	for i, attack := range attacks {
		p := panel(attack, "", "rate")
		a, s, b := acc, asr, before
		backdoored := false
		for _, m := range d.models {
			if m.Cell.Attack != attack {
				continue
			}
			backdoored = backdoored || m.Result.Backdoored
			x := float64(slices.Index(datasets, m.Cell.Dataset))
			if n := len(seeds); n > 1 { // seeds side by side
				x += 0.7 * (float64(slices.Index(seeds, m.Cell.Seed))/float64(n-1) - 0.5)
				a.shift, s.shift, b.shift = 0, 0, 0
			}
			if c, ok := clean[at(m)]; ok && m.Result.Backdoored {
				b.points = append(b.points, point{x, c, math.NaN(), math.NaN()})
			}
			a.points = append(a.points, point{x, m.Result.ACC, math.NaN(), math.NaN()})
			s.points = append(s.points, point{x, m.Result.ASR, math.NaN(), math.NaN()})
			lowest = math.Min(lowest, m.Result.ACC)
			if m.Result.Backdoored {
				lowest = math.Min(lowest, m.Result.ASR)
			}
		}
		if backdoored {
			p.Add(rule{at: store.FiringASR})
		}
		p.Add(b, a, s)
		rates(p)
		named = nominal(p, datasets, width-0.8*vg.Inch)
		if i+1 < len(attacks) {
			nominal(p, make([]string, len(datasets)), width)
		}
		plots = append(plots, p)
	}
	for _, p := range plots {
		if p.Y.Min = math.Max(0, math.Floor(5*lowest)/5); p.Y.Min > 0 {
			p.Y.Label.Text = fmt.Sprintf("rate, from %g", p.Y.Min)
		}
	}
	keys := []key{{"ACC", acc}, {"ASR, without the target class's images", asr}, {"ACC of the clean model of the same dataset and seed", before},
		{fmt.Sprintf("a backdoor fires from ASR %g", store.FiringASR), rule{}}}
	f := panels(&Figure{Title: "Models of suite " + d.Suite,
		Caption: fmt.Sprintf("Accuracy on clean test images and success rate of the backdoor, each of %d models.", len(d.models))},
		keys, plots, 1, width, 1.35*vg.Inch)
	f.height += 0.3*vg.Inch + named // names of the datasets
	return f, ""
}

// dashGlyph is a short level line.
type dashGlyph struct{}

// DrawGlyph implements draw.GlyphDrawer.
func (dashGlyph) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	c.StrokeLine2(draw.LineStyle{Color: s.Color, Width: vg.Points(1.6)}, at.X-1.6*s.Radius, at.Y, at.X+1.6*s.Radius, at.Y)
}

// Indices draws the anomaly index of every class of the chosen models; nil and the reason where
// there are none.
func Indices(d *Data, cases []Case) (*Figure, string) {
	if len(cases) == 0 {
		return nil, "no model is finished"
	}
	var plots []*plot.Plot
	detectors := d.detectors()
	keys := []key{}
	for i, name := range detectors {
		keys = append(keys, key{name, curve{series: look(i), marked: 3.2}})
	}
	keys = append(keys, key{"target class", shade{}}, key{"k", rule{}})
	const bottom, top = -4.0, 8.0 // how far a class lies below the others decides nothing
	width, columns, named := 4.3*vg.Inch, 1, vg.Length(0)
	for i, c := range cases {
		width = max(width, min(14*vg.Inch, vg.Length(0.045*float64(c.Model.Result.Classes)+1)*vg.Inch))
		if i > 0 && c.Model.Cell.Attack == cases[i-1].Model.Cell.Attack {
			columns = 2
		}
	}
	for i, c := range cases {
		if len(plots)%columns == 1 && c.Model.Cell.Attack != cases[i-1].Model.Cell.Attack {
			plots = append(plots, nil) // an attack begins a row
		}
		p := panel(fmt.Sprintf("%s: %s", c.Name(), c.Outcome), "", "anomaly index")
		if c.Model.Result.Backdoored {
			p.Add(shade{float64(c.Model.Result.Target)})
		}
		ks := map[float64]bool{}
		high, low := 3.0, -3.0
		beyond := map[int][]string{}
		for _, v := range d.verdictsOn(c.Model) {
			if k, ok := v.k(); ok && !ks[k] {
				ks[k] = true
				p.Add(rule{at: k})
			}
			i := slices.Index(detectors, v.Cell.Detector)
			s := curve{series: look(i), marked: 3.2, shift: vg.Length(7 * (float64(i) - float64(len(detectors)-1)/2))}
			if len(v.Result.Classes) > 15 {
				s.shift, s.marked = 0, 2.2
			}
			for _, class := range v.Result.Classes {
				if !finite(class.Index) || class.Class == store.NoClass {
					continue
				}
				shown := math.Max(bottom, math.Min(top, class.Index))
				s.points = append(s.points, point{float64(class.Class), shown, math.NaN(), math.NaN()})
				if shown < class.Index {
					beyond[class.Class] = append(beyond[class.Class], brief(class.Index))
				}
				high, low = math.Max(high, shown+0.6), math.Min(low, shown-0.6)
			}
			p.Add(s)
		}
		if len(beyond) <= 3 {
			for _, class := range slices.Sorted(maps.Keys(beyond)) {
				p.Add(tag{float64(class), top, vg.Length(4*len(detectors) + 3), strings.Join(beyond[class], ", ")})
			}
		} else { // their values would cover each other
			high = top + 2
			p.Add(tag{0, top + 1.1, 0, fmt.Sprintf("%d classes above %g", len(beyond), top)})
		}
		names := slices.Clone(c.Classes)
		for len(names) < c.Model.Result.Classes {
			names = append(names, fmt.Sprint(len(names)))
		}
		if len(names) > 25 {
			p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
			p.X.Label.Text = "class"
		} else {
			named = max(named, nominal(p, names, width-0.8*vg.Inch))
		}
		p.Y.Min, p.Y.Max = low, high
		p.Y.Tick.Marker = plot.ConstantTicks(every(bottom, top, 2))
		plots = append(plots, p)
	}
	return panels(&Figure{Title: "Anomaly index per class, suite " + d.Suite,
		Caption: fmt.Sprintf("A model is called backdoored where a class lies above k. Outcomes are those of %s. "+
			"Indices above %g or below %g stand at the edge, those above with their value where few do.",
			detectors[0], top, bottom)},
		keys, plots, columns, width, 2.15*vg.Inch+named), ""
}

// Losses draws loss against success rate of every class of every model; nil and the reason where no
// class has both.
func Losses(d *Data) (*Figure, string) {
	others := series{colour: rgb(0x88, 0x88, 0x88), glyph: draw.RingGlyph{}}
	cleans := series{colour: rgb(0x1b, 0x7a, 0xb0), glyph: draw.PlusGlyph{}}
	targets := series{colour: rgb(0x14, 0x14, 0x14), glyph: draw.PyramidGlyph{}}
	var plots []*plot.Plot
	for _, name := range d.detectors() {
		p := panel(name, "ASR of the recovered trigger", "reconstruction loss")
		other, clean, target := curve{series: others, marked: 2}, curve{series: cleans, marked: 2.2}, curve{series: targets, marked: 3.2}
		for _, v := range d.of(name) {
			for _, c := range v.Result.Classes {
				if !finite(c.ASR) || !finite(c.Loss) {
					continue
				}
				to := &other
				switch {
				case !v.model.Result.Backdoored:
					to = &clean
				case v.model.Result.Target == c.Class:
					to = &target
				}
				to.points = append(to.points, point{c.ASR, c.Loss, math.NaN(), math.NaN()})
			}
		}
		p.Add(other, clean, target)
		if math.IsInf(p.Y.Min, 0) {
			continue // no class has both figures
		}
		p.X.Min, p.X.Max = math.Min(0.9, math.Floor(10*p.X.Min)/10), 1
		if p.X.Min > 0 {
			p.X.Label.Text += fmt.Sprintf(", axis from %.2g", p.X.Min)
		}
		room := 0.02 * (p.X.Max - p.X.Min)
		p.X.Min, p.X.Max = p.X.Min-room, p.X.Max+room
		p.Y.Min = math.Min(0, p.Y.Min)
		p.Y.Max += 0.03 * (p.Y.Max - p.Y.Min)
		plots = append(plots, p)
	}
	if len(plots) == 0 {
		return nil, "no detection has class scores"
	}
	keys := []key{{"target class of a backdoored model", curve{series: targets, marked: 3.2}},
		{"other class of a backdoored model", curve{series: others, marked: 2}}, {"class of a clean model", curve{series: cleans, marked: 2.2}}}
	return panels(&Figure{Title: "Loss against ASR of every class, suite " + d.Suite,
		Caption: fmt.Sprintf("Each mark is one class of %s, measured on images that its trigger was not optimised on. "+
			"The loss is each detector's own; mind the axes.", oneOf(len(d.models)))},
		keys, plots, 3, 3.1*vg.Inch, 3*vg.Inch), ""
}

// oneOf names one of n models.
func oneOf(n int) string {
	if n == 1 {
		return "the model"
	}
	return fmt.Sprintf("one of %d models", n)
}
