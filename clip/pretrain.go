package clip

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"clipinspector/autodiff"
	"clipinspector/clip/bpe"
	"clipinspector/engine"
)

// Corpus is an endless supply of captioned images. It is read from one goroutine; what it returns
// depends on the step alone, so that a resumed training sees the same batches.
type Corpus interface {
	// Name is how reports call the corpus.
	Name() string
	// Fingerprint identifies the images and captions.
	Fingerprint() string
	// Captions returns n captions to learn the vocabulary from.
	Captions(n int) []string
	// Batch fills images [len(captions),3,S,S], in [0,1], and their captions.
	Batch(step int, images []float32, captions []string) error
}

// PretrainOptions are the knobs of Pretrain.
type PretrainOptions struct {
	Steps       int
	Batch       int
	Rate        float64 // AdamW's, at the top of the cosine
	MuonRate    float64 // Muon's, for the matrices of the blocks; 0: AdamW for all
	Warmup      int     // steps
	WeightDecay float64 // not applied to biases, LayerNorms, the class token and the logit scale
	Merges      int     // of the vocabulary that is learned from the captions
	Seed        uint64  // of the initial weights; the corpus has its own

	Checkpoints string // folder; empty: none are written
	Every       int    // steps between checkpoints
	Report      int    // steps between calls of progress
}

// captionSample is how many captions the vocabulary and the length of the texts are taken from.
const captionSample = 20000

// maxLogScale bounds the stored logit scale at ln 100, as CLIP's training does.
var maxLogScale = math.Log(100)

// Pretrained is what Pretrain returns: a complete CLIP.
type Pretrained struct {
	Config    Config // with the vocabulary's size filled in
	Weights   Weights
	Tokenizer *bpe.Tokenizer
	Loss      float64 // mean over the last Report steps
	// LeftAlone says, of a model that was read, what its file holds beyond the weights, and why
	// that is harmless.
	LeftAlone []string
}

// Pretrain trains a CLIP of architecture c from scratch with the contrastive loss of Radford et al.
// (2021): both directions over all pairs of a batch, a learned logit scale of at most 100, AdamW
// (0.9, 0.98, 1e-6) with a linear warm-up and a cosine. The vocabulary is learned from the corpus
// first; c's vocabulary size is ignored.
//
// Forward, backward and update are one program that is replayed, while a goroutine prepares the
// next batches. With o.Checkpoints the state is saved every o.Every steps and when ctx ends; a
// later call with the same arguments goes on from there and ends with the same bytes as an
// undisturbed one. progress gets the mean loss since its last call and the estimated time left; it
// may be nil.
func Pretrain(ctx context.Context, e engine.Engine, c Config, o PretrainOptions, corpus Corpus,
	progress func(step, total int, loss float64, eta time.Duration)) (*Pretrained, error) {
	out, err := pretrain(ctx, e, c, o, corpus, progress)
	if err != nil {
		return nil, fmt.Errorf("pretraining on %s: %w", corpus.Name(), err)
	}
	return out, nil
}

func pretrain(ctx context.Context, e engine.Engine, c Config, o PretrainOptions, corpus Corpus,
	progress func(step, total int, loss float64, eta time.Duration)) (*Pretrained, error) {
	if o.Steps < 1 || o.Batch < 2 || o.Rate <= 0 {
		return nil, fmt.Errorf("%d steps of %d pairs at rate %g; want at least 1, 2 and a positive rate", o.Steps, o.Batch, o.Rate)
	}
	o.Report = max(1, o.Report)
	t, err := newTrainer(e, c, o, corpus)
	if err != nil {
		return nil, err
	}
	defer t.free()
	first, err := t.resume()
	if err != nil {
		return nil, err
	}
	feedCtx, stop := context.WithCancel(ctx)
	defer stop()
	batches := t.feed(feedCtx, corpus, first)
	start := time.Now()
	var loss float64
	for step := first; step < o.Steps; step++ {
		var b *pairs
		select {
		case b = <-batches:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), t.save(step))
		}
		if b.err != nil {
			return nil, fmt.Errorf("batch %d: %w", step, b.err)
		}
		if err := t.step(b); err != nil {
			return nil, fmt.Errorf("step %d: %w", step, err)
		}
		t.spare <- b
		done := step + 1
		if done%o.Report == 0 || done == o.Steps {
			total, err := t.program.Read(t.total)
			if err != nil {
				return nil, err
			}
			loss = float64(total[0] / total[1])
			if math.IsNaN(loss) || math.IsInf(loss, 0) {
				return nil, fmt.Errorf("the loss is %v at step %d; lower the rate (%g)", loss, done, o.Rate)
			}
			if err := t.program.Write(t.total, []float32{0, 0}); err != nil {
				return nil, err
			}
			if progress != nil {
				left := time.Since(start) / time.Duration(done-first) * time.Duration(o.Steps-done)
				progress(done, o.Steps, loss, left)
			}
		}
		if o.Checkpoints != "" && (o.Every > 0 && done%o.Every == 0 || done == o.Steps) {
			if err := t.save(done); err != nil {
				return nil, err
			}
		}
	}
	w, err := t.weights()
	if err != nil {
		return nil, err
	}
	return &Pretrained{Config: t.config, Weights: w, Tokenizer: t.tokenizer, Loss: loss}, nil
}

// trainer holds the recorded training step and what it works on.
type trainer struct {
	config    Config
	options   PretrainOptions
	identity  string // of everything that decides the result; checkpoints carry it
	tokenizer *bpe.Tokenizer
	length    int // tokens a text

	names   []string
	arrays  map[string]engine.Array // weights and, under "m/" and "v/", the moments of AdamW
	program *autodiff.Program

	pixels, ids, rows, count, total autodiff.Value
	spare                           chan *pairs
}

// pairs is a batch as the program wants it.
type pairs struct {
	images, ids, rows []float32
	captions          []string
	err               error
}

func newTrainer(e engine.Engine, c Config, o PretrainOptions, corpus Corpus) (*trainer, error) {
	captions := corpus.Captions(captionSample)
	if len(captions) == 0 {
		return nil, fmt.Errorf("the corpus has no captions")
	}
	t := &trainer{options: o, tokenizer: bpe.Learn(captions, o.Merges), arrays: map[string]engine.Array{}}
	c.Text.VocabSize, c.Text.EOS = t.tokenizer.Size(), t.tokenizer.EOT()
	t.config = c
	if err := c.validate(); err != nil {
		return nil, err
	}
	for _, s := range captions {
		t.length = max(t.length, min(len(t.tokenizer.Encode(s))+2, c.Text.ContextLength))
	}
	w := initialWeights(c, o.Seed)
	t.identity = fmt.Sprintf("%s steps=%d batch=%d rate=%g,%g warmup=%d decay=%g seed=%d length=%d corpus=%s engine=%q",
		fingerprint(c, w, t.tokenizer), o.Steps, o.Batch, o.Rate, o.MuonRate, o.Warmup, o.WeightDecay, o.Seed, t.length,
		corpus.Fingerprint(), e.Fingerprint())
	packed, err := pack(c, w)
	if err != nil {
		return nil, err
	}
	t.names = sortedNames(packed)
	for _, name := range t.names {
		p := packed[name]
		a, err := engine.UploadSlice(e, p.data, p.shape...)
		for _, moment := range []string{"m/", "v/"} {
			if err == nil {
				t.arrays[moment+name], err = engine.NewArray(e, p.shape...)
			}
		}
		if err != nil {
			t.free()
			return nil, err
		}
		t.arrays[name] = a
	}
	if err := t.record(e); err != nil {
		t.free()
		return nil, err
	}
	t.spare = make(chan *pairs, 3)
	size := c.Vision.ImageSize
	for range cap(t.spare) {
		t.spare <- &pairs{images: make([]float32, o.Batch*3*size*size), ids: make([]float32, o.Batch*t.length),
			rows: make([]float32, o.Batch), captions: make([]string, o.Batch)}
	}
	return t, nil
}

// record records one training step: forward, backward, update.
func (t *trainer) record(e engine.Engine) error {
	o, size := t.options, t.config.Vision.ImageSize
	g := autodiff.New(e)
	tw := bind(g, t.config, t.arrays)
	t.pixels, t.ids, t.rows = g.Input(o.Batch, 3, size, size), g.Input(o.Batch, t.length), g.Input(o.Batch)
	t.count, t.total = g.Input(1), g.Input(2)
	schedule := g.Const(autodiff.Cosine(o.Rate, o.Steps, o.Warmup), o.Steps)

	image := tw.Image(t.pixels, ImagePrompts{})
	text := tw.text(tw.get(tokenWeight).Gather(t.ids), t.rows)
	logScale := tw.get("logit_scale")
	logits := image.Mul(logScale.Exp().Reshape(1, 1)).MatMulT(text)
	labels := make([]float32, o.Batch)
	for i := range labels {
		labels[i] = float32(i)
	}
	label := g.Const(labels, o.Batch)
	loss := logits.CrossEntropy(label).Add(logits.Permute(1, 0).CrossEntropy(label)).Mean().Scale(0.5)

	params := make([]autodiff.Value, len(t.names))
	for i, name := range t.names {
		params[i] = tw.get(name)
	}
	grads := autodiff.Grad(loss, autodiff.None, params...)
	rate := schedule.Reshape(o.Steps, 1).Gather(t.count).Reshape(1, 1, 1)
	for i, name := range t.names {
		if parts := muonParts(name); parts > 0 && o.MuonRate > 0 {
			muon(params[i], grads[i], tw.get("m/"+name), rate.Scale(o.MuonRate/o.Rate), parts, o.WeightDecay)
			continue
		}
		adam := autodiff.AdamConfig{Beta1: 0.9, Beta2: 0.98, Eps: 1e-6, Decoupled: true}
		if decays(name, params[i].Shape()) {
			adam.WeightDecay = o.WeightDecay
		}
		g.Adam(params[i], grads[i], tw.get("m/"+name), tw.get("v/"+name), t.count, schedule, adam)
	}
	g.Assign(logScale, logScale.Clamp(0, maxLogScale))
	g.Assign(t.total, t.total.Add(autodiff.Concat(0, loss, loss.Affine(0, 1))))
	g.Advance(t.count)
	var err error
	t.program, err = g.Compile()
	return err
}

// decays tells whether AdamW shrinks a weight: matrices and tables, but no vectors.
func decays(name string, shape []int) bool {
	return len(shape) > 1 && strings.HasSuffix(name, ".weight")
}

func (t *trainer) step(b *pairs) error {
	for v, data := range map[autodiff.Value][]float32{t.pixels: b.images, t.ids: b.ids, t.rows: b.rows} {
		if err := t.program.Write(v, data); err != nil {
			return err
		}
	}
	return t.program.Run()
}

// feed prepares batches in a goroutine until ctx ends.
func (t *trainer) feed(ctx context.Context, corpus Corpus, first int) <-chan *pairs {
	ready := make(chan *pairs)
	go func() {
		for step := first; step < t.options.Steps; step++ {
			var b *pairs
			select {
			case b = <-t.spare:
			case <-ctx.Done():
				return
			}
			b.err = corpus.Batch(step, b.images, b.captions)
			t.prepare(b)
			select {
			case ready <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ready
}

// prepare normalises the pixels, which frozen towers have folded into their weights, and turns
// captions into tokens. A caption that is too long loses its last tokens.
func (t *trainer) prepare(b *pairs) {
	size := t.config.Vision.ImageSize
	area := size * size
	mean, std := t.config.Normalization.values()
	for i := 0; i < len(b.images); i += area {
		ch := i / area % 3
		scale, shift := float32(1/std[ch]), float32(-mean[ch]/std[ch])
		for j, v := range b.images[i : i+area] {
			b.images[i+j] = float32(v*scale) + shift
		}
	}
	clear(b.ids)
	for i, caption := range b.captions {
		ids := t.tokenizer.Encode(caption)
		ids = ids[:min(len(ids), t.length-2)]
		row := b.ids[i*t.length : (i+1)*t.length]
		row[0] = float32(t.tokenizer.SOT())
		for j, id := range ids {
			row[1+j] = float32(id)
		}
		row[1+len(ids)] = float32(t.tokenizer.EOT())
		b.rows[i] = float32(i*t.length + 1 + len(ids))
	}
}

// read copies the named arrays to the host.
func (t *trainer) read(names []string) (map[string]parameter, error) {
	out := map[string]parameter{}
	for _, name := range names {
		a := t.arrays[name]
		data := make([]float32, engine.Size(a.Shape))
		if err := a.Buffer.Read(0, data); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = parameter{data, a.Shape}
	}
	return out, nil
}

func (t *trainer) weights() (Weights, error) {
	packed, err := t.read(t.names)
	if err != nil {
		return nil, err
	}
	return unpack(t.config, packed), nil
}

func (t *trainer) free() {
	if t.program != nil {
		t.program.Free()
	}
	for _, a := range t.arrays {
		a.Free()
	}
}

// MiniConfig is the architecture of the mini CLIP that the mini suites use: 37 tokens, 13.7 million
// multiplications an image.
func MiniConfig() Config {
	c := ViTB32()
	c.Vision.ImageSize, c.Vision.PatchSize = 36, 6
	c.Vision.Width, c.Vision.MLP, c.Vision.Layers, c.Vision.Heads = 96, 192, 5, 3
	c.Text.Width, c.Text.MLP, c.Text.Layers, c.Text.Heads, c.Text.ContextLength = 128, 256, 3, 4, 24
	c.ProjectionDim = 256
	return c
}

// MiniPretrain is how the mini CLIP is trained.
func MiniPretrain() PretrainOptions {
	return PretrainOptions{Steps: 2400, Batch: 256, Rate: 1e-3, MuonRate: 4e-3, Warmup: 100, WeightDecay: 0.1, Merges: 500,
		Seed: 1, Every: 100, Report: 20}
}
