package inspector

import (
	"fmt"
	"math"

	vec "gonum.org/v1/gonum/floats"

	"clipinspector/prompts"
)

// pushes returns for each class by how much the other classes' vectors lie, on average, on the far side of the direction that tells the class
// from them, in lengths of a feature (class vectors have length 1):
//
//	q      = mean of zero-shot CLIP's class vectors, scaled to length 1
//	a_j    = w_j - (w_j · q) q
//	d_t    = a_t - mean of the other a_j
//	push_t = -(mean of the other a_j) · d_t / |d_t|, at least 0
//
// w are the model's class vectors; q is what all texts of this kind have in common, and no part of what tells classes apart. Who plants a backdoor
// shows triggered images of all classes as the target: every class learns to refuse the trigger, and the vectors of all the others move away
// from its direction together. A class that is merely far from the others, by nature or by the luck of its few shots, is told from each of them
// by something else, and nothing moves them together. It takes class vectors that are tuned and the same for every image; see pushed.
func pushes(m, reference *prompts.Model) ([]float64, error) {
	w, err := vectors(m)
	if err != nil {
		return nil, err
	}
	untouched, err := vectors(reference)
	if err != nil {
		return nil, err
	}
	q := make([]float64, len(w[0]))
	for _, v := range untouched {
		vec.Add(q, v)
	}
	if n := vec.Norm(q, 2); n > 0 {
		vec.Scale(1/n, q)
	}
	sum := make([]float64, len(q))
	for _, v := range w {
		vec.AddScaled(v, -vec.Dot(v, q), q)
		vec.Add(sum, v)
	}
	push := make([]float64, len(w))
	others, apart := make([]float64, len(q)), make([]float64, len(q))
	for t, v := range w {
		vec.ScaleTo(others, 1/float64(len(w)-1), vec.SubTo(others, sum, v))
		vec.SubTo(apart, v, others)
		if n := vec.Norm(apart, 2); n > 0 {
			push[t] = math.Max(0, -vec.Dot(others, apart)/n)
		}
	}
	return push, nil
}

// vectors returns the class vectors of an unconditional model, one a class.
func vectors(m *prompts.Model) ([][]float64, error) {
	t, err := m.ClassVectors()
	if err != nil {
		return nil, err
	}
	k := len(m.Classes)
	data, ok := t.Data().([]float32)
	if !ok || len(data)%k != 0 || len(data) == 0 {
		return nil, fmt.Errorf("class vectors of shape %v for %d classes", t.Shape(), k)
	}
	out := make([][]float64, k)
	for i, v := range data {
		out[i/(len(data)/k)] = append(out[i/(len(data)/k)], float64(v))
	}
	return out, nil
}

// pushed tells whether a learner's class vectors are tuned and the same for every image.
func pushed(l *prompts.Learner) bool { return !l.Conditional && !l.FixedTexts }
