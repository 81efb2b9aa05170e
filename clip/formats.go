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

	"clipinspector/clip/bpe"
	"clipinspector/internal/dense"
	"clipinspector/internal/files"
	"clipinspector/internal/safetensors"
)

// Names of the files of a model's folder. Of the weights the first that is there counts.
const (
	configFile    = "config.json"           // Hugging Face's CLIPModel
	openCLIPFile  = "open_clip_config.json" // open_clip's models on Hugging Face's hub
	weightsFile   = "model.safetensors"
	indexFile     = "model.safetensors.index.json"
	tokenizerFile = "tokenizer.json" // Hugging Face's, since transformers 5 the only one
	vocabFile     = "vocab.json"     // the numbers of its symbols, before
	adapterFile   = "adapter_config.json"
)

var (
	weightsFiles = []string{weightsFile, indexFile, "pytorch_model.bin", "pytorch_model.bin.index.json", "open_clip_model.safetensors",
		"open_clip_pytorch_model.bin"}
	vocabularies = []string{"bpe.txt", "bpe_simple_vocab_16e6.txt.gz", "merges.txt", tokenizerFile}
)

// published are the sha256 of the files that OpenAI published, which its own code checks against
// (github.com/openai/CLIP, clip/clip.py).
var published = map[string]string{
	"afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762": "OpenAI's RN50",
	"8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599": "OpenAI's RN101",
	"7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd": "OpenAI's RN50x4",
	"52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa": "OpenAI's RN50x16",
	"be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c": "OpenAI's RN50x64",
	"40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "OpenAI's ViT-B/32",
	"5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "OpenAI's ViT-B/16",
	"b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "OpenAI's ViT-L/14",
	"3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "OpenAI's ViT-L/14@336px",
}

// LoadPretrained reads a model from a folder, or from a file of weights in one. The threat model
// rests on encoders that nobody touched: [FileFingerprint] tells whether they are the published
// ones. Known are
//
//   - Hugging Face's layout: config.json and model.safetensors or pytorch_model.bin, or the parts
//     of either with their *.index.json; [SavePretrained] writes it;
//   - OpenAI's TorchScript archives, such as ViT-B-16.pt;
//   - state dicts under OpenAI's names, which open_clip writes as well, as a file of torch.save or
//     as safetensors. Such a file does not say its activation: open_clip_config.json beside it
//     must.
//
// Weights may lie within a checkpoint's dict, under any name, and their names may have a prefix
// (module., _orig_mod., model. and the like). Every tensor is used, or known and harmless (see
// [Pretrained].LeftAlone), or the file is refused.
//
// Beside the weights lies the vocabulary: bpe.txt (as SavePretrained writes),
// bpe_simple_vocab_16e6.txt.gz (OpenAI) or merges.txt or tokenizer.json (Hugging Face). How
// pictures are prepared is read from preprocessor_config.json, processor_config.json or
// open_clip_config.json, see [Normalization]; CLIP's way where none is there. Numbers of half
// precision become float32. What does not fit is an error that names the file and the tensor.
func LoadPretrained(path string) (Config, Weights, *bpe.Tokenizer, error) {
	p, err := ReadPretrained(path)
	if err != nil {
		return Config{}, nil, nil, err
	}
	return p.Config, p.Weights, p.Tokenizer, nil
}

// ReadPretrained is [LoadPretrained], and says as LeftAlone what the file holds beyond the weights
// and why that is harmless.
func ReadPretrained(path string) (*Pretrained, error) {
	p, err := readPretrained(path)
	if err != nil {
		return nil, fmt.Errorf("CLIP model: %w", err)
	}
	return p, nil
}

func readPretrained(path string) (*Pretrained, error) {
	file, err := findWeights(path)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(file)
	t, err := readVocabulary(dir)
	if err != nil {
		return nil, err
	}
	c, w, leftAlone, err := readWeights(file)
	if err != nil {
		return nil, err
	}
	if t.Size() != c.Text.VocabSize {
		return nil, fmt.Errorf("%s: the vocabulary has %d tokens, the model %d", path, t.Size(), c.Text.VocabSize)
	}
	if err := t.CheckVocab(filepath.Join(dir, vocabFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if eos := c.Text.EOS; eos != 2 && eos != t.EOT() {
		return nil, fmt.Errorf("%s: text_config.eos_token_id is %d; the vocabulary's end of text is %d, and only there, or at the largest id, "+
			"which 2 stands for, the features are read", filepath.Join(dir, configFile), eos, t.EOT())
	}
	if c.Normalization, err = readNormalization(dir, c.Vision.ImageSize); err != nil {
		return nil, err
	}
	if err := w.Check(c); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &Pretrained{Config: c, Weights: w, Tokenizer: t, LeftAlone: leftAlone}, nil
}

// findWeights returns the file of weights of a folder, or the file that path names.
func findWeights(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return path, err
	}
	if adapter := filepath.Join(path, adapterFile); exists(adapter) {
		return "", fmt.Errorf("%s: what it describes is loaded by transformers as well, and changes the features: merge it into the weights "+
			"(merge_and_unload of PEFT), or name the file of weights", adapter)
	}
	for _, name := range weightsFiles {
		if exists(filepath.Join(path, name)) {
			return filepath.Join(path, name), nil
		}
	}
	var others []string
	for _, pattern := range []string{"*.pt", "*.pth", "*.safetensors"} {
		files, err := filepath.Glob(filepath.Join(escape(path), pattern))
		if err != nil {
			return "", err
		}
		others = append(others, files...)
	}
	switch len(others) {
	case 0:
		return "", fmt.Errorf("%s: no weights; one of %s, or one file *.pt, *.pth or *.safetensors, should be there", path,
			strings.Join(weightsFiles, ", "))
	case 1:
		return others[0], nil
	}
	for i, name := range others {
		others[i] = filepath.Base(name)
	}
	return "", fmt.Errorf("%s: several files could be the weights (%s): name the one", path, some(others))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// escape makes a path match itself alone.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// readVocabulary reads the vocabularies of a folder. Where there are several they must be the same:
// which counts depends on who reads.
func readVocabulary(dir string) (*bpe.Tokenizer, error) {
	var t *bpe.Tokenizer
	first := ""
	for _, name := range vocabularies {
		path := filepath.Join(dir, name)
		read := bpe.ReadFile
		if name == tokenizerFile {
			read = bpe.ReadTokenizerJSON
		}
		other, err := read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case t == nil:
			t, first = other, name
		case !t.Equal(other):
			return nil, fmt.Errorf("%s: another vocabulary than %s beside it: keep the one that the model was trained with", path, first)
		}
	}
	if t == nil {
		return nil, fmt.Errorf("%s: no vocabulary; one of %s should be there (OpenAI's CLIP repository has it in the folder clip)", dir,
			strings.Join(vocabularies, ", "))
	}
	return t, nil
}

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
		w[name] = dense.New(data, want...)
	}
	return w, nil
}

func unknownTensor(name string) error {
	return fmt.Errorf("tensor %.80q belongs to no CLIP of this config", name)
}

func shapeError(name string, got, want []int) error {
	return fmt.Errorf("tensor %s has shape %v; the config asks for %v", name, got, want)
}

// FileFingerprint returns the sha256 of a model's weights as they lie on disk, in 64 hexadecimal
// digits, and the name of the published model whose file has the same, "" when none is known:
// OpenAI published the sums of its TorchScript archives, and of no other format. path is what
// [LoadPretrained] takes; the sum of a sharded model is that of its index's bytes and then of its
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
	f, err := files.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
