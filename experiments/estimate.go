package experiments

import (
	"fmt"
	"io"
	"strings"
	"time"

	"clipinspector/attacks"
	"clipinspector/clip"
	"clipinspector/datasets"
	"clipinspector/engine"
	"clipinspector/experiments/bench"
	"clipinspector/inspector"
	"clipinspector/prompts"
	"clipinspector/results"
	"clipinspector/settings"
)

// Work is an amount of computing.
type Work struct {
	Passes float64 // images through the image tower, with or without a backward pass
	FLOP   float64 // of matrix products and attention
}

func (w *Work) add(o Work) {
	w.Passes += o.Passes
	w.FLOP += o.FLOP
}

// Estimate is the work of a plan, cell by cell arithmetic of the towers without running anything.
type Estimate struct {
	Models, Detections, Repairs Work
	ByName                      []NamedWork // attacks, then detectors, then repairs, in the plan's order
}

// NamedWork is the work of all cells of one attack or detector.
type NamedWork struct {
	Kind  results.Kind
	Name  string
	Cells int
	Work  Work
}

// Estimate adds up the work of all cells.
func (p *Plan) Estimate() Estimate {
	var e Estimate
	at := map[string]int{}
	add := func(kind results.Kind, name string, w Work) {
		id := string(kind) + name
		i, ok := at[id]
		if !ok {
			i = len(e.ByName)
			at[id] = i
			e.ByName = append(e.ByName, NamedWork{Kind: kind, Name: name})
		}
		e.ByName[i].Cells++
		e.ByName[i].Work.add(w)
	}
	for _, m := range p.Models {
		w := m.work()
		e.Models.add(w)
		add(results.KindModel, m.Attack.Name, w)
	}
	for _, d := range p.Detections {
		w := d.work()
		e.Detections.add(w)
		add(results.KindDetection, d.Detector.Name, w)
	}
	for _, r := range p.Repairs {
		w := r.work()
		e.Repairs.add(w)
		add(results.KindRepair, r.Detection.Detector.Name, w)
	}
	return e
}

// tower is the FLOP of one sequence through a transformer tower, forward; a pass back to its input costs as much again.
func tower(tokens, width, mlp, layers int) float64 {
	n, w := float64(tokens), float64(width)
	return float64(layers) * (2*n*w*(4*w+2*float64(mlp)) + 4*n*n*w)
}

func imageFLOP(c clip.Config) float64 {
	v := c.Vision
	patches := (v.ImageSize / v.PatchSize) * (v.ImageSize / v.PatchSize)
	return tower(patches+1, v.Width, v.MLP, v.Layers) + 2*float64(patches*v.Width*3*v.PatchSize*v.PatchSize)
}

// tokens is the number of tokens of a text; of words and punctuation where the encoder's vocabulary is not at hand.
func (m *ModelJob) tokens(text string) int {
	if m.encoder.tokenizer == nil {
		return len(strings.Fields(text)) + strings.Count(text, ".")
	}
	return len(m.encoder.tokenizer.Encode(text))
}

// promptFLOP is the forward FLOP of all classes' prompts.
func (m *ModelJob) promptFLOP() float64 {
	c := m.encoder.Config.Text
	longest := 0
	for _, name := range m.set.prompts {
		longest = max(longest, m.tokens(name+".")+1)
	}
	context, _ := m.Suite.Learner.Settings["context"].(int) // no learner needs to have one
	if words, _ := m.Suite.Learner.Settings["init"].(string); words != "" {
		context = m.tokens(words)
	}
	return float64(len(m.set.prompts)) * tower(1+context+longest, c.Width, c.MLP, c.Layers)
}

func (m *ModelJob) conditional() bool {
	l, err := prompts.FindLearner(m.Suite.Learner.Name)
	return err == nil && l.Conditional
}

// seesPixels tells whether every tuning step goes through the image tower: features do not serve such a learner.
func (m *ModelJob) seesPixels() bool {
	l, err := prompts.FindLearner(m.Suite.Learner.Name)
	return err == nil && l.Image != nil
}

// work of a model cell: features of the few-shot images, tuning steps, and the images that measure it.
func (m *ModelJob) work() Work {
	image, text := imageFLOP(m.encoder.Config), m.promptFLOP()
	k := len(m.set.prompts)
	shots, test, ood := float64(k*m.Suite.Shots), float64(m.set.Len(datasets.Test)), float64(len(m.ood.indices))
	batch := float64(min(m.Suite.Tuning.Int("batch"), k*m.Suite.Shots))
	epochs := float64(m.Suite.Tuning.Int("epochs"))
	attack, err := attacks.Find(m.Attack.Name)
	if err != nil {
		return Work{}
	}
	perStep := 2 * text // class vectors, forward and back
	if m.conditional() {
		perStep *= batch
		text *= test // class vectors of every image
	}
	steps := epochs * float64(int(shots/batch))
	views := shots * float64(m.Suite.Tuning.Int("views"))
	if views == 0 { // every step encodes fresh crops
		views = steps * batch
	}
	w := Work{Passes: views + test, FLOP: (views+test)*image + steps*perStep + text}
	through := Work{Passes: steps * batch, FLOP: 3 * steps * batch * image} // forward, back to pixels or prompts and to weights
	if m.seesPixels() {
		w.add(through)
	}
	if !attack.Backdoors() {
		return w
	}
	w.add(Work{Passes: test + ood, FLOP: (test+ood)*image + text})
	switch {
	case attack.Learn == nil && m.seesPixels():
		w.add(through)
	case attack.Learn == nil:
		w.add(Work{Passes: views, FLOP: views * image})
	default:
		l := attack.Learn(m.Attack.Settings)
		passes := (epochs + float64(l.Warmup)) * shots
		w.add(Work{Passes: passes, FLOP: 2 * passes * image})
	}
	if m.conditional() {
		w.FLOP += steps * perStep // the triggered half
	}
	return w
}

// work of a detection cell: every class goes through the optimising images once an epoch or round, forward and back, and
// through the measuring images.
func (d *DetectionJob) work() Work {
	s := d.Detector.Settings
	number := func(name string, absent int) float64 {
		if v, ok := s[name].(int); ok {
			return float64(v)
		}
		return float64(absent)
	}
	k := float64(len(d.Model.set.prompts))
	optimise, measure := number("optimise", len(d.pool.indices)), number("measure", 0)
	passes := optimise * number("epochs", 1)
	if budget, ok := s["budget"].(string); ok && budget == "authors" {
		passes = min(optimise, number("images", int(optimise))) * number("rounds", 1)
		if d, err := inspector.Find(d.Detector.Name); err == nil && d.Shared {
			passes /= k
		}
	}
	image := imageFLOP(d.Model.encoder.Config)
	each := 0.0
	if d.Model.conditional() {
		each = d.Model.promptFLOP()
	}
	return Work{Passes: k * (passes + measure), FLOP: k * (2*passes*(image+each) + measure*(image+each))}
}

// work of a repair cell: the rounds' inversions, three arms of steps, and the images that measure four models.
func (r *RepairJob) work() Work {
	m := r.Detection.Model
	text, test := m.promptFLOP(), float64(m.set.Len(datasets.Test))
	if m.conditional() {
		text *= test
	}
	w := Work{Passes: 9 * test, FLOP: 9*test*imageFLOP(m.encoder.Config) + 12*text}
	for range 3 {
		w.add(m.tuneWork(float64(len(m.set.prompts)*m.Suite.Shots), 1+r.Settings.Float("share"), r.Settings))
	}
	for range r.Settings.Int("rounds") {
		w.add(r.Detection.work())
	}
	return w
}

// tuneWork is the work of tuning prompts on clean images, each shown so many times an epoch.
func (m *ModelJob) tuneWork(images, shown float64, s settings.Values) Work {
	rows := images * shown
	batch := min(rows, float64(s.Int("batch")))
	steps := float64(s.Int("epochs")) * float64(int(rows/batch))
	perStep := 2 * m.promptFLOP()
	if m.conditional() {
		perStep *= batch
	}
	views := rows * float64(max(1, s.Int("views")))
	w := Work{Passes: views, FLOP: views*imageFLOP(m.encoder.Config) + steps*perStep}
	if m.seesPixels() {
		w.add(Work{Passes: steps * batch, FLOP: 2 * steps * batch * imageFLOP(m.encoder.Config)})
	}
	return w
}

// gpuName and gpuRate are the machine that estimates are also given for: half of an H200's 494 TFLOP/s in dense TF32
// products (NVIDIA's data sheet), assumed and not measured.
const (
	gpuName = "an H200"
	gpuRate = 2.5e14
)

// benchFLOP is about how much a pass may cost that measures this machine's rate.
const benchFLOP = 5e10

// towerRate is how many operations a second the image tower runs at, forward and back.
func towerRate(e engine.Engine, c clip.Config, atLeast time.Duration) (float64, error) {
	tower := bench.Tower(c)
	tower.Batch = max(1, min(tower.Batch, int(benchFLOP/(2*imageFLOP(tower.Config)))))
	measured, err := bench.Run(e, tower, atLeast)
	if err != nil {
		return 0, err
	}
	return measured.Rate(), nil
}

// DryRun prints what a suite would compute and how long that would take at the rate that this machine shows in a second.
// Encoders, datasets and pools that are not at hand are taken by their published numbers, as far as those are known.
func DryRun(f *File, o Options, w io.Writer) error {
	workers, threads := share(o.Device, o.Workers, o.Threads)
	e, err := OpenEngine(o.Device, threads)
	if err != nil {
		return err
	}
	defer e.Close()
	world := NewWorld()
	world.outlines = &outlines{}
	plan, err := world.Plan(f, e.Fingerprint())
	if err != nil {
		return err
	}
	estimate := plan.Estimate()
	rate, err := towerRate(e, plan.Models[0].encoder.Config, time.Second)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "suite %s: %d models, %d detections, %d repairs\n\n", f.Name, len(plan.Models), len(plan.Detections), len(plan.Repairs))
	fmt.Fprintf(&b, "%-12s %-16s %7s %15s %12s\n", "cells of", "", "cells", "image passes", "operations")
	for _, n := range estimate.ByName {
		fmt.Fprintf(&b, "%-12s %-16s %7d %15.0f %12.3g\n", n.Kind, n.Name, n.Cells, n.Work.Passes, n.Work.FLOP)
	}
	total := estimate.Models
	total.add(estimate.Detections)
	total.add(estimate.Repairs)
	fmt.Fprintf(&b, "%-12s %-16s %7d %15.0f %12.3g\n\n", "all", "", len(plan.Models)+len(plan.Detections)+len(plan.Repairs), total.Passes, total.FLOP)
	fmt.Fprintf(&b, "about %s on %s: the image tower runs at %.3g operations a second forward and back, workers: %d, threads each: %d\n",
		duration(total.FLOP/(rate*float64(workers))), e.Name(), rate, workers, threads)
	fmt.Fprintf(&b, "about %s on %s, if it sustains %.3g operations a second (half its dense TF32 rate; assumed, not measured)\n",
		duration(total.FLOP/gpuRate), gpuName, gpuRate)
	fmt.Fprintf(&b, "(operations: multiplications and additions of matrix products and attention; upper bound for detectors that stop early)\n")
	if notes := world.outlines.notes; len(notes) > 0 {
		fmt.Fprintf(&b, "\nnot at hand, and counted as published or asked for:\n")
		for _, n := range notes {
			fmt.Fprintf(&b, "  %s\n", n)
		}
	}
	_, err = io.WriteString(w, b.String())
	return err
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
