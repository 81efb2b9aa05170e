package baselines

import (
	"context"
	"math"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/inspector"
	"clipinspector/internal/dense"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// defaults are the authors' values of the settings that Neural Cleanse and Pixel-Backdoor share.
type defaults struct {
	asr      float64
	patience int
	up, down float64
	cost     float64
	images   int
}

func params(d defaults, more ...settings.Param) []settings.Param {
	p := []settings.Param{
		{Name: "budget", Doc: "matched: as many image passes as CI takes (the images to optimise on, epochs times, a step a round); authors: their rounds of several steps over their number of images", Default: "matched", Choices: []string{"matched", "authors"}},
		{Name: "epochs", Unit: "epochs", Doc: "passes over the images to optimise on under the matched budget (CI's: 1)", Default: 1, Min: 1, Max: 1000},
		{Name: "rounds", Unit: "rounds", Doc: "rounds at most under the authors' budget (authors: 1000)", Default: 1000, Min: 1, Max: 1e6},
		{Name: "images", Unit: "images", Doc: "pool images that a round of the authors' budget goes through, at most those to optimise on", Default: d.images, Min: 1, Max: 1e6},
		{Name: "batch", Unit: "images", Doc: "images a step (authors: 32)", Default: 32, Min: 1, Max: 4096},
		{Name: "rate", Doc: "Adam's learning rate (authors: 0.1)", Default: 0.1, Min: 1e-6, Max: 100},
		{Name: "asr", Doc: "success rate that an inversion has to reach", Default: d.asr, Min: 0, Max: 1},
		{Name: "patience", Unit: "rounds", Doc: "rounds in a row above or below the success rate before the cost changes", Default: d.patience, Min: 1, Max: 1e6},
		{Name: "cost", Doc: "initial weight of the trigger's size", Default: d.cost, Min: 0, Max: 1e3},
		{Name: "up", Doc: "factor by which the cost rises", Default: d.up, Min: 1, Max: 100},
		{Name: "down", Doc: "the cost falls by this to the power of 1.5", Default: d.down, Min: 1, Max: 100},
		{Name: "index", Doc: "how outliers are measured: mad (the authors': median absolute deviation), studentized (K-corrected outlier test), or ratio (CI's: 1/(1 + size) over the mean of the other classes')", Default: "mad", Choices: []string{"mad", "studentized", "ratio"}},
		{Name: "shape", Doc: "of the Gamma distribution that the ratio takes 1/(1 + size) of a clean model's classes from; larger flags more (our choice)", Default: 3.0, Min: 0.5, Max: 1000},
		inspector.Threshold,
	}
	return append(append(p, more...), inspector.PoolParams...)
}

// schedule splits the pool and completes an inversion with the budget of each class that the
// settings ask for.
func schedule(in inspector.Input, inv *inspector.Inversion) (optimise, measure []int, err error) {
	s := in.Settings
	if optimise, measure, err = inspector.SplitPool(in); err != nil {
		return nil, nil, err
	}
	inv.Rates = []float32{float32(s.Float("rate"))}
	inv.Batch = min(s.Int("batch"), len(optimise))
	inv.Steps, inv.Rounds = 1, len(optimise)/inv.Batch
	if s.String("budget") == "authors" {
		optimise = optimise[:min(len(optimise), s.Int("images"))]
		inv.Batch = min(inv.Batch, len(optimise))
		inv.Steps, inv.Rounds = len(optimise)/inv.Batch, s.Int("rounds")
	}
	return optimise, measure, nil
}

// run gives an inversion its budget, runs it and seeks outliers among the sizes.
func run(ctx context.Context, in inspector.Input, inv inspector.Inversion, size func(triggers.Trigger) float64) (*inspector.Finding, error) {
	s := in.Settings
	optimise, measure, err := schedule(in, &inv)
	if err != nil {
		return nil, err
	}
	if s.String("budget") == "matched" {
		inv.Rounds *= s.Int("epochs")
	}
	outcomes, passes, err := inv.Run(ctx, in, optimise, measure)
	if err != nil {
		return nil, err
	}
	r := &inspector.Finding{ImagePasses: passes, Classes: make([]inspector.ClassResult, len(outcomes))}
	for c, o := range outcomes {
		t := inv.Trigger(o.Variables)
		norm := size(t)
		r.Classes[c] = inspector.ClassResult{Loss: o.Loss, ASR: o.ASR, Norm: norm, Score: norm, Reached: o.Reached, Trigger: t}
	}
	return r, judge(s, nil, r)
}

// eachClass is the work of inverting every class under either budget. Who stops early takes less.
func eachClass(f inspector.Facts) clip.Work {
	s, k := f.Settings, len(f.Model.Classes)
	n, rounds := s.Int("optimise"), s.Int("epochs")
	if s.String("budget") == "authors" {
		n, rounds = min(n, s.Int("images")), s.Int("rounds")
	}
	batch := min(s.Int("batch"), n)
	w := f.Inverted(float64(k*rounds*(n/batch*batch)), float64(k*s.Int("measure")), 0)
	w.Add(f.Model.ClassVectors())
	return w
}

// crossEntropy is the objective of detectors that minimise it.
func crossEntropy(_ settings.Values, logits, _ []float32, target int) float64 {
	var sum float64
	for _, z := range logits {
		sum += math.Exp(float64(z - logits[target]))
	}
	return math.Log(sum)
}

// rule names the settings that only judge takes.
func rule(settings.Values) []string { return []string{"index", "shape", "k"} }

// judge seeks outliers among the sizes of the recovered triggers. The authors' rule cannot exceed
// median / (1.4826 MAD), however small a trigger is, which is little where few classes differ much
// (docs/control.md); the ratio has no such limit. A size counts in pixels, of which one more keeps
// its reciprocal finite.
func judge(s settings.Values, _ []*inspector.Evidence, r *inspector.Finding) error {
	if s.String("index") != "ratio" {
		r.Judge(s.String("index"), s.Float("k"))
		return nil
	}
	powers := make([]float64, len(r.Classes))
	for c := range powers {
		powers[c] = 1 / (1 + r.Classes[c].Score)
	}
	for c, v := range inspector.Ratio(inspector.Power{Values: powers, Shape: s.Float("shape")}) {
		r.Classes[c].Index = v
	}
	r.Verdict(s.Float("k"))
	return nil
}

// cost is the weight of the trigger's size, which rises while the attack succeeds and falls while
// it does not.
type cost struct {
	bound      float64
	patience   int
	up, down   float64
	initial    float64
	now        float64
	ups, downs int
}

// newCost is the cost of a detector with the settings of [params]; it starts at 0.
func newCost(s settings.Values, up, down float64) cost {
	return cost{bound: s.Float("asr"), patience: s.Int("patience"), up: up, down: down, initial: s.Float("cost")}
}

func (c *cost) Cost() float64 { return c.now }

// adjust counts a round and changes the cost after patience rounds of one kind in a row.
func (c *cost) adjust(asr float64) (raised, lowered bool) {
	if asr >= c.bound {
		c.ups, c.downs = c.ups+1, 0
	} else {
		c.ups, c.downs = 0, c.downs+1
	}
	switch {
	case c.ups >= c.patience:
		c.ups = 0
		if c.now == 0 {
			c.now = c.initial
		} else {
			c.now *= c.up
		}
		return true, false
	case c.downs >= c.patience:
		c.downs = 0
		c.now /= c.down
		return false, true
	}
	return false, false
}

// restarted is a cost that, whenever it is 0, is set anew after some successful rounds in a row.
type restarted struct {
	cost
	set             int  // successful rounds in a row at a cost of 0
	raised, lowered bool // since it was last set anew
}

// adjust counts a round; after is how many successful rounds in a row set a cost of 0 anew.
func (c *restarted) adjust(asr float64, after int) {
	if c.now != 0 || asr < c.bound {
		c.set = 0
	} else if c.set++; c.set >= after {
		c.now, c.ups, c.downs, c.raised, c.lowered = c.initial, 0, 0, false, false
	}
	raised, lowered := c.cost.adjust(asr)
	c.raised, c.lowered = c.raised || raised, c.lowered || lowered
}

func mapped(t *tensor.Dense, f func(float64) float64) *tensor.Dense {
	out := make([]float32, t.Shape().TotalSize())
	for i, v := range dense.Floats(t) {
		out[i] = float32(f(float64(v)))
	}
	return triggers.Dense(out, t.Shape()...)
}

func drawn(f func() float64, shape ...int) *tensor.Dense {
	n := 1
	for _, s := range shape {
		n *= s
	}
	data := make([]float32, n)
	for i := range data {
		data[i] = float32(math.Max(-8, math.Min(8, f())))
	}
	return triggers.Dense(data, shape...)
}
