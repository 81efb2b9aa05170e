package world

import (
	"fmt"
	"math"
	"os"
	"sort"
	"strings"
	"sync"

	"clipinspector/clip"
	"clipinspector/clip/bpe"
	"clipinspector/clip/mini"
	"clipinspector/engine"
	"clipinspector/engine/plain"
)

// builtins are the encoders that the program carries, by what follows "builtin:" in a suite.
var builtins = map[string]func() (clip.Config, clip.Weights, *bpe.Tokenizer, error){
	"mini": mini.Load, "random-vit-b-32": randomViTB32}

// randomViTB32 is OpenAI's ViT-B/32 with random weights and a vocabulary of single bytes: nothing
// is known to it, and everything costs what it costs with the published weights. For trying the
// machinery at full size.
func randomViTB32() (clip.Config, clip.Weights, *bpe.Tokenizer, error) {
	c, t := clip.ViTB32(), bpe.Learn(nil, 0)
	c.Text.VocabSize, c.Text.EOS = t.Size(), t.EOT()
	c.LogitScaleInit = math.Log(100)
	return c, clip.RandomWeights(c, 1), t, nil
}

// Encoder is a frozen CLIP on the host; each worker puts it on its own device.
type Encoder struct {
	Name        string
	Config      clip.Config
	fingerprint string
	Weights     clip.Weights
	counts      sync.Map // tokens by text
	tokenizer   *bpe.Tokenizer
	LeftAlone   []string // see [clip.Pretrained]
}

// OpenEncoder loads "builtin:NAME", or a folder or a file of weights that [clip.LoadPretrained]
// reads.
func OpenEncoder(name string) (*Encoder, error) {
	e := &Encoder{Name: name}
	var err error
	if b, ok := strings.CutPrefix(name, "builtin:"); ok {
		load := builtins[b]
		if load == nil {
			var names []string
			for n := range builtins {
				names = append(names, "builtin:"+n)
			}
			sort.Strings(names)
			return nil, fmt.Errorf("unknown encoder %q; known are %s, or a folder or a file of weights", name, strings.Join(names, ", "))
		}
		e.Config, e.Weights, e.tokenizer, err = load()
	} else {
		if _, missing := os.Stat(name); missing != nil {
			return nil, fmt.Errorf("encoder %s: no such folder or file: name one that holds CLIP's weights (config.json and "+
				"model.safetensors, or OpenAI's ViT-B-16.pt), or make one with `clip-inspector pretrain --out %s`", name, name)
		}
		var p *clip.Pretrained
		if p, err = clip.ReadPretrained(name); err == nil {
			e.Config, e.Weights, e.tokenizer, e.LeftAlone = p.Config, p.Weights, p.Tokenizer, p.LeftAlone
		}
	}
	if err != nil {
		return nil, fmt.Errorf("encoder %s: %w", name, err)
	}
	if e.tokenizer == nil {
		return nil, fmt.Errorf("encoder %s: it has no vocabulary, which prompts need", name)
	}
	m, err := e.On(plain.New[float32]())
	if err != nil {
		return nil, err
	}
	defer m.Free()
	e.fingerprint = m.Fingerprint()
	return e, nil
}

// Tokens returns what counts the tokens of a text; nil where the vocabulary is not at hand.
func (e *Encoder) Tokens() func(text string) int {
	if e.tokenizer == nil {
		return nil
	}
	return func(text string) int { // plans ask the same of thousands of cells
		if n, ok := e.counts.Load(text); ok {
			return n.(int)
		}
		n := len(e.tokenizer.Encode(text))
		e.counts.Store(text, n)
		return n
	}
}

// Fingerprint identifies architecture, weights, normalisation of the pixels and vocabulary.
func (e *Encoder) Fingerprint() string { return e.fingerprint }

// On puts the encoder on a device.
func (e *Encoder) On(device engine.Engine) (*clip.Model, error) {
	m, err := clip.NewModel(device, e.Config, e.Weights, e.tokenizer)
	if err != nil {
		return nil, fmt.Errorf("encoder %s: %w", e.Name, err)
	}
	return m, nil
}
