package bench

import (
	"fmt"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/clip/bpe"
	"clipinspector/engine"
	"clipinspector/internal/dense"
	"clipinspector/prompts"
	"clipinspector/settings"
)

// untuned makes a CLIP of architecture c with random weights, CoOp's prompts for so many classes
// with the learner's settings, and random images [images,3,S,S]. The caller frees the CLIP.
func untuned(e engine.Engine, c clip.Config, classes, images int, coop map[string]any, rng *rand.Rand) (*prompts.Model, *tensor.Dense, error) {
	names := make([]string, classes)
	for i := range names {
		names[i] = fmt.Sprintf("class %d", i)
	}
	learner, err := prompts.FindLearner("coop")
	if err != nil {
		return nil, nil, err
	}
	chosen, err := settings.Resolve(learner.Params, coop)
	if err != nil {
		return nil, nil, err
	}
	tokenizer := bpe.Learn(names, 300)
	c.Text.VocabSize, c.Text.EOS = tokenizer.Size(), tokenizer.EOT()
	m, err := clip.NewModel(e, c, clip.RandomWeights(c, 1), tokenizer)
	if err != nil {
		return nil, nil, err
	}
	model, err := prompts.New(m, learner, chosen, names, rng)
	if err != nil {
		m.Free()
		return nil, nil, err
	}
	size := c.Vision.ImageSize
	pixels := make([]float32, images*3*size*size)
	for i := range pixels {
		pixels[i] = rng.Float32()
	}
	return model, dense.New(pixels, images, 3, size, size), nil
}
