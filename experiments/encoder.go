package experiments

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"clipinspector/clip"
	"clipinspector/clip/bpe"
	"clipinspector/clip/mini"
	"clipinspector/engine"
	"clipinspector/engine/plain"
)

// builtins are the encoders that the program carries, by what follows "builtin:" in a suite.
var builtins = map[string]func() (clip.Config, clip.Weights, *bpe.Tokenizer, error){"mini": mini.Load}

// Encoder is a frozen CLIP on the host; each worker puts it on its own device.
type Encoder struct {
	Name        string
	Config      clip.Config
	fingerprint string
	weights     clip.Weights
	tokenizer   *bpe.Tokenizer
}

// OpenEncoder loads "builtin:NAME", or a folder in Hugging Face's layout.
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
			return nil, fmt.Errorf("unknown encoder %q; known are %s, or a folder in Hugging Face's layout", name, strings.Join(names, ", "))
		}
		e.Config, e.weights, e.tokenizer, err = load()
	} else {
		if _, missing := os.Stat(name); missing != nil {
			return nil, fmt.Errorf("encoder %s: no such folder: name a folder that holds config.json and model.safetensors, "+
				"or make one with `clip-inspector pretrain --out %s`", name, name)
		}
		e.Config, e.weights, e.tokenizer, err = clip.LoadPretrained(name)
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

// Fingerprint identifies architecture, weights and vocabulary.
func (e *Encoder) Fingerprint() string { return e.fingerprint }

// On puts the encoder on a device.
func (e *Encoder) On(device engine.Engine) (*clip.Model, error) {
	m, err := clip.NewModel(device, e.Config, e.weights, e.tokenizer)
	if err != nil {
		return nil, fmt.Errorf("encoder %s: %w", e.Name, err)
	}
	return m, nil
}
