package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/inspector"
	"clipinspector/internal/dense"
	"clipinspector/internal/random"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// detector declares a detector of the file. Every one has the settings of the pool, and k; index
// too, unless it declares one of its own.
func (f *file) detector(name, thing string) (*inspector.Detector, error) {
	d, params, err := f.declare("detector", thing)
	if err != nil {
		return nil, err
	}
	own := slices.Clone(params)
	has := func(name string) bool {
		return slices.ContainsFunc(own, func(p settings.Param) bool { return p.Name == name })
	}
	common := append(slices.Clone(inspector.PoolParams), inspector.Threshold)
	if !has("index") {
		params = append(params, inspector.IndexRule("studentized"))
	}
	for _, p := range common {
		if has(p.Name) {
			return nil, fmt.Errorf("setting %q: every detector has it already", p.Name)
		}
		params = append(params, p)
	}
	return &inspector.Detector{
		Name: name, Doc: d.Doc, Params: params, Content: f.sum, Check: inspector.CheckPool,
		Inspect: func(ctx context.Context, in inspector.Input) (*inspector.Finding, error) {
			l := &look{file: f, in: in, thing: thing, rng: random.Named("invert", in.Seed)}
			r, err := l.inspect(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			return r, nil
		},
	}, nil
}

// look is one model that a detector looks at.
type look struct {
	*file
	in     inspector.Input
	thing  string
	rng    *rand.Rand
	passes int64
}

// score is what a detector says of one class; nil for what it did not measure.
type score struct {
	Score, Index, Loss, ASR, Norm *float64
	Reached                       bool
	Kind                          string
}

func (l *look) inspect(ctx context.Context) (*inspector.Finding, error) {
	optimise, measure, err := inspector.SplitPool(l.in)
	if err != nil {
		return nil, err
	}
	m := l.in.Model
	var got struct {
		Classes []score
		Unsure  string
		File    string
	}
	err = l.request(ctx, map[string]any{"do": "inspect", "name": l.thing, "settings": l.in.Settings, "classes": m.Classes, "learner": m.Learner.Name,
		"clip": m.CLIP.Fingerprint(), "size": l.in.Pool.Shape()[2], "seed": l.in.Seed, "optimise": optimise, "measure": measure}, nil, l.answer, &got)
	if err != nil {
		return nil, err
	}
	r := &inspector.Finding{Suspect: -1, Index: math.NaN(), Unsure: got.Unsure, ImagePasses: l.passes}
	if got.Unsure != "" {
		return r, nil
	}
	if len(got.Classes) != len(m.Classes) {
		return nil, fmt.Errorf("it gave scores of %d classes, the model has %d", len(got.Classes), len(m.Classes))
	}
	var tensors map[string]*tensor.Dense
	if got.File != "" {
		if tensors, err = l.take(got.File); err != nil {
			return nil, err
		}
	}
	indices := 0
	for i, c := range got.Classes {
		if c.Score == nil {
			return nil, fmt.Errorf("class %d has no score", i)
		}
		x := inspector.ClassResult{Score: *c.Score, Index: orNaN(c.Index), Loss: orNaN(c.Loss), ASR: orNaN(c.ASR), Norm: orNaN(c.Norm), Reached: c.Reached}
		if c.Index != nil {
			indices++
		}
		if x.Trigger, err = triggerOf(c.Kind, i, tensors); err != nil {
			return nil, fmt.Errorf("class %d: %w", i, err)
		}
		if x.Trigger != nil && (c.Loss == nil || c.ASR == nil || c.Norm == nil) {
			return nil, fmt.Errorf("class %d has a trigger, and not its loss, asr and norm", i)
		}
		r.Classes = append(r.Classes, x)
	}
	_, ruled := l.in.Settings["index"].(string)
	switch rule := ""; {
	case indices == len(r.Classes):
		r.Verdict(l.in.Settings.Float("k"))
	case indices > 0:
		return nil, fmt.Errorf("%d of %d classes have an index: give that of all, or of none", indices, len(r.Classes))
	case ruled:
		if rule = l.in.Settings.String("index"); rule != "mad" && rule != "studentized" {
			return nil, fmt.Errorf("it gave no indices, and its own setting index is %.40q: only mad and studentized are known", rule)
		}
		r.Judge(rule, l.in.Settings.Float("k"))
	default:
		return nil, fmt.Errorf("it gave no indices, and declares a setting index that is no word")
	}
	return r, nil
}

func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

// triggerOf builds the trigger of class i of tensors called i.NAME; nil for none.
func triggerOf(kind string, i int, tensors map[string]*tensor.Dense) (triggers.Trigger, error) {
	if kind == "" {
		return nil, nil
	}
	own := map[string]*tensor.Dense{}
	for _, name := range sorted(tensors) {
		if class, rest, _ := strings.Cut(name, "."); class == strconv.Itoa(i) {
			own[rest] = tensors[name]
		}
	}
	return triggers.FromTensors(kind, own)
}

// answer gives a detector what it asks for while it looks at a model.
func (l *look) answer(ctx context.Context, what string, raw []byte) (any, error) {
	switch what {
	case "progress":
		var m struct{ Done, Total int }
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, err
		}
		if l.in.Progress != nil {
			l.in.Progress(m.Done, m.Total)
		}
		return nil, nil
	case "random":
		return numbers(func() (uint64, error) { return l.rng.Uint64(), nil })(ctx, what, raw)
	case "pool":
		return l.answered(map[string]*tensor.Dense{"pool": l.in.Pool})
	case "model":
		return l.model()
	case "logits", "gradient":
		return l.logits(ctx, what, raw)
	case "invert":
		return l.invert(ctx, raw)
	}
	return nobody(ctx, what, raw)
}

// answered is an answer of tensors.
func (l *look) answered(tensors map[string]*tensor.Dense) (any, error) {
	name, err := l.give(tensors)
	return map[string]any{"file": name}, err
}

// model writes the delivered model, in Dassl's layout where it has a place there.
func (l *look) model() (any, error) {
	m, folder := l.in.Model, filepath.Join(l.folder, "model")
	if err := os.RemoveAll(folder); err != nil {
		return nil, err
	}
	if m.Learner.HasDassl() {
		_, err := m.WriteDassl(folder, 1, nil, -1)
		return folder, err
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, "model.safetensors")
	return path, m.Write(path)
}

// logits gives the logits of images, or the gradient of the sum of logits times weights in the
// images.
func (l *look) logits(ctx context.Context, what string, raw []byte) (any, error) {
	var m struct{ File string }
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	tensors, err := l.take(m.File)
	if err != nil {
		return nil, err
	}
	model, size := l.in.Model, l.in.Pool.Shape()[2]
	k, pixels := len(model.Classes), 3*size*size
	images, weights := tensors["images"], tensors["weights"]
	if images == nil || len(images.Shape()) != 4 || images.Shape()[0] == 0 || !slices.Equal([]int(images.Shape()[1:]), []int{3, size, size}) {
		return nil, fmt.Errorf("%s: want images of shape [N,3,%d,%d]", what, size, size)
	}
	n := images.Shape()[0]
	l.passes += int64(n)
	if what == "logits" {
		z, err := model.Logits(ctx, images, nil)
		if err != nil {
			return nil, err
		}
		return l.answered(map[string]*tensor.Dense{"logits": z})
	}
	if weights == nil || !slices.Equal([]int(weights.Shape()), []int{n, k}) {
		return nil, fmt.Errorf("gradient: want weights of shape [%d,%d]", n, k)
	}
	rows := make([]float32, 0, n*(pixels+k))
	for i := range n {
		rows = append(append(rows, dense.Floats(images)[i*pixels:(i+1)*pixels]...), dense.Floats(weights)[i*k:(i+1)*k]...)
	}
	const batch = 64
	g, err := autodiff.MapRows(ctx, model.CLIP.Engine(), rows, []int{n, pixels + k}, batch, func(rows autodiff.Value) (autodiff.Value, error) {
		b := rows.Dim(0)
		x := rows.Slice(1, 0, pixels).Reshape(b, 3, size, size)
		r, err := model.Record(rows.Graph())
		if err != nil {
			return autodiff.None, err
		}
		y := r.Logits(r.Features(x)).Mul(rows.Slice(1, pixels, k)).Sum()
		return autodiff.Grad(y, autodiff.None, x)[0].Reshape(b, pixels), nil
	})
	if err != nil {
		return nil, err
	}
	return l.answered(map[string]*tensor.Dense{"gradient": dense.New(g, n, 3, size, size)})
}
