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
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/inspector"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/results/store"
	"clipinspector/settings"
)

// Work is an amount of computing.
type Work struct {
	Passes float64 // images through the image tower, with or without a backward pass
	FLOP   float64 // of matrix products and attention
}

func (w *Work) Add(o Work) {
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
	Kind  store.Kind
	Name  string
	Cells int
	Work  Work
}

// Estimate adds up the work of all cells.
func (p *Plan) Estimate() Estimate {
	var e Estimate
	at := map[string]int{}
	add := func(kind store.Kind, name string, w Work) {
		id := string(kind) + name
		i, ok := at[id]
		if !ok {
			i = len(e.ByName)
			at[id] = i
			e.ByName = append(e.ByName, NamedWork{Kind: kind, Name: name})
		}
		e.ByName[i].Cells++
		e.ByName[i].Work.Add(w)
	}
	for _, m := range p.Models {
		w := m.work()
		e.Models.Add(w)
		add(store.KindModel, m.Attack.Name, w)
	}
	for _, d := range p.Detections {
		w := d.Work()
		if d.measured != "" && p.measured[d.measured] != d {
			w = Work{} // judged anew
		}
		e.Detections.Add(w)
		add(store.KindDetection, d.Detector.Name, w)
	}
	for _, r := range p.Repairs {
		w := r.work()
		e.Repairs.Add(w)
		add(store.KindRepair, r.Detection.Detector.Name, w)
	}
	return e
}

// cost is the FLOP of going through a tower: forward, and back to its input.
type cost struct{ forward, back float64 }

// both is the cost of going forward and back.
func (c cost) both() float64 { return c.forward + c.back }

// tower is the cost of one sequence through a transformer tower and its projection. Of the last block's output one token is read, so
// that the others do not pass the second half of it. Back through the attention there are five products for two.
func tower(tokens, width, mlp, layers, projection int) cost {
	n, w, depth := float64(tokens), float64(width), float64(layers)
	half := 2 * w * (w + 2*float64(mlp)) // output of the attention and MLP, of a token
	products := depth*n*(6*w*w+half) - (n-1)*half + 2*w*float64(projection)
	attention := depth * 4 * n * n * w
	return cost{products + attention, products + 2.5*attention}
}

// imageCost is the cost of an image, back to its pixels, with so many prompts beside its patches.
func imageCost(c clip.Config, prompts int) cost {
	v := c.Vision
	side := v.ImageSize / v.PatchSize
	t := tower(1+prompts+side*side, v.Width, v.MLP, v.Layers, c.ProjectionDim)
	e := embedding(v)
	return cost{t.forward + e, t.back + e}
}

// embedding is the part of imageCost between the pixels and the tower, in either direction.
func embedding(v clip.VisionConfig) float64 { return 2 * float64(v.ImageSize*v.ImageSize*3*v.Width) }

// learner is what tunes the model's prompts.
func (m *ModelJob) learner() *prompts.Learner {
	l, err := prompts.FindLearner(m.Suite.Learner.Name)
	if err != nil {
		return &prompts.Learner{} // a suite is refused before it is planned
	}
	return l
}

// imageCost is the cost of an image through the delivered model's tower.
func (m *ModelJob) imageCost() cost {
	n := 0
	if l := m.learner(); l.Visual != nil {
		n = l.Visual(m.Suite.Learner.Settings)
	}
	return imageCost(m.Encoder.Config, n)
}

// tokens is the number of tokens of a text; of words and punctuation where the encoder's vocabulary is not at hand.
func (m *ModelJob) tokens(text string) int {
	if m.Encoder.Tokenizer == nil {
		return len(strings.Fields(text)) + strings.Count(text, ".")
	}
	return len(m.Encoder.Tokenizer.Encode(text))
}

// promptCost is the cost of all classes' prompts, the context tuned or not; back only where it is.
func (m *ModelJob) promptCost() cost {
	s := m.Suite.Learner.Settings
	context, tuned := s["context"].(int) // no learner needs to have one
	if words, _ := s["init"].(string); words != "" {
		if n := m.tokens(words); m.learner().Image == nil || n > context {
			context = n // CoOp's context is as long as its words; MaPLe's has the first of them, and a longer one none
		}
	}
	c := m.textCost(context)
	if !tuned {
		c.back = 0
	}
	return c
}

// textCost is the cost of all classes' names behind so many tokens.
func (m *ModelJob) textCost(context int) cost {
	c, k := m.Encoder.Config.Text, float64(len(m.Set.Prompts))
	longest := 0
	for _, name := range m.Set.Prompts {
		longest = max(longest, m.tokens(name+".")+1)
	}
	t := tower(1+context+longest, c.Width, c.MLP, c.Layers, m.Encoder.Config.ProjectionDim)
	return cost{k * t.forward, k * t.back}
}

// encoded is the work of so many images through the model, class vectors included where they depend on the image.
func (m *ModelJob) encoded(images float64) Work {
	w := Work{Passes: images, FLOP: images * m.imageCost().forward}
	if m.learner().Conditional {
		w.FLOP += images * m.promptCost().forward
	}
	return w
}

// poisoning is what each image is shown with while prompts are tuned, besides itself.
type Poisoning struct {
	fixed  int // triggers, the backdoor's or covers
	learns bool
	warmup int // epochs in which a trigger learns alone
}

// work of a model cell: the tuning, and the images that measure it.
func (m *ModelJob) work() Work {
	k := len(m.Set.Prompts)
	images, test, ood := float64(k*m.Suite.Shots), float64(m.Set.Len(datasets.Test)), float64(len(m.ood.Indices))
	attack, err := attacks.Find(m.Attack.Name)
	if err != nil {
		return Work{}
	}
	var p Poisoning
	measured, s := test, m.Attack.Settings
	w := Work{}
	if attack.Backdoors() {
		measured += test + ood
		if attack.Learn != nil {
			p.learns, p.warmup = true, attack.Learn(s).Warmup
		} else if p.fixed = 1; s.Int("candidates") > 1 {
			chosen := float64(1+s.Int("candidates")) * images // by features of the frozen tower, without triggers and with each
			w.Add(Work{Passes: chosen, FLOP: chosen * imageCost(m.Encoder.Config, 0).forward})
		}
	}
	if attack.Covers != nil {
		rng := random.Stream("estimate")
		p.fixed += len(attack.Covers(s, attack.Trigger(s, m.Set.Size, rng), k, m.Target, rng))
	}
	w.Add(m.TuneWork(images, m.Suite.Tuning, p))
	w.Add(m.encoded(measured))
	if !m.learner().Conditional {
		w.FLOP += m.promptCost().forward
	}
	return w
}

// tuneWork is the work of tuning prompts on so many images: features, where the image tower is frozen and none of its input is
// drawn afresh, and steps.
func (m *ModelJob) TuneWork(images float64, s settings.Values, p Poisoning) Work {
	l, image, text := m.learner(), m.imageCost(), m.promptCost()
	batch := min(images, float64(s.Int("batch")))
	anEpoch := batch * float64(int(images/batch))
	stepped, warmup := float64(s.Int("epochs"))*anEpoch, float64(p.warmup)*anEpoch
	shown := stepped * float64(1+p.fixed)
	w := Work{Passes: shown}
	switch views := float64(s.Int("views")); {
	case l.Weights: // as many operations again give their gradients; none go back to pixels
		w.FLOP = shown * (image.both() + image.forward - embedding(m.Encoder.Config.Vision))
	case l.Image != nil:
		w.FLOP = shown * (image.both() - embedding(m.Encoder.Config.Vision))
	default:
		if views > 0 {
			w.Passes = images * views * float64(1+p.fixed)
		}
		w.FLOP = w.Passes * image.forward
	}
	texts := stepped / batch // class vectors, once a step
	if p.learns {
		w.Add(Work{Passes: stepped + warmup, FLOP: (stepped + warmup) * image.both()})
		shown += stepped + warmup
	}
	if l.Conditional {
		texts = shown
	}
	w.FLOP += texts * text.both()
	return w
}

// work of a detection cell: every class goes through the optimising images once an epoch or round, forward and back, and
// through the measuring images; what a detector does besides, or spares by halving.
func (d *DetectionJob) Work() Work {
	m, s := d.Model, d.Detector.Settings
	detector, err := inspector.Find(d.Detector.Name)
	if err != nil {
		return Work{}
	}
	number := func(name string, absent int) int {
		if v, ok := s[name].(int); ok {
			return v
		}
		return absent
	}
	k, pool := len(m.Set.Prompts), number("optimise", len(d.Pool.Indices))
	optimise, rounds, shared := pool, number("epochs", 1), 1
	if budget, _ := s["budget"].(string); budget == "authors" {
		optimise, rounds = min(pool, number("images", pool)), number("rounds", 1)
		if detector.Shared {
			shared = k
		}
	}
	batch := min(number("batch", 1), optimise)
	steps := rounds * (optimise / batch)
	all, left := k*steps/shared, k // steps of all classes, and classes that are measured
	if n := number("halving", 0); n > 0 {
		h := inspector.Halving{Rungs: n, Keep: s.Float("keep")}
		all, left = h.Rounds(k, steps)
	}
	if detector.Classless {
		left = 1
	}
	measure := float64(number("measure", 0))
	w := m.inverted(float64(all*batch), float64(left)*measure, s["contrast"])
	if !detector.Classless && !m.learner().Conditional { // class vectors, once
		w.FLOP += m.promptCost().forward
	}
	if words, ok := s["template"].(string); ok { // and those of the reference
		w.FLOP += m.textCost(m.tokens(words)).forward
	}
	switch score, _ := s["score"].(string); {
	case score == "push" && !m.learner().Conditional && !m.learner().FixedTexts: // class vectors alone
	case score == "push" || score == "gain":
		images := min(number("gain-images", 0), pool)
		b := max(1, min(batch, images))
		forward, back := inspector.GainReplays(k)
		c, n := m.invertedCost(s["gain-contrast"]), float64(forward*(images/b*b))
		w.Add(Work{Passes: float64(k * (images / b * b)), FLOP: n * (c.forward + float64(back)*c.back)})
	case score != "": // the measuring images without a trigger
		w.Add(m.encoded(measure))
		if x, _ := s["contrast"].(float64); x != 0 {
			w.Add(Work{Passes: measure, FLOP: measure * imageCost(m.Encoder.Config, 0).forward})
		}
	}
	return w
}

// inverted is the work of images that carry a trigger which learns, and of images that carry one.
func (m *ModelJob) inverted(learns, fixed float64, contrast any) Work {
	c := m.invertedCost(contrast)
	return Work{Passes: learns + fixed, FLOP: learns*c.both() + fixed*c.forward}
}

// invertedCost is the cost of an image that carries a trigger.
func (m *ModelJob) invertedCost(contrast any) cost {
	c := m.imageCost()
	add := func(o cost) { c.forward, c.back = c.forward+o.forward, c.back+o.back }
	if m.learner().Conditional {
		add(m.promptCost())
	}
	if x, _ := contrast.(float64); x != 0 && m.learner().Image != nil { // the reference sees the image through the untouched tower
		add(imageCost(m.Encoder.Config, 0))
	}
	return c
}

// work of a repair cell: the rounds' inversions, three arms of steps, and the images that measure four models.
func (r *RepairJob) work() Work {
	m := r.Detection.Model
	w := m.encoded(9 * float64(m.Set.Len(datasets.Test)))
	if !m.learner().Conditional {
		w.FLOP += 4 * m.promptCost().forward
	}
	for range 3 {
		w.Add(m.TuneWork(float64(len(m.Set.Prompts)*m.Suite.Shots)*(1+r.Settings.Float("share")), r.Settings, Poisoning{}))
	}
	for range r.Settings.Int("rounds") {
		w.Add(r.Detection.Work())
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
func TowerRate(e engine.Engine, c clip.Config, atLeast time.Duration) (float64, error) {
	tower := bench.Tower(c)
	tower.Batch = max(1, min(tower.Batch, int(benchFLOP/imageCost(tower.Config, 0).both())))
	measured, err := bench.Run(e, tower, atLeast)
	if err != nil {
		return 0, err
	}
	return measured.Rate(), nil
}

// DryRun prints what a suite would compute and how long that would take at the rate that this machine shows in a second.
// Encoders, datasets and pools that are not at hand are taken by their published numbers, as far as those are known.
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
	estimate := plan.Estimate()
	rate, err := TowerRate(e, plan.Models[0].Encoder.Config, time.Second)
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
	total.Add(estimate.Detections)
	total.Add(estimate.Repairs)
	fmt.Fprintf(&b, "%-12s %-16s %7d %15.0f %12.3g\n\n", "all", "", len(plan.Models)+len(plan.Detections)+len(plan.Repairs), total.Passes, total.FLOP)
	fmt.Fprintf(&b, "about %s on %s: the image tower runs at %.3g operations a second forward and back, workers: %d, threads each: %d\n",
		duration(total.FLOP/(rate*float64(workers))), e.Name(), rate, workers, threads)
	fmt.Fprintf(&b, "about %s on %s, if it sustains %.3g operations a second (half its dense TF32 rate; assumed, not measured)\n",
		duration(total.FLOP/gpuRate), gpuName, gpuRate)
	fmt.Fprintf(&b, "(operations: multiplications and additions of matrix products and attention; upper bound for detectors that stop early)\n")
	if notes := opened.Outlines.Notes; len(notes) > 0 {
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
