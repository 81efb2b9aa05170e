package prompts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/internal/safetensors"
)

// A delivered model, of any learner, comes back with its logits to the bit, and stored again it is
// the same bytes.
func TestStoredModelsComeBack(t *testing.T) {
	c := newTiny(t)
	data := coloured(20, 1)
	type stored struct {
		learner string
		given   map[string]any
	}
	models := []stored{{"coop", map[string]any{"class-specific": true}}, {"coop", map[string]any{"init": "a photo of a"}}}
	for _, l := range Learners() {
		models = append(models, stored{l.Name, nil})
	}
	for _, l := range models {
		m := newModel(t, c, l.learner, l.given, threeAndOne)
		tune(t, m, data, map[string]any{"epochs": 3, "batch": 10}, nil, 1)
		path := filepath.Join(t.TempDir(), "model.safetensors")
		if err := m.Write(path); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path, c)
		if err != nil {
			t.Fatal(err)
		}
		if got.Learner != m.Learner || !slices.Equal(got.Classes, m.Classes) || fmt.Sprint(got.Settings) != fmt.Sprint(m.Settings) {
			t.Errorf("came back as %s %v of %q", got.Learner.Name, got.Settings, got.Classes)
		}
		if !slices.Equal(dense.Floats(logits(t, m, data.Images, nil)), dense.Floats(logits(t, got, data.Images, nil))) {
			t.Errorf("%s %v: the logits changed", l.learner, l.given)
		}
		if err := got.Write(path + "2"); err != nil {
			t.Fatal(err)
		}
		a, _ := os.ReadFile(path)
		b, _ := os.ReadFile(path + "2")
		if len(a) == 0 || !bytes.Equal(a, b) {
			t.Errorf("%s %v: stored again, it is other bytes", l.learner, l.given)
		}
	}
}

// A stranger's file is refused with one line that names the file and what is wrong with it.
func TestHostileModelsAreRefused(t *testing.T) {
	c := newTiny(t)
	m := newModel(t, c, "coop", map[string]any{"context": 3}, threeAndOne)
	w := c.Config.Text.Width
	path := filepath.Join(t.TempDir(), "delivered.safetensors")
	// write stores the model's file after a change to its parts.
	write := func(change func(h map[string]any, f *safetensors.File)) {
		t.Helper()
		h := map[string]any{"learner": "coop", "settings": m.Settings, "classes": m.Classes, "clip": c.Fingerprint()}
		f := &safetensors.File{Tensors: map[string]*tensor.Dense{"ctx": m.Params["ctx"]}, Metadata: map[string]string{}}
		change(h, f)
		if _, given := f.Metadata["model"]; !given {
			raw, err := json.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			f.Metadata["model"] = string(raw)
		}
		if err := safetensors.Write(path, f); err != nil {
			t.Fatal(err)
		}
	}
	write(func(map[string]any, *safetensors.File) {})
	if _, err := Read(path, c); err != nil {
		t.Fatalf("the unchanged file is refused: %v", err)
	}
	filled := func(v float32, shape ...int) *tensor.Dense {
		n := 1
		for _, s := range shape {
			n *= s
		}
		return dense.New(append(make([]float32, n-1), v), shape...)
	}
	long := strings.Repeat("x", 1<<18)
	for what, x := range map[string]struct {
		change func(h map[string]any, f *safetensors.File)
		want   string
	}{
		"another CLIP":            {func(h map[string]any, _ *safetensors.File) { h["clip"] = "0123456789abcdef" }, "tuned for the CLIP 0123456789ab"},
		"no CLIP":                 {func(h map[string]any, _ *safetensors.File) { delete(h, "clip") }, "tuned for the CLIP"},
		"a CLIP that is a number": {func(h map[string]any, _ *safetensors.File) { h["clip"] = 7 }, "model description"},
		"no metadata":             {func(_ map[string]any, f *safetensors.File) { f.Metadata["model"] = "" }, "model description"},
		"metadata that is text":   {func(_ map[string]any, f *safetensors.File) { f.Metadata["model"] = "coop" }, "model description"},
		"metadata that is a list": {func(_ map[string]any, f *safetensors.File) { f.Metadata["model"] = "[]" }, "model description"},
		"an unknown learner":      {func(h map[string]any, _ *safetensors.File) { h["learner"] = "prograd" }, `"prograd"`},
		"an endless learner":      {func(h map[string]any, _ *safetensors.File) { h["learner"] = long }, "unknown prompt learner"},
		"an unknown setting":      {func(h map[string]any, _ *safetensors.File) { h["settings"] = map[string]any{"depth": 3} }, `"depth"`},
		"an endless setting":      {func(h map[string]any, _ *safetensors.File) { h["settings"] = map[string]any{long: long} }, "unknown setting"},
		"an endless value":        {func(h map[string]any, _ *safetensors.File) { h["settings"] = map[string]any{"context": long} }, `"context"`},
		"a setting out of range":  {func(h map[string]any, _ *safetensors.File) { h["settings"] = map[string]any{"context": 1e6} }, `"context"`},
		"a setting of wrong type": {func(h map[string]any, _ *safetensors.File) { h["settings"] = map[string]any{"context": "3"} }, `"context"`},
		"a context too long":      {func(h map[string]any, _ *safetensors.File) { h["settings"] = map[string]any{"context": 64} }, "24"},
		"words without end":       {func(h map[string]any, _ *safetensors.File) { h["settings"] = map[string]any{"init": long} }, "init"},
		"words without a token":   {func(h map[string]any, _ *safetensors.File) { h["settings"] = map[string]any{"init": "&nbsp;"} }, "init"},
		"no classes":              {func(h map[string]any, _ *safetensors.File) { delete(h, "classes") }, "classes"},
		"a class too many":        {func(h map[string]any, _ *safetensors.File) { h["classes"] = make([]string, maxClasses+1) }, "classes"},
		"an endless class name":   {func(h map[string]any, _ *safetensors.File) { h["classes"] = []string{"cat", long} }, "class name"},
		"classes of numbers":      {func(h map[string]any, _ *safetensors.File) { h["classes"] = []int{1, 2} }, "model description"},
		"a missing tensor":        {func(_ map[string]any, f *safetensors.File) { f.Tensors = map[string]*tensor.Dense{"x": filled(0, 1)} }, `"x"`},
		"no tensors":              {func(_ map[string]any, f *safetensors.File) { f.Tensors = map[string]*tensor.Dense{} }, `"ctx"`},
		"one tensor too many":     {func(_ map[string]any, f *safetensors.File) { f.Tensors["suffix"] = filled(0, 2) }, `"suffix"`},
		"a context of 4 tokens":   {func(_ map[string]any, f *safetensors.File) { f.Tensors["ctx"] = filled(0, 4, w) }, `"ctx"`},
		"another width":           {func(_ map[string]any, f *safetensors.File) { f.Tensors["ctx"] = filled(0, 3, w+1) }, `"ctx"`},
		"a flat context":          {func(_ map[string]any, f *safetensors.File) { f.Tensors["ctx"] = filled(0, 3*w) }, `"ctx"`},
		"a scalar for a context": {func(_ map[string]any, f *safetensors.File) {
			f.Tensors["ctx"] = dense.New([]float32{1})
		},
			`"ctx"`},
		"a context with NaN":  {func(_ map[string]any, f *safetensors.File) { f.Tensors["ctx"] = filled(float32(math.NaN()), 3, w) }, "NaN"},
		"an infinite context": {func(_ map[string]any, f *safetensors.File) { f.Tensors["ctx"] = filled(float32(math.Inf(-1)), 3, w) }, "-Inf"},
		"CoOp's tensor, CoCoOp": {func(h map[string]any, _ *safetensors.File) {
			h["learner"], h["settings"] = "cocoop", map[string]any{"context": 3}
		}, "meta_net"},
		"shared, said specific": {func(h map[string]any, _ *safetensors.File) {
			h["settings"] = map[string]any{"context": 3, "class-specific": true}
		}, `"ctx"`},
		"a line break in a name": {func(h map[string]any, _ *safetensors.File) { h["learner"] = "a\nb" }, `"a\nb"`},
	} {
		write(x.change)
		_, err := Read(path, c)
		if err == nil {
			t.Errorf("%s: accepted", what)
		} else if msg := err.Error(); !strings.Contains(msg, x.want) || !strings.HasPrefix(msg, path) || strings.Contains(msg, "\n") || len(msg) > len(path)+300 {
			t.Errorf("%s: the error %.400q should name the file and say %q in one line", what, msg, x.want)
		}
	}
	for what, raw := range map[string]string{"an empty file": "", "no safetensors": "PK\x03\x04 a pickle perhaps, of some length"} {
		if err := os.WriteFile(path, []byte(raw), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, c); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Read(path+"-absent", c); err == nil || !strings.Contains(err.Error(), path+"-absent") {
		t.Errorf("an absent file: %v", err)
	}
}

// Models are read onto the CLIP that they were tuned for and no other.
func TestAModelBelongsToItsCLIP(t *testing.T) {
	e := computetest.CPU(t, 1)
	c := cliptest.Tiny(t, e, size)
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := newModel(t, c, "coop", nil, []string{"cat", "dog"}).Write(path); err != nil {
		t.Fatal(err)
	}
	other, err := clip.NewModel(e, c.Config, clip.RandomWeights(c.Config, 2), c.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Free()
	if _, err := Read(path, other); err == nil || !strings.Contains(err.Error(), c.Fingerprint()[:12]) || !strings.Contains(err.Error(), other.Fingerprint()[:12]) {
		t.Errorf("other weights of the same size: %v", err)
	}
	if _, err := Read(path, cliptest.Tiny(t, e, size)); err != nil {
		t.Errorf("the same CLIP once more: %v", err)
	}
}
