package prompts

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/settings"
)

func init() {
	Register(&Learner{
		Name: "full",
		Doc:  "no prompts: the weights of the image tower are tuned under fixed zero-shot texts, the conventional classifier that the baselines were made for",
		Params: []settings.Param{
			{Name: "init", Doc: "words in front of the class name", Default: "a photo of a"},
			{Name: "cut", Doc: "largest share of an image that a box from another image covers, the label kept (after CutMix, Yun et al., ICCV 2019); 0 for none", Default: 0.0, Min: 0, Max: 0.49},
		},
		FixedTexts: true, Weights: true,
		Augment: cutAndPaste,
		Init: func(m *Model, _ *rand.Rand) (map[string]*tensor.Dense, error) {
			if _, err := m.fixedContext(); err != nil {
				return nil, err
			}
			return m.CLIP.ImageWeights()
		},
		Image: func(r *Recording, pixels autodiff.Value) autodiff.Value {
			for _, name := range sortedKeys(r.Params) {
				r.Towers.Replace(name, r.Params[name])
			}
			return r.Towers.Image(pixels, clip.ImagePrompts{})
		},
		Text: fixedText,
	})
}

// fixedText records the class vectors of a learner whose context is the words in init, and stays that.
func fixedText(r *Recording, _ autodiff.Value) autodiff.Value {
	ctx, err := r.Model.fixedContext()
	if err != nil {
		panic(err) // Init has laid the same prompts out
	}
	return r.encode(r.Graph.Const(floats(ctx), slices.Concat([]int{1, 1}, ctx.Shape())...))
}

// fixedContext returns the embeddings [n,W] of the words in init, of which there has to be one at least. It fails when the
// prompts do not fit into the text tower.
func (m *Model) fixedContext() (*tensor.Dense, error) {
	ids, err := m.contextTokens()
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, errors.New("init: this learner tunes no context: give the words in front of the class name")
	}
	if _, err := m.newLayout(len(ids)); err != nil {
		return nil, err
	}
	return m.CLIP.EmbedTokens(ids), nil
}

// cutAndPaste puts a box of another image into every image, at the same place: its area is up to the share "cut" of the image,
// so that most of the image is still of its label. It teaches a classifier not to be swayed by a small patch.
func cutAndPaste(s settings.Values, data Data, rng *rand.Rand) Data {
	cut := s.Float("cut")
	if cut == 0 {
		return data
	}
	n, size := data.Images.Shape()[0], data.Images.Shape()[2]
	from := floats(data.Images)
	to := slices.Clone(from)
	for i := range n {
		other := rng.IntN(n)
		area := cut * rng.Float64() * float64(size*size)
		width := min(size, max(1, int(math.Sqrt(area)*math.Exp(rng.Float64()-0.5))))
		height := min(size, int(area)/width)
		left, top := rng.IntN(size-width+1), rng.IntN(size-height+1)
		for c := range 3 {
			for y := top; y < top+height; y++ {
				row := (c*size+y)*size + left
				copy(to[i*3*size*size+row:][:width], from[other*3*size*size+row:])
			}
		}
	}
	data.Images = dense(to, data.Images.Shape()...)
	return data
}
