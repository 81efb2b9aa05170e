package clip

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"clipinspector/autodiff"
	"clipinspector/engine"
	"clipinspector/engine/plain"
	"clipinspector/internal/dense"
	"clipinspector/internal/enginetest"
)

var hashed = enginetest.Hashed

func hashedWeights(c Config) Weights {
	w := Weights{}
	for name, shape := range c.Shapes() {
		w[name] = dense.New(enginetest.HashedWeight(name, shape), shape...)
	}
	return w
}

type sampled struct {
	Norm, Max float64
	Step      int
	Values    []float64
}

type fixture struct {
	Image  []float64 `json:"image_features"`
	Text   []float64 `json:"text_features"`
	Logits []float64
	Pixel  sampled `json:"pixel_gradient"`
	Prompt sampled `json:"prompt_gradient"`
}

// parity compares the towers with what transformers computed in double precision: max|a-b| / max|b|
// of each tensor.
func parity(t *testing.T, e engine.Engine, c Config, w Weights, file string, images, texts, length int, tolerance float64) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var want fixture
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	m, err := NewModel(e, c, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	size, width := c.Vision.ImageSize, c.Text.Width
	g := autodiff.New(e)
	tw := m.Bind(g)
	pixels, prompts := g.Input(images, 3, size, size), g.Input(texts, length, width)
	eot := make([]int, texts)
	for i := range eot {
		eot[i] = length - 1 - 2*i
	}
	image, text := tw.Image(pixels, ImagePrompts{}), tw.Text(prompts, eot)
	logits := image.MatMulT(text).Scale(m.LogitScale())
	weight := g.Const(float32s(hashed("objective", images*texts), 1, 0), images, texts)
	grads := autodiff.Grad(logits.Mul(weight).Sum(), autodiff.None, pixels, prompts)
	p, err := g.Compile(image, text, logits, grads[0], grads[1])
	if err != nil {
		t.Fatal(err)
	}
	defer p.Free()
	if err := p.Write(pixels, float32s(hashed("pixels", pixels.Size()), 0.5, 0.5)); err != nil {
		t.Fatal(err)
	}
	if err := p.Write(prompts, float32s(hashed("prompts", prompts.Size()), 0.2, 0)); err != nil {
		t.Fatal(err)
	}
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	read := func(v autodiff.Value) []float32 {
		data, err := p.Read(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	check := func(what string, got []float32, want []float64, scale float64) {
		t.Helper()
		var worst float64
		for i, w := range want {
			scale = max(scale, math.Abs(w))
			worst = max(worst, math.Abs(float64(got[i])-w))
		}
		t.Logf("%s: max|a-b|/max|b| = %.2g", what, worst/scale)
		if !(worst <= tolerance*scale) || len(got) < len(want) {
			t.Errorf("%s: max|a-b|/max|b| = %.2g, allowed %g", what, worst/scale, tolerance)
		}
	}
	check("image features", read(image), want.Image, 0)
	check("text features", read(text), want.Text, 0)
	check("logits", read(logits), want.Logits, 0)
	gradient := func(what string, got []float32, want sampled) {
		t.Helper()
		var sum float64
		var at []float32
		for i, v := range got {
			sum += float64(v) * float64(v)
			if i%want.Step == 0 {
				at = append(at, v)
			}
		}
		check(what, at, want.Values, want.Max)
		check("norm of "+what, []float32{float32(math.Sqrt(sum))}, []float64{want.Norm}, 0)
	}
	gradient("gradient to the pixels", read(grads[0]), want.Pixel)
	gradient("gradient to the prompts", read(grads[1]), want.Prompt)
}

func float32s(x []float64, scale, shift float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(float64(scale*v) + shift)
	}
	return out
}

func TestTinyTowersAgreeWithTransformers(t *testing.T) {
	c := tiny()
	// Weights, folded weights and results pass through float32.
	parity(t, plain.New[float64](), c, hashedWeights(c), "parity-tiny.json", 3, 4, 9, 1e-6)
	parity(t, plain.New[float32](), c, hashedWeights(c), "parity-tiny.json", 3, 4, 9, 1e-5)
}
