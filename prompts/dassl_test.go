package prompts

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/engine/plain"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/internal/enginetest"
	"clipinspector/internal/torchfile"
	"clipinspector/triggers"
)

// CoOp's learning rates are those of Dassl's scheduler around PyTorch's, epoch by epoch.
func TestCoOpsRatesAreDasslsSchedulers(t *testing.T) {
	for _, want := range readFixture(t).Schedules {
		agree(t, "learning rates", autodiff.CoOpSchedule(0.002, len(want)), want, 1e-6)
	}
}

// The legacy format, BAPLe's checkpoint and a bare context hold the prompts of CoOp's, the latter
// two in half precision.
func TestOtherLayoutsHoldTheSamePrompts(t *testing.T) {
	c := newHashed(t, computetest.CPU(t, 1))
	want, err := ReadCheckpoint("testdata/coop", dasslClasses, Hints{}, c)
	if err != nil {
		t.Fatal(err)
	}
	for path, tolerance := range map[string]float64{"testdata/legacy": 0, "testdata/baple/model.pth.tar-2": 1e-3, "testdata/ctx.pt": 1e-3} {
		m, err := ReadCheckpoint(path, dasslClasses, Hints{Learner: "coop"}, c)
		if err != nil {
			t.Error(err)
			continue
		}
		if gap := largestGap(dense.Floats(m.Params["ctx"]), dense.Floats(want.Params["ctx"])); m.Learner.Name != "coop" || gap > tolerance || gap == 0 != (tolerance == 0) {
			t.Errorf("%s: %s, off by %v", path, m.Learner.Name, gap)
		}
	}
	noise, err := ReadTrigger("testdata/baple/model.pth.tar-2")
	if err != nil {
		t.Fatal(err)
	}
	if gap := largestGap(dense.Floats(noise.(triggers.Additive).Delta), scaled(enginetest.Hashed("noise", 3*dasslSize*dasslSize), 0.1)); gap > 1e-4 {
		t.Errorf("BAPLe's noise is off by %v", gap)
	}
}

// What WriteDassl writes comes back as the same model, and the authors' learners take it, strictly,
// where CLIPINSPECTOR_PYTHON names an interpreter with torch.
func TestWriteDassl(t *testing.T) {
	c := newHashed(t, computetest.CPU(t, 1))
	data := dasslData()
	for kind, given := range map[string]struct {
		learner  string
		settings map[string]any
	}{"coop": {"coop", map[string]any{"context": 4}}, "csc": {"coop", map[string]any{"context": 4, "class-specific": true}},
		"cocoop": {"cocoop", map[string]any{"context": 4}}} {
		m := newModel(t, c, given.learner, given.settings, dasslClasses)
		dir := t.TempDir()
		tr := triggers.Additive{Delta: dense.New(scaled(enginetest.Hashed("trigger", 3*dasslSize*dasslSize), dasslEpsilon), 3, dasslSize, dasslSize)}
		path, err := m.WriteDassl(dir, 10, tr, 2)
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(dir, "prompt_learner", "model.pth.tar-10"); path != want {
			t.Errorf("written to %s, want %s", path, want)
		}
		for _, p := range []string{path, dir, filepath.Dir(path)} {
			got, err := ReadCheckpoint(p, dasslClasses, Hints{}, c)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(dense.Floats(logits(t, m, data.Images, nil)), dense.Floats(logits(t, got, data.Images, nil))) {
				t.Errorf("%s: the logits changed", kind)
			}
		}
		back, err := ReadTrigger(filepath.Join(dir, "trigger", "model.pth.tar-10"))
		if err != nil {
			t.Fatal(err)
		}
		if gap := largestGap(dense.Floats(back.(triggers.Additive).Delta), dense.Floats(tr.Delta)); gap > 1e-8 {
			t.Errorf("%s: the trigger is off by %v", kind, gap)
		}
		python := os.Getenv("CLIPINSPECTOR_PYTHON")
		if python == "" {
			continue
		}
		// The model in trainers/*.py: modules of the same names and shapes, made with other
		// numbers, and strict.
		const script = `
import sys, torch
from collections import OrderedDict
from torch import nn
kind, path, trigger = sys.argv[1:]
d = torch.load(path, map_location="cpu")
m = nn.Module()
m.ctx = nn.Parameter(torch.zeros(3, 4, 16) if kind == "csc" else torch.zeros(4, 16))
m.register_buffer("token_prefix", torch.zeros(3, 1, 16))
m.register_buffer("token_suffix", torch.zeros(3, 14 - 1 - 4, 16))
if kind == "cocoop":
    m.meta_net = nn.Sequential(OrderedDict([("linear1", nn.Linear(32, 2)), ("relu", nn.ReLU()), ("linear2", nn.Linear(2, 16))]))
assert list(d["state_dict"]) == list(m.state_dict()), (list(d["state_dict"]), list(m.state_dict()))
m.load_state_dict(d["state_dict"], strict=True)
assert d["epoch"] == 10 and d["val_result"] is None
del d["state_dict"]["token_prefix"], d["state_dict"]["token_suffix"]
m.load_state_dict(d["state_dict"], strict=False)
t = torch.load(trigger, map_location="cpu")
assert t["state_dict"]["trigger"].shape == (1, 3, 8, 8) and t["target_name"] == "sea"
`
		out, err := exec.Command(python, "-c", script, kind, path, filepath.Join(dir, "trigger", "model.pth.tar-10")).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", kind, err, out)
		}
	}
	m := newModel(t, c, "coop", map[string]any{"context": 4}, dasslClasses)
	if _, err := m.WriteDassl(t.TempDir(), 1, patch(), 0); err == nil || !strings.Contains(err.Error(), "additive") {
		t.Errorf("a patch was written as BadCLIP's trigger: %v", err)
	}
}

// Delivered checkpoints that do not fit are refused with one line that names the file and what is
// wrong.
func TestRefusedCheckpoints(t *testing.T) {
	c := newHashed(t, computetest.CPU(t, 1))
	zeros := func(shape ...int) *tensor.Dense {
		n := 1
		for _, s := range shape {
			n *= s
		}
		return dense.New(make([]float32, n), shape...)
	}
	nan := zeros(4, 16)
	dense.Floats(nan)[7] = float32(math.NaN())
	dir := t.TempDir()
	file := func(state ...torchfile.Entry) string {
		path := filepath.Join(dir, "model.pth.tar-1")
		if err := torchfile.Write(path, torchfile.Entries{{Key: "state_dict", Value: torchfile.Entries(state)}, {Key: "epoch", Value: int64(1)}}); err != nil {
			t.Fatal(err)
		}
		return path
	}
	raw := func(content string) string {
		path := filepath.Join(dir, "raw")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	attack, err := os.ReadFile("testdata/legacy/model.pth.tar-2")
	if err != nil {
		t.Fatal(err)
	}
	attack = bytes.Replace(attack, []byte("ctorch.optim.sgd\nSGD\n"), []byte("cos\nsystem\n"), 1)
	coop := "testdata/coop/prompt_learner/model.pth.tar-2"
	for _, x := range []struct {
		what    string
		path    func() string
		classes []string
		want    string
	}{
		{"no class names", func() string { return coop }, nil, "does not name its classes"},
		{"names in another order", func() string { return coop }, []string{"dog", "cat", "sea"}, `another name than "dog" of class 0`},
		{"another name", func() string { return coop }, []string{"cat", "dog", "tea"}, `"tea" of class 2`},
		{"a name too many", func() string { return coop }, []string{"cat", "dog", "sea", "sky"}, "has 3 classes, 4 were given"},
		{"a name too many, class-specific", func() string { return "testdata/csc" }, []string{"cat", "dog", "sea", "sky"}, `"ctx"`},
		{"the trigger", func() string { return "testdata/badclip/trigger/model.pth.tar-2" }, dasslClasses, "prompt_learner"},
		{"a folder of anything", t.TempDir, dasslClasses, "without a file"},
		{"an attack in the scheduler", func() string { return raw(string(attack)) }, dasslClasses, `"os.system"`},
		{"another width", func() string { return file(torchfile.Entry{Key: "ctx", Value: zeros(4, 17)}) }, dasslClasses, "[4 17]"},
		{"65 tokens", func() string { return file(torchfile.Entry{Key: "ctx", Value: zeros(65, 16)}) }, dasslClasses, `"context"`},
		{"too many for this CLIP", func() string { return file(torchfile.Entry{Key: "ctx", Value: zeros(12, 16)}) }, dasslClasses, "12 context tokens and the name take"},
		{"a flat context", func() string { return file(torchfile.Entry{Key: "ctx", Value: zeros(64)}) }, dasslClasses, "shape [64]"},
		{"NaN", func() string { return file(torchfile.Entry{Key: "ctx", Value: nan}) }, dasslClasses, "NaN"},
		{"no context", func() string { return file(torchfile.Entry{Key: "ctx2", Value: zeros(4, 16)}) }, dasslClasses, "no tensor ctx"},
		{"half a meta-net", func() string {
			return file(torchfile.Entry{Key: "ctx", Value: zeros(4, 16)}, torchfile.Entry{Key: "meta_net.linear1.bias", Value: zeros(2)})
		}, dasslClasses, `"meta_net.linear1.weight"`},
		{"one tensor more", func() string {
			return file(torchfile.Entry{Key: "ctx", Value: zeros(4, 16)}, torchfile.Entry{Key: "visual_ctx", Value: zeros(2)})
		}, dasslClasses, `"visual_ctx"`},
		{"another CLIP's start token", func() string {
			return file(torchfile.Entry{Key: "ctx", Value: zeros(4, 16)}, torchfile.Entry{Key: "token_prefix", Value: zeros(3, 1, 16)})
		}, dasslClasses, "start token"},
		{"prompts of another length", func() string {
			return file(torchfile.Entry{Key: "ctx", Value: zeros(4, 16)}, torchfile.Entry{Key: "token_suffix", Value: zeros(3, 72, 16)})
		}, dasslClasses, "[3 72 16]"},
		{"text", func() string { return raw("prompts, perhaps") }, dasslClasses, "not a checkpoint of any known kind"},
		{"nothing", func() string { return raw("") }, dasslClasses, "is empty"},
		{"a folder that points elsewhere", func() string {
			raw("x")
			if err := os.WriteFile(filepath.Join(dir, "checkpoint"), []byte("../../etc/passwd\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			return dir
		}, dasslClasses, "beside it"},
	} {
		path := x.path()
		_, err := ReadCheckpoint(path, x.classes, Hints{}, c)
		if err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), filepath.Base(path)) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want an error that says %q", x.what, err, x.want)
		}
	}
	for what, path := range map[string]string{"prompts": coop, "a strange shape": file(torchfile.Entry{Key: "trigger", Value: zeros(1, 3, 8, 9)})} {
		if _, err := ReadTrigger(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s for a trigger: %v", what, err)
		}
	}
}

// FuzzReadCheckpoint reads delivered prompts of any kind, triggers, class names, and the encoders
// beside prompts.
func FuzzReadCheckpoint(f *testing.F) {
	e := plain.New[float32]()
	c, deep := newHashed(f, e), newHashedDeep(f, e, 3) // MaPLe's is the deep one
	_, w, _ := hashedWeights(3)
	paths, err := filepath.Glob("testdata/*/*/model*")
	if err != nil || len(paths) < 5 {
		f.Fatal(paths, err)
	}
	learned, err := filepath.Glob("testdata/learners/*/*/model*")
	if err != nil || len(learned) < 5 {
		f.Fatal(learned, err)
	}
	paths = append(append(paths, learned...), "testdata/learners/lora-text/lora_weights.pt")
	wide := newWide(f, e, 3)
	own := filepath.Join(f.TempDir(), "own.safetensors")
	l, _ := FindLearner("coop")
	m, err := New(c, l, map[string]any{"context": 4, "class-specific": false, "init": ""}, dasslClasses, rand.New(rand.NewPCG(1, 1)))
	if err == nil {
		err = m.Write(own)
	}
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(paths, own, "testdata/ctx.pt", "testdata/legacy/model.pth.tar-2") {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	path := filepath.Join(f.TempDir(), "delivered")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		check := func(err error) {
			if err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000) {
				t.Errorf("an error of %d bytes: %.200q", len(err.Error()), err)
			}
		}
		hint := ""
		if len(raw)%2 == 1 { // CLIP-LoRA's file wants one
			hint = "a photo of a {}."
		}
		for _, x := range []struct {
			c       *clip.Model
			classes []string
		}{{c, dasslClasses}, {deep, deepClasses}, {wide, dasslClasses}} {
			m, err := ReadCheckpoint(path, x.classes, Hints{Init: hint}, x.c)
			if check(err); err == nil && len(m.Params) == 0 {
				t.Error("a model without prompts")
			}
		}
		found, err := CompareEncoders(path, w)
		if check(err); err == nil && (found.Tensors < len(found.Different)+found.Rounded || found.Tensors > len(w)) {
			t.Errorf("%+v", found)
		}
		_, err = ReadTrigger(path)
		check(err)
		_, err = ReadClasses(path)
		check(err)
	})
}
