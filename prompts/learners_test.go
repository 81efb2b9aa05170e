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
	"clipinspector/engine/enginetest"
	"clipinspector/engine/plain"
)

// newWide is the CLIP of testdata/learners.py: heads of 64, as OpenAI's, and so many blocks.
func newWide(t testing.TB, e engine.Engine, blocks int) *clip.Model {
	t.Helper()
	tok := bpe.Learn(nil, 0)
	c := clip.Config{
		Text: clip.TextConfig{Width: 64, MLP: 256, Layers: blocks, Heads: 1, ContextLength: 32, VocabSize: tok.Size(), Activation: "quick_gelu",
			EOS: tok.EOT()},
		Vision:        clip.VisionConfig{Width: 64, MLP: 256, Layers: blocks, Heads: 1, ImageSize: dasslSize, PatchSize: 4, Activation: "quick_gelu"},
		ProjectionDim: 32,
	}
	w := clip.Weights{}
	for name, shape := range c.Shapes() {
		if data := enginetest.HashedWeight(name, shape); len(shape) == 0 {
			w[name] = tensor.New(tensor.FromScalar(data[0]))
		} else {
			w[name] = dense(data, shape...)
		}
	}
	m, err := clip.NewModel(e, c, w, tok)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Free)
	return m
}

// deliveredLearners are the checkpoints that testdata/learners.py wrote with the authors' own learners.
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
	m, err := ReadCheckpoint(path, dasslClasses, x.hints, newWide(t, e, x.blocks))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Checkpoints of the authors' own learners give the logits that the authors' own code computes with them, in either engine.
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
	data := dasslData()
	for what, e := range map[string]engine.Engine{"plain": plain.New[float64](), "cpu": newCPU(t, 2)} {
		for _, kind := range sortedKeys(deliveredLearners) {
			m := readLearner(t, kind, e)
			t.Logf("%s, %s: %.2g", what, kind, agree(t, what+": logits of "+kind, floats(logits(t, m, data.Images, nil)), want[kind], 1e-4))
			if x := deliveredLearners[kind]; m.Learner.Name != x.learner || !strings.Contains(strings.Join(m.Notes, "\n"), x.note) {
				t.Errorf("%s: read as %s with the notes %q; want %s and %q", kind, m.Learner.Name, m.Notes, x.learner, x.note)
			}
		}
	}
}

// What is read is written back: in this project's form and in the authors' the logits stay, to the bit.
func TestLearnersAreWrittenBack(t *testing.T) {
	data := dasslData()
	for _, kind := range sortedKeys(deliveredLearners) {
		m := readLearner(t, kind, newCPU(t, 1))
		want := floats(logits(t, m, data.Images, nil))
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
			if back.Learner != m.Learner || back.Position != m.Position || !slices.Equal(floats(logits(t, back, data.Images, nil)), want) {
				t.Errorf("%s: %s came back as another model", kind, path)
			}
		}
	}
}
