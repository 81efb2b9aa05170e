package clip

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func configFrom(t *testing.T, text string) (Config, error) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return readConfig(path)
}

func TestConfigDefaults(t *testing.T) {
	b16 := ViTB16()
	b16.Text.EOS = 2
	gelu := ViTB32()
	gelu.Text.Activation, gelu.Vision.Activation = "gelu", "gelu"
	for _, c := range []struct {
		text string
		want Config
	}{
		{`{}`, ViTB32()},
		{`{"model_type": "clip", "text_config": null, "vision_config": {}, "text_config_dict": null}`, ViTB32()},
		{`{"text_config": {"eos_token_id": 2, "dropout": 0.0}, "vision_config": {"patch_size": 16}}`, b16},
		{`{"text_config": {"hidden_act": "gelu"}, "vision_config": {"hidden_act": "gelu"}}`, gelu},
		{`{"text_config": {"hidden_size": 64}, "text_config_dict": {"eos_token_id": 2}, "vision_config_dict": {"patch_size": 16}}`, b16},
	} {
		got, err := configFrom(t, c.text)
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v and error %v, want %+v", c.text, got, err, c.want)
		}
	}
}

func TestConfigRoundTrip(t *testing.T) {
	for _, c := range []Config{ViTB32(), ViTB16(), ViTL14()} {
		path := filepath.Join(t.TempDir(), "config.json")
		if err := c.write(path); err != nil {
			t.Fatal(err)
		}
		if got, err := readConfig(path); err != nil || got != c {
			t.Errorf("%+v came back as %+v, error %v", c, got, err)
		}
	}
}

func TestConfigRefusals(t *testing.T) {
	for text, want := range map[string]string{
		`[`:                                   "config.json",
		`{"model_type": "siglip"}`:            "model_type",
		`{"text_config": {"hidden_size": 0}}`: "text_config.hidden_size is 0",
		`{"text_config": {"hidden_size": 100000000}}`:          "allowed are 1 to",
		`{"text_config": {"hidden_size": 510}}`:                "no multiple of num_attention_heads",
		`{"text_config": {"hidden_size": "a"}}`:                "hidden_size",
		`{"text_config": {"layer_norm_eps": 1e-6}}`:            "layer_norm_eps",
		`{"vision_config": {"layer_norm_eps": 0}}`:             "layer_norm_eps",
		`{"text_config": {"eos_token_id": -1}}`:                "eos_token_id",
		`{"vision_config": {"patch_size": 15}}`:                "no multiple of patch_size",
		`{"vision_config": {"num_channels": 1}}`:               "num_channels",
		`{"vision_config": {"hidden_act": "relu"}}`:            "hidden_act",
		`{"vision_config_dict": {"num_hidden_layers": 1000}}`:  "num_hidden_layers is 1000",
		`{"quantization_config": {"quant_method": "x"}}`:       "quantization_config is",
		`{"text_config": {"use_rope": true}}`:                  "text_config.use_rope is not known",
		`{"text_config": {"Hidden_Act": "gelu"}}`:              "text_config.Hidden_Act is not known",
		`{"vision_config": {"model_type": "siglip_vision"}}`:   "vision_config.model_type",
		`{"vision_config": {"pruned_heads": {"0": [1]}}}`:      "vision_config.pruned_heads",
		`{"text_config": {"hidden_act": "gelu_new"}}`:          "text_config.hidden_act",
		`{"text_config": {}, "text_config": {}}`:               "text_config stands there twice",
		`{"logit_scale_init_value": 1e30}`:                     "logit_scale_init_value",
		`{"x": "` + strings.Repeat("a", maxConfigBytes) + `"}`: "larger than",
	} {
		if _, err := configFrom(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: got error %v, want one with %q", text, err, want)
		}
	}
	c := ViTB32()
	c.ProjectionDim = 0
	if err := c.write(filepath.Join(t.TempDir(), "x")); err == nil {
		t.Error("a bad config was written")
	}
}
