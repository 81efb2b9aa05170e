package clip

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/clip/bpe"
	"clipinspector/internal/dense"
	"clipinspector/internal/files"
	"clipinspector/internal/safetensors"
)

// Weights are the parameters of a CLIP under Hugging Face's names, float32 and row-major. The
// shapes are those of [Config.Shapes]; logit_scale is a scalar and holds a logarithm.
type Weights map[string]*tensor.Dense

// Shapes returns the name and shape of every parameter, as transformers' CLIPModel has them; those
// of a ResNet, and the statistics of its batch normalisations, have OpenAI's names behind
// "vision_model.". A matrix is [out,in].
func (c Config) Shapes() map[string][]int {
	t, v := c.Text, c.Vision
	s := map[string][]int{
		"logit_scale": {},
		"text_model.embeddings.token_embedding.weight":    {t.VocabSize, t.Width},
		"text_model.embeddings.position_embedding.weight": {t.ContextLength, t.Width},
		"text_projection.weight":                          {c.ProjectionDim, t.Width},
	}
	pair := func(name string, shape ...int) { // a weight and the bias of its outputs
		s[name+".weight"] = shape
		s[name+".bias"] = shape[:1:1]
	}
	pair("text_model.final_layer_norm", t.Width)
	tower := func(name string, layers, width, mlp int) {
		for i := range layers {
			block := fmt.Sprintf("%s.encoder.layers.%d.", name, i)
			for _, x := range []string{"q_proj", "k_proj", "v_proj", "out_proj"} {
				pair(block+"self_attn."+x, width, width)
			}
			pair(block+"layer_norm1", width)
			pair(block+"layer_norm2", width)
			pair(block+"mlp.fc1", mlp, width)
			pair(block+"mlp.fc2", width, mlp)
		}
	}
	tower("text_model", t.Layers, t.Width, t.MLP)
	if v.ResNet() {
		c.resNetShapes(s)
		return s
	}
	side := v.ImageSize / v.PatchSize
	s["vision_model.embeddings.class_embedding"] = []int{v.Width}
	s["vision_model.embeddings.patch_embedding.weight"] = []int{v.Width, 3, v.PatchSize, v.PatchSize}
	s["vision_model.embeddings.position_embedding.weight"] = []int{side*side + 1, v.Width}
	s["visual_projection.weight"] = []int{c.ProjectionDim, v.Width}
	pair("vision_model.pre_layrnorm", v.Width) // sic
	pair("vision_model.post_layernorm", v.Width)
	tower("vision_model", v.Layers, v.Width, v.MLP)
	return s
}

// Parameters returns the number of parameters; 149,620,737 for ViT-B/16.
func (c Config) Parameters() int {
	n := 0
	for name, shape := range c.Shapes() {
		if !strings.Contains(name, ".running_") { // statistics of a ResNet
			n += product(shape)
		}
	}
	return n
}

func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Check returns an error that names the first tensor, in order of names, that is missing, unknown,
// not float32 and row-major, of a shape other than c asks for, or not finite everywhere.
func (w Weights) Check(c Config) error {
	if err := c.validate(); err != nil {
		return err
	}
	shapes := c.Shapes()
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		t := w[name]
		if t == nil {
			return fmt.Errorf("tensor %s is missing", name)
		}
		if t.Dtype() != tensor.Float32 || t.RequiresIterator() || t.DataOrder().IsColMajor() {
			return fmt.Errorf("tensor %s is %v in an order that is not row-major, or not float32", name, t.Dtype())
		}
		if !slices.Equal([]int(t.Shape()), shapes[name]) {
			return shapeError(name, t.Shape(), shapes[name])
		}
		for i, x := range safetensors.Values(t) {
			if x-x != 0 || x < 0 && strings.HasSuffix(name, ".running_var") { // infinite, NaN, or no variance
				return fmt.Errorf("tensor %s holds %v at element %d", name, x, i)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if _, ok := shapes[name]; !ok {
			return unknownTensor(name)
		}
	}
	return nil
}

// Fingerprint returns the sha256, in 64 hexadecimal digits, over the tensors in order of names: the
// name and shape as a line of text, then the numbers as little-endian float32.
func (w Weights) Fingerprint() string {
	h := sha256.New()
	buf := make([]byte, 0, 64<<10)
	for _, name := range slices.Sorted(maps.Keys(w)) {
		fmt.Fprintf(h, "%s %v\n", name, []int(w[name].Shape()))
		for part := range slices.Chunk(safetensors.Values(w[name]), cap(buf)/4) {
			buf = buf[:0]
			for _, x := range part {
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(x))
			}
			h.Write(buf)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// RandomWeights draws weights as OpenAI's CLIP has them before training (clip/model.py,
// initialize_parameters): normal deviates with the text tower's scales in both towers, biases 0,
// LayerNorms 1. Every tensor has a random stream of its own, from the seed and its name, so that
// equal names and shapes get equal numbers in any config of the same widths.
func RandomWeights(c Config, seed uint64) Weights {
	w := Weights{}
	for name, shape := range c.Shapes() { // the order does not matter: each tensor has its own stream
		if name == "logit_scale" {
			w[name] = dense.New([]float32{float32(c.LogitScaleInit)})
			continue
		}
		data := make([]float32, product(shape))
		if std := c.initialStd(name, shape); std > 0 {
			h := fnv.New64a()
			h.Write([]byte(name))
			rng := rand.New(rand.NewPCG(seed, h.Sum64()))
			for i := range data {
				data[i] = float32(std * rng.NormFloat64())
			}
		} else if strings.HasSuffix(name, ".weight") && !strings.HasSuffix(name, ".bn3.weight") || strings.HasSuffix(name, ".running_var") { // of a normalisation; OpenAI's blocks begin as nothing
			for i := range data {
				data[i] = 1
			}
		}
		w[name] = dense.New(data, shape...)
	}
	return w
}

// initialStd returns the standard deviation of a parameter before training, 0 for biases and
// LayerNorms.
func (c Config) initialStd(name string, shape []int) float64 {
	width, layers := float64(c.Vision.Width), float64(c.Vision.Layers)
	text := strings.HasPrefix(name, "text_")
	if text {
		width, layers = float64(c.Text.Width), float64(c.Text.Layers)
	}
	has := func(s string) bool { return strings.Contains(name, s) }
	switch {
	case !text && c.Vision.ResNet():
		switch fan := product(shape[1:]); {
		case len(shape) == 1:
			return 0
		case has("attnpool"):
			return 1 / math.Sqrt(float64(fan))
		default: // of a convolution before ReLU
			return math.Sqrt(2 / float64(fan))
		}
	case strings.HasSuffix(name, ".bias"), has("layer_norm"), has("layernorm"), has("layrnorm"):
		return 0
	case has("token_embedding"):
		return 0.02
	case text && has("position_embedding"):
		return 0.01
	case has("patch_embedding"): // the deviation of PyTorch's default for a convolution, 1/sqrt(3 fan-in)
		return 1 / math.Sqrt(3*float64(product(shape[1:])))
	case has("out_proj"), has("fc2"):
		return 1 / math.Sqrt(2*layers*width)
	case has("fc1"):
		return 1 / math.Sqrt(2*width)
	}
	return 1 / math.Sqrt(width) // q, k, v, class token, positions of the image tower, projections
}

// SavePretrained writes a model into a folder, which it makes if need be, so that [LoadPretrained]
// and transformers read it: config.json, model.safetensors, preprocessor_config.json and the
// vocabulary, as bpe.txt and, where Hugging Face's tokenizer can use it (at most CLIP's 48,894
// merges), as vocab.json, merges.txt and tokenizer_config.json. half writes tensors of two or more
// axes as F16, and leaves vectors and scalars, which cost nothing, in F32. The end-of-text id in
// config.json is the tokenizer's. Each file appears whole or not at all, config.json last: a folder
// without it is not a model.
func SavePretrained(dir string, c Config, w Weights, t *bpe.Tokenizer, half bool) error {
	if err := w.Check(c); err != nil {
		return fmt.Errorf("saving the CLIP model %s: %w", dir, err)
	}
	if t == nil || t.Size() != c.Text.VocabSize {
		return fmt.Errorf("saving the CLIP model %s: it needs a tokenizer of %d tokens", dir, c.Text.VocabSize)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("saving the CLIP model %s: %w", dir, err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Remove(in(configFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("saving the CLIP model %s: %w", dir, err)
	}
	file := &safetensors.File{Tensors: w, Metadata: map[string]string{"format": "pt"}}
	steps := []func() error{
		func() error {
			return safetensors.Write(in(weightsFile), file, safetensors.AsFunc(func(_ string, shape []int) safetensors.DType {
				if half && len(shape) >= 2 {
					return safetensors.F16
				}
				return safetensors.F32
			}))
		},
		func() error { return files.WriteAtomic(in("bpe.txt"), t.Write) },
		func() error { return writeJSON(in("preprocessor_config.json"), preprocessor(c)) },
	}
	if t.Size() <= ViTB32().Text.VocabSize {
		steps = append(steps,
			func() error { return files.WriteAtomic(in("merges.txt"), t.Write) },
			func() error {
				return files.WriteAtomic(in("vocab.json"), func(w io.Writer) error { return t.WriteVocab(w) })
			},
			func() error { return writeJSON(in("tokenizer_config.json"), tokenizerConfig(c.Text.ContextLength)) })
	}
	c.Text.EOS = t.EOT()
	steps = append(steps, func() error { return c.write(in(configFile)) })
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("saving the CLIP model: %w", err)
		}
	}
	return nil
}

// preprocessor is what transformers' CLIPImageProcessor reads: resize the shorter side with bicubic
// weights, crop the centre, normalise.
func preprocessor(c Config) any {
	size := c.Vision.ImageSize
	mean, std := c.Normalization.values()
	return map[string]any{
		"image_processor_type": "CLIPImageProcessor",
		"do_convert_rgb":       true,
		"do_resize":            true,
		"size":                 map[string]int{"shortest_edge": size},
		"resample":             3,
		"do_center_crop":       true,
		"crop_size":            map[string]int{"height": size, "width": size},
		"do_rescale":           true,
		"rescale_factor":       1. / 255,
		"do_normalize":         true,
		"image_mean":           mean,
		"image_std":            std,
	}
}

// tokenizerConfig is what transformers' CLIPTokenizer reads beside vocab.json and merges.txt.
func tokenizerConfig(length int) any {
	return map[string]any{
		"tokenizer_class":  "CLIPTokenizer",
		"model_max_length": length,
		"do_lower_case":    true,
		"errors":           "replace",
		"bos_token":        "<|startoftext|>",
		"eos_token":        "<|endoftext|>",
		"unk_token":        "<|endoftext|>",
		"pad_token":        "<|endoftext|>",
	}
}
