package clip

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/clip/bpe"
	"clipinspector/clip/pickle"
	"clipinspector/clip/safetensors"
	"clipinspector/clip/torchfile"
	"clipinspector/internal/regular"
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
	if eos := c.Text.EOS; eos != 2 && eos != t.EOT() {
		return fail(fmt.Errorf("%s: text_config.eos_token_id is %d; the vocabulary's end of text is %d, and only there, or at the largest id, "+
			"which 2 stands for, the features are read", filepath.Join(filepath.Dir(file), configFile), eos, t.EOT()))
	}
	if c.Normalization, err = readNormalization(filepath.Dir(file), c.Vision.ImageSize); err != nil {
		return fail(err)
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
	head, err := torchfile.Head(path)
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
	f, err := regular.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
