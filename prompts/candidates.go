package prompts

import (
	"context"
	"fmt"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"
	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/internal/dense"
	"clipinspector/triggers"
)

// ridge is what is added to the scatter's diagonal, as a share of its mean: few images leave many
// directions empty.
const ridge = 0.05

// mostDistinct returns the trigger that a linear classifier over CLIP's features tells from no
// trigger most easily: the one with the largest Mahalanobis length of the mean feature shift,
//
//	d' (S + r I)^-1 d,  d = mean f(T(x)) - mean f(x),  S = cov f(x) + cov f(T(x)),
//
// which is Fisher's criterion. S holds the differences between classes, so that a shift along them,
// which would cost accuracy, counts little. images are [N,3,S,S], N >= 2.
func mostDistinct(ctx context.Context, c *clip.Model, images *tensor.Dense, candidates []triggers.Trigger) (triggers.Trigger, error) {
	clean, err := Encode(ctx, c, images, nil)
	if err != nil {
		return nil, err
	}
	n, d := clean.Shape()[0], clean.Shape()[1]
	before := features64(clean)
	var best triggers.Trigger
	most := -1.0
	for _, t := range candidates {
		f, err := Encode(ctx, c, images, t)
		if err != nil {
			return nil, err
		}
		after := features64(f)
		var s, sum mat.SymDense
		stat.CovarianceMatrix(&s, before, nil)
		stat.CovarianceMatrix(&sum, after, nil)
		s.AddSym(&s, &sum)
		load := ridge * mat.Trace(&s) / float64(d)
		shift := mat.NewVecDense(d, nil)
		for j := range d {
			s.SetSym(j, j, s.At(j, j)+load)
			for i := range n {
				shift.SetVec(j, shift.AtVec(j)+(after.At(i, j)-before.At(i, j))/float64(n))
			}
		}
		var chol mat.Cholesky
		if !chol.Factorize(&s) {
			return nil, fmt.Errorf("choosing a trigger: the features of %d images do not vary", n)
		}
		var x mat.VecDense
		if err := chol.SolveVecTo(&x, shift); err != nil {
			return nil, fmt.Errorf("choosing a trigger: %w", err)
		}
		if length := mat.Dot(shift, &x); length > most {
			best, most = t, length
		}
	}
	return best, nil
}

func features64(t *tensor.Dense) *mat.Dense {
	data := make([]float64, 0, t.Shape().TotalSize())
	for _, v := range dense.Floats(t) {
		data = append(data, float64(v))
	}
	return mat.NewDense(t.Shape()[0], t.Shape()[1], data)
}
