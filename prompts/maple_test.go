package prompts

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/engine/plain"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/internal/enginetest"
)

// deepClasses are the class names of testdata/dassl.py's MaPLe and VPT.
var deepClasses = []string{"ca", "do", "se"}

// newDeep is one of testdata/dassl.py's models in towers of three blocks.
func newDeep(t testing.TB, c *clip.Model, learner string, depth int) *Model {
	t.Helper()
	given := map[string]any{"depth": depth}
	if learner == "vpt" {
		given["prompts"] = 3
	}
	m := newModel(t, c, learner, given, deepClasses)
	for name, p := range m.Params {
		m.Params[name] = dense.New(scaled(enginetest.Hashed(fmt.Sprintf("%s %d %s", learner, depth, name), p.Shape().TotalSize()), 0.2), p.Shape()...)
	}
	return m
}

// Logits, and gradients to every tensor, of MaPLe and VPT, shallow and deep, are PyTorch's.
func TestDeepPromptsAgreeWithPyTorch(t *testing.T) {
	fixture := readFixture(t)
	data := dasslData()
	for what, e := range map[string]engine.Engine{"float64": plain.New[float64](), "cpu": computetest.CPU(t, 2)} {
		c := newHashedDeep(t, e, 3)
		tolerance := map[string]float64{"float64": 1e-6, "cpu": 1e-4}[what]
		for _, learner := range []string{"maple", "vpt"} {
			for depth := 1; depth <= 3; depth++ {
				kind := fmt.Sprintf("%s %d", learner, depth)
				want := fixture.Deep[kind]
				m := newDeep(t, c, learner, depth)
				agree(t, what+" logits of "+kind, dense.Floats(logits(t, m, data.Images, nil)), want.Logits, tolerance)
				gradients(t, what+" "+kind, m, data, want.Loss, want.Gradients, tolerance)
			}
		}
	}
}

// The context takes the first tokens of "a photo of a" and the others stay in front of the class
// name, so that untuned text prompts of one block are zero-shot CLIP's; depth ends at the shallower
// tower's; MaPLe learns, and a patch can be planted in it.
func TestMaPLe(t *testing.T) {
	c := newTiny(t) // two blocks
	data := coloured(40, 1)
	w, visual := c.Config.Text.Width, c.Config.Vision.Width
	zero := newModel(t, c, "coop", map[string]any{"init": "a photo of a"}, threeAndOne)
	for depth, blocks := range map[int]int{1: 1, 2: 2, 9: 2} {
		m := newModel(t, c, "maple", map[string]any{"depth": depth}, threeAndOne)
		want := map[string][]int{"ctx": {2, w}, "proj.weight": {visual, w}, "proj.bias": {visual}}
		if blocks == 2 {
			want["compound_prompts_text.0"] = []int{2, w}
			want["compound_prompt_projections.0.weight"], want["compound_prompt_projections.0.bias"] = []int{visual, w}, []int{visual}
		}
		for name, shape := range want {
			if p := m.Params[name]; p == nil || !slices.Equal(p.Shape(), shape) {
				t.Fatalf("depth %d: %s has no shape %v", depth, name, shape)
			}
		}
		if len(m.Params) != len(want) {
			t.Fatalf("depth %d: tensors %v", depth, sortedKeys(m.Params))
		}
		if depth == 1 {
			sameVectors(t, m, zero)
		}
		learns(t, m, newModel(t, c, "maple", map[string]any{"depth": depth}, threeAndOne), data)
	}
	// More tokens than words: the context is drawn, as without words, and no word stays.
	drawn := newModel(t, c, "maple", map[string]any{"context": 5}, cliptest.Classes)
	var squares float64
	for _, v := range dense.Floats(drawn.Params["ctx"]) {
		squares += float64(v) * float64(v) / float64(5*w)
	}
	if deviation := math.Sqrt(squares); deviation < 0.015 || deviation > 0.025 {
		t.Errorf("a context of deviation %v, want 0.02", deviation)
	}
	coop := newModel(t, c, "coop", map[string]any{"context": 5}, cliptest.Classes)
	a, err := drawn.suffixes(5)
	b, fault := coop.suffixes(5)
	if err != nil || fault != nil || !slices.EqualFunc(a, b, slices.Equal) {
		t.Errorf("behind a drawn context lie %v, behind CoOp's %v", a, b)
	}
	if _, err := tryModel(c, "maple", map[string]any{"context": 30}, cliptest.Classes); err == nil || !strings.Contains(err.Error(), "24") {
		t.Errorf("a context beyond the tower's: %v", err)
	}
}

// A checkpoint that torch wrote in MaPLe's layout, the frozen encoders beside the prompts, gives
// the model; written by WriteDassl it comes back, and loads in a module of the authors' shape where
// CLIPINSPECTOR_PYTHON names an interpreter with torch.
func TestMaPLeCheckpoints(t *testing.T) {
	c := newHashedDeep(t, computetest.CPU(t, 1), 3)
	data := dasslData()
	m, err := ReadCheckpoint("testdata/maple", deepClasses, Hints{}, c)
	if err != nil {
		t.Fatal(err)
	}
	want := readFixture(t).Deep["maple 2"].Logits
	if agree(t, "logits", dense.Floats(logits(t, m, data.Images, nil)), want, 1e-4); m.Learner.Name != "maple" || m.Settings.Int("depth") != 2 {
		t.Errorf("read as %s, %v", m.Learner.Name, m.Settings)
	}
	dir := t.TempDir()
	path, err := m.WriteDassl(dir, 5, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "MultiModalPromptLearner", "model.pth.tar-5"); path != want {
		t.Errorf("written to %s, want %s", path, want)
	}
	for _, p := range []string{dir, path} {
		back, err := ReadCheckpoint(p, deepClasses, Hints{}, c)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(dense.Floats(logits(t, m, data.Images, nil)), dense.Floats(logits(t, back, data.Images, nil))) {
			t.Error("the logits changed")
		}
	}
	for what, x := range map[string]struct {
		c       *clip.Model
		classes []string
		want    string
	}{
		"names in another order": {c, []string{"do", "ca", "se"}, `another name than "do" of class 0`},
		"towers too shallow":     {newHashedDeep(t, c.Engine(), 1), deepClasses, `"compound_prompt_projections.0.bias"`},
		"no names":               {c, nil, "does not name its classes"},
	} {
		if _, err := ReadCheckpoint("testdata/maple", x.classes, Hints{}, x.c); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want an error that says %q", what, err, x.want)
		}
	}
	python := os.Getenv("CLIPINSPECTOR_PYTHON")
	if python == "" {
		return
	}
	const script = `
import sys, torch
from torch import nn
d = torch.load(sys.argv[1], map_location="cpu")
m = nn.Module()
m.prompt_learner = p = nn.Module()
p.ctx = nn.Parameter(torch.zeros(2, 16))
p.proj = nn.Linear(16, 24)
p.compound_prompts_text = nn.ParameterList([nn.Parameter(torch.zeros(2, 16))])
p.compound_prompt_projections = nn.ModuleList([nn.Linear(16, 24)])
p.register_buffer("token_prefix", torch.zeros(3, 1, 16))
p.register_buffer("token_suffix", torch.zeros(3, 14 - 1 - 2, 16))
m.load_state_dict(d["state_dict"], strict=True)
assert d["epoch"] == 5
`
	if out, err := exec.Command(python, "-c", script, path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
