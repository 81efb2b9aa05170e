package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine/plain"
	"clipinspector/inspector"
)

// inversion is what a detector in Python says of an inspector.Inversion.
type inversion struct {
	File              string
	Variables         int
	Apply, Loss       *expression
	Penalty, Project  *expression
	Rates             []float64
	Batch             int
	Steps             int
	Rounds            int
	Betas             [2]float64
	Eps               float64
	Controlled        bool
	Optimise, Measure []int
}

// mostRounds bounds rounds, steps and variables that a plugin may ask for.
const mostRounds = 1 << 20

// invert runs the inversion of every class that a detector describes, in the loop that all
// detectors share.
func (l *look) invert(ctx context.Context, raw []byte) (any, error) {
	var m inversion
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("invert: %w", err)
	}
	start, err := l.take(m.File)
	if err != nil {
		return nil, err
	}
	inv, err := m.inversion(ctx, start, l)
	if err != nil {
		return nil, fmt.Errorf("invert: %w", err)
	}
	outcomes, passes, err := inv.Run(ctx, l.in, m.Optimise, m.Measure)
	if err != nil {
		return nil, err
	}
	l.passes += passes
	type outcome struct {
		Loss    float64 `json:"loss"`
		ASR     float64 `json:"asr"`
		Reached bool    `json:"reached"`
		Rounds  int     `json:"rounds"`
	}
	var classes []outcome
	tensors := map[string]*tensor.Dense{}
	for c, o := range outcomes {
		if math.IsNaN(o.Loss) || math.IsInf(o.Loss, 0) {
			return nil, fmt.Errorf("invert: the loss of class %d is %v", c, o.Loss)
		}
		classes = append(classes, outcome{o.Loss, o.ASR, o.Reached, o.Rounds})
		for i, v := range o.Variables {
			tensors[fmt.Sprintf("%d.%d", c, i)] = v
		}
	}
	name, err := l.give(tensors)
	return map[string]any{"file": name, "classes": classes}, err
}

// inversion checks what was described and makes it one of the program's.
func (m *inversion) inversion(ctx context.Context, start map[string]*tensor.Dense, l *look) (inv *inspector.Inversion, err error) {
	size, images := l.in.Pool.Shape()[2], l.in.Pool.Shape()[0]
	var variables []*tensor.Dense
	for i := range min(m.Variables, len(start)) {
		v := start[fmt.Sprintf("start.%d", i)]
		if v == nil || len(v.Shape()) == 0 || v.Shape().TotalSize() == 0 {
			return nil, fmt.Errorf("variable %d is missing or has no numbers", i)
		}
		variables = append(variables, v)
	}
	switch {
	case len(variables) == 0 || len(variables) != m.Variables || len(start) != m.Variables:
		return nil, fmt.Errorf("%d variables and %d tensors to start from", m.Variables, len(start))
	case m.Batch < 1 || m.Steps < 1 || m.Rounds < 1 || m.Rounds > mostRounds/m.Steps || m.Batch > mostRounds:
		return nil, fmt.Errorf("batch %d, steps %d, rounds %d: want 1 or more of each, and fewer than %d", m.Batch, m.Steps, m.Rounds, mostRounds)
	case len(m.Rates) == 0 || len(m.Rates) > mostRounds:
		return nil, fmt.Errorf("%d rates: want 1 to %d", len(m.Rates), mostRounds)
	case !(m.Betas[0] >= 0 && m.Betas[0] < 1 && m.Betas[1] >= 0 && m.Betas[1] < 1 && m.Eps > 0 && m.Eps <= 1):
		return nil, fmt.Errorf("betas %v and eps %v of Adam: want betas in [0,1) and eps in (0,1]", m.Betas, m.Eps)
	case m.Apply == nil || m.Loss == nil:
		return nil, errors.New("want apply and loss")
	case m.Penalty != nil && !m.Controlled:
		return nil, errors.New("a penalty without a controller that gives its cost")
	}
	for _, i := range slices.Concat(m.Optimise, m.Measure) {
		if i < 0 || i >= images {
			return nil, fmt.Errorf("there is no image %d in a pool of %d", i, images)
		}
	}
	inv = &inspector.Inversion{
		Start:  func(int, *rand.Rand) []*tensor.Dense { return variables },
		Apply:  func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value { return m.triggered(pixels, v) },
		Loss:   func(logits, target autodiff.Value) autodiff.Value { return m.Loss.record(logits, target)[0] },
		Adam:   autodiff.AdamConfig{Beta1: m.Betas[0], Beta2: m.Betas[1], Eps: m.Eps},
		Batch:  m.Batch,
		Steps:  m.Steps,
		Rounds: m.Rounds,
		Random: l.rng,
	}
	for _, r := range m.Rates {
		inv.Rates = append(inv.Rates, float32(r))
	}
	if m.Penalty != nil {
		inv.Penalty = func(v []autodiff.Value) autodiff.Value { return m.Penalty.record(v...)[0] }
	}
	if m.Project != nil {
		inv.Project = func(v []autodiff.Value) []autodiff.Value { return m.Project.record(v...) }
	}
	if m.Controlled {
		classes := 0
		inv.Control = func() inspector.Controller {
			classes++
			return &controller{look: l, ctx: ctx, class: classes - 1}
		}
	}
	return inv, m.try(variables, size, len(l.in.Model.Classes))
}

// triggered records the triggered images: a plugin's variables come with an axis for the images.
func (m *inversion) triggered(pixels autodiff.Value, v []autodiff.Value) autodiff.Value {
	in := []autodiff.Value{pixels}
	for _, x := range v {
		s := x.Shape()
		in = append(in, x.Reshape(append([]int{s[0], 1}, s[1:]...)...))
	}
	return m.Apply.record(in...)[0]
}

// try records everything once, for two classes and three images, so that what does not fit is told
// before anything runs.
func (m *inversion) try(variables []*tensor.Dense, size, classes int) (err error) {
	defer func() {
		if p := recover(); p != nil { // shapes that do not go together
			err = fmt.Errorf("%v", p)
		}
	}()
	const c, b = 2, 3
	g := autodiff.New(plain.New[float32]())
	var v []autodiff.Value
	for _, t := range variables {
		v = append(v, g.Input(append([]int{c}, t.Shape()...)...))
	}
	pixels := g.Input(1, b, 3, size, size)
	logits, target := g.Input(c*b, classes), g.Input(c*b)
	fits := func(what string, e *expression, inputs, outputs int, record func() autodiff.Value, shape ...int) error {
		if err := e.check(inputs, outputs); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if got := record().Shape(); !slices.Equal(got, shape) {
			return fmt.Errorf("%s gives shape %v, want %v", what, got, shape)
		}
		return nil
	}
	if err := fits("apply", m.Apply, 1+len(v), 1, func() autodiff.Value { return m.triggered(pixels, v) }, c, b, 3, size, size); err != nil {
		return err
	}
	if err := fits("loss", m.Loss, 2, 1, func() autodiff.Value { return m.Loss.record(logits, target)[0] }, c*b); err != nil {
		return err
	}
	if m.Penalty != nil {
		if err := fits("penalty", m.Penalty, len(v), 1, func() autodiff.Value { return m.Penalty.record(v...)[0] }, c, 1); err != nil {
			return err
		}
	}
	for i := range v {
		if m.Project != nil {
			if err := fits("project", m.Project, len(v), len(v), func() autodiff.Value { return m.Project.record(v...)[i] }, v[i].Shape()...); err != nil {
				return err
			}
		}
	}
	return nil
}

// controller asks the plugin how the inversion of one class goes on.
type controller struct {
	*look
	ctx     context.Context
	class   int
	cost    float64
	asked   bool
	reached bool
	kept    []*tensor.Dense
	fault   error // of Cost, which cannot tell
}

// said is what a plugin says of a round.
type said struct {
	Cost                *float64
	Keep, Done, Reached bool
	Fault               string
}

func (c *controller) steer(told map[string]any) (s said, err error) {
	told["class"] = c.class
	if err = c.put(c.ctx, map[string]any{"steer": told}); err != nil {
		return s, err
	}
	m, _, err := c.next(c.ctx)
	switch {
	case err != nil:
		return s, err
	case m.Steer == nil:
		return s, fmt.Errorf("it did not say how class %d goes on", c.class)
	}
	if err := json.Unmarshal(m.Steer, &s); err != nil {
		return s, err
	}
	if s.Fault != "" {
		return s, fmt.Errorf("the controller of class %d: %.300s", c.class, s.Fault)
	}
	if s.Cost == nil || !(*s.Cost >= 0) || math.IsInf(*s.Cost, 0) {
		return s, fmt.Errorf("the controller of class %d gives no cost that is a number of 0 or more", c.class)
	}
	c.cost, c.reached = *s.Cost, s.Reached
	return s, nil
}

// Cost implements inspector.Controller.
func (c *controller) Cost() float64 {
	if !c.asked {
		c.asked = true
		_, c.fault = c.steer(map[string]any{})
	}
	return c.cost
}

// Round implements inspector.Controller.
func (c *controller) Round(r inspector.Round) (bool, error) {
	if c.fault != nil {
		return false, c.fault
	}
	if sum := r.Loss + r.Penalty; math.IsNaN(sum) || math.IsInf(sum, 0) {
		return false, fmt.Errorf("invert: the loss of class %d is %v, and its penalty %v", c.class, r.Loss, r.Penalty)
	}
	s, err := c.steer(map[string]any{"loss": r.Loss, "penalty": r.Penalty, "asr": r.ASR})
	if err == nil && s.Keep {
		c.kept, err = r.After()
	}
	return s.Done, err
}

// Best implements inspector.Controller.
func (c *controller) Best() ([]*tensor.Dense, bool) { return c.kept, c.reached }
