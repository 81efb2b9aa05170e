package autodiff

import (
	"fmt"
	"math"

	"clipinspector/engine"
)

// Assign records that dst, a bound value, takes the contents of src.
func (g *Graph) Assign(dst, src Value) {
	if dst.Size() != src.Size() {
		panic(fmt.Sprintf("autodiff: %v assigned to %v", src.Shape(), dst.Shape()))
	}
	g.recordInto(engine.Assign, engine.Attr{}, []Value{src}, []Value{dst})
}

// SGD records one step of stochastic gradient descent as torch.optim.SGD takes it. velocity may be
// None when momentum is 0. step [1] counts from 0 and is advanced with Advance; schedule [T] holds
// the learning rate of each step.
func (g *Graph) SGD(param, grad, velocity, step, schedule Value, momentum, weightDecay float64) {
	if momentum != 0 && !velocity.Valid() {
		panic("autodiff: momentum without a velocity")
	}
	if momentum == 0 {
		velocity = None
	}
	sameSize(param, grad, velocity)
	g.recordInto(engine.SGD, engine.Attr{Momentum: momentum, WeightDecay: weightDecay},
		[]Value{param, grad, velocity, step, schedule}, []Value{param, velocity})
}

// AdamConfig holds the constants of Adam.
type AdamConfig struct {
	Beta1, Beta2, Eps float64 // PyTorch's defaults: 0.9, 0.999, 1e-8
	WeightDecay       float64
	Decoupled         bool // AdamW
}

// DefaultAdam are PyTorch's defaults.
var DefaultAdam = AdamConfig{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}

// Adam records one step of torch.optim.Adam, or AdamW with Decoupled. m and v hold the moments,
// zero at first; step and schedule as in SGD.
func (g *Graph) Adam(param, grad, m, v, step, schedule Value, c AdamConfig) {
	sameSize(param, grad, m, v)
	a := engine.Attr{Beta1: c.Beta1, Beta2: c.Beta2, Eps: c.Eps, WeightDecay: c.WeightDecay, Decoupled: c.Decoupled}
	g.recordInto(engine.Adam, a, []Value{param, grad, m, v, step, schedule}, []Value{param, m, v})
}

// Advance records step += 1.
func (g *Graph) Advance(step Value) { g.Assign(step, step.Affine(1, 1)) }

func sameSize(param, grad Value, others ...Value) {
	if !grad.Valid() {
		panic(fmt.Sprintf("autodiff: optimiser of %v without a gradient", param.Shape()))
	}
	for _, o := range append(others, grad) {
		if o.Valid() && o.Size() != param.Size() {
			panic(fmt.Sprintf("autodiff: optimiser of %v given %v", param.Shape(), o.Shape()))
		}
	}
}

// Cosine returns a schedule of the given number of steps, rate*(1+cos(pi*i/steps))/2, after warmup
// steps that rise linearly from rate/warmup.
func Cosine(rate float64, steps, warmup int) []float32 {
	s := make([]float32, steps)
	for i := range s {
		if i < warmup {
			s[i] = float32(rate * float64(i+1) / float64(warmup))
			continue
		}
		s[i] = float32(rate * 0.5 * (1 + math.Cos(math.Pi*float64(i-warmup)/float64(max(1, steps-warmup)))))
	}
	return s
}

// CoOpSchedule returns CoOp's learning rate for each epoch: 1e-5 in the first, then
// rate/2*(1+cos(pi*(e-1)/epochs)), which is Dassl's cosine with a constant warm-up epoch.
func CoOpSchedule(rate float64, epochs int) []float32 {
	s := make([]float32, epochs)
	for e := range s {
		s[e] = float32(rate * 0.5 * (1 + math.Cos(math.Pi*float64(e-1)/float64(epochs))))
	}
	if epochs > 0 {
		s[0] = 1e-5
	}
	return s
}
