package baselines

import (
	"context"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/engine"
	"clipinspector/inspector"
	"clipinspector/internal/dense"
	"clipinspector/triggers"
)

// twins are DECREE's programs: a step that makes stamped images' features alike, and the features
// of stamped images for measuring.
type twins struct {
	in           inspector.Input
	inv          *inspector.Inversion
	owned        []engine.Array
	pool, cost   engine.Array
	vars, before []engine.Array // mask [1,S,S] and pattern [1,3,S,S], now and before the last update
	passes       int64

	optimise     *autodiff.Program
	index        autodiff.Value // [B]
	cosine, size autodiff.Value // mean pairwise cosine; L1 norm of the mask over three channels
	probe        *autodiff.Program
	probed       autodiff.Value // [B]
	features     autodiff.Value // [B,D]
}

// newTwins records the programs for an inversion of one "class", with the variables at start. What
// it returns is to be freed even when it fails.
func newTwins(in inspector.Input, inv *inspector.Inversion, start []*tensor.Dense) (*twins, error) {
	t := &twins{in: in, inv: inv}
	var err error
	upload := func(data []float32, shape ...int) engine.Array {
		if err != nil {
			return engine.Array{}
		}
		var a engine.Array
		if a, err = engine.UploadSlice(in.Model.CLIP.Engine(), data, shape...); err == nil {
			t.owned = append(t.owned, a)
		}
		return a
	}
	shape := in.Pool.Shape()
	t.pool = upload(dense.Floats(in.Pool), shape[0], shape[1]*shape[2]*shape[3])
	t.cost = upload([]float32{0}, 1, 1)
	var moments [2][]engine.Array
	for _, v := range start {
		one := append([]int{1}, v.Shape()...)
		zero := make([]float32, v.Shape().TotalSize())
		t.vars, t.before = append(t.vars, upload(dense.Floats(v), one...)), append(t.before, upload(zero, one...))
		for i := range moments {
			moments[i] = append(moments[i], upload(zero, one...))
		}
	}
	counter := upload([]float32{0}, 1)
	if err != nil {
		return t, err
	}

	g := autodiff.New(in.Model.CLIP.Engine())
	t.index = g.Input(inv.Batch)
	vars := g.BindAll(t.vars)
	t.cosine = meanCosine(t.stamped(g, t.index, vars))
	t.size = inv.Penalty(vars).Scale(3)
	for i, b := range g.BindAll(t.before) {
		g.Assign(b, vars[i])
	}
	grads := autodiff.Grad(t.size.Mul(g.Bind(t.cost)).Sub(t.cosine.Reshape(1, 1)), autodiff.None, vars...)
	n := inv.Rounds * inv.Steps
	rates := make([]float32, n)
	for i := range rates {
		rates[i] = inv.Rates[0] * decreeRate(i/inv.Steps, inv.Rounds)
	}
	schedule, step := g.Const(rates, n), g.Bind(counter)
	for i, v := range vars {
		g.Adam(v, grads[i], g.Bind(moments[0][i]), g.Bind(moments[1][i]), step, schedule, inv.Adam)
	}
	g.Advance(step)
	if t.optimise, err = g.Compile(t.cosine, t.size); err != nil {
		return t, err
	}

	g = autodiff.New(in.Model.CLIP.Engine())
	t.probed = g.Input(inv.Batch)
	t.features = t.stamped(g, t.probed, g.BindAll(t.vars))
	t.probe, err = g.Compile(t.features)
	return t, err
}

// decreeRate is what share of the learning rate a round takes: the authors' 0.5, 0.1 and 0.05 from
// rounds 0, 200 and 500 of 1,000 on.
func decreeRate(round, rounds int) float32 {
	switch {
	case 5*round < rounds:
		return 1
	case 2*round < rounds:
		return 0.2
	}
	return 0.1
}

// stamped records the features [B,D] of pool images with the trigger.
func (t *twins) stamped(g *autodiff.Graph, index autodiff.Value, vars []autodiff.Value) autodiff.Value {
	b, s := index.Size(), t.in.Pool.Shape()[2]
	pixels := g.Bind(t.pool).Gather(index).Reshape(1, b, 3, s, s)
	return t.in.Model.Encoder(g, t.inv.Apply(pixels, vars).Reshape(b, 3, s, s))
}

// meanCosine records the mean cosine of all pairs of features [B,D] of length 1: (|sum|² - B) / (B
// (B-1)).
func meanCosine(features autodiff.Value) autodiff.Value {
	b, d := features.Dim(0), features.Dim(1)
	pairs := float64(b * (b - 1))
	return features.SumTo(1, d).Square().Sum().Affine(1/pairs, -float64(b)/pairs)
}

// step takes a step on the pool images at the given places of the list and returns cosine and size
// before it.
func (t *twins) step(images, places []int, cost float64) (cosine, size float64, err error) {
	index := make([]float32, len(places))
	for i, p := range places {
		index[i] = float32(images[p])
	}
	if err := t.optimise.Write(t.index, index); err != nil {
		return 0, 0, err
	}
	if err := t.cost.Buffer.Write(0, []float32{float32(cost)}); err != nil {
		return 0, 0, err
	}
	if err := t.optimise.Run(); err != nil {
		return 0, 0, err
	}
	t.passes += int64(len(index))
	c, err := t.optimise.Read(t.cosine)
	if err != nil {
		return 0, 0, err
	}
	s, err := t.optimise.Read(t.size)
	if err != nil {
		return 0, 0, err
	}
	return float64(c[0]), float64(s[0]), nil
}

// read returns the variables, or those before the last update.
func (t *twins) read(arrays []engine.Array) ([]*tensor.Dense, error) {
	out := make([]*tensor.Dense, len(arrays))
	for i, a := range arrays {
		data := make([]float32, engine.Size(a.Shape))
		if err := a.Buffer.Read(0, data); err != nil {
			return nil, err
		}
		out[i] = triggers.Dense(data, slices.Clone(a.Shape[1:])...)
	}
	return out, nil
}

// measure returns the mean pairwise cosine of images that have not been optimised on, stamped with
// the given variables.
func (t *twins) measure(ctx context.Context, images []int, vars []*tensor.Dense) (float64, error) {
	for i, v := range vars {
		if err := t.vars[i].Buffer.Write(0, dense.Floats(v)); err != nil {
			return 0, err
		}
	}
	b, d := t.features.Dim(0), t.features.Dim(1)
	index, sum := make([]float32, b), make([]float64, d)
	for at := 0; at < len(images); at += b {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		for i := range index {
			index[i] = float32(images[min(at+i, len(images)-1)]) // the last batch is filled up; the fill is not counted
		}
		if err := t.probe.Write(t.probed, index); err != nil {
			return 0, err
		}
		if err := t.probe.Run(); err != nil {
			return 0, err
		}
		f, err := t.probe.Read(t.features)
		if err != nil {
			return 0, err
		}
		for i, v := range f[:min(b, len(images)-at)*d] {
			sum[i%d] += float64(v)
		}
	}
	t.passes += int64(len(images))
	n, square := float64(len(images)), 0.0
	for _, v := range sum {
		square += v * v
	}
	return (square - n) / (n * (n - 1)), nil
}

func (t *twins) free() {
	for _, p := range []*autodiff.Program{t.optimise, t.probe} {
		if p != nil {
			p.Free()
		}
	}
	for _, a := range t.owned {
		a.Free()
	}
}
