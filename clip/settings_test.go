package clip

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/engine/plain"
	"clipinspector/internal/dense"
	"clipinspector/internal/enginetest"
	"clipinspector/internal/safetensors"
)

// halved returns the weights of the same function of the pixels for a tower whose pixels are
// normalised by mean and deviation 0.5: with q = (p-0.5)/0.5 CLIP's (p-m)/s is (0.5/s)q +
// (0.5-m)/s. The factor goes into the patch embedding, the constant into the positions of the
// patches.
func halved(c Config, w Weights) Weights {
	out := Weights{}
	for name, t := range w {
		out[name] = dense.New(append([]float32(nil), safetensors.Values(t)...), t.Shape()...)
	}
	patch := safetensors.Values(out["vision_model.embeddings.patch_embedding.weight"])
	position := safetensors.Values(out["vision_model.embeddings.position_embedding.weight"])
	area := c.Vision.PatchSize * c.Vision.PatchSize
	for o := range c.Vision.Width {
		var shift float64
		for i := range 3 * area {
			ch := i / area
			v := &patch[o*3*area+i]
			shift += float64(*v) * (0.5 - Mean[ch]) / Std[ch]
			*v = float32(float64(*v) * 0.5 / Std[ch])
		}
		for row := c.Vision.Width; row < len(position); row += c.Vision.Width {
			position[row+o] += float32(shift)
		}
	}
	return out
}

// A folder that says how its pixels are normalised gives the features of a model whose weights undo
// the difference, whichever file says it; and another fingerprint. A folder that says CLIP's
// normalisation, or nothing, is the model that it always was.
func TestNormalizationIsHonoured(t *testing.T) {
	c, w, tok := smallModel(5)
	features := func(dir string) ([]float32, string) {
		c, w, tok, err := LoadPretrained(dir)
		if err != nil {
			t.Fatal(err)
		}
		m, err := NewModel(plain.New[float64](), c, w, tok)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Free()
		pixels := make([]float32, 2*3*32*32)
		for i, v := range enginetest.Hashed("pixels", len(pixels)) {
			pixels[i] = float32(math.Abs(v))
		}
		f, err := m.EncodeImages(context.Background(), dense.New(pixels, 2, 3, 32, 32), 2)
		if err != nil {
			t.Fatal(err)
		}
		return safetensors.Values(f), m.Fingerprint()
	}
	save := func(w Weights, files map[string]string) string {
		dir := t.TempDir()
		if err := SavePretrained(dir, c, w, tok, false); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, preprocessorFile)); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	want, print := features(save(w, nil))
	if m, err := NewModel(plain.New[float32](), c, w, tok); err != nil || m.Fingerprint() != print {
		t.Errorf("without a word about pixels the fingerprint is %s, want that of the config alone", print)
	}
	const half = `"image_mean": [0.5, 0.5, 0.5], "image_std": 0.5`
	for name, text := range map[string]string{
		preprocessorFile: `{` + half + `}`,
		processorFile:    `{"image_processor": {` + half + `, "image_processor_type": "CLIPImageProcessor"}, "processor_class": "CLIPProcessor"}`,
		openCLIPFile:     `{"model_cfg": {}, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}`,
	} {
		dir := save(halved(c, w), map[string]string{name: text})
		got, other := features(dir)
		for i, v := range got {
			if math.Abs(float64(v-want[i])) > 1e-5 {
				t.Fatalf("%s: feature %d is %g, want %g", name, i, v, want[i])
			}
		}
		_, ignored := features(save(halved(c, w), nil))
		if other == ignored {
			t.Errorf("%s: the fingerprint overlooks the normalisation", name)
		}
		// What SavePretrained writes says it too.
		c, w, tok, err := LoadPretrained(dir)
		if err != nil {
			t.Fatal(err)
		}
		again := t.TempDir()
		if err := SavePretrained(again, c, w, tok, false); err != nil {
			t.Fatal(err)
		}
		if c2, _, _, err := LoadPretrained(again); err != nil || c2 != c {
			t.Errorf("%s: saved again it is %+v, want %+v; %v", name, c2, c, err)
		}
	}
	for name, text := range map[string]string{
		preprocessorFile: fmt.Sprintf(`{"image_mean": [%g, %g, %g], "do_normalize": true}`, Mean[0], Mean[1], Mean[2]),
		openCLIPFile:     fmt.Sprintf(`{"model_cfg": {}, "preprocess_cfg": {"std": [%g, %g, %g], "size": [32, 32]}}`, Std[0], Std[1], Std[2]),
	} {
		if _, same := features(save(w, map[string]string{name: text})); same != print {
			t.Errorf("%s: CLIP's own normalisation changes the fingerprint", name)
		}
	}
}

// What prepares pictures, or computes features, in another way than CLIP does is refused by the
// name of the file and the key.
func TestOtherPreprocessingIsRefused(t *testing.T) {
	c, w, tok := smallModel(6)
	dir := t.TempDir()
	if err := SavePretrained(dir, c, w, tok, false); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, preprocessorFile)); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ file, text, want string }{
		{preprocessorFile, `{"resample": 2}`, "resample is 2"},
		{preprocessorFile, `{"do_resize": false}`, "do_resize is false"},
		{preprocessorFile, `{"do_center_crop": false}`, "do_center_crop is false"},
		{preprocessorFile, `{"do_rescale": false}`, "do_rescale is false"},
		{preprocessorFile, `{"rescale_factor": 0.0078}`, "rescale_factor is 0.0078"},
		{preprocessorFile, `{"size": {"shortest_edge": 40}, "crop_size": 32}`, "size is"},
		{preprocessorFile, `{"size": {"height": 32, "width": 32}}`, "size is"},
		{preprocessorFile, `{"crop_size": 24}`, "crop_size is 24"},
		{preprocessorFile, `{"crop_pct": 0.9}`, "crop_pct is 0.9"},
		{preprocessorFile, `{"image_processor_type": "SiglipImageProcessor"}`, "image_processor_type"},
		{preprocessorFile, `{"image_mean": [0.5, 0.5]}`, "image_mean is"},
		{preprocessorFile, `{"image_std": [0, 1, 1]}`, "deviation"},
		{preprocessorFile, `{"image_std": 1e-300}`, "deviation"},
		{preprocessorFile, `{"do_normalize": null}`, "do_normalize is null"},
		{preprocessorFile, `{"do_normalize": "false"}`, "do_normalize is \"false\""},
		{preprocessorFile, `{"resample": null}`, "resample is null"}, // bilinear to transformers
		{preprocessorFile, `{"size": 32, "default_to_square": true}`, "default_to_square is true"},
		{preprocessorFile, `{"image_std": ["0.5", "0.5", "0.5"]}`, "image_std is"},
		{"vocab.json", `{"a": 1}`, "symbols have other numbers"},
		{"adapter_config.json", `{"peft_type": "LORA"}`, "is loaded by transformers as well"},
		{preprocessorFile, `{"do_normalise": false}`, "do_normalise is not known"},
		{preprocessorFile, `{"image_mean": 0.5, "image_mean": 0.4}`, "image_mean stands there twice"},
		{preprocessorFile, `[]`, "no JSON object"},
		{preprocessorFile, `{} {}`, "more than one"},
		{preprocessorFile, "{\"a\\nb\": 1}", `a\nb is not known`},
		{preprocessorFile, "{\"do_pad\": {\n\"a\": 1}}", `do_pad is {"a":1}`},
		{processorFile, `{"image_processor": {"resample": 0}}`, "image_processor.resample is 0"},
		{openCLIPFile, `{"preprocess_cfg": {"interpolation": "bilinear"}}`, "preprocess_cfg.interpolation"},
		{openCLIPFile, `{"preprocess_cfg": {"resize_mode": "squash"}}`, "preprocess_cfg.resize_mode"},
		{openCLIPFile, `{"preprocess_cfg": {"size": 40}}`, "preprocess_cfg.size is 40"},
	} {
		path := filepath.Join(dir, x.file)
		if err := os.WriteFile(path, []byte(x.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := LoadPretrained(dir); err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), path) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %s: got error %v, want one with %q", x.file, x.text, err, x.want)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	// Two files that contradict each other.
	for name, text := range map[string]string{preprocessorFile: `{"image_mean": 0.5}`, processorFile: `{"image_processor": {"image_mean": 0.4}}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, _, err := LoadPretrained(dir); err == nil || !strings.Contains(err.Error(), preprocessorFile) || !strings.Contains(err.Error(), processorFile) {
		t.Errorf("two normalisations: got error %v, want one that names both files", err)
	}
}

// The configurations that transformers and open_clip write of a CLIP are read: every key that they
// know is known here.
func TestConfigsInFull(t *testing.T) {
	c, err := configFrom(t, fullConfig)
	if err != nil {
		t.Fatal(err)
	}
	want := ViTB32()
	want.Text.EOS = 2
	if c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

// fullConfig is config.json as transformers 4 wrote it, with every key of its base class in each
// part.
var fullConfig = func() string {
	base := `"_name_or_path": "", "add_cross_attention": false, "architectures": null, "attention_dropout": 0.0, "bad_words_ids": null,
	"begin_suppress_tokens": null, "bos_token_id": 0, "chunk_size_feed_forward": 0, "cross_attention_hidden_size": null,
	"decoder_start_token_id": null, "diversity_penalty": 0.0, "do_sample": false, "dropout": 0.0, "early_stopping": false,
	"encoder_no_repeat_ngram_size": 0, "eos_token_id": 2, "exponential_decay_length_penalty": null, "finetuning_task": null,
	"forced_bos_token_id": null, "forced_eos_token_id": null, "hidden_act": "quick_gelu", "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
	"initializer_factor": 1.0, "initializer_range": 0.02, "is_decoder": false, "is_encoder_decoder": false,
	"label2id": {"LABEL_0": 0, "LABEL_1": 1}, "layer_norm_eps": 1e-05, "length_penalty": 1.0, "max_length": 20, "min_length": 0,
	"no_repeat_ngram_size": 0, "num_beam_groups": 1, "num_beams": 1, "num_hidden_layers": 12, "num_return_sequences": 1,
	"output_attentions": false, "output_hidden_states": false, "output_scores": false, "pad_token_id": 1, "prefix": null,
	"problem_type": null, "pruned_heads": {}, "remove_invalid_values": false, "repetition_penalty": 1.0, "return_dict": true,
	"return_dict_in_generate": false, "sep_token_id": null, "suppress_tokens": null, "task_specific_params": null, "temperature": 1.0,
	"tf_legacy_loss": false, "tie_encoder_decoder": false, "tie_word_embeddings": true, "tokenizer_class": null, "top_k": 50,
	"top_p": 1.0, "torch_dtype": null, "torchscript": false, "transformers_version": "4.16.0.dev0", "typical_p": 1.0,
	"use_bfloat16": false, "projection_dim": 512`
	return `{"_commit_hash": null, "architectures": ["CLIPModel"], "initializer_factor": 1.0, "logit_scale_init_value": 2.6592,
	"model_type": "clip", "projection_dim": 512, "torch_dtype": "float32", "transformers_version": null,
	"text_config": {` + base + `, "model_type": "clip_text_model", "hidden_size": 512, "intermediate_size": 2048,
		"max_position_embeddings": 77, "num_attention_heads": 8, "vocab_size": 49408}, "text_config_dict": null,
	"vision_config": {` + base + `, "model_type": "clip_vision_model", "hidden_size": 768, "image_size": 224, "intermediate_size": 3072,
		"num_attention_heads": 12, "num_channels": 3, "patch_size": 32}, "vision_config_dict": null}`
}()

// FuzzReadNormalization reads what says how pictures are prepared; what is accepted can be computed
// with.
func FuzzReadNormalization(f *testing.F) {
	f.Add([]byte(`{"image_mean": [0.5, 0.5, 0.5], "size": {"shortest_edge": 32}, "crop_size": 32}`), []byte(`{"image_processor": {}}`),
		[]byte(`{"preprocess_cfg": {"mean": 0.5, "interpolation": "bicubic"}}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, preprocessor, processor, openCLIP []byte) {
		for name, raw := range map[string][]byte{preprocessorFile: preprocessor, processorFile: processor, openCLIPFile: openCLIP} {
			if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		n, err := readNormalization(dir, 32)
		if err == nil && n.validate() != nil {
			t.Errorf("%v was accepted", n)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("an error of several lines: %v", err)
		}
	})
}
