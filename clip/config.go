package clip

import (
	"encoding/json"
	"fmt"
	"io"
	"math"

	"clipinspector/internal/files"
)

// Config is the architecture of a CLIP with a vision transformer or one of OpenAI's ResNets. Its
// JSON is that of Hugging Face's CLIPModel, config.json, which has no ResNets; [readConfig] and
// [Config.write] go through the file's other fields.
type Config struct {
	Text           TextConfig   `json:"text_config"`
	Vision         VisionConfig `json:"vision_config"`
	ProjectionDim  int          `json:"projection_dim"`         // D, the length of a feature
	LogitScaleInit float64      `json:"logit_scale_init_value"` // logarithm of the factor before training, ln(1/0.07)
	// Normalization of the pixels is part of the model. config.json does not hold it: see
	// [LoadPretrained].
	Normalization Normalization `json:"-"`
}

// TextConfig is the text tower.
type TextConfig struct {
	Width         int     `json:"hidden_size"`
	MLP           int     `json:"intermediate_size"`
	Layers        int     `json:"num_hidden_layers"`
	Heads         int     `json:"num_attention_heads"`
	ContextLength int     `json:"max_position_embeddings"` // tokens
	VocabSize     int     `json:"vocab_size"`
	Activation    string  `json:"hidden_act"`     // quick_gelu or gelu
	LayerNormEps  float64 `json:"layer_norm_eps"` // only 1e-5 is supported, which 0 stands for
	// EOS is the id of the end-of-text token. Old files say 2, which is wrong and which
	// transformers takes for "where the largest id is"; [LoadPretrained] refuses other ids than
	// that and the vocabulary's. SavePretrained writes the tokenizer's.
	EOS int `json:"eos_token_id"`
}

// VisionConfig is the image tower.
type VisionConfig struct {
	// Stages are the bottleneck blocks of each stage of a ResNet, zero for a vision transformer. Of
	// a ResNet Width is the channels behind the stem, 32 of which times Width are pooled by
	// attention with Heads heads; MLP, Layers, PatchSize and Activation mean nothing.
	Stages       [4]int  `json:"stages,omitzero"`
	Width        int     `json:"hidden_size"`
	MLP          int     `json:"intermediate_size"`
	Layers       int     `json:"num_hidden_layers"`
	Heads        int     `json:"num_attention_heads"`
	ImageSize    int     `json:"image_size"`     // pixels, height and width
	PatchSize    int     `json:"patch_size"`     // pixels
	Activation   string  `json:"hidden_act"`     // quick_gelu or gelu
	LayerNormEps float64 `json:"layer_norm_eps"` // only 1e-5 is supported, which 0 stands for
}

// ResNet tells whether the image tower is one.
func (v VisionConfig) ResNet() bool { return v.Stages != [4]int{} }

// ViTB32 is OpenAI's ViT-B/32, and transformers' default for every field that a config.json leaves
// out.
func ViTB32() Config {
	return Config{
		Text: TextConfig{Width: 512, MLP: 2048, Layers: 12, Heads: 8, ContextLength: 77, VocabSize: 49408,
			Activation: "quick_gelu", LayerNormEps: 1e-5, EOS: 49407},
		Vision: VisionConfig{Width: 768, MLP: 3072, Layers: 12, Heads: 12, ImageSize: 224, PatchSize: 32,
			Activation: "quick_gelu", LayerNormEps: 1e-5},
		ProjectionDim:  512,
		LogitScaleInit: 2.6592,
	}
}

// ViTB16 is OpenAI's ViT-B/16, the encoder of the CLIP-Inspector paper.
func ViTB16() Config {
	c := ViTB32()
	c.Vision.PatchSize = 16
	return c
}

// ViTL14 is OpenAI's ViT-L/14.
func ViTL14() Config {
	c := ViTB32()
	c.Text.Width, c.Text.MLP, c.Text.Heads = 768, 3072, 12
	c.Vision.Width, c.Vision.MLP, c.Vision.Layers, c.Vision.Heads, c.Vision.PatchSize = 1024, 4096, 24, 16, 14
	c.ProjectionDim = 768
	return c
}

// validate checks that all sizes are positive and within bounds that no known CLIP comes near, that
// heads divide widths and patches the image, and that the activation and LayerNorm constant are
// ones the engines compute. Errors name the field as config.json does.
func (c Config) validate() error {
	t, v := c.Text, c.Vision
	if v.ResNet() {
		for i, blocks := range v.Stages {
			if blocks < 1 || blocks > 128 {
				return fmt.Errorf("stage %d of the ResNet has %d blocks; allowed are 1 to 128", i+1, blocks)
			}
		}
		if v.Width < 2 || v.Width > 1024 || v.Width%2 != 0 || v.ImageSize < 1 || v.ImageSize > 4096 || v.ImageSize%resNetStride != 0 {
			return fmt.Errorf("a ResNet of width %d for images of %d pixels; allowed are even widths up to 1024, and multiples of %d", v.Width, v.ImageSize, resNetStride)
		}
		v = ViTB32().Vision // whose fields are no further matter
		if heads := c.Vision.Heads; heads < 1 || resNetStride*c.Vision.Width%heads != 0 {
			return fmt.Errorf("attention over %d channels with %d heads", resNetStride*c.Vision.Width, heads)
		}
	}
	for _, f := range []struct {
		name     string
		n, limit int
	}{
		{"text_config.hidden_size", t.Width, 8192},
		{"text_config.intermediate_size", t.MLP, 65536},
		{"text_config.num_hidden_layers", t.Layers, 128},
		{"text_config.num_attention_heads", t.Heads, 256},
		{"text_config.max_position_embeddings", t.ContextLength, 8192},
		{"text_config.vocab_size", t.VocabSize, 1 << 21},
		{"vision_config.hidden_size", v.Width, 8192},
		{"vision_config.intermediate_size", v.MLP, 65536},
		{"vision_config.num_hidden_layers", v.Layers, 128},
		{"vision_config.num_attention_heads", v.Heads, 256},
		{"vision_config.image_size", v.ImageSize, 4096},
		{"vision_config.patch_size", v.PatchSize, 4096},
		{"projection_dim", c.ProjectionDim, 8192},
	} {
		if f.n < 1 || f.n > f.limit {
			return fmt.Errorf("%s is %d; allowed are 1 to %d", f.name, f.n, f.limit)
		}
	}
	for _, tower := range []struct {
		name         string
		width, heads int
		act          string
		eps          float64
	}{
		{"text_config", t.Width, t.Heads, t.Activation, t.LayerNormEps},
		{"vision_config", v.Width, v.Heads, v.Activation, v.LayerNormEps},
	} {
		if tower.width%tower.heads != 0 {
			return fmt.Errorf("%s: hidden_size %d is no multiple of num_attention_heads %d", tower.name, tower.width, tower.heads)
		}
		if tower.act != "quick_gelu" && tower.act != "gelu" {
			return fmt.Errorf("%s.hidden_act is %.40q; known are quick_gelu and gelu", tower.name, tower.act)
		}
		if tower.eps != 0 && tower.eps != layerNormEps {
			return fmt.Errorf("%s.layer_norm_eps is %g; only CLIP's 1e-5 is supported", tower.name, tower.eps)
		}
	}
	if v.ImageSize%v.PatchSize != 0 {
		return fmt.Errorf("vision_config: image_size %d is no multiple of patch_size %d", v.ImageSize, v.PatchSize)
	}
	if t.EOS < 0 {
		return fmt.Errorf("text_config.eos_token_id is %d", t.EOS)
	}
	if !(math.Abs(c.LogitScaleInit) <= 100) {
		return fmt.Errorf("logit_scale_init_value is %g; allowed are -100 to 100", c.LogitScaleInit)
	}
	return c.Normalization.validate()
}

const (
	maxConfigBytes = 1 << 20
	layerNormEps   = 1e-5
)

// readConfig reads Hugging Face's config.json. What is absent or null gets transformers' default,
// ViT-B/32; the older fields text_config_dict and vision_config_dict override a tower as
// transformers lets them. Errors name the file and the field.
func readConfig(path string) (Config, error) {
	c, err := decodeConfig(path)
	if err == nil {
		err = c.validate()
	}
	if err != nil {
		return Config{}, fmt.Errorf("CLIP config %s: %w", path, err)
	}
	return c, nil
}

func decodeConfig(path string) (Config, error) {
	data, err := files.Read(path, maxConfigBytes)
	if err != nil {
		return Config{}, err
	}
	kind := struct {
		ModelType string `json:"model_type"`
	}{"clip"}
	if err := json.Unmarshal(data, &kind); err != nil {
		return Config{}, err
	}
	if kind.ModelType != "clip" { // before keys that only other models have
		return Config{}, fmt.Errorf("model_type is %.40q; only clip is supported", kind.ModelType)
	}
	top, err := clipConfig.check("", data)
	if err != nil {
		return Config{}, err
	}
	c := ViTB32()
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, err
	}
	vision := struct {
		Channels int `json:"num_channels"`
	}{3}
	for _, x := range []struct {
		name  string
		known keys
		reset func() // since the older fields override all of a tower
		to    []any
	}{
		{"text_config", textTower, func() {}, nil},
		{"vision_config", visionTower, func() {}, []any{&vision}},
		{"text_config_dict", textTower, func() { c.Text = ViTB32().Text }, []any{&c.Text}},
		{"vision_config_dict", visionTower, func() { c.Vision, vision.Channels = ViTB32().Vision, 3 }, []any{&c.Vision, &vision}},
	} {
		raw := top[x.name]
		if !given(raw) {
			continue
		}
		if _, err := x.known.check(x.name, raw); err != nil {
			return Config{}, err
		}
		x.reset()
		for _, to := range x.to {
			if err := json.Unmarshal(raw, to); err != nil {
				return Config{}, fmt.Errorf("%s: %w", x.name, err)
			}
		}
	}
	if vision.Channels != 3 {
		return Config{}, fmt.Errorf("vision_config.num_channels is %d; only 3 is supported", vision.Channels)
	}
	if c.Text.LayerNormEps == 0 || c.Vision.LayerNormEps == 0 { // said, not left out
		return Config{}, fmt.Errorf("layer_norm_eps is 0; only CLIP's 1e-5 is supported")
	}
	return c, nil
}

// write writes config.json, atomically, so that transformers' CLIPModel.from_pretrained reads it.
func (c Config) write(path string) error {
	if c.Vision.ResNet() {
		return fmt.Errorf("CLIP config %s: Hugging Face's CLIP has no ResNets", path)
	}
	if err := c.validate(); err != nil {
		return fmt.Errorf("CLIP config for %s: %w", path, err)
	}
	c.Text.LayerNormEps, c.Vision.LayerNormEps = layerNormEps, layerNormEps
	type text struct {
		TextConfig
		ModelType     string `json:"model_type"`
		ProjectionDim int    `json:"projection_dim"`
		BOS           int    `json:"bos_token_id"`
	}
	type vision struct {
		VisionConfig
		ModelType     string `json:"model_type"`
		ProjectionDim int    `json:"projection_dim"`
		Channels      int    `json:"num_channels"`
	}
	return writeJSON(path, struct {
		Architectures  []string `json:"architectures"`
		ModelType      string   `json:"model_type"`
		ProjectionDim  int      `json:"projection_dim"`
		LogitScaleInit float64  `json:"logit_scale_init_value"`
		Text           text     `json:"text_config"`
		Vision         vision   `json:"vision_config"`
	}{
		[]string{"CLIPModel"}, "clip", c.ProjectionDim, c.LogitScaleInit,
		text{c.Text, "clip_text_model", c.ProjectionDim, max(c.Text.EOS-1, 0)},
		vision{c.Vision, "clip_vision_model", c.ProjectionDim, 3},
	})
}

// writeJSON writes v, indented, atomically.
func writeJSON(path string, v any) error {
	return files.WriteAtomic(path, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	})
}
