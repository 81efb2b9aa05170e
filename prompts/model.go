// Package prompts tunes prompts for a frozen CLIP, and carries the result: the delivered model.
// That is the frozen CLIP, a learner's tensors and the class names.
//
// A learner is a way to prompt (CoOp, CoCoOp, VPT, MaPLe). It is one file that registers itself.
// Everything else here is common to all learners: the tuning loop, poisoned or not, prediction,
// storage.
package prompts

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/internal/dense"
	"clipinspector/internal/registry"
	"clipinspector/settings"
)

// Learner is a way to prompt CLIP.
type Learner struct {
	Name   string
	Doc    string // one line, with the paper
	Params []settings.Param
	// Conditional tells that the class vectors depend on the image, as in CoCoOp.
	Conditional bool
	// FixedTexts tells that the class vectors are those of hand-written prompts: what is tuned lies
	// in the image tower.
	FixedTexts bool
	// Weights replaces weights of the towers by what the tuned tensors make of them, before
	// anything else is recorded; nil where no weight is tuned.
	Weights func(r *Recording)
	// Init draws the tensors to be tuned.
	Init func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error)
	// Augment changes the images to tune on, once, before tuning begins; nil for none.
	Augment func(s settings.Values, data Data, rng *rand.Rand) Data
	// Visual tells how many prompts the settings put beside the patches of the image tower; nil for
	// none.
	Visual func(s settings.Values) int
	// Image records the image features [B,D], of length 1, of pixels [B,3,S,S]; nil for the frozen
	// tower alone, whose features can then be computed once and kept.
	Image func(r *Recording, pixels autodiff.Value) autodiff.Value
	// Text records the class vectors, of length 1: [K,D], or [B,K,D] for a conditional learner,
	// which reads the image features [B,D].
	Text func(r *Recording, features autodiff.Value) autodiff.Value
	// Similarity records the similarities [B,K] of what Image [B,F] and Text [K,V] record, where a
	// class has several vectors; nil for inner products.
	Similarity func(r *Recording, features, vectors autodiff.Value) autodiff.Value
}

var learners = registry.New("prompt learner", func(l *Learner) string { return l.Name })

// Register makes a learner known by its name, from an init function. It panics when the name is
// taken.
func Register(l *Learner) { learners.Add(l) }

// Learners returns all learners, sorted by name.
func Learners() []*Learner { return learners.All() }

// FindLearner returns the learner of a name, or an error that lists the names there are.
func FindLearner(name string) (*Learner, error) { return learners.Find(name) }

// Model is a prompt-tuned CLIP: what a provider delivers and an auditor inspects.
type Model struct {
	CLIP     *clip.Model
	Learner  *Learner
	Settings settings.Values
	Classes  []string                 // K class names as prompts write them
	Params   map[string]*tensor.Dense // the learner's tensors
	// Position is where the class name stands among the context tokens; only of CoOp's prompts it
	// is not PositionEnd.
	Position Position
	// Notes say, of a delivered model, what its file left open and how it was taken, and what lies
	// in it that does not take part in the computation, with the reason: a line each.
	Notes   []string
	vectors *tensor.Dense // what Text records of an unconditional learner, computed once; see Record
}

// Position is where the class name stands among the context tokens of a prompt (CoOp's
// CLASS_TOKEN_POSITION).
type Position string

// The positions: behind the context, after its first half, before it.
const (
	PositionEnd    Position = ""
	PositionMiddle Position = "middle"
	PositionFront  Position = "front"
)

var positions = []Position{PositionEnd, PositionMiddle, PositionFront}

// maxClasses bounds the memory that a stranger's model may ask for; the largest set that CoOp uses
// has 1,000 classes.
const maxClasses = 10000

// New returns a model with freshly drawn prompts. It fails when there are fewer than two classes or
// more than 10,000, or a class name does not fit into the text tower's context.
func New(c *clip.Model, l *Learner, s settings.Values, classes []string, rng *rand.Rand) (*Model, error) {
	if len(classes) < 2 || len(classes) > maxClasses {
		return nil, fmt.Errorf("a prompt-tuned model has 2 to %d classes, got %d", maxClasses, len(classes))
	}
	if c.Config.Vision.ResNet() && (l.Visual != nil || l.Weights != nil) {
		return nil, fmt.Errorf("%s tunes tokens or weights of a vision transformer, and the image tower of this CLIP is a ResNet", l.Name)
	}
	m := &Model{CLIP: c, Learner: l, Settings: s, Classes: slices.Clone(classes)}
	var err error
	m.Params, err = l.Init(m, rng)
	return m, err
}

// Fresh returns a model like m with freshly drawn prompts.
func (m *Model) Fresh(rng *rand.Rand) (*Model, error) {
	f, err := New(m.CLIP, m.Learner, m.Settings, m.Classes, rng)
	if err == nil {
		f.Position = m.Position
	}
	return f, err
}

// Clone returns a copy whose prompts can be tuned further without changing those of m; both share
// the frozen CLIP.
func (m *Model) Clone() *Model {
	c := *m
	c.Params = map[string]*tensor.Dense{}
	for name, t := range m.Params {
		c.Params[name] = t.Clone().(*tensor.Dense)
	}
	return &c
}

// ParamNames lists the names of the model's tensors in order.
func (m *Model) ParamNames() []string { return sortedKeys(m.Params) }

// Role says in a few words what a tensor of the model does.
func (m *Model) Role(name string) string {
	switch {
	case m.Learner.Weights != nil:
		return "tuned weights of the towers"
	case strings.HasPrefix(name, "ctx"):
		return "context vectors of the text tower's prompts"
	case strings.HasPrefix(name, "visual"):
		return "prompts of the image tower"
	case strings.HasPrefix(name, "meta"):
		return "the network that makes a context from the image"
	case m.Learner.FixedTexts:
		return "tuned, of the image tower"
	}
	return fmt.Sprintf("tuned, of %s's prompts", m.Learner.Name)
}

// Restricted returns the model with the given classes alone, in their order; tensors that do not
// tell classes apart are shared with m.
func (m *Model) Restricted(classes []int) *Model {
	r := *m
	r.vectors = nil
	r.Classes = make([]string, len(classes))
	for i, c := range classes {
		r.Classes[i] = m.Classes[c]
	}
	if own, _ := m.Settings["class-specific"].(bool); own {
		ctx := m.Params["ctx"] // [K,n,W]
		r.Params = maps.Clone(m.Params)
		n := len(dense.Floats(ctx)) / len(m.Classes)
		var rows []float32
		for _, c := range classes {
			rows = append(rows, dense.Floats(ctx)[c*n:(c+1)*n]...)
		}
		r.Params["ctx"] = dense.New(rows, len(classes), ctx.Shape()[1], ctx.Shape()[2])
	}
	return &r
}

// Recording is a model as part of one graph.
type Recording struct {
	Graph  *autodiff.Graph
	Towers *clip.Towers
	Model  *Model
	Params map[string]autodiff.Value

	vectors autodiff.Value // class vectors of an unconditional learner once they are known
}

// Record makes the model part of a graph, with its prompts as constants. Class vectors that do not
// depend on the image are computed once per model and become a constant as well.
func (m *Model) Record(g *autodiff.Graph) (*Recording, error) {
	r := m.constant(g)
	if !m.Learner.Conditional {
		v, err := m.texts()
		if err != nil {
			return nil, err
		}
		r.vectors = g.Const(dense.Floats(v), v.Shape()...)
	}
	return r, nil
}

// constant makes the model part of a graph with its tensors as constants.
func (m *Model) constant(g *autodiff.Graph) *Recording {
	return m.recording(g, func(name string) autodiff.Value {
		return g.Const(dense.Floats(m.Params[name]), m.Params[name].Shape()...)
	})
}

// recordTrainable makes the model part of a graph with its tensors bound to device memory, for
// tuning.
func (m *Model) recordTrainable(g *autodiff.Graph, params map[string]engine.Array) *Recording {
	return m.recording(g, func(name string) autodiff.Value { return g.Bind(params[name]) })
}

func (m *Model) recording(g *autodiff.Graph, param func(name string) autodiff.Value) *Recording {
	r := &Recording{Graph: g, Towers: m.CLIP.Bind(g), Model: m, Params: map[string]autodiff.Value{}}
	for _, name := range sortedKeys(m.Params) {
		r.Params[name] = param(name)
	}
	if m.Learner.Weights != nil {
		m.Learner.Weights(r)
	}
	return r
}

// ClassVectors returns the class vectors [K,D], of length 1, of an unconditional learner; of one
// with several prompts of a class the direction of their mean.
func (m *Model) ClassVectors() (*tensor.Dense, error) {
	v, err := m.texts()
	if err != nil || m.Learner.Similarity == nil {
		return v, err
	}
	return m.pooled(v)
}

// texts returns what Text records.
func (m *Model) texts() (*tensor.Dense, error) {
	if m.vectors != nil {
		return m.vectors, nil
	}
	g := autodiff.New(m.CLIP.Engine())
	v := m.Learner.Text(m.constant(g), autodiff.None)
	p, err := g.Compile(v)
	if err != nil {
		return nil, err
	}
	defer p.Free()
	if err := p.Run(); err != nil {
		return nil, err
	}
	m.vectors, err = p.Array(v).Download()
	return m.vectors, err
}

// Encoder records the features [B,D], of length 1, that the delivered image encoder gives pixels
// [B,3,S,S]: with the weights that the learner has tuned, where it tunes any, and without prompts.
func (m *Model) Encoder(g *autodiff.Graph, pixels autodiff.Value) autodiff.Value {
	return m.constant(g).Towers.Image(pixels, clip.ImagePrompts{})
}

// Features records the image features [B,D] of pixels [B,3,S,S] in [0,1].
func (r *Recording) Features(pixels autodiff.Value) autodiff.Value {
	if r.Model.Learner.Image != nil {
		return r.Model.Learner.Image(r, pixels)
	}
	return r.Towers.Image(pixels, clip.ImagePrompts{})
}

// Logits records the logits [B,K] of image features [B,D].
func (r *Recording) Logits(features autodiff.Value) autodiff.Value {
	scale := r.Model.CLIP.LogitScale()
	if r.Model.Learner.Conditional {
		b, d := features.Dim(0), features.Dim(1)
		v := r.Model.Learner.Text(r, features)
		return features.Reshape(b, 1, d).MatMulT(v).Reshape(b, len(r.Model.Classes)).Scale(scale)
	}
	if !r.vectors.Valid() {
		r.vectors = r.Model.Learner.Text(r, autodiff.None)
	}
	if r.Model.Learner.Similarity != nil {
		return r.Model.Learner.Similarity(r, features, r.vectors).Scale(scale)
	}
	return features.MatMulT(r.vectors).Scale(scale)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
