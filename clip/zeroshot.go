package clip

import (
	"context"
	"fmt"
	"math"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/internal/safetensors"
)

// classFeatures returns the features [C,D] of the classes' prompts: the template with the class
// name in the place of {}, underscores as spaces.
func (m *Model) classFeatures(ctx context.Context, template string, classes []string) (*tensor.Dense, error) {
	if !strings.Contains(template, "{}") {
		return nil, fmt.Errorf("zero-shot template %q has no {} for the class name", template)
	}
	texts := make([]string, len(classes))
	for i, name := range classes {
		texts[i] = strings.ReplaceAll(template, "{}", strings.ReplaceAll(name, "_", " "))
	}
	return m.EncodeTexts(ctx, texts)
}

// ZeroShot returns the part of the images, given by their features [N,D], whose nearest class
// prompt is that of their label.
func (m *Model) ZeroShot(ctx context.Context, template string, classes []string, features *tensor.Dense, labels []int) (float64, error) {
	c, err := m.classFeatures(ctx, template, classes)
	if err != nil {
		return 0, err
	}
	return accuracy(features, c, labels), nil
}

// accuracy returns the part of the rows of features [N,D] whose largest inner product with the rows
// of classes [C,D] is that with the row of their label; the first of equals counts.
func accuracy(features, classes *tensor.Dense, labels []int) float64 {
	x, c := safetensors.Values(features), safetensors.Values(classes)
	d := features.Shape()[1]
	right := 0
	for i, label := range labels {
		best, at := math.Inf(-1), -1
		for k := range len(c) / d {
			var sum float64
			for j, v := range x[i*d : (i+1)*d] {
				sum += float64(v) * float64(c[k*d+j])
			}
			if sum > best {
				best, at = sum, k
			}
		}
		if at == label {
			right++
		}
	}
	return float64(right) / float64(max(1, len(labels)))
}

// LinearProbe fits a multinomial logistic regression to features [N,D], labels in 0..classes-1, and
// returns its accuracy on test features: what the features themselves are worth, whatever the text
// tower knows. Features are centred and scaled to an average variance of one; the penalty is
// probeDecay times the squared weights.
func LinearProbe(train *tensor.Dense, labels []int, test *tensor.Dense, testLabels []int, classes int) float64 {
	d := train.Shape()[1]
	n := len(labels)
	x := rows64(train)
	mean, scale := make([]float64, d), 0.0
	for i, v := range x {
		mean[i%d] += v / float64(n)
	}
	for i, v := range x {
		scale += (v - mean[i%d]) * (v - mean[i%d])
	}
	scale = 1 / math.Sqrt(max(scale/float64(n*d), 1e-30))
	center := func(x []float64) {
		for i := range x {
			x[i] = (x[i] - mean[i%d]) * scale
		}
	}
	center(x)
	// Nesterov's method; the loss's curvature is at most half the largest squared length of a row.
	var long float64
	for i := range n {
		var sum float64
		for _, v := range x[i*d : (i+1)*d] {
			sum += v * v
		}
		long = max(long, sum+1)
	}
	rate := 1 / (long/2 + probeDecay)
	w, at, grad := make([]float64, classes*(d+1)), make([]float64, classes*(d+1)), make([]float64, classes*(d+1))
	p := make([]float64, classes)
	for step := range probeSteps {
		for i := range grad {
			grad[i] = probeDecay * at[i]
		}
		for i := range n {
			row := x[i*d : (i+1)*d]
			scores(p, at, row)
			top, sum := math.Inf(-1), 0.0
			for _, v := range p {
				top = max(top, v)
			}
			for k := range p {
				p[k] = math.Exp(p[k] - top)
				sum += p[k]
			}
			for k := range p {
				g := p[k] / sum
				if k == labels[i] {
					g--
				}
				g /= float64(n)
				to := grad[k*(d+1) : (k+1)*(d+1)]
				for j, v := range row {
					to[j] += g * v
				}
				to[d] += g
			}
		}
		momentum := float64(step) / float64(step+3)
		for i, g := range grad {
			next := at[i] - rate*g
			at[i] = next + momentum*(next-w[i])
			w[i] = next
		}
	}
	y := rows64(test)
	center(y)
	right := 0
	for i, label := range testLabels {
		scores(p, w, y[i*d:(i+1)*d])
		best := 0
		for k := range p {
			if p[k] > p[best] {
				best = k
			}
		}
		if best == label {
			right++
		}
	}
	return float64(right) / float64(max(1, len(testLabels)))
}

const (
	probeDecay = 0.02
	probeSteps = 200
)

// scores fills p with w·[x 1].
func scores(p, w, x []float64) {
	d := len(x)
	for k := range p {
		row := w[k*(d+1) : (k+1)*(d+1)]
		sum := row[d]
		for j, v := range x {
			sum += v * row[j]
		}
		p[k] = sum
	}
}

func rows64(t *tensor.Dense) []float64 {
	data := safetensors.Values(t)
	out := make([]float64, len(data))
	for i, v := range data {
		out[i] = float64(v)
	}
	return out
}
