package clip

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/autodiff"
	"clipinspector/clip/bpe"
	"clipinspector/engine"
	"clipinspector/engine/cuda"
	"clipinspector/engine/cuda/host"
	"clipinspector/engine/plain"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/internal/safetensors"
	"clipinspector/internal/torchfile"
)

// smallResNet is the tower of testdata/resnet.py beside a small text tower.
func smallResNet(t testing.TB) (Config, Weights, *bpe.Tokenizer) {
	t.Helper()
	tok := bpe.Learn(nil, 0)
	c := ViTB32()
	c.Text = TextConfig{Width: 64, MLP: 256, Layers: 2, Heads: 1, ContextLength: 24, VocabSize: tok.Size(), Activation: "quick_gelu", LayerNormEps: 1e-5, EOS: tok.EOT()}
	c.Vision = VisionConfig{Stages: [4]int{2, 1, 2, 1}, Width: 4, Heads: 2, ImageSize: 64}
	c.ProjectionDim = 12
	return c, hashedWeights(c), tok
}

// pixelProgram records features, tokens and the gradient of sum(features * hash) to the pixels of n
// images.
func pixelProgram(t testing.TB, e engine.Engine, c Config, w Weights, n int) (features, tokens, gradient []float64) {
	t.Helper()
	m, err := NewModel(e, c, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	g := autodiff.New(e)
	towers := m.Bind(g)
	pixels := g.Input(n, 3, c.Vision.ImageSize, c.Vision.ImageSize)
	image, all := towers.Image(pixels, ImagePrompts{}), towers.Tokens(pixels)
	weight := g.Const(float32s(hashed("objective", n*c.ProjectionDim), 1, 0), n, c.ProjectionDim)
	grad := autodiff.Grad(image.Mul(weight).Sum(), autodiff.None, pixels)[0]
	p, err := g.Compile(image, all, grad)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Free()
	if err := p.Write(pixels, float32s(hashed("pixels", pixels.Size()), 0.5, 0.5)); err != nil {
		t.Fatal(err)
	}
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	read := func(v autodiff.Value) (out []float64) {
		x, err := p.Read(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range x {
			out = append(out, float64(v))
		}
		return out
	}
	return read(image), read(all), read(grad)
}

// gap is max|a-b| / max|b|.
func gap(a, b []float64) float64 {
	most, scale := 0.0, 0.0
	for i := range b {
		most, scale = math.Max(most, math.Abs(a[i]-b[i])), math.Max(scale, math.Abs(b[i]))
	}
	return most / scale
}

// The ResNet computes what OpenAI's model code does: feature, tokens of the attention pool,
// gradient to the pixels.
func TestResNetAgreesWithOpenAI(t *testing.T) {
	raw, err := os.ReadFile("testdata/parity-resnet.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Image  []float64 `json:"image_features"`
		Tokens []float64
		Pixel  sampled `json:"pixel_gradient"`
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	c, w, _ := smallResNet(t)
	engines := map[string]engine.Engine{"plain float64": plain.New[float64](), "plain float32": plain.New[float32](), "cpu": computetest.CPU(t, 2)}
	if os.Getenv("CLIPINSPECTOR_EMULATED") != "" { // three quarters of a minute, for kernels that are tested where they are
		d, err := host.New(host.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if engines["emulated GPU"], err = cuda.NewOn(d, "host", cuda.FP32); err != nil {
			t.Fatal(err)
		}
	}
	for name, e := range engines {
		features, tokens, gradient := pixelProgram(t, e, c, w, 3)
		var at []float64
		for i := 0; i < len(gradient); i += want.Pixel.Step {
			at = append(at, gradient[i])
		}
		for what, d := range map[string]float64{"features": gap(features, want.Image), "tokens": gap(tokens, want.Tokens), "gradient to pixels": gap(at, want.Pixel.Values)} {
			t.Logf("%s: %s: %.2g", name, what, d)
			if !(d < 1e-4) {
				t.Errorf("%s: %s differ by %.3g of the largest, want 1e-4 at most", name, what, d)
			}
		}
	}
}

// The gradient to the pixels is that of finite differences, in double precision, along directions
// drawn afresh.
func TestResNetGradient(t *testing.T) {
	c, w, _ := smallResNet(t)
	e := plain.New[float64]()
	m, err := NewModel(e, c, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	size := c.Vision.ImageSize
	const h = 1.0 / (1 << 26)
	g := autodiff.New(e)
	pixels, direction := g.Input(1, 3, size, size), g.Input(1, 3, size, size)
	towers, weight := m.Bind(g), g.Const(float32s(hashed("objective", c.ProjectionDim), 1, 0), 1, c.ProjectionDim)
	at := func(x autodiff.Value) autodiff.Value { return towers.Image(x, ImagePrompts{}).Mul(weight).Sum() }
	along := autodiff.Grad(at(pixels), autodiff.None, pixels)[0].Mul(direction).Sum()
	difference := at(pixels.Add(direction.Scale(h))).Sub(at(pixels.Sub(direction.Scale(h)))).Scale(1 / (2 * h))
	p, err := g.Compile(along, difference)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Free()
	if err := p.Write(pixels, float32s(hashed("pixels", pixels.Size()), 0.5, 0.5)); err != nil {
		t.Fatal(err)
	}
	for try := range 4 {
		if err := p.Write(direction, float32s(hashed(fmt.Sprint("direction", try), pixels.Size()), 1, 0)); err != nil {
			t.Fatal(err)
		}
		if err := p.Run(); err != nil {
			t.Fatal(err)
		}
		want, err := p.Read(along)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Read(difference)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("along direction %d: %.6g by differences, %.6g by the gradient", try, got[0], want[0])
		if d := math.Abs(float64(got[0] - want[0])); d > 1e-4*math.Abs(float64(want[0]))+1e-6 {
			t.Errorf("along direction %d: %.6g by differences, %.6g by the gradient", try, got[0], want[0])
		}
	}
}

// More images than pass the tower at once give what each gives alone.
func TestResNetBatch(t *testing.T) {
	c, w, _ := smallResNet(t)
	e := computetest.CPU(t, 2)
	some, _, _ := pixelProgram(t, e, c, w, 3)
	many, _, _ := pixelProgram(t, e, c, w, imagesAtOnce+3)
	if d := gap(many[:len(some)], some); d > 1e-6 {
		t.Errorf("the first images' features differ by %.3g in a larger batch", d)
	}
}

// A state dict of OpenAI's or open_clip's ResNet is read by its shapes; every tensor of it is used
// or named; what does not fit is refused.
func TestResNetIsRead(t *testing.T) {
	c, w, tok := smallResNet(t)
	write := func(config string, change func(map[string]*torchfileEntry)) string {
		return writeResNet(t, w, tok, config, change)
	}
	const quick = `{"model_cfg": {"quick_gelu": true, "vision_cfg": {"layers": [2, 1, 2, 1], "width": 4, "patch_size": null, "image_size": 64}}}`
	p, err := ReadPretrained(write(quick, nil))
	if err != nil {
		t.Fatal(err)
	}
	if p.Config.Vision.Stages != c.Vision.Stages || p.Config.Vision.Heads != 2 || p.Weights.Fingerprint() != w.Fingerprint() {
		t.Errorf("read as %+v, or with other numbers", p.Config.Vision)
	}
	if len(p.LeftAlone) != 1 || !strings.Contains(p.LeftAlone[0], "visual.bn1.num_batches_tracked") {
		t.Errorf("left alone: %q", p.LeftAlone)
	}
	for want, x := range map[string]struct {
		config string
		change func(map[string]*torchfileEntry)
	}{
		"tensor visual.bn2.running_mean is missing": {quick, func(e map[string]*torchfileEntry) { delete(e, "visual.bn2.running_mean") }},
		"belongs to no CLIP":                        {quick, func(e map[string]*torchfileEntry) { e["visual.layer1.0.extra"] = e["visual.bn1.weight"] }},
		"visual.layer2.0.conv2.weight has shape":    {quick, func(e map[string]*torchfileEntry) { e["visual.layer2.0.conv2.weight"].shape = []int{8, 72} }},
		"running_var holds -1":                      {quick, func(e map[string]*torchfileEntry) { e["visual.bn3.running_var"].data[0] = -1 }},
		"visual.layer1.2.bn1.bias is missing":       {`{"model_cfg": {"quick_gelu": true}}`, func(e map[string]*torchfileEntry) { e["visual.layer1.9.bn1.bias"] = e["visual.bn1.bias"] }},
		"vision_cfg.layers is [3,4,6,3]":            {strings.Replace(quick, "[2, 1, 2, 1]", "[3, 4, 6, 3]", 1), nil},
	} {
		_, err := ReadPretrained(write(x.config, x.change))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
}

type torchfileEntry struct {
	shape []int
	data  []float32
}

// The published architectures have OpenAI's numbers of parameters.
func TestResNetParameters(t *testing.T) {
	for name, stages := range map[string][4]int{"RN50": {3, 4, 6, 3}, "RN101": {3, 4, 23, 3}} {
		c := ViTB32()
		c.Vision, c.ProjectionDim = VisionConfig{Stages: stages, Width: 64, Heads: 32, ImageSize: 224}, map[string]int{"RN50": 1024, "RN101": 512}[name]
		if err := c.validate(); err != nil {
			t.Fatal(err)
		}
		// github.com/openai/CLIP: model.parameters() of the published models.
		if got, want := c.Parameters(), map[string]int{"RN50": 102007137, "RN101": 119688033}[name]; got != want {
			t.Errorf("%s: %d parameters, want %d", name, got, want)
		}
		t.Logf("%s: %.2f GFLOP an image", name, c.ImageCost(0).Forward/1e9)
	}
}

// writeResNet writes weights under OpenAI's names, as a state dict rn.pt, with a vocabulary and a
// configuration into a folder of its own.
func writeResNet(t testing.TB, w Weights, tok *bpe.Tokenizer, config string, change func(map[string]*torchfileEntry)) string {
	t.Helper()
	dir := t.TempDir()
	entries := map[string]*torchfileEntry{"visual.bn1.num_batches_tracked": {nil, []float32{7}}}
	for name, x := range w {
		from, part, parts, transposed := openAIName(name)
		data := safetensors.Values(x)
		if transposed {
			data = transpose(data, x.Shape()[0], x.Shape()[1])
		}
		if entries[from] == nil {
			whole := openAIShape(x.Shape(), parts, transposed)
			entries[from] = &torchfileEntry{whole, make([]float32, product(whole))}
		}
		copy(entries[from].data[part*len(data):], data)
	}
	if change != nil {
		change(entries)
	}
	var state torchfile.Entries
	for _, name := range sortedNames(entries) {
		state = append(state, torchfile.Entry{Key: name, Value: dense.New(entries[name].data, entries[name].shape...)})
	}
	if err := torchfile.Write(filepath.Join(dir, "rn.pt"), state); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "bpe.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := tok.Write(f); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, openCLIPFile), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
