package prompts

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/internal/dense"
	"clipinspector/settings"
)

var contextParams = []settings.Param{
	{Name: "context", Unit: "tokens", Doc: "context tokens in front of the class name; ignored when init is given", Default: 16, Min: 1, Max: 64},
	{Name: "init", Doc: "words whose embeddings start the context, such as \"a photo of a\"; empty draws it from N(0, 0.02)", Default: ""},
}

func init() {
	Register(&Learner{
		Name: "coop",
		Doc:  "one learned context for all images (CoOp, Zhou et al., IJCV 2022)",
		Params: append([]settings.Param{
			{Name: "class-specific", Doc: "a context of its own for each class (CoOp's CSC)", Default: false},
		}, contextParams...),
		Init: func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error) {
			contexts := 1
			if m.Settings.Bool("class-specific") {
				contexts = len(m.Classes)
			}
			ctx, err := m.initialContext(contexts, rng)
			return map[string]*tensor.Dense{"ctx": ctx}, err
		},
		Text: func(r *Recording, _ autodiff.Value) autodiff.Value {
			ctx := r.Params["ctx"] // [n,W] or, class-specific, [K,n,W]
			if len(ctx.Shape()) == 2 {
				ctx = ctx.Reshape(1, ctx.Dim(0), ctx.Dim(1))
			}
			return r.encode(ctx.Reshape(1, ctx.Dim(0), ctx.Dim(1), ctx.Dim(2)))
		},
	})
}

// layout is how the class names of a model lie in the text tower: [SOT][context][class
// name][.][EOT], cut after the longest. Words of init that a shorter context, MaPLe's, has no room
// for stay in front of the class name.
type layout struct {
	sot    *tensor.Dense // [W]
	suffix *tensor.Dense // [K,S,W], zero behind each EOT: the causal tower never looks there
	length int
	eot    []int // [K]
	names  []int // [K] tokens of the class name, which suffix begins with where the context has room for all words
}

// template is what stands before and behind the class name, after the setting init: words in front
// of it, or a whole prompt with {} in its place.
func (m *Model) template() (words, tail string) {
	init, _ := m.Settings["init"].(string)
	words, tail, whole := strings.Cut(init, "{}")
	if !whole {
		tail = "."
	}
	return words, tail
}

// contextTokens are the tokens of the words in init; none when the context is to be drawn.
func (m *Model) contextTokens() ([]int, error) {
	words, _ := m.template()
	if strings.TrimSpace(words) == "" {
		return nil, nil
	}
	row, err := m.CLIP.Tokenizer.Tokenize(words, m.CLIP.Config.Text.ContextLength)
	if err != nil {
		return nil, fmt.Errorf("init: %w", err)
	}
	ids := row[1:clip.EndOfText(row)]
	if len(ids) == 0 {
		return nil, fmt.Errorf("init: %.40q holds no token", words)
	}
	return ids, nil
}

// suffixes are each class's tokens behind a context of n: words that are left of init, class name,
// full stop or what init has there, end of text and padding.
func (m *Model) suffixes(n int) ([][]int, error) {
	words, err := m.contextTokens()
	if err != nil {
		return nil, err
	}
	_, tail := m.template()
	ids := make([][]int, len(m.Classes))
	for k, name := range m.Classes {
		row, err := m.CLIP.Tokenizer.Tokenize(name+tail, m.CLIP.Config.Text.ContextLength)
		if err != nil {
			return nil, fmt.Errorf("class name: %w", err)
		}
		ids[k] = slices.Concat(words[min(n, len(words)):], row[1:])
	}
	return ids, nil
}

// newLayout lays the prompts out for a context of n tokens.
func (m *Model) newLayout(n int) (*layout, error) {
	w, limit := m.CLIP.Config.Text.Width, m.CLIP.Config.Text.ContextLength
	ids, err := m.suffixes(n)
	if err != nil {
		return nil, err
	}
	l := layout{sot: m.CLIP.EmbedTokens([]int{m.CLIP.Tokenizer.SOT()})}
	longest, class := 0, ""
	for k, row := range ids {
		l.names = append(l.names, len(m.CLIP.Tokenizer.Encode(m.Classes[k])))
		ids[k] = row[:clip.EndOfText(row)+1]
		if len(ids[k]) > longest {
			longest, class = len(ids[k]), m.Classes[k]
		}
		l.eot = append(l.eot, n+len(ids[k]))
	}
	l.length = 1 + n + longest
	if l.length > limit {
		words, _ := m.template()
		return nil, tooLong(class, n, l.length, limit, words != "")
	}
	data := make([]float32, len(ids)*longest*w)
	for k, row := range ids {
		copy(data[k*longest*w:], dense.Floats(m.CLIP.EmbedTokens(row)))
	}
	l.suffix = dense.New(data, len(ids), longest, w)
	return &l, nil
}

// tooLong is the error of a prompt that the text tower does not hold: of so many tokens, n of them a
// context, which words of the setting init may take the place of.
func tooLong(class string, n, length, limit int, words bool) error {
	setting := "the learner's setting context"
	if words {
		setting = "the words of init"
	}
	return fmt.Errorf("class %.60q: %d context tokens and the name take %d tokens, the text tower holds %d: shorten the name or %s",
		class, n, length, limit, setting)
}

// firstTokens is the setting init of learners whose context may be shorter than its words; see
// firstContext.
var firstTokens = settings.Param{Name: "init", Default: "a photo of a", Doc: "words in front of the class name, of which the first tokens " +
	"start the context and the others stay; with fewer tokens than context, or none, it is drawn from N(0, 0.02)"}

// firstContext is the context [n,W] of such a learner before it is tuned.
func (m *Model) firstContext(rng *rand.Rand) (*tensor.Dense, error) {
	words, err := m.contextTokens()
	if err != nil {
		return nil, err
	}
	n := m.Settings.Int("context")
	if _, err := m.newLayout(n); err != nil {
		return nil, err
	}
	drawn := normal(rng, n, m.CLIP.Config.Text.Width) // always, so that what is drawn next does not depend on the words
	if len(words) < n {
		return drawn, nil
	}
	return m.CLIP.EmbedTokens(words[:n]), nil
}

// initialContext draws contexts [n,W], or [contexts,n,W] when there are several. It fails when the
// prompts do not fit into the text tower.
func (m *Model) initialContext(contexts int, rng *rand.Rand) (*tensor.Dense, error) {
	words, err := m.contextTokens()
	if err != nil {
		return nil, err
	}
	n, w := len(words), m.CLIP.Config.Text.Width
	if n == 0 {
		n = m.Settings.Int("context")
	}
	if _, err := m.newLayout(n); err != nil {
		return nil, err
	}
	shape := []int{contexts, n, w}
	if contexts == 1 {
		shape = shape[1:]
	}
	if len(words) == 0 {
		return normal(rng, shape...), nil
	}
	return dense.New(slices.Repeat(dense.Floats(m.CLIP.EmbedTokens(words)), contexts), shape...), nil
}

// normal draws a tensor from N(0, 0.02), as CoOp and MaPLe draw prompts.
func normal(rng *rand.Rand, shape ...int) *tensor.Dense {
	data := make([]float32, tensor.Shape(shape).TotalSize())
	for i := range data {
		data[i] = float32(0.02 * rng.NormFloat64())
	}
	return dense.New(data, shape...)
}

// encode records the class vectors for contexts [B or 1, K or 1, n, W], or None for the words of
// init alone, and prompts of later blocks (see [clip.Towers.Text]): [B*K,D].
func (r *Recording) encode(ctx autodiff.Value, deep ...autodiff.Value) autodiff.Value {
	b, n := 1, 0
	if ctx.Valid() {
		b, n = ctx.Dim(0), ctx.Dim(2)
	}
	l, err := r.Model.newLayout(n)
	if err != nil {
		panic(err) // Init has laid the same prompts out
	}
	k, s, w := l.suffix.Shape()[0], l.suffix.Shape()[1], l.suffix.Shape()[2]
	parts := []autodiff.Value{r.Graph.Const(dense.Floats(l.sot), 1, 1, 1, w).BroadcastTo(b, k, 1, w)}
	if n > 0 {
		parts = append(parts, ctx.BroadcastTo(b, k, n, w))
	}
	x := autodiff.Concat(2, append(parts, r.Graph.Const(dense.Floats(l.suffix), 1, k, s, w).BroadcastTo(b, k, s, w))...)
	if at := r.Model.Position; at != PositionEnd {
		x = l.arrange(x.Reshape(b*k*l.length, w), b, n, at)
	}
	eot := make([]int, 0, b*k)
	for range b {
		eot = append(eot, l.eot...)
	}
	return r.Towers.Text(x.Reshape(b*k, l.length, w), eot, deep...)
}

// arrange puts the class name of prompts [b*K*length,W] before the last half of n context tokens,
// or before all of them.
func (l *layout) arrange(x autodiff.Value, b, n int, at Position) autodiff.Value {
	before := 1 // rows in front of the name
	if at == PositionMiddle {
		before += n / 2
	}
	index := make([]float32, 0, x.Dim(0))
	for range b {
		for _, name := range l.names {
			first := len(index)
			for i := range l.length {
				switch {
				case i < before || i >= 1+n+name:
					index = append(index, float32(first+i))
				case i < before+name:
					index = append(index, float32(first+1+n+i-before))
				default:
					index = append(index, float32(first+i-name))
				}
			}
		}
	}
	return x.Gather(x.Graph().Const(index, len(index)))
}
