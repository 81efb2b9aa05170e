package inspector

import (
	"fmt"
	"slices"

	"clipinspector/autodiff"
	"clipinspector/engine"
)

// parts look at a lone class's batch some images at a time, where all of them at once would take
// more memory than there is. What the optimiser sees is the same to the bit: the gradient at each
// image's pixels is kept, and the step begins from those of the whole batch.
type parts struct {
	program            *autodiff.Program
	index, target      autodiff.Value // [part]
	losses, hits, grad autodiff.Value // of the part: [part], [part], [part,3,S,S]
	// Inputs of the step, of the whole batch [B], [B], [B,3,S,S].
	loss, hit, toImages autodiff.Value
}

// recordParts compiles the look at a part of a batch, forward and back to the images.
func (s *session) recordParts() (p *parts, err error) {
	g := autodiff.New(s.engine)
	p = &parts{index: g.Input(s.part), target: g.Input(s.part)}
	x := s.images(g, p.index, g.BindAll(s.vars)).Detach()
	if p.losses, p.hits, err = s.look(g, x, p.target); err != nil {
		return nil, err
	}
	mean := p.losses.Reshape(1, s.part).SumTo(1, 1).Scale(1 / float64(s.inv.Batch)) // its share of the batch's mean
	p.grad = autodiff.Grad(mean, autodiff.None, x)[0]
	if p.program, err = g.Compile(p.losses, p.hits, p.grad); err != nil {
		return nil, err
	}
	return p, nil
}

// run looks at a batch, and gives the step what was seen.
func (p *parts) run(step *autodiff.Program, batch []float32) error {
	inputs := [3][]float32{}
	for part := range slices.Chunk(batch, p.index.Size()) {
		if err := p.program.Write(p.index, part); err != nil {
			return err
		}
		if err := p.program.Run(); err != nil {
			return err
		}
		for i, v := range []autodiff.Value{p.losses, p.hits, p.grad} {
			seen, err := p.program.Read(v)
			if err != nil {
				return err
			}
			inputs[i] = append(inputs[i], seen...)
		}
	}
	for i, v := range []autodiff.Value{p.loss, p.hit, p.toImages} {
		if err := step.Write(v, inputs[i]); err != nil {
			return err
		}
	}
	return nil
}

// gradients of the variables: through the images x, and through the penalty in total where there is
// one.
func (p *parts) gradients(x, total autodiff.Value, vars []autodiff.Value, penalised bool) []autodiff.Value {
	grads := autodiff.Grad(x, p.toImages, vars...)
	if penalised {
		for i, g := range autodiff.Grad(total, autodiff.None, vars...) {
			grads[i] = grads[i].Add(g)
		}
	}
	return grads
}

// roomy is an engine for programs whose intermediate values take at most so many bytes.
type roomy struct {
	engine.Engine
	bytes int64
}

// Compile implements engine.Engine.
func (r roomy) Compile(p *engine.Program) (engine.Executable, error) {
	if need := 4 * int64(p.Arena); need > r.bytes {
		return nil, fmt.Errorf("%w: intermediate values take %d MB, more than %d", engine.ErrMemory, need>>20, r.bytes>>20)
	}
	return r.Engine.Compile(p)
}
