package inspector

import (
	"context"
	"errors"
	"fmt"
	"math"

	"gorgonia.org/tensor"

	vec "gonum.org/v1/gonum/floats"

	"clipinspector/internal/dense"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// Evidence is what a detector measures of a clean reference, to hold delivered models against: made
// once, kept, and shared by all models of the same learner, encoder and classes.
type Evidence struct {
	// Source is what the reference was tuned on: FromShots or FromPool.
	Source string `json:"source"`
	// Accuracy is the share of images that the reference was not tuned on and puts into their
	// class: the labelled one, or the one that zero-shot CLIP puts a pool image into.
	Accuracy float64 `json:"accuracy"`
	// Vectors are the class vectors [K][D], of length 1; of a learner whose vectors differ from
	// image to image the slopes of the logits (see classVectors). None where the texts are not
	// tuned.
	Vectors [][]float64 `json:"vectors,omitempty"`
	// Common is what the texts of all classes have in common [D], of length 1, as zero-shot CLIP
	// has them; of the delivered model alone, since it is the same for all.
	Common []float64 `json:"common,omitempty"`
	// Trial is how many images each of many classes was tried on; 0 for few classes.
	Trial int `json:"trial,omitempty"`
	// Reach is how nearly a perturbation reaches each class [K]: less the objective midway, in
	// logits, at most 0; see reached.
	Reach []float64 `json:"reach"`
	// From is how nearly a brief inversion on the labelled images of class s reaches class t
	// [K][K], as Reach; 0 where both are one. None where nobody asked for it.
	From [][]float64 `json:"from,omitempty"`
}

// Check tells whether evidence read back from a file is that of a model of k classes.
func (e *Evidence) Check(k int) error {
	if len(e.Reach) != k || e.Vectors != nil && len(e.Vectors) != k || e.From != nil && len(e.From) != k {
		return fmt.Errorf("evidence of %d classes for a model of %d", len(e.Reach), k)
	}
	for c, r := range e.Reach {
		if math.IsNaN(r) || math.IsInf(r, 0) {
			return fmt.Errorf("evidence of class %d is not finite", c)
		}
	}
	for _, v := range e.From {
		if len(v) != k || math.IsNaN(vec.Sum(v)) || math.IsInf(vec.Sum(v), 0) {
			return errors.New("the reach from classes' images is of another number of classes or not finite")
		}
	}
	if e.Common != nil && len(e.Vectors) > 0 && len(e.Common) != len(e.Vectors[0]) || math.IsNaN(vec.Sum(e.Common)) {
		return errors.New("what texts have in common is of another length than class vectors or not finite")
	}
	for _, v := range e.Vectors {
		if len(v) != len(e.Vectors[0]) || math.IsNaN(vec.Sum(v)) || math.IsInf(vec.Sum(v), 0) {
			return errors.New("class vectors of different lengths or not finite")
		}
	}
	return nil
}

// restricted is the evidence of some of the classes.
func restricted(all []*Evidence, classes []int) []*Evidence {
	out := make([]*Evidence, len(all))
	for i, e := range all {
		part := &Evidence{Source: e.Source, Accuracy: e.Accuracy, Common: e.Common, Trial: e.Trial}
		for _, c := range classes {
			if c < len(e.Reach) {
				part.Reach = append(part.Reach, e.Reach[c])
			}
			if c < len(e.Vectors) {
				part.Vectors = append(part.Vectors, e.Vectors[c])
			}
			if c < len(e.From) {
				part.From = append(part.From, some(e.From[c], classes))
			}
		}
		out[i] = part
	}
	return out
}

// some returns those elements of a list that it has.
func some(list []float64, at []int) (out []float64) {
	for _, i := range at {
		if i < len(list) {
			out = append(out, list[i])
		}
	}
	return out
}

// classVectors returns the class vectors [K][D] that tuning has moved; nil where the learner leaves
// the texts alone. A conditional learner's differ from image to image. What a trigger does to them
// is not seen on images without one. So the slopes of the logits stand for them, on pool images
// that typical triggers of every kind have been put on. It also returns how many images went
// through the model.
func classVectors(ctx context.Context, in Input, images []int) ([][]float64, int64, error) {
	m := in.Model
	switch {
	case m.Learner.FixedTexts:
		return nil, 0, nil
	case !m.Learner.Conditional:
		v, err := vectors(m)
		return v, 0, err
	}
	with, err := typical(ctx, in, images[:min(in.Settings.Int("probes"), len(images))])
	if err != nil {
		return nil, 0, err
	}
	v, err := m.Slopes(ctx, with)
	return v, int64(with.Shape()[0]), err
}

// typical returns pool images, each with a typical trigger, of one kind after the other. The same
// seed draws the same ones for models and references.
func typical(ctx context.Context, in Input, images []int) (*tensor.Dense, error) {
	kinds, size := families(), in.Pool.Shape()[2]
	rng := random.Named("probes", in.Seed)
	var out []float32
	for i, at := range images {
		f := kinds[i%len(kinds)]
		with, err := prompts.Triggered(ctx, in.Model.CLIP.Engine(), triggers.Rows(in.Pool, []int{at}), f.trigger(f.draw(size, in.Pool, rng), size))
		if err != nil {
			return nil, err
		}
		out = append(out, dense.Floats(with)...)
	}
	return triggers.Dense(out, len(images), 3, size, size), nil
}

// common returns what the texts of all classes have in common: the mean of zero-shot CLIP's class
// vectors, scaled to length 1.
func common(untouched *prompts.Model) ([]float64, error) {
	v, err := vectors(untouched)
	if err != nil {
		return nil, err
	}
	q := make([]float64, len(v[0]))
	for _, x := range v {
		vec.Add(q, x)
	}
	if n := vec.Norm(q, 2); n > 0 {
		vec.Scale(1/n, q)
	}
	return q, nil
}

// apart returns for each class what tells it from the others: its vector less the mean of the
// others', without what all texts have in common (q, of length 1).
func apart(w [][]float64, q []float64) [][]float64 {
	k := len(w)
	sum := make([]float64, len(q))
	for _, v := range w {
		vec.Add(sum, v)
	}
	out := make([][]float64, k)
	for t, v := range w {
		d := make([]float64, len(q))
		for i := range d {
			d[i] = v[i] - (sum[i]-v[i])/float64(k-1)
		}
		vec.AddScaled(d, -vec.Dot(d, q), q)
		out[t] = d
	}
	return out
}

// apartness returns for each class by how much more it stands apart from the others than references
// have it in the same direction:
//
//	ln |v_c| - ln( r_c · v_c / |v_c| )
//
// with v_c what tells the class from the others in the model and r_c what does on the mean over the
// references (see apart). It is 0 when both agree, and grows when the class is farther out, or in a
// direction of its own. A direction in which references do not set the class apart at all counts as
// the hundredth part of the distance.
func apartness(v [][]float64, references ...[][]float64) []float64 {
	out := make([]float64, len(v))
	for c := range v {
		n := vec.Norm(v[c], 2)
		if n == 0 {
			continue
		}
		along := 0.0
		for _, r := range references {
			along += vec.Dot(r[c], v[c]) / n / float64(len(references))
		}
		out[c] = math.Log(n) - math.Log(math.Max(along, n/100))
	}
	return out
}

// without returns a list less its i-th element.
func without[T any](list []T, i int) []T {
	return append(append(make([]T, 0, len(list)-1), list[:i]...), list[i+1:]...)
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

// FirstOpinion returns the class whose vector stands apart most from the others, beyond what
// zero-shot CLIP's do, and its index among the classes: what can be said of a model before any
// reference is made and any image is looked at. The class is -1 where the texts are not tuned, are
// others for each image, or hold a number that is not finite.
func FirstOpinion(m *prompts.Model, s settings.Values) (class int, index float64, err error) {
	if m.Learner.FixedTexts || m.Learner.Conditional || len(m.Classes) < 3 {
		return -1, 0, nil
	}
	zero, err := zeroShot(m, s.String("template"))
	if err != nil {
		return -1, 0, err
	}
	q, err := common(zero)
	if err != nil {
		return -1, 0, err
	}
	own, err := vectors(m)
	if err != nil {
		return -1, 0, err
	}
	untouched, err := vectors(zero)
	if err != nil {
		return -1, 0, err
	}
	scores := apartness(apart(own, q), apart(untouched, q))
	vec.Scale(-1, scores)
	if sum := vec.Sum(scores); math.IsNaN(sum) || math.IsInf(sum, 0) {
		return -1, 0, nil
	}
	indices := studentized(scores)
	class = vec.MaxIdx(indices)
	return class, indices[class], nil
}
