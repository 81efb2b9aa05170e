// Package clip computes CLIP (Radford et al., ICML 2021): image towers (vision transformers and
// ResNets), the text tower, and their gradients down to pixels and prompts.
//
// It reads the weights of OpenAI, Hugging Face and open_clip (ReadPretrained), writes Hugging
// Face's layout (SavePretrained), and trains small CLIPs from scratch (Pretrain). Files come from
// strangers: every tensor is used, known to be harmless, or the file is refused.
package clip

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip/bpe"
	"clipinspector/engine"
	"clipinspector/internal/dense"
)

// Mean and Std are CLIP's normalisation of pixels in [0,1], by channel; a model may have another,
// see [Normalization]. It is part of the model: callers never apply it.
var (
	Mean = [3]float64{0.48145466, 0.4578275, 0.40821073}
	Std  = [3]float64{0.26862954, 0.26130258, 0.27577711}
)

// Names of packed weights: q, k and v lie one after another in one matrix, and the patch embedding
// has a bias where the normalisation of the pixels is folded into it.
const (
	patchWeight = "embeddings.patch_embedding.weight"
	patchBias   = "embeddings.patch_embedding.bias"
	tokenWeight = "text_model.embeddings.token_embedding.weight"
)

// Model is a frozen CLIP on a device. Its methods may be called from one goroutine at a time.
type Model struct {
	Config    Config
	Tokenizer *bpe.Tokenizer // may be nil for a model that encodes no texts

	eng         engine.Engine
	arrays      map[string]engine.Array
	tokens      []float32 // token embeddings on the host, row by row
	logScale    float64
	fingerprint string
}

// NewModel puts the weights on the device, or uses them where they lie: nobody may change them
// afterwards. The normalisation of the pixels is folded into the patch embedding, so that neither
// the tower nor gradients to pixels pay for it.
func NewModel(e engine.Engine, c Config, w Weights, t *bpe.Tokenizer) (*Model, error) {
	if t != nil && t.Size() != c.Text.VocabSize {
		return nil, fmt.Errorf("CLIP model: the tokenizer has %d tokens, the text tower %d", t.Size(), c.Text.VocabSize)
	}
	packed, err := pack(c, w)
	if err != nil {
		return nil, fmt.Errorf("CLIP model: %w", err)
	}
	m := &Model{Config: c, Tokenizer: t, eng: e, arrays: map[string]engine.Array{}, fingerprint: fingerprint(c, w, t)}
	m.logScale = float64(packed["logit_scale"].data[0])
	m.tokens = packed[tokenWeight].data
	if c.Vision.ResNet() {
		foldResNet(packed, c)
	} else {
		fold(packed, c)
	}
	for _, name := range sortedNames(packed) {
		if name == "logit_scale" || name == tokenWeight {
			continue
		}
		p := packed[name]
		a, err := engine.Share(e, p.data, p.shape...)
		if err != nil {
			m.Free()
			return nil, fmt.Errorf("CLIP model: %s: %w", name, err)
		}
		m.arrays[name] = a
	}
	return m, nil
}

// Free gives the device memory back.
func (m *Model) Free() {
	for _, a := range m.arrays {
		a.Free()
	}
	m.arrays = nil
}

// Engine returns the device that holds the model.
func (m *Model) Engine() engine.Engine { return m.eng }

// Fingerprint identifies architecture, weights, normalisation of the pixels and vocabulary: 16
// hexadecimal digits, independent of the engine.
func (m *Model) Fingerprint() string { return m.fingerprint }

// LogitScale returns the factor between cosine similarities and logits (exp of the stored
// logarithm).
func (m *Model) LogitScale() float64 { return math.Exp(m.logScale) }

// ImageWeights returns copies of the image tower's weights in the form that [Towers.Image] computes
// with: q, k and v in one matrix, CLIP's normalisation of the pixels folded into the patch
// embedding. Names begin with "vision_model." or are "visual_projection.weight".
func (m *Model) ImageWeights() (map[string]*tensor.Dense, error) {
	out := map[string]*tensor.Dense{}
	for name, a := range m.arrays {
		if !strings.HasPrefix(name, "vision_model.") && name != "visual_projection.weight" {
			continue
		}
		data := make([]float32, engine.Size(a.Shape))
		if err := a.Buffer.Read(0, data); err != nil {
			return nil, fmt.Errorf("reading the weight %s: %w", name, err)
		}
		out[name] = dense.New(data, a.Shape...)
	}
	return out, nil
}

// EmbedTokens looks up the embeddings of token ids: [len(ids),W], without positions. It panics on
// an id outside the vocabulary.
func (m *Model) EmbedTokens(ids []int) *tensor.Dense {
	w := m.Config.Text.Width
	out := make([]float32, len(ids)*w)
	m.embed(out, ids)
	return dense.New(out, len(ids), w)
}

// FindTokens returns the ids of the tokens whose embeddings rows [n,W] are, the first where several
// are, -1 where none is.
func (m *Model) FindTokens(rows []float32, same func(got, want float32) bool) []int {
	w := m.Config.Text.Width
	out := slices.Repeat([]int{-1}, len(rows)/w)
	for i := range out {
		row := rows[i*w:][:w]
		for id := range m.Config.Text.VocabSize {
			if slices.EqualFunc(row, m.tokens[id*w:][:w], same) {
				out[i] = id
				break
			}
		}
	}
	return out
}

// LongestToken is the largest norm of a token embedding.
func (m *Model) LongestToken() float64 {
	most := 0.0
	for row := range slices.Chunk(m.tokens, m.Config.Text.Width) {
		sum := 0.0
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		most = max(most, sum)
	}
	return math.Sqrt(most)
}

func (m *Model) embed(dst []float32, ids []int) {
	w := m.Config.Text.Width
	for i, id := range ids {
		copy(dst[i*w:(i+1)*w], m.tokens[id*w:(id+1)*w])
	}
}

// Bind makes the weights values of a recording. Each is bound when a tower first needs it, and
// once.
func (m *Model) Bind(g *autodiff.Graph) *Towers { return bind(g, m.Config, m.arrays) }

// Towers are the image and the text tower in one recording.
type Towers struct {
	g      *autodiff.Graph
	c      Config
	arrays map[string]engine.Array
	values map[string]autodiff.Value
}

func bind(g *autodiff.Graph, c Config, arrays map[string]engine.Array) *Towers {
	return &Towers{g, c, arrays, map[string]autodiff.Value{}}
}

// find returns a weight, or None where the model has none of that name.
func (t *Towers) find(name string) autodiff.Value {
	v, ok := t.values[name]
	if !ok {
		if a, known := t.arrays[name]; known {
			v = t.g.Bind(a)
			t.values[name] = v
		}
	}
	return v
}

func (t *Towers) get(name string) autodiff.Value {
	v := t.find(name)
	if !v.Valid() {
		panic(fmt.Sprintf("clip: no weight %q", name))
	}
	return v
}

// Replace makes v, of the same shape, take the place of a weight in what is recorded from here on;
// names are those of [Model.ImageWeights]. It panics on a name that the model does not have.
func (t *Towers) Replace(name string, v autodiff.Value) {
	if a, known := t.arrays[name]; !known || !slices.Equal(a.Shape, v.Shape()) {
		panic(fmt.Sprintf("clip: a weight %q of shape %v replaced by %v", name, a.Shape, v.Shape()))
	}
	t.values[name] = v
}

// Update adds delta [n,W] to a weight, or to the part-th n rows of one: of
// "...self_attn.qkv.weight", of which q, k and v are the parts 0 to 2, in what is recorded from
// here on. It panics on a name that the model does not have.
func (t *Towers) Update(name string, part int, delta autodiff.Value) {
	w := t.get(name)
	n := delta.Dim(0)
	if w.Dim(0) == n {
		t.values[name] = w.Add(delta)
		return
	}
	var parts []autodiff.Value
	for i := range w.Dim(0) / n {
		rows := w.Slice(0, i*n, n)
		if i == part {
			rows = rows.Add(delta)
		}
		parts = append(parts, rows)
	}
	t.values[name] = autodiff.Concat(0, parts...)
}

func (t *Towers) linear(name string, x autodiff.Value) autodiff.Value {
	return x.Linear(t.get(name+".weight"), t.get(name+".bias"))
}

func (t *Towers) norm(name string, x autodiff.Value) autodiff.Value {
	return x.LayerNorm(t.get(name+".weight"), t.get(name+".bias"))
}

// addNorm returns LayerNorm(sum + x) and sum + x; sum may be None.
func (t *Towers) addNorm(name string, sum, x autodiff.Value) (y, h autodiff.Value) {
	if !sum.Valid() {
		return t.norm(name, x), x
	}
	return sum.AddLayerNorm(x, t.get(name+".weight"), t.get(name+".bias"))
}

// block is a pre-norm transformer block. It is recorded in two halves, so that the last block of a
// tower can drop the rows that nobody reads in between. The sum of each half with the residual
// stream x is left to the next LayerNorm, which fuses it.
type block struct {
	t      *Towers
	name   string
	heads  int
	causal bool
	act    string
}

// attention returns the heads' output for x + sum (before out_proj), and the stream x + sum.
func (b block) attention(x, sum autodiff.Value) (o, h autodiff.Value) {
	y, h := b.t.addNorm(b.name+"layer_norm1", sum, x)
	return b.t.linear(b.name+"self_attn.qkv", y).Attention(b.heads, b.causal), h
}

// rest returns the output of the MLP and the stream that it is to be added to.
func (b block) rest(o, x autodiff.Value) (sum, h autodiff.Value) {
	a := b.t.linear(b.name+"self_attn.out_proj", o)
	y, h := b.t.addNorm(b.name+"layer_norm2", a, x)
	y = b.t.linear(b.name+"mlp.fc1", y).Apply(activations[b.act])
	return b.t.linear(b.name+"mlp.fc2", y), h
}

// activations are the functions that config.json may name as hidden_act.
var activations = map[string]engine.Func{"quick_gelu": engine.QuickGELU, "gelu": engine.GELU}

// EncodeImages returns the features [N,D] of images [N,3,S,S] in [0,1], so many at a time.
func (m *Model) EncodeImages(ctx context.Context, images *tensor.Dense, batch int) (*tensor.Dense, error) {
	size := m.Config.Vision.ImageSize
	s := images.Shape()
	data, ok := images.Data().([]float32)
	if !ok || len(s) != 4 || s[1] != 3 || s[2] != size || s[3] != size {
		return nil, fmt.Errorf("encoding images: got %v of shape %v; the model wants float32 [N,3,%d,%d]", images.Dtype(), s, size, size)
	}
	out, err := autodiff.MapRows(ctx, m.eng, data, s, batch, func(pixels autodiff.Value) (autodiff.Value, error) {
		return m.Bind(pixels.Graph()).Image(pixels, ImagePrompts{}), nil
	})
	if err != nil {
		return nil, fmt.Errorf("encoding images: %w", err)
	}
	return dense.New(out, s[0], m.Config.ProjectionDim), nil
}

// textBatch is how many texts are encoded at a time.
const textBatch = 64

// EncodeTexts returns the features [N,D] of texts. All are cut after the longest one's end: exact,
// since the tower is causal. A text that does not fit the context is an error.
func (m *Model) EncodeTexts(ctx context.Context, texts []string) (*tensor.Dense, error) {
	if m.Tokenizer == nil {
		return nil, fmt.Errorf("encoding texts: the model has no tokenizer")
	}
	ids := make([][]int, len(texts))
	eot := make([]int, len(texts))
	length := 1
	for i, text := range texts {
		var err error
		if ids[i], err = m.Tokenizer.Tokenize(text, m.Config.Text.ContextLength); err != nil {
			return nil, fmt.Errorf("encoding texts: %w", err)
		}
		eot[i] = EndOfText(ids[i])
		length = max(length, eot[i]+1)
	}
	n, d, w := len(texts), m.Config.ProjectionDim, m.Config.Text.Width
	if n == 0 {
		return nil, fmt.Errorf("encoding texts: there are none")
	}
	batch := min(n, textBatch)
	g := autodiff.New(m.eng)
	x, rows := g.Input(batch, length, w), g.Input(batch)
	y := m.Bind(g).text(x, rows)
	p, err := g.Compile(y)
	if err != nil {
		return nil, fmt.Errorf("encoding texts: %w", err)
	}
	defer p.Free()
	out := make([]float32, n*d)
	in, at := make([]float32, batch*length*w), make([]float32, batch)
	for i := 0; i < n; i += batch {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		k := min(batch, n-i)
		clear(in)
		for j := range batch {
			at[j] = float32(j * length)
			if j < k {
				m.embed(in[j*length*w:], ids[i+j][:length])
				at[j] += float32(eot[i+j])
			}
		}
		if err := replay(p, y, out[i*d:(i+k)*d], input{x, in}, input{rows, at}); err != nil {
			return nil, fmt.Errorf("encoding texts: %w", err)
		}
	}
	return dense.New(out, n, d), nil
}

// EndOfText returns the position of the end-of-text token: the first of the largest ids, as
// OpenAI's model finds it.
func EndOfText(ids []int) int {
	at := 0
	for i, id := range ids {
		if id > ids[at] {
			at = i
		}
	}
	return at
}

type input struct {
	v    autodiff.Value
	data []float32
}

// replay runs p once on the inputs and reads the first rows of y.
func replay(p *autodiff.Program, y autodiff.Value, dst []float32, in ...input) error {
	for _, i := range in {
		if err := p.Write(i.v, i.data); err != nil {
			return err
		}
	}
	if err := p.Run(); err != nil {
		return err
	}
	return p.Array(y).Buffer.Read(0, dst)
}

func fingerprint(c Config, w Weights, t *bpe.Tokenizer) string {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(c); err != nil {
		panic(fmt.Sprintf("clip: config is no JSON: %v", err)) // it is a plain struct
	}
	fmt.Fprintln(h, w.Fingerprint())
	if c.Normalization != (Normalization{}) {
		fmt.Fprintln(h, "normalization:", c.Normalization)
	}
	if t != nil {
		if err := t.Write(h); err != nil {
			panic(fmt.Sprintf("clip: hashing the vocabulary: %v", err)) // a hash takes everything
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
