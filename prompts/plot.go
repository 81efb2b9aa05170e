package prompts

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/internal/dense"
	"clipinspector/settings"
)

// PLOT (Chen et al., ICLR 2023) has several prompts of a class and several features of an image:
// those of its parts, or in PLOT++ those that the tower gives with each of several visual prompts.
// A class's logit is their similarity under the plan of optimal transport that matches prompts and
// features (transported).

// contextsName and visualContextsName are the authors' names of the contexts [N,n,W] and of
// PLOT++'s visual prompts [M,v,W].
const (
	contextsName       = "ctx"
	visualContextsName = "ctx_vision"
)

var (
	perClassN  = settings.Param{Name: "per-class", Unit: "prompts", Doc: "prompts of a class, the authors' N", Default: 4, Min: 1, Max: 16}
	iterations = settings.Param{Name: "iterations", Unit: "steps", Doc: "most iterations of Sinkhorn's algorithm for an image", Default: 100, Min: 1, Max: 1000}
)

func init() {
	Register(&Learner{
		Name: "plot",
		Doc:  "several contexts, matched to the parts of an image by optimal transport (PLOT, Chen et al., ICLR 2023)",
		Params: []settings.Param{
			{Name: "context", Unit: "tokens", Doc: "context tokens in front of the class name", Default: 16, Min: 1, Max: 64},
			perClassN, iterations,
		},
		Init: func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error) {
			n := m.Settings.Int("context")
			_, err := m.newLayout(n)
			return map[string]*tensor.Dense{contextsName: normal(rng, m.Settings.Int("per-class"), n, m.CLIP.Config.Text.Width)}, err
		},
		Image: func(r *Recording, pixels autodiff.Value) autodiff.Value {
			x := r.Towers.Tokens(pixels)
			b, parts, d := x.Dim(0), x.Dim(1)-1, x.Dim(2)
			return x.Slice(1, 1, parts).Normalize().Reshape(b, parts*d)
		},
		Text:       contextTexts,
		Similarity: transported,
	})
	Register(&Learner{
		Name: "plotpp",
		Doc:  "several contexts and several visual prompts, matched by optimal transport (PLOT++, the same authors' for vision transformers)",
		Params: []settings.Param{
			{Name: "context", Unit: "tokens", Doc: "context tokens in front of the class name", Default: 4, Min: 1, Max: 64},
			perClassN,
			{Name: "per-image", Unit: "prompts", Doc: "visual prompts, with each of which the image passes the tower, the authors' M", Default: 4, Min: 1, Max: 16},
			{Name: "visual", Unit: "tokens", Doc: "tokens of a visual prompt", Default: 2, Min: 1, Max: 256},
			iterations,
			{Name: "init", Doc: "words in front of the class name, of which the first tokens start a context and the others stay: one text for all prompts of a class, " +
				"or with | between them one for each; with fewer tokens than context it is drawn from N(0, 0.02)",
				Default: "a photo of a | this is a photo | this is picture of | one picture of a"},
		},
		Init: func(m *Model, rng *rand.Rand) (map[string]*tensor.Dense, error) {
			n, w, count := m.Settings.Int("context"), m.CLIP.Config.Text.Width, m.Settings.Int("per-class")
			texts := m.wordings()
			if len(texts) != 1 && len(texts) != count {
				return nil, fmt.Errorf("init: %d texts for %d prompts of a class: give one for all, or one for each", len(texts), count)
			}
			var ctx []float32
			for i := range count {
				p := m.worded(texts[min(i, len(texts)-1)])
				words, err := p.contextTokens()
				if err != nil {
					return nil, err
				}
				if _, err := p.newLayout(n); err != nil {
					return nil, err
				}
				start := normal(rng, n, w)
				if len(words) >= n {
					start = m.CLIP.EmbedTokens(words[:n])
				}
				ctx = append(ctx, dense.Floats(start)...)
			}
			return map[string]*tensor.Dense{
				contextsName:       dense.New(ctx, count, n, w),
				visualContextsName: normal(rng, m.Settings.Int("per-image"), m.Settings.Int("visual"), m.CLIP.Config.Vision.Width),
			}, nil
		},
		Visual: func(s settings.Values) int { return s.Int("visual") },
		Image: func(r *Recording, pixels autodiff.Value) autodiff.Value {
			visual := r.Params[visualContextsName]
			var views []autodiff.Value
			for i := range visual.Dim(0) {
				own := visual.Slice(0, i, 1).Reshape(visual.Dim(1), visual.Dim(2))
				views = append(views, r.Towers.Image(pixels, clip.ImagePrompts{Layers: []autodiff.Value{own}, Norm: true}))
			}
			return autodiff.Concat(1, views...)
		},
		Text:       contextTexts,
		Similarity: transported,
	})
}

// wordings are the texts of init: one, or of PLOT++ one for each prompt of a class.
func (m *Model) wordings() []string {
	words, _ := m.Settings["init"].(string)
	if _, several := m.Settings["per-class"]; several {
		return strings.Split(words, "|")
	}
	return []string{words}
}

// perClass is how many prompts a class has.
func (m *Model) perClass() int {
	if n, several := m.Settings["per-class"].(int); several {
		return n
	}
	return 1
}

// worded is the model with one of its wordings alone.
func (m *Model) worded(text string) *Model {
	p := *m
	p.Settings = maps.Clone(m.Settings)
	p.Settings["init"] = strings.TrimSpace(text)
	return &p
}

// contextTexts records the class vectors of several contexts, one behind the other, so that each
// row [N*D] has length 1: [K,N*D].
func contextTexts(r *Recording, _ autodiff.Value) autodiff.Value {
	ctx, wordings := r.Params[contextsName], r.Model.wordings()
	count, n, w := ctx.Dim(0), ctx.Dim(1), ctx.Dim(2)
	each := count / len(wordings)
	var parts []autodiff.Value // [N*K,D] in all
	for i, text := range wordings {
		own := *r
		own.Model = r.Model.worded(text)
		parts = append(parts, own.encode(ctx.Slice(0, i*each, each).Reshape(each, 1, n, w)))
	}
	texts := autodiff.Concat(0, parts...)
	k, d := len(r.Model.Classes), texts.Dim(1)
	return texts.Reshape(count, k, d).Permute(1, 0, 2).Reshape(k, count*d).Scale(1 / math.Sqrt(float64(count)))
}

// pooled returns the mean of each class's prompts, scaled to length 1, of vectors [K,N*D].
func (m *Model) pooled(vectors *tensor.Dense) (*tensor.Dense, error) {
	k, d := len(m.Classes), m.CLIP.Config.ProjectionDim
	x := dense.Floats(vectors)
	out := make([]float32, k*d)
	for c := range k {
		sum, length := make([]float64, d), 0.0
		for i, v := range x[c*len(x)/k : (c+1)*len(x)/k] {
			sum[i%d] += float64(v)
		}
		for _, v := range sum {
			length += float64(v * v)
		}
		if length == 0 {
			return nil, errors.New("the prompts of a class sum up to nothing")
		}
		for i, v := range sum {
			out[c*d+i] = float32(v / math.Sqrt(length))
		}
	}
	return dense.New(out, k, d), nil
}

// The authors' constants: the weight of the plan's entropy, and the mean change of a scaling below
// which the iterations end.
const (
	transportEntropy = 0.1
	transportChange  = 0.01
)

// transported records the similarities [B,K] of features [B,M*D] and class vectors [K,N*D]: for an
// image and a class the sum over all pairs of their cosine times what the plan moves between them.
// The plan T = diag(r) exp((cosine-1)/0.1) diag(c) has sums 1/M and 1/N; r and c come from
// Sinkhorn's iterations, and no gradient passes through it.
//
// The authors end the iterations when r has changed by less than 0.01 on the mean over the images
// of a batch, their classes and parts, so that a logit depends on what else is in the batch. Here
// each image ends them for itself, as their code does with a batch of one.
func transported(r *Recording, features, vectors autodiff.Value) autodiff.Value {
	g, k, d := r.Graph, len(r.Model.Classes), r.Model.CLIP.Config.ProjectionDim
	b, m, n := features.Dim(0), features.Dim(1)/d, vectors.Dim(1)/d
	texts := vectors.Reshape(k, n, d).Permute(1, 0, 2).Reshape(n*k, d).Scale(math.Sqrt(float64(n)))
	cosine := features.Reshape(b*m, d).MatMulT(texts).Reshape(b, m, n, k).Permute(1, 2, 0, 3) // [M,N,B,K]
	kernel := cosine.Detach().Affine(1/transportEntropy, -1/transportEntropy).Exp()
	scalar := func(x float64) autodiff.Value { return g.Const([]float32{float32(x)}, 1, 1, 1, 1) }
	one, change := scalar(1), scalar(transportChange)
	rows := one.BroadcastTo(m, 1, b, k)
	columns := one.BroadcastTo(1, n, b, k)
	going := one.BroadcastTo(1, 1, b, 1) // 1 for images whose iterations have not ended
	for range r.Model.Settings.Int("iterations") {
		newRows := scalar(1 / float64(m)).Div(kernel.Mul(columns).SumTo(m, 1, b, k))
		newColumns := scalar(1 / float64(n)).Div(kernel.Mul(newRows).SumTo(1, n, b, k))
		changed := newRows.Sub(rows).Apply(engine.Abs).MeanTo(1, 1, b, 1)
		ended := one.Sub(going)
		rows = newRows.Mul(going).Add(rows.Mul(ended))
		columns = newColumns.Mul(going).Add(columns.Mul(ended))
		going = going.Mul(changed.GreaterEqual(change))
	}
	plan := kernel.Mul(rows).Mul(columns)
	return plan.Mul(cosine).SumTo(1, 1, b, k).Reshape(b, k)
}
