package prompts

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/clip/bpe"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/settings"
	"clipinspector/settings/settingstest"
	"clipinspector/triggers"
)

// size is the side of the images in pixels: nine patches.
const size = 24

var bg = context.Background()

func newTiny(t testing.TB) *clip.Model { return cliptest.Tiny(t, computetest.CPU(t, 2), size) }

// newModel returns an untuned model of a registered learner.
func newModel(t testing.TB, c *clip.Model, learner string, given map[string]any, classes []string) *Model {
	t.Helper()
	m, err := tryModel(c, learner, given, classes)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tryModel(c *clip.Model, learner string, given map[string]any, classes []string) (*Model, error) {
	l, err := FindLearner(learner)
	if err != nil {
		return nil, err
	}
	s, err := settings.Resolve(l.Params, given)
	if err != nil {
		return nil, err
	}
	return New(c, l, s, classes, rand.New(rand.NewPCG(7, 7)))
}

func classVectors(t testing.TB, m *Model) [][]float32 {
	t.Helper()
	v, err := m.ClassVectors()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(v.Shape(), []int{len(m.Classes), m.CLIP.Config.ProjectionDim}) {
		t.Fatalf("class vectors of shape %v", v.Shape())
	}
	return rows(v)
}

func rows(x *tensor.Dense) [][]float32 {
	return slices.Collect(slices.Chunk(dense.Floats(x), len(dense.Floats(x))/x.Shape()[0]))
}

func logits(t testing.TB, m *Model, images *tensor.Dense, tr triggers.Trigger) *tensor.Dense {
	t.Helper()
	l, err := m.Logits(bg, images, tr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func largestGap(a, b []float32) float64 {
	var worst float64
	for i := range a {
		worst = max(worst, math.Abs(float64(a[i])-float64(b[i])))
	}
	return worst
}

// With words for a context, CoOp's class vectors are the features of the sentences, though the
// prompts are laid out piece by piece and cut after the longest; with a context for each class too.
func TestPromptsOfWordsAreOrdinaryTexts(t *testing.T) {
	c := newTiny(t)
	classes := []string{"red cat", "yellow bird on a small red boat", "dog", "DC-10 cat", "tree's house"}
	texts := make([]string, len(classes))
	for i, name := range classes {
		texts[i] = "a photo of a " + name + "."
	}
	want, err := c.EncodeTexts(bg, texts)
	if err != nil {
		t.Fatal(err)
	}
	for _, specific := range []bool{false, true} {
		m := newModel(t, c, "coop", map[string]any{"init": " a photo  of a ", "class-specific": specific}, classes)
		got := classVectors(t, m)
		for i, row := range rows(want) {
			if gap := largestGap(got[i], row); gap > 1e-5 {
				t.Errorf("class-specific %v: %q is off by %g", specific, texts[i], gap)
			}
		}
	}
	// The whole context, uncut, as OpenAI's model computes it.
	for i, text := range texts {
		ids, err := c.Tokenizer.Tokenize(text, c.Config.Text.ContextLength)
		if err != nil {
			t.Fatal(err)
		}
		g := autodiff.New(c.Engine())
		v := c.Bind(g).Text(g.Const(dense.Floats(c.EmbedTokens(ids)), 1, len(ids), c.Config.Text.Width), []int{clip.EndOfText(ids)})
		if gap := largestGap(rows(want)[i], run(t, g, v)); gap > 1e-5 {
			t.Errorf("uncut, %q is off by %g", text, gap)
		}
	}
}

func run(t testing.TB, g *autodiff.Graph, v autodiff.Value) []float32 {
	t.Helper()
	return computetest.Run(t, g, v)[0]
}

func TestClassSpecificContextsBelongToTheirClass(t *testing.T) {
	c := newTiny(t)
	m := newModel(t, c, "coop", map[string]any{"context": 3, "class-specific": true}, cliptest.Classes)
	k, w := len(cliptest.Classes), c.Config.Text.Width
	if got := []int(m.Params["ctx"].Shape()); !slices.Equal(got, []int{k, 3, w}) {
		t.Fatalf("contexts of shape %v", got)
	}
	before := classVectors(t, m)
	other := newModel(t, c, "coop", map[string]any{"context": 3, "class-specific": true}, cliptest.Classes)
	dense.Floats(other.Params["ctx"])[2*3*w] += 0.1
	for i, row := range classVectors(t, other) {
		if changed := largestGap(row, before[i]) > 1e-6; changed != (i == 2) {
			t.Errorf("class 2's context moved; class %d's vector moved: %v", i, changed)
		}
	}
	shared := newModel(t, c, "coop", map[string]any{"context": 3}, cliptest.Classes)
	if got := []int(shared.Params["ctx"].Shape()); !slices.Equal(got, []int{3, w}) {
		t.Errorf("a shared context of shape %v", got)
	}
}

// CoCoOp: the context of an image is the shared one plus W2·relu(W1·f + b1) + b2, computed here on
// the host.
func TestCoCoOpShiftsTheContextByTheMetaNet(t *testing.T) {
	c := newTiny(t)
	m := newModel(t, c, "cocoop", map[string]any{"context": 4}, cliptest.Classes)
	d, w := c.Config.ProjectionDim, c.Config.Text.Width
	hidden := d / 16
	for name, want := range map[string][]int{"ctx": {4, w}, "meta_net.linear1.weight": {hidden, d}, "meta_net.linear1.bias": {hidden},
		"meta_net.linear2.weight": {w, hidden}, "meta_net.linear2.bias": {w}} {
		if p := m.Params[name]; p == nil || !slices.Equal(p.Shape(), want) {
			t.Fatalf("%s has no shape %v", name, want)
		}
	}
	images := cliptest.Images(3, size, 1)
	features, err := Encode(bg, c, images, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := rows(logits(t, m, images, nil))
	linear := func(x []float32, name string) []float32 {
		weight, bias := dense.Floats(m.Params[name+".weight"]), dense.Floats(m.Params[name+".bias"])
		y := make([]float32, len(bias))
		for i := range y {
			sum := float64(bias[i])
			for j, v := range x {
				sum += float64(weight[i*len(x)+j]) * float64(v)
			}
			y[i] = float32(sum)
		}
		return y
	}
	for i, f := range rows(features) {
		h := linear(f, "meta_net.linear1")
		for j := range h {
			h[j] = max(0, h[j])
		}
		ctx := slices.Clone(dense.Floats(m.Params["ctx"]))
		for j, v := range linear(h, "meta_net.linear2") {
			for n := range 4 {
				ctx[n*w+j] += v
			}
		}
		static := newModel(t, c, "coop", map[string]any{"context": 4}, cliptest.Classes)
		static.Params["ctx"] = dense.New(ctx, 4, w)
		want, err := static.LogitsOf(bg, dense.New(slices.Clone(f), 1, d))
		if err != nil {
			t.Fatal(err)
		}
		if gap := largestGap(got[i], dense.Floats(want)); gap > 1e-3 { // of logits up to 100
			t.Errorf("image %d: logits are off by %g", i, gap)
		}
	}
	// The class vectors do depend on the image.
	g := autodiff.New(c.Engine())
	r, err := m.Record(g)
	if err != nil {
		t.Fatal(err)
	}
	v := m.Learner.Text(r, g.Const(dense.Floats(features), 3, d))
	if !slices.Equal(v.Shape(), []int{3, len(cliptest.Classes), d}) {
		t.Fatalf("class vectors of shape %v", v.Shape())
	}
	per := rows(dense.New(run(t, g, v), 3, len(cliptest.Classes)*d))
	if largestGap(per[0], per[1]) < 1e-5 || largestGap(per[1], per[2]) < 1e-5 {
		t.Error("two images have the same class vectors")
	}
}

// An image's logits do not depend on the images beside it, nor on whether its feature was computed
// before.
func TestLogitsAreTheImagesOwn(t *testing.T) {
	c := newTiny(t)
	images := cliptest.Images(encodeBatch+3, size, 2)
	tr := triggers.Additive{Delta: triggers.Dense(dense.Floats(cliptest.Images(1, size, 3)), 3, size, size)}
	for _, learner := range []string{"coop", "cocoop"} {
		m := newModel(t, c, learner, map[string]any{"context": 2}, cliptest.Classes)
		for _, tr := range []triggers.Trigger{nil, tr} {
			all := rows(logits(t, m, images, tr))
			for _, i := range []int{0, 1, encodeBatch - 1, encodeBatch, encodeBatch + 2} {
				one := triggers.Dense(rows(images)[i], 1, 3, size, size)
				if gap := largestGap(all[i], dense.Floats(logits(t, m, one, tr))); gap > 1e-3 {
					t.Errorf("%s: image %d alone is off by %g", learner, i, gap)
				}
			}
			features, err := Encode(bg, c, images, tr)
			if err != nil {
				t.Fatal(err)
			}
			of, err := m.LogitsOf(bg, features)
			if err != nil {
				t.Fatal(err)
			}
			if gap := largestGap(dense.Floats(of), slices.Concat(all...)); gap > 1e-3 {
				t.Errorf("%s: logits of features are off by %g", learner, gap)
			}
		}
	}
}

// Logits are CLIP's: the scaled cosines of image features and text features.
func TestLogitsAreScaledCosines(t *testing.T) {
	c := newTiny(t)
	m := newModel(t, c, "coop", map[string]any{"init": "a photo of a"}, cliptest.Classes)
	images := cliptest.Images(4, size, 4)
	features, err := c.EncodeImages(bg, images, 4)
	if err != nil {
		t.Fatal(err)
	}
	vectors := classVectors(t, m)
	got := rows(logits(t, m, images, nil))
	for i, f := range rows(features) {
		for k, v := range vectors {
			var want float64
			for j := range f {
				want += 100 * float64(f[j]) * float64(v[j])
			}
			if math.Abs(float64(got[i][k])-want) > 1e-3 {
				t.Errorf("image %d, class %d: %v, want %v", i, k, got[i][k], want)
			}
		}
	}
}

func TestPromptsThatDoNotFitAreRefused(t *testing.T) {
	c := newTiny(t) // a context of 24 tokens
	many := make([]string, maxClasses+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for what, s := range map[string]struct {
		given   map[string]any
		classes []string
		want    string
	}{
		"one class":             {nil, []string{"red cat"}, "2 to 10000 classes"},
		"too many classes":      {nil, many, "2 to 10000 classes"},
		"context too long":      {map[string]any{"context": 20}, cliptest.Classes, "24"},
		"context beyond tower":  {map[string]any{"context": 64}, cliptest.Classes, "24"},
		"class name too long":   {map[string]any{"context": 1}, []string{"red cat", strings.Repeat("cat ", 30)}, "cat cat"},
		"a huge class name":     {nil, []string{"red cat", strings.Repeat("x", 1<<20)}, "xxx"},
		"words too long":        {map[string]any{"init": strings.Repeat("photo ", 30)}, cliptest.Classes, "init"},
		"words and name too":    {map[string]any{"init": strings.Repeat("photo ", 20)}, cliptest.Classes, "24"},
		"words without a token": {map[string]any{"init": "&nbsp;"}, cliptest.Classes, "init"},
	} {
		for _, learner := range []string{"coop", "cocoop"} {
			_, err := tryModel(c, learner, s.given, s.classes)
			if err == nil {
				t.Errorf("%s, %s: accepted", learner, what)
			} else if msg := err.Error(); !strings.Contains(msg, s.want) || strings.Contains(msg, "\n") || len(msg) > 300 {
				t.Errorf("%s, %s: the error %.300q should say %q in one line", learner, what, msg, s.want)
			}
		}
	}
	if m := newModel(t, c, "coop", map[string]any{"context": 19}, cliptest.Classes[:2]); len(classVectors(t, m)) != 2 {
		t.Error("a prompt of exactly 24 tokens should do")
	}
}

func TestLearnersAreDeclaredAndFound(t *testing.T) {
	for _, l := range Learners() {
		t.Run(l.Name, func(t *testing.T) {
			settingstest.Check(t, l.Params)
			if got, err := FindLearner(l.Name); err != nil || got != l || len(l.Doc) < 10 {
				t.Errorf("%v, documented as %q", err, l.Doc)
			}
		})
	}
	settingstest.Check(t, TuneParams)
	if _, err := FindLearner("prograd"); err == nil || !strings.Contains(err.Error(), "coop, ") && !strings.Contains(err.Error(), "cocoop, ") {
		t.Errorf("an unknown learner: %v", err)
	}
}

// Initial contexts: N(0, 0.02) for CoOp, PyTorch's Linear for the meta-net, and the same draw for
// the same seed.
func TestInitialPrompts(t *testing.T) {
	c := newTiny(t)
	m := newModel(t, c, "coop", map[string]any{"context": 16, "class-specific": true}, cliptest.Classes)
	var sum, squares float64
	ctx := dense.Floats(m.Params["ctx"])
	for _, v := range ctx {
		sum += float64(v) / float64(len(ctx))
		squares += float64(v) * float64(v) / float64(len(ctx))
	}
	if math.Abs(sum) > 0.002 || math.Abs(math.Sqrt(squares)-0.02) > 0.001 {
		t.Errorf("%d numbers of mean %g and deviation %g", len(ctx), sum, math.Sqrt(squares))
	}
	again := newModel(t, c, "coop", map[string]any{"context": 16, "class-specific": true}, cliptest.Classes)
	if !slices.Equal(ctx, dense.Floats(again.Params["ctx"])) {
		t.Error("the same seed draws another context")
	}
	meta := dense.Floats(newModel(t, c, "cocoop", nil, []string{"cat", "dog"}).Params["meta_net.linear1.weight"])
	bound := 1 / math.Sqrt(32)
	if largest := float64(slices.Max(meta)); largest > bound || largest < bound/2 || float64(slices.Min(meta)) < -bound {
		t.Errorf("the meta-net is drawn from %g to %g, want U(-%g, %g)", slices.Min(meta), slices.Max(meta), bound, bound)
	}
}

func TestAccuracyAndSuccessRateByDefinition(t *testing.T) {
	if got := ArgMax(dense.New([]float32{1, 2, 2, -5, -7, -6}, 2, 3)); !slices.Equal(got, []int{1, 0}) {
		t.Errorf("predictions %v, want the first of the largest: 1 and 0", got)
	}
	if got := Accuracy([]int{0, 1, 2, 2}, []int{0, 1, 1, 2}); got != 0.75 {
		t.Errorf("ACC %v, want 0.75", got)
	}
	for _, c := range []struct {
		predicted, labels []int
		all, others       float64
	}{
		{[]int{2, 2, 2, 0}, []int{2, 2, 1, 0}, 0.75, 0.5},   // two images of the target class count only in the first
		{[]int{2, 0, 2, 2}, []int{2, 2, 1, 0}, 0.75, 1},     // a target image that left its class
		{[]int{2, 2, 0, 0}, nil, 0.5, 0.5},                  // unlabelled images
		{[]int{0, 1, 0, 1}, []int{0, 1, 0, 1}, 0, 0},        // nothing fires
		{[]int{2, 2, 2, 2}, []int{0, 1, 0, 1}, 1, 1},        // everything does
		{[]int{2, 2, 1, 2}, []int{2, 2, 2, 2}, 0.75, 0},     // only images of the target class
		{[]int{1, 1, 1, 1, 2}, []int{0, 0, 0, 0, 2}, .2, 0}, // right, but no success
	} {
		if all, others := SuccessRate(c.predicted, c.labels, 2); all != c.all || others != c.others {
			t.Errorf("%v of %v: ASR %v and %v, want %v and %v", c.predicted, c.labels, all, others, c.all, c.others)
		}
	}
}

// A prompt that is too long for the text tower names its class and the setting that can help: the
// context's length, or the words that take its place.
func TestTooLongAPromptNamesItsClass(t *testing.T) {
	c := newTiny(t)
	long := strings.Repeat("red ", c.Config.Text.ContextLength-4) // fits by itself
	for setting, given := range map[string]map[string]any{"the learner's setting context": {"context": 4}, "the words of init": {"init": "a photo of a"}} {
		_, err := tryModel(c, "coop", given, []string{"red", long, "green"})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("class %.60q:", long)) || !strings.Contains(err.Error(), "shorten the name or "+setting) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: got %v, want the class and %s", given, err, setting)
		}
	}
}

// An outline knows before any model is made whether the text tower holds its prompts: of every
// learner but those with several templates, for names of all lengths.
func TestAnOutlineKnowsTooLongAPrompt(t *testing.T) {
	c := newTiny(t)
	refused := 0
	for _, l := range Learners() {
		for words := 1; words <= c.Config.Text.ContextLength; words++ {
			classes := []string{"red", strings.TrimSpace(strings.Repeat("red ", words)), "green"}
			s, err := settings.Resolve(l.Params, nil)
			if err != nil {
				t.Fatal(err)
			}
			o := Outline{Learner: l, Settings: s, Config: c.Config, Classes: classes, Tokens: func(text string) int { return len(c.Tokenizer.Encode(text)) }}
			m, err := tryModel(c, l.Name, nil, classes)
			if err == nil {
				_, err = m.Logits(t.Context(), cliptest.Images(1, c.Config.Vision.ImageSize, 1), nil)
			}
			known, init := o.Check(), fmt.Sprint(s["init"])
			if several := strings.Contains(init, "|"); known != nil && err == nil || known == nil && err != nil && !several {
				t.Errorf("%s, %d words: %v; the outline: %v", l.Name, words, err, known)
			}
			if known != nil {
				refused++
			}
		}
	}
	if refused == 0 {
		t.Error("no prompt was too long")
	}
}

// On a ResNet only learners that leave the image tower's tokens and weights alone can be made;
// their gradients reach the pixels.
func TestLearnersOnAResNet(t *testing.T) {
	tok := bpe.Learn(nil, 0)
	c := clip.Config{
		Text: clip.TextConfig{Width: 64, MLP: 256, Layers: 2, Heads: 1, ContextLength: 32, VocabSize: tok.Size(), Activation: "quick_gelu",
			EOS: tok.EOT()},
		Vision:        clip.VisionConfig{Stages: [4]int{1, 1, 1, 1}, Width: 2, Heads: 1, ImageSize: 32},
		ProjectionDim: 32,
	}
	m, err := clip.NewModel(computetest.CPU(t, 1), c, clip.RandomWeights(c, 1), tok)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	for _, l := range Learners() {
		s, err := settings.Resolve(l.Params, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := New(m, l, s, []string{"cat", "dog"}, rand.New(rand.NewPCG(1, 2)))
		if tokens := l.Visual != nil || l.Weights != nil; tokens != (err != nil) || err != nil && !strings.Contains(err.Error(), "a ResNet") {
			t.Errorf("%s on a ResNet: %v", l.Name, err)
		}
		if err != nil {
			continue
		}
		z, err := p.Logits(context.Background(), dense.New(make([]float32, 2*3*32*32), 2, 3, 32, 32), nil)
		if err != nil || !slices.Equal(z.Shape(), []int{2, 2}) {
			t.Errorf("%s on a ResNet: %v", l.Name, err)
		}
	}
}
