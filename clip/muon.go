package clip

import (
	"math"
	"strings"

	"clipinspector/autodiff"
)

// muon records one step of Muon (Jordan et al. 2024) for a matrix [n,m], or for matrices stacked as
// [parts*n,m]: the gradient with Nesterov momentum, made nearly orthogonal by five Newton-Schulz
// iterations, scaled so that an entry changes by about 0.2 rate as with Adam (Liu et al. 2025,
// "Muon is scalable for LLM training"). rate is a value of shape [1,1,1].
func muon(param, grad, momentum, rate autodiff.Value, parts int, decay float64) {
	const beta = 0.95
	g := param.Graph()
	shape := []int{parts, param.Dim(0) / parts, param.Dim(1)}
	n, m := shape[1], shape[2]
	next := momentum.Scale(beta).Add(grad)
	x := grad.Add(next.Scale(beta)).Reshape(parts, n*m).Normalize().Reshape(shape...)
	if n > m {
		x = x.Permute(0, 2, 1)
	}
	for range 5 {
		a := x.MatMulT(x)
		x = a.Scale(-4.7750).Add(a.MatMul(a).Scale(2.0315)).MatMul(x).Add(x.Scale(3.4445))
	}
	if n > m {
		x = x.Permute(0, 2, 1)
	}
	update := x.Scale(0.2 * math.Sqrt(float64(max(n, m)))).Add(param.Reshape(shape...).Scale(decay)).Mul(rate)
	g.Assign(param, param.Sub(update.Reshape(param.Shape()...)))
	g.Assign(momentum, next)
}

// muonParts returns how many matrices a weight stacks if Muon trains it, else 0: the matrices
// inside the blocks.
func muonParts(name string) int {
	switch {
	case !strings.Contains(name, ".layers.") || !strings.HasSuffix(name, ".weight") || strings.Contains(name, "norm"):
		return 0
	case strings.Contains(name, attn+"qkv"):
		return 3
	}
	return 1
}
