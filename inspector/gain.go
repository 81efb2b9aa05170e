package inspector

import (
	"context"
	"math"

	"clipinspector/autodiff"
	"clipinspector/engine"
	"clipinspector/prompts"
)

// gainClasses is how many classes' gradients one replay takes at most; they share the forward pass.
const gainClasses = 10

// gainReplays tells how many times an image goes forward for the gains of k classes, and for how many of them it comes back each time.
func gainReplays(k int) (forward, back int) {
	back = lanes(k, gainClasses)
	return (k + back - 1) / back, back
}

// gains returns for each class t the first-order gain of a perturbation that is the same for all images: the steepest rise,
// per unit of the bound on each pixel, of
//
//	u_t - mean_{j≠t} u_j,  u = z - contrast z⁰,
//
// averaged over the given pool images, z being the model's logits and z⁰ the reference's. To first order the best
// perturbation within |d| <= epsilon is epsilon times the sign of the mean gradient (Goodfellow et al., ICLR 2015), and what it
// gains is epsilon times the gradient's l1 norm, which is what is returned. It also returns how many images went through.
//
// An inversion far from the images finds what CLIP itself gives away for a class; the gain at the images shows small,
// steady directions that only the prompts answer to.
func gains(ctx context.Context, in Input, reference *prompts.Model, contrast float64, images []int, batch int) (gain []float64, passes int64, err error) {
	k, side := len(in.Model.Classes), in.Pool.Shape()[2]
	batch = min(batch, len(images))
	e := in.Model.CLIP.Engine()
	var owned []engine.Array
	defer func() {
		for _, a := range owned {
			a.Free()
		}
	}()
	upload := func(data []float32, shape ...int) engine.Array {
		a, fault := engine.UploadSlice(e, data, shape...)
		if fault != nil {
			err = fault
		} else {
			owned = append(owned, a)
		}
		return a
	}
	size := 3 * side * side
	pool := upload(floats(in.Pool), in.Pool.Shape()[0], size)
	delta := upload(make([]float32, size), 1, 3, side, side)
	if err != nil {
		return nil, 0, err
	}

	g := autodiff.New(e)
	r, err := in.Model.Record(g)
	if err != nil {
		return nil, 0, err
	}
	_, n := gainReplays(k)
	index, target := g.Input(batch), make([]autodiff.Value, n)
	d := g.Bind(delta)
	x := g.Bind(pool).Gather(index).Reshape(batch, 3, side, side).Add(d)
	features := r.Features(x)
	u, err := contrasted(r, x, features, r.Logits(features), reference, contrast)
	if err != nil {
		return nil, 0, err
	}
	mean := u.SumTo(1, k).Scale(1 / float64(batch)) // [1,K]
	weights := make([]float32, k*k)                 // row t: 1 at t, -1/(K-1) elsewhere
	for i := range weights {
		weights[i] = -1 / float32(k-1)
		if i%(k+1) == 0 {
			weights[i] = 1
		}
	}
	rows := g.Const(weights, k, k)
	grads := make([]autodiff.Value, n)
	for i := range grads {
		target[i] = g.Input(1)
		grads[i] = autodiff.Grad(mean.Mul(rows.Gather(target[i])).Sum(), autodiff.None, d)[0]
	}
	p, err := g.Compile(grads...)
	if err != nil {
		return nil, 0, err
	}
	defer p.Free()

	gain = make([]float64, k)
	rounds := len(images) / batch
	at := make([]float32, batch)
	for from := 0; from < k; from += n {
		sums := make([][]float64, n)
		for i := range sums {
			sums[i] = make([]float64, size)
			if err := p.Write(target[i], []float32{float32(min(from+i, k-1))}); err != nil {
				return nil, 0, err
			}
		}
		for round := range rounds {
			if err := ctx.Err(); err != nil {
				return nil, 0, err
			}
			for i := range at {
				at[i] = float32(images[round*batch+i])
			}
			if err := p.Write(index, at); err != nil {
				return nil, 0, err
			}
			if err := p.Run(); err != nil {
				return nil, 0, err
			}
			for i := range sums {
				if err := accumulate(p, grads[i], sums[i], 1/float64(rounds)); err != nil {
					return nil, 0, err
				}
			}
			passes += int64(min(n, k-from) * batch)
		}
		for i := range min(n, k-from) {
			for _, v := range sums[i] {
				gain[from+i] += math.Abs(v)
			}
		}
	}
	return gain, passes, nil
}
