package prompts

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/internal/dense"
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
		FixedTexts: true,
		Augment:    cutAndPaste,
		Init: func(m *Model, _ *rand.Rand) (map[string]*tensor.Dense, error) {
			if err := m.checkFixedText(); err != nil {
				return nil, err
			}
			return m.CLIP.ImageWeights()
		},
		Weights: func(r *Recording) {
			for _, name := range sortedKeys(r.Params) {
				r.Towers.Replace(name, r.Params[name])
			}
		},
		Image: plainImage,
		Text:  fixedText,
	})
}

// fixedText records the class vectors of a learner whose prompts are the words in init, and stay
// that.
func fixedText(r *Recording, _ autodiff.Value) autodiff.Value { return r.encode(autodiff.None) }

// checkFixedText refuses an init without words, and prompts that do not fit into the text tower.
func (m *Model) checkFixedText() error {
	if strings.TrimSpace(m.Settings.String("init")) == "" {
		return errors.New("init: this learner tunes no context: give the words in front of the class name")
	}
	_, err := m.newLayout(0)
	return err
}

// plainImage records the features of the tower alone, whose weights the learner has replaced.
func plainImage(r *Recording, pixels autodiff.Value) autodiff.Value {
	return r.Towers.Image(pixels, clip.ImagePrompts{})
}

// cutAndPaste puts a box of another image into every image, at the same place: its area is up to
// the share "cut" of the image, so that most of the image is still of its label. It teaches a
// classifier not to be swayed by a small patch.
func cutAndPaste(s settings.Values, data Data, rng *rand.Rand) Data {
	cut := s.Float("cut")
	if cut == 0 {
		return data
	}
	n, size := data.Images.Shape()[0], data.Images.Shape()[2]
	from := dense.Floats(data.Images)
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
	data.Images = dense.New(to, data.Images.Shape()...)
	return data
}
