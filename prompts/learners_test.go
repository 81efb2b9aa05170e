package prompts

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/clip/bpe"
	"clipinspector/engine"
	"clipinspector/engine/plain"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/internal/enginetest"
	"clipinspector/internal/safetensors"
	"clipinspector/internal/torchfile"
)

// newWide is the CLIP of testdata/learners.py: heads of 64, as OpenAI's, and so many blocks.
func newWide(t testing.TB, e engine.Engine, blocks int) *clip.Model {
	return newOn(t, e, blocks, false)
}

// newOn is that CLIP with a vision transformer or a ResNet.
func newOn(t testing.TB, e engine.Engine, blocks int, resNet bool) *clip.Model {
	t.Helper()
	tok := bpe.Learn(nil, 0)
	c := clip.Config{
		Text: clip.TextConfig{Width: 64, MLP: 256, Layers: blocks, Heads: 1, ContextLength: 32, VocabSize: tok.Size(), Activation: "quick_gelu",
			EOS: tok.EOT()},
		Vision:        clip.VisionConfig{Width: 64, MLP: 256, Layers: blocks, Heads: 1, ImageSize: dasslSize, PatchSize: 4, Activation: "quick_gelu"},
		ProjectionDim: 32,
	}
	if resNet {
		c.Vision = clip.VisionConfig{Stages: [4]int{1, 1, 1, 1}, Width: 2, Heads: 1, ImageSize: 64}
	}
	w := clip.Weights{}
	for name, shape := range c.Shapes() {
		w[name] = dense.New(enginetest.HashedWeight(name, shape), shape...)
	}
	m, err := clip.NewModel(e, c, w, tok)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Free)
	return m
}

// learnerImages are the images of testdata/learners.py: those of PLOT's ResNet are larger.
func learnerImages(kind string) *tensor.Dense {
	if kind != "plot" {
		return dasslData().Images
	}
	const n, size = 3, 64
	x := make([]float32, n*3*size*size)
	for i, v := range enginetest.Hashed("pixels", len(x)) {
		x[i] = float32((v + 1) / 2)
	}
	return dense.New(x, n, 3, size, size)
}

// deliveredLearners are the checkpoints that testdata/learners.py wrote with the authors' own
// learners.
var deliveredLearners = map[string]struct {
	learner string
	blocks  int
	hints   Hints
	note    string // part of one
}{
	"kgcoop":    {"coop", 3, Hints{}, "KgCoOp makes it and never uses it"},
	"prograd":   {"coop", 3, Hints{}, "behind the context, CoOp's default, is assumed"},
	"front":     {"coop", 3, Hints{Position: "front"}, ""},
	"middle":    {"coop", 3, Hints{Position: "middle"}, ""},
	"ivlp":      {"ivlp", 3, Hints{}, ""},
	"promptsrc": {"ivlp", 3, Hints{}, ""},
	"vpt":       {"vpt-input", 3, Hints{}, `"a photo of a"`},
	"tcp":       {"tcp", 9, Hints{Init: "a photo of a {}, a type of pet."}, ", a type of pet ."},
	"plot":      {"plot", 3, Hints{}, "each image ends its own"},
	"plot-vit":  {"plot", 3, Hints{}, "its patches, projected as the class token is"},
	"plotpp":    {"plotpp", 3, Hints{}, "TRADE_OFF"},
	"lora":      {"lora", 3, Hints{Init: "a photo of a {}, a type of pet."}, ""},
	"lora-text": {"lora", 3, Hints{Init: "a photo of a {}, a type of pet."}, ""},
}

func readLearner(t *testing.T, kind string, e engine.Engine) *Model {
	t.Helper()
	x := deliveredLearners[kind]
	path := filepath.Join("testdata", "learners", kind)
	if x.learner == "lora" {
		path = filepath.Join(path, "lora_weights.pt")
	}
	m, err := ReadCheckpoint(path, dasslClasses, x.hints, newOn(t, e, x.blocks, kind == "plot"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Checkpoints of the authors' own learners give the logits that the authors' own code computes with
// them, in either engine.
func TestLearnersAgreeWithTheirAuthors(t *testing.T) {
	raw, err := os.ReadFile("testdata/learners.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string][]float64
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != len(deliveredLearners) {
		t.Errorf("fixtures of %v", sortedKeys(want))
	}
	for what, e := range map[string]engine.Engine{"plain": plain.New[float64](), "cpu": computetest.CPU(t, 2)} {
		for _, kind := range sortedKeys(deliveredLearners) {
			m := readLearner(t, kind, e)
			t.Logf("%s, %s: %.2g", what, kind, agree(t, what+": logits of "+kind, dense.Floats(logits(t, m, learnerImages(kind), nil)), want[kind], 1e-4))
			if x := deliveredLearners[kind]; m.Learner.Name != x.learner || !strings.Contains(strings.Join(m.Notes, "\n"), x.note) {
				t.Errorf("%s: read as %s with the notes %q; want %s and %q", kind, m.Learner.Name, m.Notes, x.learner, x.note)
			}
		}
	}
}

// What is read is written back: in this project's form and in the authors' the logits stay, to the
// bit.
func TestLearnersAreWrittenBack(t *testing.T) {
	for _, kind := range sortedKeys(deliveredLearners) {
		m, images := readLearner(t, kind, computetest.CPU(t, 1)), learnerImages(kind)
		want := dense.Floats(logits(t, m, images, nil))
		dir := t.TempDir()
		own := filepath.Join(dir, "model.safetensors")
		if err := m.Write(own); err != nil {
			t.Fatal(err)
		}
		theirs, err := m.WriteDassl(filepath.Join(dir, "delivered"), 3, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{own, theirs} {
			back, err := ReadCheckpoint(path, dasslClasses, deliveredLearners[kind].hints, m.CLIP)
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			if back.Learner != m.Learner || back.Position != m.Position || !slices.Equal(dense.Floats(logits(t, back, images, nil)), want) {
				t.Errorf("%s: %s came back as another model", kind, path)
			}
		}
	}
}

// However the tensors of a model are wrapped, the same model is read; what is ambiguous, or carries
// more than is read, is refused with what to do.
func TestWrappedAndAmbiguousFiles(t *testing.T) {
	c := newHashed(t, computetest.CPU(t, 1))
	want, err := ReadCheckpoint("testdata/coop", dasslClasses, Hints{}, c)
	if err != nil {
		t.Fatal(err)
	}
	ctx := want.Params["ctx"]
	prefix, suffix, err := want.buffers()
	if err != nil {
		t.Fatal(err)
	}
	type entries = torchfile.Entries
	path := filepath.Join(t.TempDir(), "delivered")
	put := func(e entries) {
		if err := torchfile.Write(path, e); err != nil {
			t.Fatal(err)
		}
	}
	learner := func(before string) entries {
		return entries{{Key: before + "ctx", Value: ctx}, {Key: before + "token_prefix", Value: prefix}, {Key: before + "token_suffix", Value: suffix}}
	}
	resuming := torchfile.Entry{Key: "optimizer", Value: entries{{Key: "momentum", Value: ctx}}}
	for what, e := range map[string]entries{
		"bare names":       learner(""),
		"state_dict":       {{Key: "state_dict", Value: learner("")}, {Key: "epoch", Value: int64(3)}},
		"model_state_dict": {{Key: "model_state_dict", Value: learner("module.")}, resuming},
		"model":            {{Key: "model", Value: learner("_orig_mod.prompt_learner.")}},
		"Lightning":        {{Key: "state_dict", Value: learner("model.prompt_learner.")}, {Key: "optimizer_states", Value: entries{{Key: "0", Value: ctx}}}},
		"nested":           {{Key: "model", Value: entries{{Key: "state_dict", Value: learner("module._orig_mod.")}}}},
		"parts":            {{Key: "prompt_learner", Value: learner("")}},
	} {
		put(e)
		got, err := ReadCheckpoint(path, dasslClasses, Hints{}, c)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if got.Learner != want.Learner || !slices.Equal(dense.Floats(got.Params["ctx"]), dense.Floats(ctx)) {
			t.Errorf("%s: another model was read", what)
		}
	}
	// A configuration in the file says where the class name stands; a hint that contradicts it is
	// refused.
	put(entries{{Key: "state_dict", Value: entries{{Key: "ctx", Value: ctx}}},
		{Key: "cfg", Value: entries{{Key: "TRAINER", Value: entries{{Key: "COOP", Value: entries{{Key: "CLASS_TOKEN_POSITION", Value: "front"}}}}}}}})
	if got, err := ReadCheckpoint(path, dasslClasses, Hints{}, c); err != nil || got.Position != PositionFront {
		t.Errorf("cfg with front: %v, %v", got, err)
	}
	if _, err := ReadCheckpoint(path, dasslClasses, Hints{Position: "middle"}, c); err == nil || !strings.Contains(err.Error(), `the file says "front"`) {
		t.Errorf("cfg with front, hint of middle: %v", err)
	}
	tensors := map[string]*tensor.Dense{"prompt_learner.ctx": ctx, "prompt_learner.token_suffix": suffix}
	if err := safetensors.Write(path, &safetensors.File{Tensors: tensors, Metadata: map[string]string{"format": "pt"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadCheckpoint(path, dasslClasses, Hints{}, c); err != nil || !slices.Equal(dense.Floats(got.Params["ctx"]), dense.Floats(ctx)) {
		t.Errorf("safetensors: %v", err)
	}
	zeros := func(shape ...int) *tensor.Dense {
		return dense.New(make([]float32, tensor.Shape(shape).TotalSize()), shape...)
	}
	with := func(name string, x *tensor.Dense) entries {
		return append(learner(""), torchfile.Entry{Key: name, Value: x})
	}
	for want, e := range map[string]entries{
		"holds 2 models":              {{Key: "state_dict", Value: learner("")}, {Key: "ema_state_dict", Value: learner("")}},
		"have one name":               append(learner(""), learner("module.")...),
		"say which: --learner coop":   {{Key: "ctx", Value: zeros(3, 4, 16)}},
		"PLOT has as many for each":   {{Key: "ctx", Value: zeros(4, 4, 16)}},
		"is not the start token":      {{Key: "ctx", Value: zeros(4, 4, 16)}, {Key: "token_prefix", Value: zeros(12, 1, 16)}},
		"has 5 classes, 3 were given": {{Key: "ctx", Value: zeros(4, 4, 16)}, {Key: "ctx_vision", Value: zeros(2, 2, 24)}, {Key: "token_prefix", Value: zeros(20, 1, 16)}},
		`"adapter.weight" is none of`: with("adapter.weight", zeros(2)),
		"of a ivlp model":             with("image_encoder.VPT", zeros(2, 25)),
		"holds no tensors":            {{Key: "epoch", Value: int64(3)}},
		"no tensor ctx":               {{Key: "weight", Value: zeros(2)}, {Key: "bias", Value: zeros(2)}},
	} {
		put(e)
		if _, err := ReadCheckpoint(path, dasslClasses, Hints{}, c); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
	if _, err := ReadCheckpoint("testdata/ctx.pt", dasslClasses, Hints{}, c); err == nil || !strings.Contains(err.Error(), "--learner coop") {
		t.Errorf("a bare tensor: %v", err)
	}
	if _, err := ReadCheckpoint("testdata/learners/lora-text/lora_weights.pt", dasslClasses, Hints{}, newWide(t, c.Engine(), 3)); err == nil || !strings.Contains(err.Error(), "say --init") {
		t.Errorf("CLIP-LoRA without its words: %v", err)
	}
}
