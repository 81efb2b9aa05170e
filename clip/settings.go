package clip

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"clipinspector/internal/files"
)

// This file is the one place that says what is done with each key of the configurations beside a
// CLIP's weights. A key is read into a field; or it is harmless, because it says nothing about what
// a trained model computes; or only the values that stand here compute what this package computes.
// Any other key, and any other value, is refused by name: it may change the features. Held against
// transformers (models/clip, configuration_utils.py) and open_clip (model.py, transform.py).
const (
	honoured = "honoured" // read into a field of Config, and checked there
	harmless = "harmless"
)

// keys is what is done with the keys of one JSON object: honoured, harmless, or the JSON of the
// values that are read, with " | " between them.
type keys map[string]string

// with returns the union of several.
func (k keys) with(more ...keys) keys {
	all := keys{}
	for _, m := range append(more, k) {
		for name, what := range m {
			all[name] = what
		}
	}
	return all
}

func all(what string, names ...string) keys {
	k := keys{}
	for _, name := range names {
		k[name] = what
	}
	return k
}

var (
	// anyConfig are keys of transformers' PretrainedConfig: how to run, how to train, how to
	// generate text, which labels a classifier has. None reaches the two towers of a CLIP that is
	// not being trained.
	anyConfig = all(harmless, "architectures", "transformers_version", "_name_or_path", "_commit_hash", "name_or_path", "torch_dtype", "dtype",
		"initializer_factor", "initializer_range", "dropout", "attention_dropout", "gradient_checkpointing", "bos_token_id", "pad_token_id",
		"sep_token_id", "decoder_start_token_id", "logit_scale_init_value", "return_dict", "use_return_dict", "output_hidden_states",
		"output_attentions", "torchscript", "use_bfloat16", "use_cache", "tf_legacy_loss", "tie_word_embeddings", "tie_encoder_decoder",
		"attn_implementation", "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
		"experts_implementation", "chunk_size_feed_forward", "max_length", "min_length", "do_sample", "early_stopping", "num_beams",
		"num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty",
		"no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores",
		"return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
		"exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "xla_device", "id2label", "label2id", "num_labels",
		"finetuning_task", "problem_type", "task_specific_params", "tokenizer_class", "prefix").with(keys{
		"quantization_config": "null", "auto_map": "null", "pruned_heads": "null | {}", "is_decoder": "false", "is_encoder_decoder": "false",
		"add_cross_attention": "false", "cross_attention_hidden_size": "null", "adapters": "null"})

	// clipConfig is config.json of transformers' CLIPModel. The towers' own projection_dim is for
	// towers that stand alone.
	clipConfig = anyConfig.with(all(honoured, "model_type", "projection_dim", "logit_scale_init_value", "text_config", "vision_config",
		"text_config_dict", "vision_config_dict"), keys{"eos_token_id": harmless})
	tower = anyConfig.with(all(honoured, "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
		"layer_norm_eps"), keys{"projection_dim": harmless})
	textTower   = tower.with(all(honoured, "max_position_embeddings", "vocab_size", "eos_token_id"), keys{"model_type": `"clip_text_model"`})
	visionTower = tower.with(all(honoured, "image_size", "patch_size", "num_channels"),
		keys{"model_type": `"clip_vision_model"`, "eos_token_id": harmless})

	// imageProcessor is preprocessor_config.json, or image_processor in processor_config.json. Its
	// pixels are in [0,255] before rescale_factor.
	imageProcessor = all(honoured, "image_mean", "image_std", "do_normalize", "size", "crop_size", "rescale_factor").with(
		all(harmless, "processor_class", "do_convert_rgb", "return_tensors", "data_format", "input_data_format", "device",
			"disable_grouping", "image_seq_length"),
		keys{"image_processor_type": `null | "CLIPImageProcessor" | "CLIPImageProcessorFast" | "CLIPImageProcessorPil" | "CLIPFeatureExtractor"`,
			"feature_extractor_type": `null | "CLIPFeatureExtractor" | "CLIPImageProcessor"`,
			"do_resize":              "true", "do_center_crop": "true", "do_rescale": "true", "resample": "3", "default_to_square": "false", "do_pad": "false | null",
			"pad_size": "null", "crop_pct": "null", "use_square_size": "false", "auto_map": "null"})
	processor = all(harmless, "processor_class", "chat_template").with(keys{"image_processor": honoured, "auto_map": "null"})

	// openCLIP is open_clip_config.json. Sizes that the tensors tell are held against them. What a
	// layer adds beyond OpenAI's would come with tensors of its own, or is refused here.
	openCLIP      = all(honoured, "model_cfg", "preprocess_cfg")
	openCLIPModel = all(honoured, "embed_dim", "quick_gelu", "vision_cfg", "text_cfg").with(
		all(harmless, "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale", "cast_dtype", "output_dict", "custom_text"),
		keys{"multimodal_cfg": "null"})
	openCLIPTower = all(honoured, "layers", "width").with(
		// The tensors tell the MLP's width. Tokens are normalised one by one, so that it does not
		// matter whether that is before or after one is picked.
		all(harmless, "mlp_ratio", "final_ln_after_pool"),
		keys{"ls_init_value": "null", "act_kwargs": `null | {} | {"approximate": "none"}`, "norm_kwargs": `null | {} | {"eps": 1e-5}`,
			"output_tokens": "false | null", "block_type": `null | "default"`, "qk_norm": "false", "scaled_cosine_attn": "false",
			"scale_heads": "false", "scale_attn_inner": "false", "scale_attn": "false", "scale_fc": "false"})
	openCLIPVision = openCLIPTower.with(all(honoured, "head_width", "patch_size", "image_size"),
		all(harmless, "patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "timm_model_pretrained", "timm_pool", "timm_proj",
			"timm_proj_bias", "timm_drop", "timm_drop_path"), // the first is for training, the others for towers that are refused
		keys{"timm_model_name": "null", "attentional_pool": "false", "no_ln_pre": "false", "pos_embed_type": `"learnable"`, "pool_type": `"tok"`,
			"global_average_pool": "false", "input_patchnorm": "false"})
	openCLIPText = openCLIPTower.with(all(honoured, "context_length", "vocab_size", "heads"),
		all(harmless, "pad_id", "eos_id", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"),
		keys{"hf_model_name": `null | ""`, "hf_tokenizer_name": `null | ""`, "tokenizer_mode": "null", "tokenizer_kwargs": `null | {} | {"clean": "lower"}`,
			"embed_cls": "false", "no_causal_mask": "false", "pool_type": `"argmax"`, "proj_bias": "false", "proj": "null",
			"proj_type": `"linear"`})
	openCLIPPixels = all(honoured, "mean", "std", "size").with(all(harmless, "fill_color"),
		keys{"mode": `"RGB"`, "interpolation": `"bicubic"`, "resize_mode": `"shortest"`})
)

// check reads a JSON object whose name in errors is what, "" for the file itself. One that is
// missing or null is an object without keys. A key that stands twice is refused, since readers
// differ in which they take.
func (k keys) check(what string, raw []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if what != "" {
		what += "."
	}
	values := map[string]json.RawMessage{}
	if what != "" && len(raw) == 0 {
		return values, nil
	}
	open, err := d.Token()
	if err != nil {
		return nil, err
	}
	if open == nil {
		return values, nil
	}
	if open != json.Delim('{') {
		return nil, fmt.Errorf("%s is no JSON object", strings.TrimSuffix("the file "+what, "."))
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name := token.(string)
		shown := strings.Trim(fmt.Sprintf("%.80q", name), `"`)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		if _, twice := values[name]; twice {
			return nil, fmt.Errorf("%s%s stands there twice", what, shown)
		}
		values[name] = value
		rule, known := k[name]
		switch {
		case !known:
			return nil, fmt.Errorf("%s%s is not known here and may change the features; remove it if it does not", what, shown)
		case rule == honoured || rule == harmless:
		case !anyOf(value, rule):
			return nil, fmt.Errorf("%s%s is %s; only %s is read, since others change the features", what, name, short(value),
				strings.ReplaceAll(rule, " | ", " or "))
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if what == "" {
		if _, err := d.Token(); err != io.EOF {
			return nil, errors.New("more than one JSON value")
		}
	}
	return values, nil
}

// anyOf tells whether a JSON value is one of those that a rule names.
func anyOf(value json.RawMessage, rule string) bool {
	var got any
	if json.Unmarshal(value, &got) != nil {
		return false
	}
	for want := range strings.SplitSeq(rule, " | ") {
		var w any
		if err := json.Unmarshal([]byte(want), &w); err != nil {
			panic(fmt.Sprintf("clip: the rule %s is no JSON", want))
		}
		if reflect.DeepEqual(got, w) {
			return true
		}
	}
	return false
}

// short is JSON in one line, the beginning of it where it is long.
func short(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return "no JSON"
	}
	return fmt.Sprintf("%.60s", b.String())
}

// given tells whether a key is there and not null.
func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// Normalization is what is taken off the pixels, in [0,1], of each channel, and what they are
// divided by then, before the image tower sees them. The zero value stands for CLIP's own, [Mean]
// and [Std].
type Normalization struct{ Mean, Std [3]float64 }

// values returns mean and deviation by channel.
func (n Normalization) values() (mean, std [3]float64) {
	if n == (Normalization{}) {
		return Mean, Std
	}
	return n.Mean, n.Std
}

func (n Normalization) String() string {
	mean, std := n.values()
	return fmt.Sprintf("mean %v, deviation %v", mean, std)
}

func (n Normalization) validate() error {
	mean, std := n.values()
	for i := range mean {
		if !(std[i] >= 1e-3 && std[i] <= 1e3) || !(mean[i] >= -1e3 && mean[i] <= 1e3) {
			return fmt.Errorf("pixels are normalised by %s; allowed are deviations of 0.001 to 1000, means of -1000 to 1000", n)
		}
	}
	return nil
}

// Names of the files that say how pictures are prepared; openCLIPFile is the third.
const (
	preprocessorFile = "preprocessor_config.json"
	processorFile    = "processor_config.json"
)

// readNormalization reads how the pixels of a model in a folder are normalised, and refuses what
// prepares pictures in another way than CLIP does: the shorter side scaled to size pixels by
// bicubic weights, the centre cropped. A file that is missing, or a key, means CLIP's. Files that
// contradict each other are refused: which of them counts depends on who reads.
func readNormalization(dir string, size int) (Normalization, error) {
	var n Normalization
	said := "" // the file that said it
	for _, x := range []struct {
		name string
		read func(raw []byte, size int) (*Normalization, error)
	}{{processorFile, readProcessor}, {preprocessorFile, readImageProcessor}, {openCLIPFile, readOpenCLIPPixels}} {
		path := filepath.Join(dir, x.name)
		raw, err := files.Read(path, maxConfigBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var got *Normalization
		if err == nil {
			got, err = x.read(raw, size)
		}
		if err == nil && got != nil {
			err = got.validate()
		}
		if err != nil {
			return n, fmt.Errorf("%s: %w", path, err)
		}
		switch {
		case got == nil:
		case said == "":
			n, said = *got, x.name
		case *got != n:
			return n, fmt.Errorf("%s: says %v, and %s beside it %v: keep the one that the model was trained with", path, *got, said, n)
		}
	}
	return n, nil
}

// readProcessor reads transformers' processor_config.json, which older versions write without the
// image processor.
func readProcessor(raw []byte, size int) (*Normalization, error) {
	top, err := processor.check("", raw)
	if err != nil || !given(top["image_processor"]) {
		return nil, err
	}
	n, err := imageProcessorAt("image_processor", top["image_processor"], size)
	return n, err
}

func readImageProcessor(raw []byte, size int) (*Normalization, error) {
	return imageProcessorAt("", raw, size)
}

func imageProcessorAt(what string, raw []byte, size int) (*Normalization, error) {
	values, err := imageProcessor.check(what, raw)
	if err != nil {
		return nil, err
	}
	for _, x := range []struct{ name, keys string }{{"size", "shortest_edge"}, {"crop_size", "height width"}} {
		if value := values[x.name]; given(value) {
			if err := checkSize(value, x.keys, size); err != nil {
				return nil, fmt.Errorf("%s is %s; %w", x.name, short(value), err)
			}
		}
	}
	if value := values["rescale_factor"]; given(value) {
		var factor float64
		if err := json.Unmarshal(value, &factor); err != nil || !(factor*255 > 1-1e-6 && factor*255 < 1+1e-6) {
			return nil, fmt.Errorf("rescale_factor is %s; only 1/255 is read, since others change the features", short(value))
		}
	}
	normalize := true
	if value := values["do_normalize"]; len(value) > 0 {
		if !anyOf(value, "true | false") { // null is false to some versions of transformers, true to others
			return nil, fmt.Errorf("do_normalize is %s; only true or false is read", short(value))
		}
		normalize = string(value) == "true"
	}
	if !normalize {
		return &Normalization{Std: [3]float64{1, 1, 1}}, nil
	}
	return readMeanStd(values["image_mean"], values["image_std"], "image_mean", "image_std")
}

// checkSize checks that pictures are scaled, or cropped, to the size of the tower: a number, or an
// object with the keys of a scaled shorter side or of a cropped square.
func checkSize(raw json.RawMessage, names string, size int) error {
	var n int
	if json.Unmarshal(raw, &n) == nil && n == size {
		return nil
	}
	var sides map[string]int
	if err := json.Unmarshal(raw, &sides); err == nil {
		got := slices.Sorted(maps.Keys(sides))
		other := slices.ContainsFunc(got, func(name string) bool { return sides[name] != size })
		if strings.Join(got, " ") == names && !other {
			return nil
		}
	}
	return fmt.Errorf("only CLIP's way is read, for this tower the shorter side scaled to %d pixels and the centre cropped to %d x %d",
		size, size, size)
}

// readOpenCLIPPixels reads preprocess_cfg of open_clip_config.json.
func readOpenCLIPPixels(raw []byte, size int) (*Normalization, error) {
	top, err := openCLIP.check("", raw)
	if err != nil || !given(top["preprocess_cfg"]) {
		return nil, err
	}
	values, err := openCLIPPixels.check("preprocess_cfg", top["preprocess_cfg"])
	if err != nil {
		return nil, err
	}
	if value := values["size"]; given(value) && !anyOf(value, fmt.Sprintf("%d | [%d,%d]", size, size, size)) {
		return nil, fmt.Errorf("preprocess_cfg.size is %s; the tensors are those of a tower of %d pixels", short(value), size)
	}
	return readMeanStd(values["mean"], values["std"], "preprocess_cfg.mean", "preprocess_cfg.std")
}

// readMeanStd reads a normalisation, of which each part may be missing, or a number for all
// channels. nil means that nothing is said.
func readMeanStd(mean, std json.RawMessage, meanName, stdName string) (*Normalization, error) {
	if !given(mean) && !given(std) {
		return nil, nil
	}
	n := Normalization{Mean, Std}
	for _, x := range []struct {
		name string
		raw  json.RawMessage
		to   *[3]float64
	}{{meanName, mean, &n.Mean}, {stdName, std, &n.Std}} {
		if !given(x.raw) {
			continue
		}
		var one float64
		var list []float64
		switch {
		case json.Unmarshal(x.raw, &one) == nil:
			*x.to = [3]float64{one, one, one}
		case json.Unmarshal(x.raw, &list) == nil && len(list) == 3:
			*x.to = [3]float64(list)
		default:
			return nil, fmt.Errorf("%s is %s; three numbers were expected", x.name, short(x.raw))
		}
	}
	if n == (Normalization{Mean, Std}) {
		n = Normalization{}
	}
	return &n, nil
}
