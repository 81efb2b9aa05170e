package clip

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/clip/bpe"
	"clipinspector/engine/cpu"
	"clipinspector/engine/plain"
	"clipinspector/internal/dense"
	"clipinspector/internal/files"
	"clipinspector/internal/pickle"
	"clipinspector/internal/safetensors"
	"clipinspector/internal/torchfile"
)

const quickGELU = `{"model_cfg": {"quick_gelu": true}}`

// modelFolder makes a folder with files from somewhere else, a vocabulary of 514 tokens, and files
// of given contents.
func modelFolder(t testing.TB, texts map[string]string, given map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, from := range texts {
		raw, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), raw, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range given {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.WriteAtomic(filepath.Join(dir, "bpe.txt"), bpe.Learn(nil, 0).Write); err != nil {
		t.Fatal(err)
	}
	return dir
}

// formats are the three files that formats.py wrote, each in a folder as its publishers lay it out.
func formats(t testing.TB) map[string]string {
	in := func(name string) string { return filepath.Join("testdata/formats", name) }
	return map[string]string{
		"OpenAI": filepath.Join(modelFolder(t, map[string]string{"ViT.pt": in("openai.pt")}, nil), "ViT.pt"),
		"open_clip": modelFolder(t, map[string]string{"open_clip_pytorch_model.bin": in("open_clip.pt")},
			map[string]string{"open_clip_config.json": quickGELU}),
		"Hugging Face": modelFolder(t, map[string]string{"config.json": in("config.json"), "model-0.safetensors": in("model-0.safetensors"),
			"model-1.safetensors": in("model-1.safetensors"), "model.safetensors.index.json": in("model.safetensors.index.json")}, nil),
	}
}

// One model in the three formats, written by PyTorch, gives one and the same weights, and the
// features that transformers computes in double precision.
func TestTheFormatsAgree(t *testing.T) {
	print := ""
	for name, path := range formats(t) {
		c, w, _, err := LoadPretrained(path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if print == "" {
			print = w.Fingerprint()
		}
		if w.Fingerprint() != print {
			t.Errorf("%s: other weights than in another format", name)
		}
		parity(t, plain.New[float64](), c, w, "parity-formats.json", 3, 4, 9, 1e-6)
	}
}

// The same holds for layouts that PyTorch did not write for this test: pytorch_model.bin,
// open_clip's safetensors, and its names where the text tower is a module of its own.
func TestOtherLayoutsAgree(t *testing.T) {
	paths := formats(t)
	c, w, _, err := LoadPretrained(paths["Hugging Face"])
	if err != nil {
		t.Fatal(err)
	}
	var bin torchfile.Entries
	for _, name := range slices.Sorted(maps.Keys(w)) {
		bin = append(bin, torchfile.Entry{Key: name, Value: w[name]})
	}
	bin = append(bin, torchfile.Entry{Key: "text_model.embeddings.position_ids", Value: dense.New([]float32{0, 1}, 1, 2)})
	dir := modelFolder(t, map[string]string{"config.json": "testdata/formats/config.json"}, nil)
	if err := torchfile.Write(filepath.Join(dir, "pytorch_model.bin"), bin); err != nil {
		t.Fatal(err)
	}
	dirs := []string{dir}
	openAI := filepath.Join(t.TempDir(), "w.pt")
	inOpenAI(t, openAI, c, w)
	s, err := openStored(openAI)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, prefix := range []string{"", "text."} {
		f := &safetensors.File{Tensors: map[string]*tensor.Dense{}}
		for name, shape := range s.shapes {
			data, err := s.read(name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(name, "visual.") && name != "logit_scale" {
				name = prefix + name
			}
			f.Tensors[name] = dense.New(data, shape...)
		}
		dir := modelFolder(t, nil, map[string]string{openCLIPFile: quickGELU})
		if err := safetensors.Write(filepath.Join(dir, "open_clip_model.safetensors"), f); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		got, x, _, err := LoadPretrained(dir)
		if err != nil {
			t.Fatal(err)
		}
		if x.Fingerprint() != w.Fingerprint() || got.Vision != c.Vision {
			t.Errorf("%v: another model", dir)
		}
	}
	// What open_clip_config.json says reaches the model.
	if err := os.WriteFile(filepath.Join(dirs[2], openCLIPFile), []byte(`{"model_cfg": {"vision_cfg": {"head_width": 12}, "text_cfg": {"heads": 4}}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	got, _, _, err := LoadPretrained(dirs[2])
	if err != nil || got.Vision.Heads != 2 || got.Text.Heads != 4 || got.Vision.Activation != "gelu" || got.Text.Activation != "gelu" {
		t.Errorf("%+v %v", got, err)
	}
}

// inOpenAI writes weights under OpenAI's names as a file of torch.save. Its table of names was
// written apart from the loader's.
func inOpenAI(t testing.TB, path string, c Config, w Weights) {
	t.Helper()
	var out torchfile.Entries
	add := func(name string, data []float32, shape ...int) {
		out = append(out, torchfile.Entry{Key: name, Value: dense.New(data, shape...)})
	}
	v := func(name string) []float32 { return safetensors.Values(w[name]) }
	turned := func(name string) *tensor.Dense {
		x := w[name].Clone().(*tensor.Dense)
		if err := x.T(); err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, tower := range []struct {
		hf, openAI         string
		width, mlp, layers int
	}{{"vision_model", "visual.", c.Vision.Width, c.Vision.MLP, c.Vision.Layers}, {"text_model", "", c.Text.Width, c.Text.MLP, c.Text.Layers}} {
		n := tower.width
		for i := range tower.layers {
			a, b := fmt.Sprintf("%stransformer.resblocks.%d.", tower.openAI, i), fmt.Sprintf("%s.encoder.layers.%d.", tower.hf, i)
			for _, kind := range []string{"weight", "bias"} {
				all := slices.Concat(v(b+"self_attn.q_proj."+kind), v(b+"self_attn.k_proj."+kind), v(b+"self_attn.v_proj."+kind))
				matrix := func(rows, columns int) []int {
					if kind == "bias" {
						return []int{rows}
					}
					return []int{rows, columns}
				}
				add(a+"attn.in_proj_"+kind, all, matrix(3*n, n)...)
				add(a+"attn.out_proj."+kind, v(b+"self_attn.out_proj."+kind), matrix(n, n)...)
				add(a+"mlp.c_fc."+kind, v(b+"mlp.fc1."+kind), matrix(tower.mlp, n)...)
				add(a+"mlp.c_proj."+kind, v(b+"mlp.fc2."+kind), matrix(n, tower.mlp)...)
				add(a+"ln_1."+kind, v(b+"layer_norm1."+kind), n)
				add(a+"ln_2."+kind, v(b+"layer_norm2."+kind), n)
			}
		}
	}
	for name, from := range map[string]string{"visual.class_embedding": "vision_model.embeddings.class_embedding",
		"visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
		"visual.conv1.weight":         "vision_model.embeddings.patch_embedding.weight",
		"visual.ln_pre.weight":        "vision_model.pre_layrnorm.weight", "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
		"visual.ln_post.weight": "vision_model.post_layernorm.weight", "visual.ln_post.bias": "vision_model.post_layernorm.bias",
		"token_embedding.weight": "text_model.embeddings.token_embedding.weight",
		"positional_embedding":   "text_model.embeddings.position_embedding.weight",
		"ln_final.weight":        "text_model.final_layer_norm.weight", "ln_final.bias": "text_model.final_layer_norm.bias",
		"logit_scale": "logit_scale"} {
		out = append(out, torchfile.Entry{Key: name, Value: w[from]})
	}
	out = append(out, torchfile.Entry{Key: "visual.proj", Value: turned("visual_projection.weight")},
		torchfile.Entry{Key: "text_projection", Value: turned("text_projection.weight")})
	if err := torchfile.Write(path, torchfile.Entries{{Key: "epoch", Value: int64(1)}, {Key: "state_dict", Value: out}}); err != nil {
		t.Fatal(err)
	}
}

// ViT-B/32 and ViT-B/16 with weights from a hash, through each format's files, compute what
// transformers computes. TorchScript archives of that size are written where CLIPINSPECTOR_PYTHON
// names an interpreter with torch.
func TestViTsOfEveryFormatAgreeWithTransformers(t *testing.T) {
	if testing.Short() {
		t.Skip("150 million weights, several times")
	}
	e, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, x := range []struct {
		name, file            string
		c                     Config
		images, texts, length int
	}{{"b32", "parity-b32.json", ViTB32(), 2, 3, 20}, {"b16", "parity-b16.json", ViTB16(), 1, 2, 12}} {
		w := hashedWeights(x.c)
		dir := t.TempDir()
		for format, write := range map[string]func(){
			"model.safetensors": func() {
				if err := safetensors.Write(filepath.Join(dir, "model.safetensors"), &safetensors.File{Tensors: w}); err != nil {
					t.Fatal(err)
				}
				if err := x.c.write(filepath.Join(dir, configFile)); err != nil {
					t.Fatal(err)
				}
			},
			"open_clip.pt": func() {
				inOpenAI(t, filepath.Join(dir, "open_clip.pt"), x.c, w)
				if err := os.WriteFile(filepath.Join(dir, openCLIPFile), []byte(quickGELU), 0o644); err != nil {
					t.Fatal(err)
				}
			},
		} {
			write()
			c, got, _, err := readWeights(filepath.Join(dir, format))
			if err != nil {
				t.Fatal(err)
			}
			if c.Text.EOS = x.c.Text.EOS; c != x.c {
				t.Errorf("%s: architecture\n%+v, want\n%+v", format, c, x.c)
			}
			t.Run(x.name+" "+format, func(t *testing.T) { parity(t, e, c, got, x.file, x.images, x.texts, x.length, 1e-4) })
			if err := os.Remove(filepath.Join(dir, format)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// OpenAI's layout at full size: TorchScript archives in half precision, as a real PyTorch writes
// them.
func TestTorchScriptAtFullSize(t *testing.T) {
	python := os.Getenv("CLIPINSPECTOR_PYTHON")
	if python == "" || testing.Short() {
		t.Skip("CLIPINSPECTOR_PYTHON is not set, or -short")
	}
	for name, c := range map[string]Config{"b32": ViTB32(), "b16": ViTB16()} {
		dir := t.TempDir()
		if out, err := exec.Command(python, "testdata/formats.py", dir, name).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		// The hashed weights, rounded to half precision as formats.py rounds them.
		path := filepath.Join(t.TempDir(), "half.safetensors")
		if err := safetensors.Write(path, &safetensors.File{Tensors: hashedWeights(c)}, safetensors.As(safetensors.F16)); err != nil {
			t.Fatal(err)
		}
		f, err := safetensors.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		want := Weights(f.Tensors).Fingerprint()
		if err := os.WriteFile(filepath.Join(dir, openCLIPFile), []byte(quickGELU), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"openai.pt", "open_clip.pt", "model.safetensors.index.json"} {
			got, w, _, err := readWeights(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if got.Text.EOS = c.Text.EOS; got != c || w.Check(c) != nil || w.Fingerprint() != want {
				t.Errorf("%s %s: other weights, or an architecture of %+v", name, file, got)
			}
		}
	}
}

// What does not fit is refused in one line that names the file and what is wrong.
func TestRefusedFormats(t *testing.T) {
	// spoiled is the state dict of open_clip.pt after a change.
	f, err := torchfile.Open("testdata/formats/open_clip.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, _ := pickle.AsDict(f.Root)
	inner, _ := root.Get("state_dict")
	tensors, err := f.StateDict(inner)
	if err != nil {
		t.Fatal(err)
	}
	spoiled := func(change func(d map[string]*tensor.Dense)) string {
		d := map[string]*tensor.Dense{}
		for name, x := range tensors {
			data, err := x.Float32()
			if err != nil {
				t.Fatal(err)
			}
			d[strings.TrimPrefix(name, "module.")] = dense.New(data, x.Shape...)
		}
		change(d)
		var out torchfile.Entries
		for _, name := range slices.Sorted(maps.Keys(d)) {
			out = append(out, torchfile.Entry{Key: name, Value: d[name]})
		}
		path := filepath.Join(t.TempDir(), "w.pt")
		if err := torchfile.Write(path, out); err != nil {
			t.Fatal(err)
		}
		return path
	}
	zeros := func(shape ...int) *tensor.Dense { return dense.New(make([]float32, product(shape)), shape...) }
	config := map[string]string{openCLIPFile: quickGELU}
	for what, x := range map[string]struct {
		dir  string
		want string
	}{
		"a state dict without its activation": {modelFolder(t, map[string]string{"x.pt": "testdata/formats/open_clip.pt"}, nil), openCLIPFile},
		"two archives": {modelFolder(t, map[string]string{"a.pt": "testdata/formats/openai.pt", "b.pt": "testdata/formats/openai.pt"}, nil),
			"several files could be the weights (a.pt, b.pt)"},
		"an attack":     {modelFolder(t, nil, map[string]string{"x.pt": "\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."}), `"os.system"`},
		"a missing one": {modelFolder(t, map[string]string{"x.pt": spoiled(func(d map[string]*tensor.Dense) { delete(d, "visual.proj") })}, config), "visual.proj is missing"},
		"an unknown one": {modelFolder(t, map[string]string{"x.pt": spoiled(func(d map[string]*tensor.Dense) { d["visual.ls_1.gamma"] = zeros(24) })}, config),
			"visual.ls_1.gamma"},
		"another shape": {modelFolder(t, map[string]string{"x.pt": spoiled(func(d map[string]*tensor.Dense) { d["ln_final.bias"] = zeros(17) })}, config),
			"ln_final.bias has shape [17]"},
		"five positions too many": {modelFolder(t, map[string]string{"x.pt": spoiled(func(d map[string]*tensor.Dense) { d["visual.positional_embedding"] = zeros(10+1, 24) })}, config),
			"visual.positional_embedding"},
		"a flat convolution": {modelFolder(t, map[string]string{"x.pt": spoiled(func(d map[string]*tensor.Dense) { d["visual.conv1.weight"] = zeros(24) })}, config),
			"visual.conv1.weight has shape [24]"},
		"block 10000": {modelFolder(t, map[string]string{"x.pt": spoiled(func(d map[string]*tensor.Dense) { d["transformer.resblocks.9999.ln_1.bias"] = zeros(16) })}, config),
			"num_hidden_layers is 10000"},
		"a ResNet in part": {modelFolder(t, map[string]string{"x.pt": spoiled(func(d map[string]*tensor.Dense) {
			d["visual.layer1.0.conv1.weight"] = zeros(24, 24, 1, 1)
		})}, config), "visual.attnpool.positional_embedding is missing"},
		"a config without model_cfg": {modelFolder(t, map[string]string{"x.pt": "testdata/formats/open_clip.pt"}, map[string]string{openCLIPFile: "{}"}), "model_cfg"},
	} {
		_, _, _, err := LoadPretrained(x.dir)
		if err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), x.dir) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want an error that says %q", what, err, x.want)
		}
	}
}

func TestFileFingerprint(t *testing.T) {
	dir := modelFolder(t, nil, map[string]string{"ViT.pt": "not a model, but bytes"})
	sum, model, err := FileFingerprint(dir)
	if err != nil || sum != "dca21df43c7e9a0fd9c04a0d2b9a64cfbcd5913dd049fe60efebd06f26139490" || model != "" {
		t.Errorf("%q %q %v", sum, model, err)
	}
	published[sum] = "a model of this test"
	defer delete(published, sum)
	if _, model, _ = FileFingerprint(filepath.Join(dir, "ViT.pt")); model != "a model of this test" {
		t.Errorf("the published model is %q", model)
	}
	paths := formats(t)
	before, _, err := FileFingerprint(paths["Hugging Face"])
	if err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(paths["Hugging Face"], "model-1.safetensors")
	raw, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	if err := os.WriteFile(part, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if after, _, _ := FileFingerprint(paths["Hugging Face"]); after == before {
		t.Error("a bit of a part changed, the fingerprint did not")
	}
}

// FuzzReadWeights reads files of weights of any format, with configs beside them.
func FuzzReadWeights(f *testing.F) {
	for _, name := range []string{"openai.pt", "open_clip.pt", "model-1.safetensors"} {
		raw, err := os.ReadFile("testdata/formats/" + name)
		if err != nil {
			f.Fatal(err)
		}
		config, err := os.ReadFile("testdata/formats/config.json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, config, []byte(quickGELU))
	}
	_, w, tok := smallResNet(f)
	raw, err := os.ReadFile(filepath.Join(writeResNet(f, w, tok, quickGELU, nil), "rn.pt"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, []byte("{}"), []byte(quickGELU))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, weights, config, openCLIP []byte) {
		for name, raw := range map[string][]byte{"w.pt": weights, configFile: config, openCLIPFile: openCLIP} {
			if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if c, w, _, err := readWeights(filepath.Join(dir, "w.pt")); err == nil {
			w.Check(c)
		}
	})
}

// FuzzReadConfig reads what lies beside the weights; what it accepts is written and read back.
func FuzzReadConfig(f *testing.F) {
	raw, err := os.ReadFile("testdata/formats/config.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"text_config_dict": {"hidden_size": 1e9}, "vision_config": null}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(dir, configFile)
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		if c, err := readConfig(path); err == nil {
			if err := c.write(path); err != nil {
				t.Fatal(err)
			}
			if again, err := readConfig(path); err != nil || again != c {
				t.Errorf("%+v came back as %+v, %v", c, again, err)
			}
		}
	})
}
