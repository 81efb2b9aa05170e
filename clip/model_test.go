package clip

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip/bpe"
	"clipinspector/engine"
	"clipinspector/engine/plain"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/internal/safetensors"
)

func tiny() Config {
	c := ViTB32()
	c.Text.VocabSize, c.Text.ContextLength, c.Text.Width, c.Text.MLP, c.Text.Layers, c.Text.Heads = 40, 10, 16, 48, 3, 2
	c.Vision.ImageSize, c.Vision.PatchSize, c.Vision.Width, c.Vision.MLP, c.Vision.Layers, c.Vision.Heads = 8, 4, 24, 40, 2, 3
	c.Vision.Activation = "gelu"
	c.ProjectionDim = 12
	return c
}

// tinyModel has hashed weights, and a tokenizer of bytes.
func tinyModel(t *testing.T, e engine.Engine) *Model {
	t.Helper()
	tok := bpe.Learn([]string{"a photo of a cat"}, 8)
	c := tiny()
	c.Text.VocabSize, c.Text.ContextLength = tok.Size(), 16
	m, err := NewModel(e, c, hashedWeights(c), tok)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Free)
	return m
}

func random(seed uint64, shape ...int) *tensor.Dense {
	rng := rand.New(rand.NewPCG(seed, 0))
	data := make([]float32, engine.Size(shape))
	for i := range data {
		data[i] = rng.Float32()
	}
	return dense.New(data, shape...)
}

func TestPackAndBack(t *testing.T) {
	c := tiny()
	w := RandomWeights(c, 5)
	packed, err := pack(c, w)
	if err != nil {
		t.Fatal(err)
	}
	back := unpack(c, packed)
	if err := back.Check(c); err != nil {
		t.Fatal(err)
	}
	if back.Fingerprint() != w.Fingerprint() {
		t.Error("the weights changed")
	}
}

func TestEncodeImagesPadsTheLastBatch(t *testing.T) {
	m := tinyModel(t, plain.New[float32]())
	images := random(1, 7, 3, 8, 8)
	var first []float32
	for _, batch := range []int{7, 3, 100, 1} {
		f, err := m.EncodeImages(context.Background(), images, batch)
		if err != nil {
			t.Fatal(err)
		}
		got := safetensors.Values(f)
		if first == nil {
			first = got
		}
		if !slices.Equal(got, first) || !slices.Equal([]int(f.Shape()), []int{7, 12}) {
			t.Errorf("batches of %d give other features, shape %v", batch, f.Shape())
		}
	}
	if _, err := m.EncodeImages(context.Background(), random(1, 7, 3, 9, 9), 2); err == nil {
		t.Error("images of another size were encoded")
	}
}

// Texts are cut after the longest one's end; alone, among longer ones and at full length a text has
// the same features.
func TestTextsDoNotDependOnTheirNeighbours(t *testing.T) {
	m := tinyModel(t, plain.New[float64]())
	ctx := context.Background()
	alone, err := m.EncodeTexts(ctx, []string{"a cat"})
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"a photo of a cat", "a cat"}
	for len(texts) < textBatch+3 {
		texts = append(texts, "cat")
	}
	all, err := m.EncodeTexts(ctx, append(texts, "a cat"))
	if err != nil {
		t.Fatal(err)
	}
	want, got := safetensors.Values(alone), safetensors.Values(all)
	for _, row := range []int{1, len(texts)} {
		if !slices.Equal(got[row*12:(row+1)*12], want) {
			t.Errorf("row %d has other features", row)
		}
	}
	ids, err := m.Tokenizer.Tokenize("a cat", m.Config.Text.ContextLength)
	if err != nil {
		t.Fatal(err)
	}
	g := autodiff.New(m.Engine())
	e := m.EmbedTokens(ids)
	y := m.Bind(g).Text(g.Const(safetensors.Values(e), 1, len(ids), 16), []int{EndOfText(ids)})
	for i, v := range computetest.Run(t, g, y)[0] {
		if math.Abs(float64(v-want[i])) > 1e-6 {
			t.Errorf("feature %d is %v at full length and %v cut", i, v, want[i])
		}
	}
	if _, err := m.EncodeTexts(ctx, []string{"a photo of many many cats and dogs"}); err == nil {
		t.Error("a text longer than the context was encoded")
	}
}

// imageWithPrompts returns features and the gradient of their weighted sum to the prompts.
func imageWithPrompts(t *testing.T, m *Model, images *tensor.Dense, prompts [][]float32) ([]float32, [][]float32) {
	t.Helper()
	w, n := m.Config.Vision.Width, images.Shape()[0]
	g := autodiff.New(m.Engine())
	var p ImagePrompts
	for _, data := range prompts {
		p.Layers = append(p.Layers, g.Const(data, len(data)/w, w))
	}
	y := m.Bind(g).Image(g.Const(safetensors.Values(images), n, 3, 8, 8), p)
	weight := g.Const(float32s(hashed("objective", y.Size()), 1, 0), y.Shape()...)
	outputs := append([]autodiff.Value{y}, autodiff.Grad(y.Mul(weight).Sum(), autodiff.None, p.Layers...)...)
	out := computetest.Run(t, g, outputs...)
	return out[0], out[1:]
}

func TestImagePrompts(t *testing.T) {
	m := tinyModel(t, plain.New[float64]())
	images := random(2, 2, 3, 8, 8)
	w := m.Config.Vision.Width
	prompts := func() [][]float32 {
		return [][]float32{float32s(hashed("first", 3*w), 1, 0), float32s(hashed("second", 3*w), 1, 0)}
	}
	objective := func(p [][]float32) float64 {
		f, _ := imageWithPrompts(t, m, images, p)
		var sum float64
		for i, r := range hashed("objective", len(f)) {
			sum += r * float64(f[i])
		}
		return sum
	}
	features, grads := imageWithPrompts(t, m, images, prompts())
	for layer := range grads {
		for _, i := range []int{0, w + 1, 3*w - 1} {
			const h = 1e-2
			up, down := prompts(), prompts()
			up[layer][i] += h
			down[layer][i] -= h
			want := (objective(up) - objective(down)) / (2 * h)
			if got := float64(grads[layer][i]); math.Abs(got-want) > 1e-3*math.Abs(want)+1e-4 {
				t.Errorf("gradient to prompt %d of layer %d: %v, by finite differences %v", i, layer, got, want)
			}
		}
	}
	// Prompts have no positions: their order means nothing.
	p := prompts()
	p[0] = append(p[0][w:], p[0][:w]...)
	other, _ := imageWithPrompts(t, m, images, p)
	for i := range features {
		if math.Abs(float64(features[i]-other[i])) > 1e-6 {
			t.Fatalf("feature %d changes from %v to %v with the order of the prompts", i, features[i], other[i])
		}
	}
	// Shallow prompts go through all blocks; none is as if there were no place for them.
	shallow, _ := imageWithPrompts(t, m, images, prompts()[:1])
	if slices.Equal(shallow, features) {
		t.Error("prompts of the second block have no effect")
	}
	none, _ := imageWithPrompts(t, m, images, nil)
	encoded, err := m.EncodeImages(context.Background(), images, 2)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(none, safetensors.Values(encoded)) || slices.Equal(none, shallow) {
		t.Error("without prompts the features are not those of EncodeImages")
	}
}

func TestModelRefuses(t *testing.T) {
	c := tiny()
	e := plain.New[float32]()
	w := hashedWeights(c)
	if _, err := NewModel(e, c, w, bpe.Learn([]string{"a"}, 1)); err == nil {
		t.Error("a tokenizer of another size was taken")
	}
	delete(w, "visual_projection.weight")
	if _, err := NewModel(e, c, w, nil); err == nil {
		t.Error("weights without a projection were taken")
	}
}

func TestFingerprintTellsModelsApart(t *testing.T) {
	c := tiny()
	e := plain.New[float32]()
	seen := map[string]bool{}
	for seed := range uint64(2) {
		m, err := NewModel(e, c, RandomWeights(c, seed), nil)
		if err != nil {
			t.Fatal(err)
		}
		seen[m.Fingerprint()] = true
	}
	d := c
	d.Vision.Activation = "quick_gelu"
	m, err := NewModel(e, d, RandomWeights(c, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	seen[m.Fingerprint()] = true
	if len(seen) != 3 {
		t.Errorf("three models have %d fingerprints", len(seen))
	}
}

func TestProbeAndAccuracy(t *testing.T) {
	// Two clouds apart in the second coordinate only.
	rng := rand.New(rand.NewPCG(1, 2))
	cloud := func(n int) (*tensor.Dense, []int) {
		x, y := make([]float32, 3*n), make([]int, n)
		for i := range y {
			y[i] = i % 2
			x[3*i], x[3*i+1], x[3*i+2] = float32(rng.NormFloat64()), float32(4*y[i])+float32(rng.NormFloat64()), 5
		}
		return dense.New(x, n, 3), y
	}
	train, a := cloud(60)
	test, b := cloud(400)
	if got := LinearProbe(train, a, test, b, 2); got < 0.95 || got == 1 {
		t.Errorf("probe accuracy %v; the Bayes rate is 0.977", got)
	}
	classes := dense.New([]float32{0, -1, 0, 0, 1, -4.0 / 5}, 2, 3)
	if got := accuracy(test, classes, b); got < 0.9 {
		t.Errorf("accuracy %v of a rule that cuts at 2", got)
	}
}
