package corpus

import (
	"context"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/internal/dense"
	"clipinspector/internal/miniworld"
)

// Score says what a CLIP is worth on one set of the mini world.
type Score struct {
	Set      string
	Classes  int
	ZeroShot float64 // accuracy of the set's own template
	Probe    float64 // accuracy of a linear probe on the features of 16 training pictures a class
}

// MeasureMini measures a model on the ten sets of the mini world: the first 16 training pictures
// and the first perClass test pictures of each class.
func MeasureMini(ctx context.Context, m *clip.Model, perClass int, seed uint64) ([]Score, error) {
	var out []Score
	for _, name := range miniworld.Names() {
		set, err := miniworld.Get(name)
		if err != nil {
			return nil, err
		}
		train, trainLabels, err := encodeMini(ctx, m, set, "train", 16, seed)
		if err != nil {
			return nil, err
		}
		test, testLabels, err := encodeMini(ctx, m, set, "test", perClass, seed)
		if err != nil {
			return nil, err
		}
		s := Score{Set: name, Classes: len(set.Classes)}
		if s.ZeroShot, err = m.ZeroShot(ctx, set.Template, set.Classes, test, testLabels); err != nil {
			return nil, err
		}
		s.Probe = clip.LinearProbe(train, trainLabels, test, testLabels, len(set.Classes))
		out = append(out, s)
	}
	return out, nil
}

// encodeMini returns the features of the first n pictures of each class of a split.
func encodeMini(ctx context.Context, m *clip.Model, set *miniworld.Dataset, split string, n int, seed uint64) (*tensor.Dense, []int, error) {
	size := m.Config.Vision.ImageSize
	per := 3 * size * size
	labels := make([]int, n*len(set.Classes))
	images := make([]float32, len(labels)*per)
	if err := each(len(labels), func(i int) error {
		labels[i] = i / n
		planes(images[i*per:(i+1)*per], set.Scene(i/n, split, i%n, seed).Render(size))
		return nil
	}); err != nil {
		return nil, nil, err
	}
	f, err := m.EncodeImages(ctx, dense.New(images, len(labels), 3, size, size), 64)
	return f, labels, err
}
