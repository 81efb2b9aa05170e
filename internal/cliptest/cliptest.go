// Package cliptest makes tiny CLIPs with random weights for tests.
package cliptest

import (
	"math"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/clip/bpe"
	"clipinspector/engine"
	"clipinspector/internal/dense"
	"clipinspector/internal/random"
)

// Classes are names of which a Tiny model's vocabulary knows every word.
var Classes = []string{"red cat", "blue dog", "green boat", "small house", "tall tree", "yellow bird"}

// Tiny returns a CLIP in the real architecture whose passes take about a millisecond: images of
// size pixels (a multiple of 8), patches of 8, width 32, two layers a tower, a context of 24
// tokens. The weights are random, drawn from a fixed seed; the logit scale is that of a trained
// CLIP, 100. It is freed with the test.
func Tiny(t testing.TB, e engine.Engine, size int) *clip.Model {
	t.Helper()
	var captions []string
	for _, c := range Classes {
		captions = append(captions, "a photo of a "+c+".")
	}
	tokenizer := bpe.Learn(captions, 100)
	c := clip.Config{
		Text: clip.TextConfig{Width: 32, MLP: 64, Layers: 2, Heads: 2, ContextLength: 24, VocabSize: tokenizer.Size(),
			Activation: "quick_gelu", LayerNormEps: 1e-5, EOS: tokenizer.EOT()},
		Vision: clip.VisionConfig{Width: 32, MLP: 64, Layers: 2, Heads: 2, ImageSize: size, PatchSize: 8,
			Activation: "quick_gelu", LayerNormEps: 1e-5},
		ProjectionDim:  32,
		LogitScaleInit: math.Log(100),
	}
	m, err := clip.NewModel(e, c, clip.RandomWeights(c, 1), tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Free)
	return m
}

// Images draws n images [n,3,size,size] in [0,1]: a colour gradient and noise each.
func Images(n, size int, seed uint64) *tensor.Dense {
	rng := random.Named("images", seed)
	data := make([]float32, 0, n*3*size*size)
	for range 3 * n {
		level, dx, dy := rng.Float64(), rng.Float64()-0.5, rng.Float64()-0.5
		for i := range size * size {
			x, y := float64(i%size)/float64(size), float64(i/size)/float64(size)
			v := level + dx*(x-0.5) + dy*(y-0.5) + 0.1*rng.NormFloat64()
			data = append(data, float32(min(1, max(0, v))))
		}
	}
	return dense.New(data, n, 3, size, size)
}
