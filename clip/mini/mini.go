// Package mini holds the weights of the mini CLIP. It has CLIP's architecture, shrunk to a 36-pixel
// image tower of 13.7 million multiplications an image. It was pretrained on captioned scenes of
// the mini world. docs/mini-clip.md says how, and what it is worth. The folder can also be read by
// LoadPretrained and by transformers' CLIPModel.from_pretrained.
package mini

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"

	"clipinspector/clip"
	"clipinspector/clip/bpe"
	"clipinspector/internal/safetensors"
)

var (
	//go:embed config.json
	configJSON []byte
	//go:embed model.safetensors
	weights []byte
	//go:embed bpe.txt
	vocabulary []byte
)

// Load returns the mini CLIP. Every call returns fresh copies.
func Load() (clip.Config, clip.Weights, *bpe.Tokenizer, error) {
	c := clip.ViTB32()
	if err := json.Unmarshal(configJSON, &c); err != nil {
		return clip.Config{}, nil, nil, fmt.Errorf("embedded mini CLIP: config.json: %w", err)
	}
	f, err := safetensors.ReadBytes(weights)
	if err != nil {
		return clip.Config{}, nil, nil, fmt.Errorf("embedded mini CLIP: %w", err)
	}
	w := clip.Weights(f.Tensors)
	if err := w.Check(c); err != nil {
		return clip.Config{}, nil, nil, fmt.Errorf("embedded mini CLIP: %w", err)
	}
	t, err := bpe.Read(bytes.NewReader(vocabulary))
	if err != nil {
		return clip.Config{}, nil, nil, fmt.Errorf("embedded mini CLIP: %w", err)
	}
	return c, w, t, nil
}
