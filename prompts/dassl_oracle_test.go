package prompts

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/clip/bpe"
	"clipinspector/engine"
	"clipinspector/engine/plain"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/internal/enginetest"
	"clipinspector/triggers"
)

// What testdata/dassl.py was made with.
const (
	dasslSize    = 8
	dasslImages  = 8
	dasslEpsilon = 12.0 / 255
)

var dasslClasses = []string{"cat", "dog", "sea"}

// newHashed is the CLIP of testdata/dassl.py: weights from a hash, a vocabulary of bytes.
func newHashed(t testing.TB, e engine.Engine) *clip.Model { return newHashedDeep(t, e, 2) }

func newHashedDeep(t testing.TB, e engine.Engine, blocks int) *clip.Model {
	t.Helper()
	c, w, tok := hashedWeights(blocks)
	m, err := clip.NewModel(e, c, w, tok)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Free)
	return m
}

func hashedWeights(blocks int) (clip.Config, clip.Weights, *bpe.Tokenizer) {
	tok := bpe.Learn(nil, 0)
	c := clip.Config{
		Text: clip.TextConfig{Width: 16, MLP: 48, Layers: blocks, Heads: 1, ContextLength: 14, VocabSize: tok.Size(), Activation: "quick_gelu",
			EOS: tok.EOT()},
		Vision: clip.VisionConfig{Width: 24, MLP: 40, Layers: blocks, Heads: 1, ImageSize: dasslSize, PatchSize: 4, Activation: "quick_gelu"},
		// The features' length makes a meta-net of two hidden units.
		ProjectionDim: 32,
	}
	w := clip.Weights{}
	for name, shape := range c.Shapes() {
		w[name] = dense.New(enginetest.HashedWeight(name, shape), shape...)
	}
	return c, w, tok
}

func scaled(x []float64, by float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(by * float64(float32(v)))
	}
	return out
}

func dasslData() Data {
	n := dasslImages * 3 * dasslSize * dasslSize
	images := make([]float32, n)
	for i, v := range enginetest.Hashed("pixels", n) {
		images[i] = float32((v + 1) / 2)
	}
	d := Data{Images: dense.New(images, dasslImages, 3, dasslSize, dasslSize)}
	for i := range dasslImages {
		d.Labels = append(d.Labels, i%len(dasslClasses))
	}
	return d
}

type dasslFixture struct {
	Schedules map[string][]float64
	Learners  map[string]computed
	Deep      map[string]computed // MaPLe and VPT, by their depth
	BadCLIP   struct {
		Steps []struct {
			Loss    float64
			Trigger []float64
			Params  map[string][]float64
		}
		Final struct{ Logits, Triggered []float64 }
	}
}

// computed is what PyTorch computes with a learner's tensors.
type computed struct {
	Logits    []float64
	Loss      float64
	Gradients map[string][]float64
}

func readFixture(t testing.TB) (f dasslFixture) {
	t.Helper()
	raw, err := os.ReadFile("testdata/parity.json")
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// agree holds max|a-b| against max|b|.
func agree(t testing.TB, what string, got []float32, want []float64, tolerance float64) float64 {
	t.Helper()
	var worst, largest float64
	for i, w := range want {
		if i < len(got) {
			worst = max(worst, math.Abs(float64(got[i])-w))
		}
		largest = max(largest, math.Abs(w))
	}
	if len(got) != len(want) || !(worst <= tolerance*largest) {
		t.Errorf("%s: max|a-b|/max|b| = %.2g, allowed %g; %d numbers, want %d", what, worst/largest, tolerance, len(got), len(want))
	}
	return worst / largest
}

// Checkpoints that PyTorch wrote, optimisers and schedulers inside, give the logits that PyTorch
// computes with them, and CoOp's and CoCoOp's gradients.
func TestDasslCheckpointsAgreeWithPyTorch(t *testing.T) {
	fixture, data := readFixture(t), dasslData()
	for what, e := range map[string]engine.Engine{"float64": plain.New[float64](), "cpu": computetest.CPU(t, 2)} {
		c := newHashed(t, e)
		tolerance := 1e-4
		if what == "float64" {
			tolerance = 2e-6 // weights, results and the checkpoint pass through float32
		}
		for kind, want := range fixture.Learners {
			for _, path := range []string{filepath.Join("testdata", kind, "prompt_learner", "model.pth.tar-2"), filepath.Join("testdata", kind)} {
				m, err := ReadCheckpoint(path, dasslClasses, Hints{}, c)
				if err != nil {
					t.Fatal(err)
				}
				gap := agree(t, what+" logits of "+kind, dense.Floats(logits(t, m, data.Images, nil)), want.Logits, tolerance)
				t.Logf("%s, %s: logits %.2g", what, kind, gap)
				if what == "cpu" || strings.HasSuffix(path, "2") {
					gradients(t, what+" "+kind, m, data, want.Loss, want.Gradients, tolerance)
				}
			}
		}
		final := fixture.BadCLIP.Final
		m, err := ReadCheckpoint("testdata/badclip", dasslClasses, Hints{}, c)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := ReadTrigger("testdata/badclip/trigger/model.pth.tar-2")
		if err != nil {
			t.Fatal(err)
		}
		agree(t, what+" logits of badclip", dense.Floats(logits(t, m, data.Images, nil)), final.Logits, tolerance)
		agree(t, what+" triggered logits of badclip", dense.Floats(logits(t, m, data.Images, tr)), final.Triggered, tolerance)
		if got := triggers.Measure(tr).LInf; got > dasslEpsilon*1.000001 || got < dasslEpsilon/2 {
			t.Errorf("the trigger reaches %v of %v", got, dasslEpsilon)
		}
	}
}

// gradients compares the gradients of the mean cross-entropy.
func gradients(t *testing.T, what string, m *Model, data Data, loss float64, want map[string][]float64, tolerance float64) {
	t.Helper()
	g := autodiff.New(m.CLIP.Engine())
	arrays := map[string]engine.Array{}
	for _, name := range sortedKeys(m.Params) {
		a, err := engine.UploadSlice(m.CLIP.Engine(), dense.Floats(m.Params[name]), m.Params[name].Shape()...)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Free()
		arrays[name] = a
	}
	r := m.recordTrainable(g, arrays)
	labels := make([]float32, len(data.Labels))
	for i, l := range data.Labels {
		labels[i] = float32(l)
	}
	n := len(labels)
	ce := r.Logits(r.Features(g.Const(dense.Floats(data.Images), data.Images.Shape()...))).CrossEntropy(g.Const(labels, n)).Sum().Scale(1 / float64(n))
	var wrt []autodiff.Value
	names := sortedKeys(arrays)
	for _, name := range names {
		wrt = append(wrt, r.Params[name])
	}
	grads := autodiff.Grad(ce, autodiff.None, wrt...)
	got := computetest.Run(t, g, append(grads, ce)...)
	agree(t, what+": loss", got[len(grads)], []float64{loss}, tolerance)
	if len(names) != len(want) {
		t.Errorf("%s: tensors %v", what, names)
	}
	for i, name := range names {
		gap := agree(t, what+": gradient to "+name, got[i], want[name], tolerance)
		t.Logf("%s: gradient to %s %.2g", what, name, gap)
	}
}

// Twenty steps of BadCLIP in double precision stay with PyTorch's, step after step: prompts,
// meta-net and trigger, whose perturbation PyTorch adds in normalised space.
func TestBadCLIPStepsAgreeWithPyTorch(t *testing.T) {
	steps := readFixture(t).BadCLIP.Steps
	c := newHashed(t, plain.New[float64]())
	m := newModel(t, c, "cocoop", map[string]any{"context": 4}, dasslClasses)
	for name, p := range m.Params {
		by := 0.3
		if name == "ctx" {
			by = 0.2
		}
		m.Params[name] = dense.New(scaled(enginetest.Hashed("badclip "+name, p.Shape().TotalSize()), by), p.Shape()...)
	}
	start := scaled(enginetest.Hashed("trigger", 3*dasslSize*dasslSize), dasslEpsilon)
	poison := &Poison{Target: 1, Trigger: triggers.Additive{Delta: dense.New(start, 3, dasslSize, dasslSize)}, Share: 1, Weight: 1,
		Learn: &LearnTrigger{Epsilon: dasslEpsilon, Rate: 2.0 / 255}}
	tu := newTuner(t, m, dasslData(), nil, poison)
	s, err := tu.record(4, true, autodiff.CoOpSchedule(0.002, len(steps)), repeat(float32(2.0/255), 1))
	if err != nil {
		t.Fatal(err)
	}
	defer s.program.Free()
	var worst float64
	for i, want := range steps {
		index := make([]float32, 4)
		for j := range index {
			index[j] = float32((4*i + j) % dasslImages)
		}
		if err := s.program.Write(s.index, index); err != nil {
			t.Fatal(err)
		}
		if err := s.program.Run(); err != nil {
			t.Fatal(err)
		}
		compare := func(what string, a engine.Array, want []float64, every int) {
			x, err := a.Download()
			if err != nil {
				t.Fatal(err)
			}
			var at []float32
			for j, v := range dense.Floats(x) {
				if j%every == 0 {
					at = append(at, v)
				}
			}
			worst = max(worst, agree(t, what, at, want, 1e-4))
		}
		compare("trigger", tu.delta.value, want.Trigger, 7)
		for name, p := range want.Params {
			compare(name, tu.params[name].value, p, 3)
		}
		if t.Failed() {
			t.Fatalf("at step %d", i)
		}
	}
	t.Logf("%d steps: max|a-b|/max|b| at most %.2g", len(steps), worst)
	moved := 0.0
	for i, v := range dense.Floats(dense.New(start, len(start))) {
		if i%7 == 0 {
			moved = max(moved, math.Abs(float64(v)-steps[len(steps)-1].Trigger[i/7]))
		}
	}
	if moved < dasslEpsilon/4 {
		t.Errorf("in the fixture the trigger moved by %v only", moved)
	}
}
