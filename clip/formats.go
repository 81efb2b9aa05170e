package clip

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/clip/bpe"
	"clipinspector/clip/pickle"
	"clipinspector/clip/safetensors"
	"clipinspector/clip/torchfile"
)

// Names of the files of a model's folder. Of the weights and of the vocabularies the first that is there counts.
const (
	configFile   = "config.json"           // Hugging Face's CLIPModel
	openCLIPFile = "open_clip_config.json" // open_clip's models on Hugging Face's hub
	weightsFile  = "model.safetensors"
	indexFile    = "model.safetensors.index.json"
)

var (
	weightsFiles = []string{weightsFile, indexFile, "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"}
	vocabularies = []string{"bpe.txt", "bpe_simple_vocab_16e6.txt.gz", "merges.txt"}
)

// published are the sha256 of the files that OpenAI published, which its own code checks against (github.com/openai/CLIP,
// clip/clip.py), of the architectures that this package has.
var published = map[string]string{
	"40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "OpenAI's ViT-B/32",
	"5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "OpenAI's ViT-B/16",
	"b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "OpenAI's ViT-L/14",
	"3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "OpenAI's ViT-L/14@336px",
}

// LoadPretrained reads a model from a folder, or from a file of weights in one. The threat model rests on encoders that nobody
// touched: [FileFingerprint] tells whether they are the published ones. Known are
//
//   - Hugging Face's layout: config.json and model.safetensors (or its parts with model.safetensors.index.json) or
//     pytorch_model.bin; [SavePretrained] writes it;
//   - OpenAI's TorchScript archives, such as ViT-B-16.pt;
//   - state dicts under OpenAI's names, which open_clip writes as well, as a file of torch.save, by itself or as "state_dict" of
//     a training checkpoint, or as safetensors. Such a file does not say its activation: open_clip_config.json beside it must.
//
// Beside the weights lies the vocabulary: bpe.txt (as SavePretrained writes), bpe_simple_vocab_16e6.txt.gz (OpenAI) or merges.txt
// (Hugging Face). Numbers of half precision become float32; position_ids and other buffers are dropped. What does not fit is an
// error that names the file and the tensor.
func LoadPretrained(path string) (Config, Weights, *bpe.Tokenizer, error) {
	fail := func(err error) (Config, Weights, *bpe.Tokenizer, error) {
		return Config{}, nil, nil, fmt.Errorf("CLIP model: %w", err)
	}
	file, err := findWeights(path)
	if err != nil {
		return fail(err)
	}
	t, err := readVocabulary(filepath.Dir(file))
	if err != nil {
		return fail(err)
	}
	c, w, err := readWeights(file)
	if err != nil {
		return fail(err)
	}
	if t.Size() != c.Text.VocabSize {
		return fail(fmt.Errorf("%s: the vocabulary has %d tokens, the model %d", path, t.Size(), c.Text.VocabSize))
	}
	if err := w.Check(c); err != nil {
		return fail(fmt.Errorf("%s: %w", file, err))
	}
	return c, w, t, nil
}

// findWeights returns the file of weights of a folder, or the file that path names.
func findWeights(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return path, err
	}
	for _, name := range weightsFiles {
		if _, err := os.Stat(filepath.Join(path, name)); err == nil {
			return filepath.Join(path, name), nil
		}
	}
	archives, err := filepath.Glob(filepath.Join(escape(path), "*.pt"))
	if err == nil && len(archives) == 1 {
		return archives[0], nil
	}
	return "", fmt.Errorf("%s: no weights; one of %s, or one file *.pt, should be there", path, strings.Join(weightsFiles, ", "))
}

// escape makes a path match itself alone.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func readVocabulary(dir string) (*bpe.Tokenizer, error) {
	for _, name := range vocabularies {
		t, err := bpe.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return t, err
	}
	return nil, fmt.Errorf("%s: no vocabulary; one of %s should be there (OpenAI's CLIP repository has it in the folder clip)", dir,
		strings.Join(vocabularies, ", "))
}

// stored are the tensors of a file, of whatever format, before they are read.
type stored struct {
	shapes map[string][]int
	read   func(name string) ([]float32, error)
	script bool // from a TorchScript archive
	close  func() error
}

// openStored opens a file of weights by its content.
func openStored(path string) (*stored, error) {
	if strings.HasSuffix(path, ".json") {
		f, err := safetensors.ReadSharded(path)
		return ofSafetensors(path, f, err)
	}
	head, err := readHead(path)
	if err != nil {
		return nil, err
	}
	if !torchfile.Is(head) {
		f, err := safetensors.Read(path)
		return ofSafetensors(path, f, err)
	}
	f, err := torchfile.Open(path)
	if err != nil {
		return nil, err
	}
	root := f.Root
	if d, ok := pickle.AsDict(root); ok { // a training checkpoint of open_clip
		if inner, ok := d.Get("state_dict"); ok {
			root = inner
		}
	}
	tensors, err := f.StateDict(root)
	if err != nil {
		f.Close()
		return nil, err
	}
	s := &stored{shapes: map[string][]int{}, script: f.Format == "TorchScript", close: f.Close}
	for name, t := range tensors {
		s.shapes[name] = t.Shape
	}
	s.read = func(name string) ([]float32, error) { return tensors[name].Float32() }
	s.unwrap("module.") // of a model that was trained on several devices
	return s, nil
}

func ofSafetensors(path string, f *safetensors.File, err error) (*stored, error) {
	if err != nil {
		return nil, err
	}
	s := &stored{shapes: map[string][]int{}, close: func() error { return nil }}
	for name, dtype := range f.Skipped {
		if !dropped(name) {
			return nil, fmt.Errorf("%s: tensor %.80q is %s; F32, F16 and BF16 are supported", path, name, dtype)
		}
	}
	for name, t := range f.Tensors {
		s.shapes[name] = t.Shape()
	}
	s.read = func(name string) ([]float32, error) { return safetensors.Values(f.Tensors[name]), nil }
	return s, nil
}

func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return head[:n], nil
}

// unwrap takes a prefix off all names, where all have it.
func (s *stored) unwrap(prefix string) {
	for name := range s.shapes {
		if !strings.HasPrefix(name, prefix) {
			return
		}
	}
	shapes := map[string][]int{}
	for name, shape := range s.shapes {
		shapes[name[len(prefix):]] = shape
	}
	read := s.read
	s.shapes, s.read = shapes, func(name string) ([]float32, error) { return read(prefix + name) }
}

// dropped tells the buffers that are no weights.
func dropped(name string) bool {
	switch name {
	case "input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask":
		return true
	}
	return strings.HasSuffix(name, ".position_ids")
}

// readWeights reads the weights of a file and finds out their architecture. The result is yet to be checked.
func readWeights(path string) (Config, Weights, error) {
	fail := func(err error) (Config, Weights, error) { return Config{}, nil, err }
	s, err := openStored(path)
	if err != nil {
		return fail(err)
	}
	defer s.close()
	maps.DeleteFunc(s.shapes, func(name string, _ []int) bool { return dropped(name) })
	var c Config
	var w Weights
	dir := filepath.Dir(path)
	switch {
	case s.has("visual.conv1.weight"):
		if c, err = s.openAIConfig(dir); err == nil {
			if w, err = s.openAIWeights(c); err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
		} else {
			err = fmt.Errorf("%s: %w", path, err)
		}
	case s.has("visual.layer1.0.conv1.weight"):
		err = fmt.Errorf("%s: a CLIP with a ResNet; only vision transformers are supported", path)
	default:
		if c, err = ReadConfig(filepath.Join(dir, configFile)); err == nil {
			if w, err = s.weights(c); err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return c, w, err
}

func (s *stored) has(name string) bool { return s.shapes[name] != nil }

// weights reads tensors under Hugging Face's names. Shapes are checked first.
func (s *stored) weights(c Config) (Weights, error) {
	shapes := c.Shapes()
	w := Weights{}
	for _, name := range slices.Sorted(maps.Keys(s.shapes)) {
		want, known := shapes[name]
		if !known {
			return nil, unknownTensor(name)
		}
		if !slices.Equal(s.shapes[name], want) {
			return nil, shapeError(name, s.shapes[name], want)
		}
		data, err := s.read(name)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", name, err)
		}
		w[name] = newWeight(data, want)
	}
	return w, nil
}

func newWeight(data []float32, shape []int) *tensor.Dense {
	if len(shape) == 0 {
		return tensor.New(tensor.FromScalar(data[0]))
	}
	return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
}

func unknownTensor(name string) error {
	return fmt.Errorf("tensor %.80q belongs to no CLIP with a vision transformer of this config", name)
}

func shapeError(name string, got, want []int) error {
	return fmt.Errorf("tensor %s has shape %v; the config asks for %v", name, got, want)
}

// shape returns the shape of a tensor of so many axes.
func (s *stored) shape(name string, axes int) ([]int, error) {
	shape, ok := s.shapes[name]
	if !ok {
		return nil, fmt.Errorf("tensor %s is missing", name)
	}
	if len(shape) != axes {
		return nil, fmt.Errorf("tensor %s has shape %v; %d axes were expected", name, shape, axes)
	}
	return shape, nil
}

// openAIConfig finds the architecture as OpenAI's build_model does (clip/model.py), from names and shapes: heads are 64 wide, or
// there is one. The activation is QuickGELU in OpenAI's archives; of other files open_clip_config.json says it.
func (s *stored) openAIConfig(dir string) (Config, error) {
	s.unwrapText()
	c := ViTB32()
	t, v := &c.Text, &c.Vision
	var err error
	dims := func(name string, axes int, dst ...*int) { // the first dimensions of a tensor
		var shape []int
		if err == nil {
			shape, err = s.shape(name, axes)
		}
		if err == nil {
			for i, d := range dst {
				*d = shape[i]
			}
		}
	}
	var skip, positions int
	dims("visual.conv1.weight", 4, &v.Width, &skip, &skip, &v.PatchSize)
	dims("visual.positional_embedding", 2, &positions)
	dims("visual.transformer.resblocks.0.mlp.c_fc.weight", 2, &v.MLP)
	dims("token_embedding.weight", 2, &t.VocabSize, &t.Width)
	dims("positional_embedding", 2, &t.ContextLength)
	dims("transformer.resblocks.0.mlp.c_fc.weight", 2, &t.MLP)
	dims("text_projection", 2, &skip, &c.ProjectionDim)
	if err != nil {
		return c, err
	}
	side := int(math.Round(math.Sqrt(float64(positions - 1))))
	if side < 1 || side*side != positions-1 || v.PatchSize < 1 || side > 4096/v.PatchSize {
		return c, fmt.Errorf("tensor visual.positional_embedding: %d positions for patches of %d pixels", positions, v.PatchSize)
	}
	v.ImageSize = side * v.PatchSize
	v.Layers, t.Layers = s.blocks("visual.transformer.resblocks."), s.blocks("transformer.resblocks.")
	v.Heads, t.Heads = max(1, v.Width/64), max(1, t.Width/64)
	t.EOS = max(0, t.VocabSize-1)
	if err := s.openCLIPConfig(filepath.Join(dir, openCLIPFile), &c); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// unwrapText takes the prefix "text." off the names of open_clip's models with a text tower of their own.
func (s *stored) unwrapText() {
	if !s.has("text.token_embedding.weight") {
		return
	}
	shapes := map[string][]int{}
	from := map[string]string{}
	for name, shape := range s.shapes {
		short := strings.TrimPrefix(name, "text.")
		shapes[short], from[short] = shape, name
	}
	read := s.read
	s.shapes, s.read = shapes, func(name string) ([]float32, error) { return read(from[name]) }
}

// blocks counts the blocks of a tower: one more than the largest number there is.
func (s *stored) blocks(prefix string) int {
	n := 0
	for name := range s.shapes {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			number, _, _ := strings.Cut(rest, ".")
			if i, err := strconv.Atoi(number); err == nil && i >= n && i < 1<<20 {
				n = i + 1
			}
		}
	}
	return n
}

// openCLIPConfig reads what the tensors do not tell.
func (s *stored) openCLIPConfig(path string, c *Config) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if s.script {
			return nil // OpenAI's: ViTB32's activation
		}
		return fmt.Errorf("a state dict does not say which activation it was trained with: put a file %s beside it that holds "+
			`{"model_cfg": {"quick_gelu": true}} for OpenAI's weights, false for most of open_clip's`, openCLIPFile)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var given struct {
		Model *struct {
			QuickGELU bool `json:"quick_gelu"`
			Vision    struct {
				HeadWidth int `json:"head_width"`
			} `json:"vision_cfg"`
			Text struct {
				Heads int `json:"heads"`
			} `json:"text_cfg"`
		} `json:"model_cfg"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxConfigBytes)).Decode(&given); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if given.Model == nil {
		return fmt.Errorf("%s: model_cfg is missing", path)
	}
	if !given.Model.QuickGELU {
		c.Text.Activation, c.Vision.Activation = "gelu", "gelu"
	}
	if w := given.Model.Vision.HeadWidth; w > 0 {
		c.Vision.Heads = c.Vision.Width / w
	}
	if h := given.Model.Text.Heads; h > 0 {
		c.Text.Heads = h
	}
	return nil
}

// openAIName returns where OpenAI's state dicts have a parameter of Hugging Face's name, which third of the rows of that tensor
// it is (0 of 1 where it is all), and whether it is transposed there (transformers, convert_clip_original_pytorch_to_hf.py).
func openAIName(name string) (openAI string, part, parts int, transposed bool) {
	switch name {
	case "logit_scale":
		return name, 0, 1, false
	case "text_projection.weight":
		return "text_projection", 0, 1, true
	case "visual_projection.weight":
		return "visual.proj", 0, 1, true
	case "text_model.embeddings.token_embedding.weight":
		return "token_embedding.weight", 0, 1, false
	case "text_model.embeddings.position_embedding.weight":
		return "positional_embedding", 0, 1, false
	case "vision_model.embeddings.class_embedding":
		return "visual.class_embedding", 0, 1, false
	case "vision_model.embeddings.patch_embedding.weight":
		return "visual.conv1.weight", 0, 1, false
	case "vision_model.embeddings.position_embedding.weight":
		return "visual.positional_embedding", 0, 1, false
	}
	for i, p := range []string{".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj."} {
		if strings.Contains(name, p) {
			name, part, parts = strings.Replace(name, p, ".attn.in_proj_", 1), i, 3
		}
	}
	return openAINames.Replace(name), part, max(1, parts), false
}

var openAINames = strings.NewReplacer("text_model.encoder.layers.", "transformer.resblocks.", "text_model.final_layer_norm.", "ln_final.",
	"vision_model.encoder.layers.", "visual.transformer.resblocks.", "vision_model.pre_layrnorm.", "visual.ln_pre.",
	"vision_model.post_layernorm.", "visual.ln_post.", ".self_attn.", ".attn.", ".layer_norm", ".ln_", ".fc1.", ".c_fc.", ".fc2.", ".c_proj.")

// openAIWeights reads tensors under OpenAI's names. Shapes are checked first.
func (s *stored) openAIWeights(c Config) (Weights, error) {
	w := Weights{}
	read := map[string][]float32{} // whole tensors, under OpenAI's names
	shapes := c.Shapes()
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		from, part, parts, transposed := openAIName(name)
		shape := shapes[name]
		want := slices.Clone(shape)
		if parts > 1 {
			want[0] *= parts
		}
		if transposed {
			want[0], want[1] = want[1], want[0]
		}
		got, there := s.shapes[from]
		if !there {
			return nil, fmt.Errorf("tensor %s is missing", from)
		}
		if !slices.Equal(got, want) && !(len(want) == 0 && slices.Equal(got, []int{1})) {
			return nil, shapeError(from, got, want)
		}
		if read[from] == nil {
			var err error
			if read[from], err = s.read(from); err != nil {
				return nil, fmt.Errorf("tensor %s: %w", from, err)
			}
		}
		data := read[from]
		n := len(data) / parts
		data = data[part*n : (part+1)*n : (part+1)*n]
		if transposed {
			data = transpose(data, want[0], want[1])
		}
		w[name] = newWeight(data, shape)
	}
	for _, name := range slices.Sorted(maps.Keys(s.shapes)) {
		if read[name] == nil {
			return nil, unknownTensor(name)
		}
	}
	return w, nil
}

// transpose returns the transpose of a matrix of so many rows and columns.
func transpose(x []float32, rows, columns int) []float32 {
	out := make([]float32, len(x))
	for i := range rows {
		for j := range columns {
			out[j*rows+i] = x[i*columns+j]
		}
	}
	return out
}

// FileFingerprint returns the sha256 of a model's weights as they lie on disk, in 64 hexadecimal digits, and the name of the
// published model whose file has the same, "" when none is known: OpenAI published the sums of its TorchScript archives, and of
// no other format. path is what [LoadPretrained] takes; the sum of a sharded model is that of its index's bytes and then of its
// parts in order of names.
func FileFingerprint(path string) (sum, model string, err error) {
	file, err := findWeights(path)
	if err != nil {
		return "", "", err
	}
	files := []string{file}
	if strings.HasSuffix(file, ".json") {
		shards, err := safetensors.Shards(file)
		if err != nil {
			return "", "", err
		}
		files = append(files, shards...)
	}
	h := sha256.New()
	for _, name := range files {
		if err := copyFile(h, name); err != nil {
			return "", "", err
		}
	}
	sum = hex.EncodeToString(h.Sum(nil))
	return sum, published[sum], nil
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
