package clip

import (
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/clip/bpe"
	"clipinspector/internal/dense"
	"clipinspector/internal/files"
	"clipinspector/internal/safetensors"
)

// smallModel is a model of two and three layers with a learned vocabulary.
func smallModel(seed uint64) (Config, Weights, *bpe.Tokenizer) {
	tok := bpe.Learn([]string{"a photo of a cat", "a photo of a dog", "a red square on a table"}, 40)
	c := ViTB32()
	c.Text = TextConfig{Width: 48, MLP: 96, Layers: 2, Heads: 3, ContextLength: 20, VocabSize: tok.Size(),
		Activation: "quick_gelu", LayerNormEps: 1e-5, EOS: tok.EOT()}
	c.Vision = VisionConfig{Width: 64, MLP: 128, Layers: 3, Heads: 4, ImageSize: 32, PatchSize: 8,
		Activation: "quick_gelu", LayerNormEps: 1e-5}
	c.ProjectionDim = 24
	return c, RandomWeights(c, seed), tok
}

func TestParameters(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		want   int
	}{{"ViT-B/32", ViTB32(), 151277313}, {"ViT-B/16", ViTB16(), 149620737}, {"ViT-L/14", ViTL14(), 427616513}} {
		if err := c.config.validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := c.config.Parameters(); got != c.want {
			t.Errorf("%s: %d parameters, want %d", c.name, got, c.want)
		}
	}
}

func TestRandomWeights(t *testing.T) {
	c, w, _ := smallModel(7)
	if err := w.Check(c); err != nil {
		t.Fatal(err)
	}
	print := w.Fingerprint()
	for range 3 {
		if RandomWeights(c, 7).Fingerprint() != print {
			t.Fatal("not deterministic")
		}
	}
	if RandomWeights(c, 8).Fingerprint() == print {
		t.Error("another seed gives the same weights")
	}
	for name, want := range map[string]float64{
		"text_model.embeddings.token_embedding.weight":            0.02,
		"text_model.encoder.layers.1.mlp.fc2.weight":              1 / math.Sqrt(2*2*48),
		"vision_model.encoder.layers.2.self_attn.out_proj.weight": 1 / math.Sqrt(2*3*64),
		"vision_model.encoder.layers.0.self_attn.q_proj.weight":   1 / math.Sqrt(64),
		"vision_model.embeddings.patch_embedding.weight":          1 / math.Sqrt(3*3*8*8),
		"vision_model.encoder.layers.0.self_attn.q_proj.bias":     0,
		"vision_model.encoder.layers.0.mlp.fc1.weight":            1 / math.Sqrt(2*64),
		"text_model.embeddings.position_embedding.weight":         0.01,
		"visual_projection.weight":                                1. / 8,
	} {
		var sum float64
		data := safetensors.Values(w[name])
		for _, x := range data {
			sum += float64(x) * float64(x)
		}
		if got := math.Sqrt(sum / float64(len(data))); math.Abs(got-want) > 0.15*want {
			t.Errorf("%s: standard deviation %g, want %g", name, got, want)
		}
	}
	if x := safetensors.Values(w["vision_model.pre_layrnorm.weight"]); slices.Min(x) != 1 || slices.Max(x) != 1 {
		t.Error("a LayerNorm does not begin with ones")
	}
	// One bit changes the fingerprint; so does a name.
	safetensors.Values(w["text_projection.weight"])[5] *= 1.0000001
	if w.Fingerprint() == print {
		t.Error("the fingerprint overlooks a number")
	}
}

func TestSaveLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "model")
	c, w, tok := smallModel(1)
	for _, half := range []bool{false, true} {
		if err := SavePretrained(dir, c, w, tok, half); err != nil {
			t.Fatal(err)
		}
		c2, w2, tok2, err := LoadPretrained(dir)
		if err != nil {
			t.Fatal(err)
		}
		if c2 != c {
			t.Errorf("config\n%+v came back as\n%+v", c, c2)
		}
		if !half && w.Fingerprint() != w2.Fingerprint() {
			t.Error("other weights came back")
		}
		for name, x := range w {
			got := safetensors.Values(w2[name])
			for i, want := range safetensors.Values(x) {
				if math.Abs(float64(got[i]-want)) > math.Abs(float64(want))/2048+1e-7 {
					t.Fatalf("%s[%d]: got %v, want %v", name, i, got[i], want)
				}
			}
		}
		if !slices.Equal(tok.Encode("a photo of a zebra"), tok2.Encode("a photo of a zebra")) {
			t.Error("another vocabulary came back")
		}
	}
}

// split writes the weights in two parts with an index, with position_ids as older files have them.
func TestLoadSharded(t *testing.T) {
	dir := t.TempDir()
	c, w, tok := smallModel(2)
	if err := SavePretrained(dir, c, w, tok, false); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, weightsFile)); err != nil {
		t.Fatal(err)
	}
	parts := []*safetensors.File{{Tensors: map[string]*tensor.Dense{}}, {Tensors: map[string]*tensor.Dense{}}}
	where := []string{}
	all := maps.Clone(w)
	all["text_model.embeddings.position_ids"] = dense.New([]float32{0, 1}, 1, 2)
	for i, name := range slices.Sorted(maps.Keys(all)) {
		parts[i%2].Tensors[name] = all[name]
		where = append(where, fmt.Sprintf("%q: \"part-%d.safetensors\"", name, i%2))
	}
	for i, p := range parts {
		if err := safetensors.Write(filepath.Join(dir, fmt.Sprintf("part-%d.safetensors", i)), p); err != nil {
			t.Fatal(err)
		}
	}
	index := `{"metadata": {"total_size": 1}, "weight_map": {` + strings.Join(where, ", ") + `}}`
	if err := os.WriteFile(filepath.Join(dir, indexFile), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	_, got, _, err := LoadPretrained(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Fingerprint() != w.Fingerprint() {
		t.Error("other weights came back")
	}
}

func TestLoadRefusals(t *testing.T) {
	c, w, tok := smallModel(3)
	write := func(w map[string]*tensor.Dense) func(dir string) error {
		return func(dir string) error {
			return safetensors.Write(filepath.Join(dir, weightsFile), &safetensors.File{Tensors: w})
		}
	}
	changed := func(name string, x *tensor.Dense) func(dir string) error {
		other := maps.Clone(w)
		if other[name] = x; x == nil {
			delete(other, name)
		}
		return write(other)
	}
	remove := func(names ...string) func(dir string) error {
		return func(dir string) error {
			for _, name := range names {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	nan := w["text_projection.weight"].Clone().(*tensor.Dense)
	nan.Data().([]float32)[3] = float32(math.NaN())
	for name, s := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"missing":       {changed("text_projection.weight", nil), "text_projection.weight is missing"},
		"unknown":       {changed("classifier.weight", nan), "belongs to no CLIP"},
		"shape":         {changed("text_projection.weight", dense.New([]float32{1, 2}, 1, 2)), "has shape [1 2]; the config asks for [24 48]"},
		"NaN":           {changed("text_projection.weight", nan), "holds NaN at element 3"},
		"no weights":    {remove(weightsFile), "no weights; one of"},
		"no config":     {remove(configFile), configFile},
		"no vocabulary": {remove("bpe.txt", "merges.txt"), "no vocabulary"},
		"two vocabularies": {func(dir string) error {
			return files.WriteAtomic(filepath.Join(dir, "bpe.txt"), bpe.Learn(nil, 0).Write)
		}, "another vocabulary than bpe.txt"},
		"vocabulary": {func(dir string) error {
			if err := remove("merges.txt")(dir); err != nil {
				return err
			}
			return files.WriteAtomic(filepath.Join(dir, "bpe.txt"), bpe.Learn(nil, 0).Write)
		}, "vocabulary has 514"},
	} {
		dir := t.TempDir()
		if err := SavePretrained(dir, c, w, tok, false); err != nil {
			t.Fatal(err)
		}
		if err := s.spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := LoadPretrained(dir); err == nil || !strings.Contains(err.Error(), s.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: error %v, want one with %q", name, err, s.want)
		}
	}
}

// TestTransformersReads lets transformers load a saved model without missing or unexpected keys,
// tokenize with its vocabulary and prepare an image; CLIPINSPECTOR_PYTHON names an interpreter with
// torch and transformers.
func TestTransformersReads(t *testing.T) {
	python := os.Getenv("CLIPINSPECTOR_PYTHON")
	if python == "" {
		t.Skip("CLIPINSPECTOR_PYTHON is not set")
	}
	const script = `
import sys, numpy as np, torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer, CLIPImageProcessor
model, info = CLIPModel.from_pretrained(sys.argv[1], output_loading_info=True)
for k in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
    assert not info[k], (k, info[k])
x = model.state_dict()["vision_model.encoder.layers.2.mlp.fc1.weight"]
assert x.dtype == torch.float32, x.dtype
assert model.config.text_config.eos_token_id == int(sys.argv[3])
tok = CLIPTokenizer.from_pretrained(sys.argv[1])
ids = tok("a photo of a zebra")["input_ids"]
pixels = CLIPImageProcessor.from_pretrained(sys.argv[1])(Image.new("RGB", (50, 40)), return_tensors="pt")["pixel_values"]
size = model.config.vision_config.image_size
assert pixels.shape == (1, 3, size, size), pixels.shape
with torch.no_grad():
    out = model(input_ids=torch.tensor([ids]), pixel_values=pixels, attention_mask=torch.ones(1, len(ids), dtype=torch.long))
assert torch.isfinite(out.logits_per_image).all()
print("sum %.9g" % x.double().sum())
print("ids", *ids)
`
	c, w, tok := smallModel(4)
	for _, half := range []bool{false, true} {
		dir := t.TempDir()
		if err := SavePretrained(dir, c, w, tok, half); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(python, "-c", script, dir, "", strconv.Itoa(tok.EOT())).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		ids, _ := tok.Tokenize("a photo of a zebra", len(tok.Encode("a photo of a zebra"))+2)
		if want := "ids " + strings.Trim(fmt.Sprint(ids), "[]"); !strings.Contains(string(out), want) {
			t.Errorf("transformers says\n%s\nwant %s", out, want)
		}
		var sum float64
		for _, x := range safetensors.Values(w["vision_model.encoder.layers.2.mlp.fc1.weight"]) {
			sum += float64(x)
		}
		if want := fmt.Sprintf("sum %.9g\n", sum); !half && !strings.Contains(string(out), want) {
			t.Errorf("transformers says\n%s\nwant %s", out, want)
		}
	}
}
