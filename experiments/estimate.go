package experiments

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"clipinspector/attacks"
	"clipinspector/clip"
	"clipinspector/datasets"
	"clipinspector/engine"
	"clipinspector/experiments/bench"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/inspector"
	"clipinspector/internal/printable"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/results/store"
	"clipinspector/settings"
)

// estimate is the work of a plan, cell by cell arithmetic of the towers without running anything.
type estimate struct {
	Models, References, Detections, Explanations, Repairs clip.Work
	ByName                                                []namedWork // attacks, then references, detectors, repairs, in the plan's order
}

// namedWork is the work of all cells of one attack or detector.
type namedWork struct {
	Kind  store.Kind
	Name  string
	Cells int
	Work  clip.Work
}

// estimate adds up the work of all cells.
func (p *Plan) estimate() estimate {
	var e estimate
	at := map[string]int{}
	add := func(kind store.Kind, name string, w clip.Work) {
		id := string(kind) + name
		i, ok := at[id]
		if !ok {
			i = len(e.ByName)
			at[id] = i
			e.ByName = append(e.ByName, namedWork{Kind: kind, Name: name})
		}
		e.ByName[i].Cells++
		e.ByName[i].Work.Add(w)
	}
	total := map[store.Kind]*clip.Work{store.KindModel: &e.Models, store.KindReference: &e.References, store.KindDetection: &e.Detections, store.KindExplanation: &e.Explanations,
		store.KindRepair: &e.Repairs}
	p.eachWork(func(kind store.Kind, _ *modelJob, name string, w clip.Work) {
		total[kind].Add(w)
		add(kind, name, w)
	})
	return e
}

// eachWork gives the work of each cell of the plan, with the model that it hangs on.
func (p *Plan) eachWork(f func(kind store.Kind, of *modelJob, name string, w clip.Work)) {
	for _, m := range p.Models {
		f(store.KindModel, m, m.Attack.Name, m.work())
	}
	for _, r := range p.References {
		f(store.KindReference, r.Model, r.Detector.Name, r.work())
	}
	for _, d := range p.Detections {
		w := d.work()
		if d.measured != "" && p.measured[d.measured] != d {
			w = clip.Work{} // judged anew
		}
		f(store.KindDetection, d.Model, d.Detector.Name, w)
	}
	for _, x := range p.Explanations {
		f(store.KindExplanation, x.Detection.Model, x.Detection.Detector.Name, x.work())
	}
	for _, r := range p.Repairs {
		f(store.KindRepair, r.Detection.Model, r.Detection.Detector.Name, r.work())
	}
}

// outline is the model as its parts declare their costs by.
func (m *modelJob) outline() (prompts.Outline, error) {
	l, err := prompts.FindLearner(m.Suite.Learner.Name)
	return prompts.Outline{Learner: l, Settings: m.Suite.Learner.Settings, Config: m.Encoder.Config, Classes: m.Set.Prompts,
		Tokens: m.Encoder.Tokens()}, err
}

// facts are what the detection's detector is asked by before it runs.
func (d *detectionJob) facts() (inspector.Facts, error) {
	o, err := d.Model.outline()
	return inspector.Facts{Model: o, Pool: len(d.Pool.Indices), Labelled: d.Model.labelled(), Settings: d.Detector.Settings}, err
}

// labelled is how many labelled images a detector has at hand: the provider's few-shot images, where
// references are tuned on them.
func (m *modelJob) labelled() int {
	u := m.Suite
	if u.References.Settings == nil || u.References.Settings.String("source") != inspector.FromShots {
		return 0
	}
	return len(m.Set.Prompts) * u.Shots
}

// work of a model cell: the tuning, and the images that measure it.
func (m *modelJob) work() clip.Work {
	attack, err := attacks.Find(m.Attack.Name)
	o, oerr := m.outline()
	if err != nil || oerr != nil {
		return clip.Work{} // a suite is refused before it is planned
	}
	images, test := float64(len(m.Set.Prompts)*m.Suite.Shots), float64(m.Set.Len(datasets.Test))
	w := attack.Cost(o, m.Attack.Settings, m.Suite.Tuning, images, m.target, random.Stream("estimate"))
	measured := test
	if attack.Backdoors() {
		measured += test + float64(len(m.ood.Indices))
	}
	w.Add(o.Encoded(measured))
	w.Add(o.ClassVectors())
	return w
}

// work of a detection cell is what its detector says.
func (d *detectionJob) work() clip.Work { return d.workUnder(d.Detector.Settings) }

func (d *detectionJob) workUnder(s settings.Values) clip.Work {
	detector, err := inspector.Find(d.Detector.Name)
	f, ferr := d.facts()
	if err != nil || ferr != nil || detector.Cost == nil {
		return clip.Work{}
	}
	f.Settings = s
	return detector.Cost(f)
}

// work of a reference cell: the tuning, the images that tell its accuracy, and what the detector
// measures.
func (r *referenceJob) work() clip.Work { return r.workUnder(r.Detector.Settings) }

func (r *referenceJob) workUnder(s settings.Values) clip.Work {
	u := r.Suite
	d, err := inspector.Find(r.Detector.Name)
	o, oerr := r.Model.outline()
	if err != nil || oerr != nil || d.EvidenceCost == nil {
		return clip.Work{}
	}
	o.Settings = u.References.Learner.Settings
	return ReferenceWork(o, d, inspector.Facts{Model: o, Pool: len(r.Pool.Indices), Labelled: r.Model.labelled(), Settings: s},
		float64(len(o.Classes)*u.Shots), r.tuning())
}

// ReferenceWork is the work of one reference: tuned on so many images, of which a share of 1/e is
// not drawn and tells its accuracy, and measured by a detector.
func ReferenceWork(o prompts.Outline, d *inspector.Detector, f inspector.Facts, images float64, tuning settings.Values) clip.Work {
	w := o.Tuned(images, tuning, prompts.Poisoning{})
	w.Add(o.Encoded(images * math.Exp(-1)))
	w.Add(o.ClassVectors())
	w.Add(d.EvidenceCost(f))
	return w
}

// work of an explanation cell is at most that of a class that is explained.
func (x *explanationJob) work() clip.Work {
	o, err := x.Detection.Model.outline()
	if err != nil {
		return clip.Work{}
	}
	return inspector.ExplainCost(o, x.Settings, 1)
}

// work of a repair cell: the rounds' inversions, four arms of steps, and the images that measure
// five models.
func (r *repairJob) work() clip.Work {
	m := r.Detection.Model
	o, err := m.outline()
	if err != nil {
		return clip.Work{}
	}
	w := o.Encoded(12 * float64(m.Set.Len(datasets.Test)))
	w.FLOP += 5 * o.ClassVectors().FLOP
	images := float64(len(m.Set.Prompts) * m.Suite.Shots)
	for range 2 {
		w.Add(o.Tuned(images*(1+r.Settings.Float("share")), r.Settings, prompts.Poisoning{}))
	}
	f, err := r.Detection.facts()
	d, derr := inspector.Find(r.Detection.Detector.Name)
	if err != nil || derr != nil || d.Cost == nil {
		return w
	}
	if f.Only = 1; r.Settings.String("triggers") == "all" {
		f.Only = len(f.Model.Classes)
	}
	for range 2 {
		w.Add(inspector.RepairCost(o, images, r.Settings, r.Explaining, d.Cost(f)))
	}
	if r.Explaining != nil {
		w.Add(inspector.ExplainCost(o, r.Explaining, 1))
	}
	return w
}

// saved says how many image passes less the detections and references of many classes take, or
// would take, by trials than if every class is inverted to the end; a line for those that are
// tried, and one for those that could be.
func (p *Plan) saved() string {
	type passes struct{ with, without float64 }
	var on, off passes
	add := func(work func(settings.Values) clip.Work, s settings.Values) {
		to, tried := &on, s
		if w := inspector.WithMany(s, 0); work(s).Passes == work(w).Passes {
			to, tried = &off, inspector.WithMany(s, inspector.Many)
		}
		if with, without := work(tried).Passes, work(inspector.WithMany(s, 0)).Passes; with != without {
			to.with, to.without = to.with+with, to.without+without
		}
	}
	for _, r := range p.References {
		add(r.workUnder, r.Detector.Settings)
	}
	for _, d := range p.Detections {
		add(d.workUnder, d.Detector.Settings)
	}
	var b strings.Builder
	if on.with > 0 {
		fmt.Fprintf(&b, "many classes: detections and references take %.0f image passes by trials, %.0f if every class were inverted to the end: %.1f times fewer\n",
			on.with, on.without, on.without/on.with)
	}
	if off.with > 0 {
		fmt.Fprintf(&b, "many classes: with many=%d in their settings detections and references would take %.0f image passes instead of %.0f: %.1f times fewer\n",
			inspector.Many, off.with, off.without, off.without/off.with)
	}
	return b.String()
}

// gpuName and gpuRate are the machine that estimates are also given for: half of an H200's 494
// TFLOP/s in dense TF32 products (NVIDIA's data sheet), assumed and not measured.
const (
	gpuName = "an H200"
	gpuRate = 2.5e14
)

// benchFLOP is about how much a pass may cost that measures this machine's rate.
const benchFLOP = 5e10

// TowerRate is how many operations a second the image tower runs at, forward and back.
func TowerRate(e engine.Engine, c clip.Config, atLeast time.Duration) (float64, error) {
	tower := bench.Tower(c)
	tower.Batch = max(1, min(tower.Batch, int(benchFLOP/tower.Config.ImageCost(0).Both())))
	return bench.Rate(e, tower, atLeast)
}

// DryRun prints what a suite would compute and how long that would take at the rate that this
// machine shows in a second. Encoders, datasets and pools that are not at hand are taken by their
// published numbers, as far as those are known.
func DryRun(f *suite.File, o Options, w io.Writer) error {
	workers, threads := world.Share(o.Device, o.Workers, o.Threads)
	e, err := world.OpenEngine(o.Device, threads)
	if err != nil {
		return err
	}
	defer e.Close()
	opened := world.New()
	opened.Outlines = &world.Outlines{}
	plan, err := NewPlan(opened, f, e.Fingerprint())
	if err != nil {
		return err
	}
	config := plan.Models[0].Encoder.Config
	plan = plan.part(o.Shard)
	estimate := plan.estimate()
	rate, err := TowerRate(e, config, time.Second)
	if err != nil {
		return err
	}
	var b strings.Builder
	if f.Extends != "" {
		fmt.Fprintf(&b, "# %s over %s\n%s\n", f.Path, f.Extends, f.Text)
	}
	if o.Shard.Of > 0 {
		fmt.Fprintf(&b, "shard %s of ", o.Shard)
	}
	fmt.Fprintf(&b, "suite %s: %d models, %d detections, %d repairs, %d references\n\n", f.Name, len(plan.Models), len(plan.Detections), len(plan.Repairs), len(plan.References))
	fmt.Fprintf(&b, "%-12s %-16s %7s %15s %12s\n", "cells of", "", "cells", "image passes", "operations")
	for _, n := range estimate.ByName {
		fmt.Fprintf(&b, "%-12s %-16s %7d %15.0f %12.3g\n", n.Kind, n.Name, n.Cells, n.Work.Passes, n.Work.FLOP)
	}
	total := estimate.Models
	total.Add(estimate.References)
	total.Add(estimate.Detections)
	total.Add(estimate.Explanations)
	total.Add(estimate.Repairs)
	fmt.Fprintf(&b, "%-12s %-16s %7d %15.0f %12.3g\n\n", "all", "", len(plan.Models)+len(plan.References)+len(plan.Detections)+len(plan.Explanations)+len(plan.Repairs), total.Passes, total.FLOP)
	fmt.Fprintf(&b, "about %s on %s: the image tower runs at %.3g operations a second forward and back, workers: %d, threads each: %d\n",
		duration(total.FLOP/(rate*float64(workers))), e.Name(), rate, workers, threads)
	fmt.Fprintf(&b, "about %s on %s, if it sustains %.3g operations a second (half its dense TF32 rate; assumed, not measured)\n",
		duration(total.FLOP/gpuRate), gpuName, gpuRate)
	fmt.Fprintf(&b, "(operations: multiplications and additions of matrix products and attention; upper bound for detectors that stop early)\n")
	b.WriteString(plan.saved())
	if notes := opened.Outlines.Notes; len(notes) > 0 {
		fmt.Fprintf(&b, "\nnot at hand, and counted as published or asked for:\n")
		for _, n := range notes {
			fmt.Fprintf(&b, "  %s\n", n)
		}
	}
	for _, n := range plan.same {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	_, err = io.WriteString(w, printable.Lines(b.String()))
	return err
}

// LongestShard estimates how long the largest of n shards of a suite takes with o's workers, at the
// rate that this machine shows in a second.
func LongestShard(f *suite.File, o Options, n int) (time.Duration, error) {
	workers, threads := world.Share(o.Device, o.Workers, o.Threads)
	e, err := world.OpenEngine(o.Device, threads)
	if err != nil {
		return 0, err
	}
	defer e.Close()
	opened := world.New()
	opened.Outlines = &world.Outlines{}
	plan, err := NewPlan(opened, f, e.Fingerprint())
	if err != nil {
		return 0, err
	}
	rate, err := TowerRate(e, plan.Models[0].Encoder.Config, time.Second)
	if err != nil {
		return 0, err
	}
	longest := slices.Max(plan.loads(n))
	return time.Duration(longest / (rate * float64(workers)) * float64(time.Second)), nil
}

// duration is a number of seconds in words, in days where it is several.
func duration(seconds float64) string {
	if days := seconds / 86400; days >= 3 {
		return fmt.Sprintf("%.0f days", days)
	}
	if seconds < 1 {
		return "a second"
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
