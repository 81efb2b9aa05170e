package clip

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gorgonia.org/tensor"

	"clipinspector/internal/dense"
	"clipinspector/internal/safetensors"
	"clipinspector/internal/torchfile"
)

// openAITensors are the tensors of a small model under OpenAI's names.
func openAITensors(t testing.TB, c Config, w Weights) map[string]*tensor.Dense {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.pt")
	inOpenAI(t, path, c, w)
	s, err := openStored(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	out := map[string]*tensor.Dense{}
	for name, shape := range s.shapes {
		data, err := s.read(name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = dense.New(data, shape...)
	}
	return out
}

func entries(tensors map[string]*tensor.Dense, prefix string) torchfile.Entries {
	var e torchfile.Entries
	for _, name := range sortedNames(tensors) {
		e = append(e, torchfile.Entry{Key: prefix + name, Value: tensors[name]})
	}
	return e
}

// folderOf writes a state dict as model.pt, with what it needs beside it.
func folderOf(t testing.TB, c Config, dict torchfile.Entries) string {
	t.Helper()
	dir := modelFolder(t, nil, map[string]string{openCLIPFile: fmt.Sprintf(`{"model_cfg": {"quick_gelu": true,
		"vision_cfg": {"head_width": %d}, "text_cfg": {"heads": %d}}}`, c.Vision.Width/c.Vision.Heads, c.Text.Heads)})
	if err := torchfile.Write(filepath.Join(dir, "model.pt"), dict); err != nil {
		t.Fatal(err)
	}
	return dir
}

// byteModel is smallModel with a vocabulary of bytes, as modelFolder writes it.
func byteModel(seed uint64) (Config, Weights) {
	c, _, _ := smallModel(seed)
	c.Text.VocabSize, c.Text.EOS = 514, 513
	return c, RandomWeights(c, seed)
}

// Weights are found wherever trainers put them, under whatever prefix; what the file holds beside
// them is said.
func TestWrappedWeights(t *testing.T) {
	c, w := byteModel(1)
	o := openAITensors(t, c, w)
	flat := func(prefix string) torchfile.Entries { return entries(o, prefix) }
	scalar := dense.New([]float32{0.1})
	with := func(e torchfile.Entries, more ...torchfile.Entry) torchfile.Entries { return append(e, more...) }
	mask := make([]float32, 20*20)
	for i := range mask {
		if i%20 > i/20 {
			mask[i] = float32(math.Inf(-1))
		}
	}
	copies := flat("")
	for _, e := range flat("") {
		if rest, ok := strings.CutPrefix(e.Key, "visual."); ok {
			copies = append(copies, torchfile.Entry{Key: "image_encoder." + rest, Value: e.Value})
		}
	}
	for name, x := range map[string]struct {
		dict torchfile.Entries
		left string // what is said to be left alone
	}{
		"bare":                       {flat(""), ""},
		"state_dict":                 {torchfile.Entries{{Key: "epoch", Value: int64(3)}, {Key: "state_dict", Value: flat("module.")}}, "epoch: beside the weights, which are state_dict"},
		"model_state_dict":           {torchfile.Entries{{Key: "loss", Value: scalar}, {Key: "model_state_dict", Value: flat("")}}, "loss: beside the weights"},
		"model":                      {torchfile.Entries{{Key: "model", Value: flat("")}}, ""},
		"two deep":                   {torchfile.Entries{{Key: "checkpoint", Value: torchfile.Entries{{Key: "net", Value: flat("")}}}}, ""},
		"module of a compiled model": {torchfile.Entries{{Key: "state_dict", Value: flat("module._orig_mod.")}}, ""},
		"Lightning":                  {torchfile.Entries{{Key: "state_dict", Value: flat("model.")}, {Key: "hyper_parameters", Value: torchfile.Entries{}}}, "hyper_parameters"},
		"clip_model.":                {flat("clip_model."), ""},
		"logit_bias":                 {with(flat(""), torchfile.Entry{Key: "logit_bias", Value: scalar}), "logit_bias: added to all logits"},
		"attn_mask":                  {with(flat(""), torchfile.Entry{Key: "attn_mask", Value: dense.New(mask, 20, 20)}), "attn_mask: hides later tokens"},
		"a shared tower":             {copies, "the same numbers as visual."},
	} {
		p, err := ReadPretrained(folderOf(t, c, x.dict))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Weights.Fingerprint() != w.Fingerprint() || p.Config.Vision != c.Vision {
			t.Errorf("%s: another model", name)
		}
		if said := strings.Join(p.LeftAlone, "\n"); !strings.Contains(said, x.left) || (x.left == "") != (said == "") {
			t.Errorf("%s: said to be left alone: %q, want %q", name, said, x.left)
		}
	}
}

// What is neither a weight nor harmless is refused, and so is a file of which one cannot say what a
// loader would take.
func TestUnusedTensorsAreRefused(t *testing.T) {
	c, w := byteModel(2)
	o := openAITensors(t, c, w)
	zeros := func(shape ...int) *tensor.Dense { return dense.New(make([]float32, product(shape)), shape...) }
	with := func(name string, x *tensor.Dense) torchfile.Entries {
		return append(entries(o, ""), torchfile.Entry{Key: name, Value: x})
	}
	other := maps.Clone(o)
	other["visual.proj"] = zeros(c.Vision.Width, c.ProjectionDim)
	for name, x := range map[string]struct {
		dict torchfile.Entries
		want string
	}{
		"a head":                 {with("fc.weight", zeros(9, 24)), `"fc.weight" belongs to no CLIP`},
		"prompts":                {append(entries(o, "clip_model."), torchfile.Entry{Key: "prompt_learner.ctx", Value: zeros(4, 48)}), "prompt_learner.ctx"},
		"an average beside":      {torchfile.Entries{{Key: "state_dict", Value: entries(o, "")}, {Key: "state_dict_ema", Value: entries(other, "")}}, "2 models, state_dict, state_dict_ema"},
		"teacher and student":    {append(entries(o, "student."), entries(other, "teacher.")...), "more than one image tower"},
		"another tower beside":   {with("image_encoder.proj", zeros(c.Vision.Width, c.ProjectionDim)), "image_encoder.proj and visual.proj differ"},
		"a mask that shows":      {with("attn_mask", zeros(20, 20)), "attn_mask does not hide"},
		"positions out of order": {with("text_model.embeddings.position_ids", dense.New([]float32{1, 0}, 1, 2)), "position_ids holds 1 at place 0"},
		"prompts alone":          {torchfile.Entries{{Key: "state_dict", Value: torchfile.Entries{{Key: "prompt_learner.ctx", Value: zeros(4, 48)}}}}, "--checkpoint"},
		"a timm tower":           {torchfile.Entries{{Key: "visual.trunk.patch_embed.proj.weight", Value: zeros(2, 3, 1, 1)}}, "timm"},
		"a SigLIP":               {torchfile.Entries{{Key: "vision_model.head.attention.in_proj_weight", Value: zeros(2, 3)}}, "SigLIP"},
		"something else":         {torchfile.Entries{{Key: "model", Value: torchfile.Entries{{Key: "conv.weight", Value: zeros(2)}}}, {Key: "b", Value: zeros(1)}}, "which are b"},
		"nothing":                {torchfile.Entries{}, "no tensors"},
	} {
		dir := folderOf(t, c, x.dict)
		if _, err := ReadPretrained(dir); err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), filepath.Join(dir, "model.pt")) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got error %v, want one with %q", name, err, x.want)
		}
	}
}

// The keys of open_clip's configuration that change what is computed are refused by name, and sizes
// that are not the tensors'.
func TestOpenCLIPConfigs(t *testing.T) {
	c, w := byteModel(3)
	dir := folderOf(t, c, entries(openAITensors(t, c, w), ""))
	path := filepath.Join(dir, openCLIPFile)
	heads := fmt.Sprintf(`"heads": %d`, c.Text.Heads)
	head := fmt.Sprintf(`"head_width": %d`, c.Vision.Width/c.Vision.Heads)
	full := func(model, vision, text string) string {
		return fmt.Sprintf(`{"model_cfg": {"embed_dim": 24, "quick_gelu": true, "init_logit_bias": -10, "custom_text": false%s,
			"vision_cfg": {"image_size": [32, 32], "layers": 3, "width": 64, "patch_size": 8, "mlp_ratio": 2.0, "patch_dropout": 0.5,
				"attentional_pool": false, "output_tokens": false, "pool_type": "tok", "norm_kwargs": {"eps": 1e-05}, %s%s},
			"text_cfg": {"context_length": 20, "vocab_size": 514, "width": 48, "layers": 2, "no_causal_mask": false, %s%s}},
			"preprocess_cfg": {}}`, model, head, vision, heads, text)
	}
	read := func(text string) error {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		p, err := ReadPretrained(dir)
		if err == nil && (p.Config.Vision != c.Vision || p.Config.Text != c.Text) {
			t.Errorf("%s: another architecture: %+v", text, p.Config)
		}
		return err
	}
	if err := read(full("", "", "")); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ model, vision, text, want string }{
		{`, "multimodal_cfg": {"width": 1}`, "", "", "model_cfg.multimodal_cfg"},
		{`, "new": 1`, "", "", "model_cfg.new is not known"},
		{"", `, "timm_model_name": "vit_tiny"`, "", `vision_cfg.timm_model_name is "vit_tiny"`},
		{"", `, "pool_type": "tok"`, "", "pool_type stands there twice"},
		{"", `, "pos_embed_type": "sin_cos_2d"`, "", "vision_cfg.pos_embed_type"},
		{"", `, "no_ln_pre": true`, "", "vision_cfg.no_ln_pre"},
		{"", `, "ls_init_value": 0.1`, "", "vision_cfg.ls_init_value"},
		{"", `, "act_kwargs": {"approximate": "tanh"}`, "", "vision_cfg.act_kwargs"},
		{"", `, "attn_pooler_heads": 8`, `, "pool_type": "last"`, "text_cfg.pool_type"},
		{"", "", `, "norm_kwargs": {"eps": 1e-6}`, "text_cfg.norm_kwargs"},
		{"", "", `, "embed_cls": true`, "text_cfg.embed_cls"},
		{"", "", `, "proj_bias": true`, "text_cfg.proj_bias"},
		{"", "", `, "output_tokens": true`, "text_cfg.output_tokens"},
		{"", "", `, "hf_model_name": "roberta-base"`, "text_cfg.hf_model_name"},
		{"", "", `, "tokenizer_kwargs": {"clean": "canonicalize"}`, "text_cfg.tokenizer_kwargs"},
	} {
		if err := read(full(x.model, x.vision, x.text)); err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("got error %v, want one with %q", err, x.want)
		}
	}
	for text, want := range map[string]string{
		`{"model_cfg": {"vision_cfg": {"image_size": 40}}}`:                                      "image_size is 40",
		`{"model_cfg": {"vision_cfg": {"layers": 4}}}`:                                           "layers is 4",
		`{"model_cfg": {"vision_cfg": {"head_width": 0}}}`:                                       "head_width is 0",
		`{"model_cfg": {"text_cfg": {"width": 48}}}`:                                             "text_cfg.heads is missing",
		`{"model_cfg": {"text_cfg": {"context_length": 77}}}`:                                    "context_length is 77",
		`{"model_cfg": {"vision_cfg": {` + head + `}, "text_cfg": {` + heads + `}}, "other": 1}`: "other is not known",
	} {
		if err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", text, err, want)
		}
	}
}

// Parts of torch.save's files with an index are read as safetensors' are, in a folder or when the
// index is named.
func TestTorchShards(t *testing.T) {
	c, w, tok := smallModel(8)
	dir := t.TempDir()
	if err := SavePretrained(dir, c, w, tok, false); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, weightsFile)); err != nil {
		t.Fatal(err)
	}
	where := map[string]string{}
	parts := []map[string]*tensor.Dense{{}, {}}
	for i, name := range sortedNames(w) {
		parts[i%2][name], where[name] = w[name], fmt.Sprintf("pytorch_model-%d.bin", i%2)
	}
	for i, p := range parts {
		if err := torchfile.Write(filepath.Join(dir, fmt.Sprintf("pytorch_model-%d.bin", i)), entries(p, "")); err != nil {
			t.Fatal(err)
		}
	}
	index := filepath.Join(dir, "pytorch_model.bin.index.json")
	write := func() {
		raw, err := json.Marshal(map[string]any{"metadata": map[string]int{"total_size": 1}, "weight_map": where})
		if err == nil {
			err = os.WriteFile(index, raw, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write()
	for _, path := range []string{dir, index} {
		if _, got, _, err := LoadPretrained(path); err != nil || got.Fingerprint() != w.Fingerprint() {
			t.Errorf("%s: other weights, or %v", path, err)
		}
	}
	if _, _, err := FileFingerprint(dir); err != nil {
		t.Error(err)
	}
	refused := func(want string) {
		t.Helper()
		write()
		begin := time.Now()
		if _, _, _, err := LoadPretrained(dir); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), index) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
		if d := time.Since(begin); d > time.Second {
			t.Errorf("refused after %v", d)
		}
	}
	where["logit_scale"] = "pytorch_model-1.bin"
	if parts[1]["logit_scale"] != nil {
		where["logit_scale"] = "pytorch_model-0.bin"
	}
	refused(`"logit_scale" is in`)
	where["logit_scale"] = "../pytorch_model-0.bin"
	refused("not the name of a file beside it")
	where["logit_scale"] = "pytorch_model-0.bin"
	if parts[1]["logit_scale"] != nil {
		where["logit_scale"] = "pytorch_model-1.bin"
	}
	where["a"] = "a.json"
	refused("no file of weights")
}

// position_ids of older files are held against what they always are, whatever their type.
func TestPositionIDs(t *testing.T) {
	c, w, tok := smallModel(9)
	for want, ids := range map[string][]float32{"": {0, 1, 2}, "position_ids holds 0 at place 2": {0, 1, 0}} {
		dir := t.TempDir()
		if err := SavePretrained(dir, c, w, tok, false); err != nil {
			t.Fatal(err)
		}
		all := maps.Clone(w)
		all["vision_model.embeddings.position_ids"] = dense.New(ids, 1, 3)
		if err := safetensors.Write(filepath.Join(dir, weightsFile), &safetensors.File{Tensors: all}); err != nil {
			t.Fatal(err)
		}
		p, err := ReadPretrained(dir)
		if want == "" && (err != nil || len(p.LeftAlone) != 1) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v: %v, want %q", ids, err, want)
		}
	}
}
