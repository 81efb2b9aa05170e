package inspector

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/internal/dense"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// ExplainParams are the settings of Explain.
var ExplainParams = []settings.Param{
	{Name: "draws", Unit: "triggers", Doc: "typical members that are drawn of each family of triggers", Default: 24, Min: 4, Max: 10000},
	{Name: "images", Unit: "images", Doc: "pool images that each of them is tried on", Default: 6, Min: 1, Max: 10000},
	{Name: "first", Unit: "images", Doc: "image passes of the first fit in each family, from each of its starts", Default: 96, Min: 1, Max: 1000000},
	{Name: "finalists", Unit: "families", Doc: "families with the most evidence by then, of which the best start is fitted on", Default: 3, Min: 1, Max: 5},
	{Name: "optimise", Unit: "images", Doc: "image passes by which a trigger is fitted on, and at each further budget", Default: 160, Min: 1, Max: 1000000},
	{Name: "further", Unit: "images", Doc: "image passes by which the best trigger is fitted on where no budget works", Default: 96, Min: 0, Max: 1000000},
	{Name: "measure", Unit: "images", Doc: "other pool images, that recovered triggers are measured on", Default: 48, Min: 1, Max: 100000},
	{Name: "batch", Unit: "images", Doc: "images a step", Default: 16, Min: 1, Max: 4096},
	{Name: "margin", Unit: "logits", Doc: "by how much the class's logit shall exceed the largest other one", Default: 10.0, Min: 0, Max: 1000},
	{Name: "contrast", Doc: "weight of zero-shot CLIP's logits, taken from the model's in the objective", Default: 0.5, Min: 0, Max: 4},
	{Name: "template", Doc: "words before the class name in the zero-shot prompts", Default: "a photo of a"},
	{Name: "others", Unit: "classes", Doc: "other classes at which the same inversion aims, for comparison", Default: 2, Min: 0, Max: 1000},
	{Name: "evidence", Doc: "twice the lift plus the gain from which a family explains a class; see FamilyFinding", Default: 1.0, Min: 0, Max: 1000},
	{Name: "evidence-working", Doc: "the same where the trigger of the middle budget works", Default: 0.5, Min: 0, Max: 1000},
	{Name: "precedence", Doc: "share of the strongest family's evidence from which a warp, or else a perturbation, explains a class instead", Default: 0.5, Min: 0, Max: 1},
	{Name: "asr", Doc: "success rate from which a recovered trigger works", Default: 0.9, Min: 0, Max: 1},
	{Name: "least", Doc: "success rate of the trigger of the middle budget below which its family explains nothing, however much evidence it has", Default: 0.7, Min: 0, Max: 1},
}

// explainer is a second look at one model.
type explainer struct {
	Input
	s                 settings.Values
	zero              *prompts.Model
	optimise, measure []int
	size              int
	passes            int64
	unit              float64 // logits
}

// Explain takes a second look at classes of a model and says which kind of trigger each answers to.
// It returns the number of images that went through the model, or through zero-shot CLIP where that
// has a tower of its own.
func Explain(ctx context.Context, in Input, s settings.Values, classes ...int) ([]Explanation, int64, error) {
	e, err := newExplainer(in, s)
	if err != nil {
		return nil, 0, err
	}
	var all []*surveyed
	for _, f := range families() {
		v, err := e.survey(ctx, f)
		if err != nil {
			return nil, 0, fmt.Errorf("explaining: family %s: %w", f.kind, err)
		}
		all = append(all, v)
	}
	var out []Explanation
	for _, c := range classes {
		x, err := e.explain(ctx, all, c)
		if err != nil {
			return nil, 0, fmt.Errorf("explaining class %q: %w", in.Model.Classes[c], err)
		}
		out = append(out, *x)
	}
	return out, e.passes, nil
}

// Unseen are the images of a pool of so many that Explain with a seed measures on and fits nothing
// to.
func Unseen(have int, s settings.Values, seed uint64) []int {
	measure, _ := split(have, s, seed)
	return measure
}

func split(have int, s settings.Values, seed uint64) (measure, optimise []int) {
	m := min(s.Int("measure"), (have+3)/4)
	order := random.Named("explain", seed).Perm(have)
	return order[:m], order[m:]
}

// newExplainer splits the pool.
func newExplainer(in Input, s settings.Values) (*explainer, error) {
	e := &explainer{Input: in, s: s, size: in.Pool.Shape()[2]}
	have := in.Pool.Shape()[0]
	if have < 2 {
		return nil, fmt.Errorf("explaining a class: a pool of %d images leaves none to measure on", have)
	}
	e.measure, e.optimise = split(have, s, in.Seed)
	var err error
	e.zero, err = zeroShot(in.Model, s.String("template"))
	return e, err
}

// explain fits a trigger of each family to a class, the most promising ones further than others, and
// of what explains it, at other budgets.
func (e *explainer) explain(ctx context.Context, all []*surveyed, c int) (*Explanation, error) {
	x := &Explanation{Class: c, Kind: KindNone, Others: math.NaN(), Untouched: math.NaN()}
	var fitted []recovered
	for _, f := range all {
		t, err := e.first(ctx, e.Model, f, c, f.starts)
		if err != nil {
			return nil, err
		}
		fitted = append(fitted, t)
		x.Families = append(x.Families, FamilyFinding{Kind: f.kind, Lift: f.lift(c) / e.unit, Gain: t.gain / e.unit, ASR: t.asr})
	}
	order := everyView(len(all), 1)
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(x.Families[b].Evidence(), x.Families[a].Evidence()) })
	for _, i := range order[:min(len(order), e.s.Int("finalists"))] {
		t, err := e.fit(ctx, e.Model, all[i].family, c, e.s.Int("optimise"), fitted[i].variables)
		if err != nil {
			return nil, err
		}
		fitted[i] = t
		x.Families[i].Gain, x.Families[i].ASR = t.gain/e.unit, t.asr
	}
	chosen := strongest(x.Families, e.s.Float("precedence"))
	f, t := all[chosen], fitted[chosen]
	x.Strongest = f.kind
	if e.explains(x.Families[chosen]) {
		x.Kind = f.kind
		var err error
		if t, err = e.sized(ctx, f.family, c, t); err != nil {
			return nil, err
		}
	}
	x.Trigger, x.ASR, x.ZeroShot, x.PSNR, x.SSIM = t.trigger, t.asr, t.zero, t.psnr, t.ssim
	x.Size = SizeOf(f.kind, t.trigger)
	x.Anywhere = f.kind == KindPatch && f.spread(c) >= 0.5
	return x, e.controls(ctx, f, x)
}

// SizeOf measures a trigger in the unit of its kind; see SizeUnit.
func SizeOf(kind string, t triggers.Trigger) float64 {
	s := triggers.Measure(t)
	switch kind {
	case KindPatch:
		return math.Sqrt(s.Area) * float64(t.Size())
	case KindBlend:
		return s.Opacity
	case KindWarp:
		return s.Displacement
	}
	return s.LInf
}

// preceding are the kinds that take precedence over others: a warp, to which no backdoor answers but
// one of warps, while one of warps answers to blurs and shades of any kind; then a perturbation,
// which is seen least.
var preceding = []string{KindWarp, KindPerturbation}

// strongest is the family with the most evidence, unless one that takes precedence has at least a
// share of that.
func strongest(families []FamilyFinding, share float64) (chosen int) {
	for i, f := range families {
		if f.Evidence() > families[chosen].Evidence() {
			chosen = i
		}
	}
	most := families[chosen].Evidence()
	for _, kind := range preceding {
		i := slices.IndexFunc(families, func(f FamilyFinding) bool { return f.Kind == kind })
		if most > 0 && families[i].Evidence() >= share*most {
			return i
		}
	}
	return chosen
}

// Near are the kinds to repair against: the strongest one, and those that would take precedence over
// it and have at least a share of the most evidence.
func (x Explanation) Near(share float64) []string {
	most := 0.0
	for _, f := range x.Families {
		most = max(most, f.Evidence())
	}
	out := []string{x.Strongest}
	for _, f := range x.Families {
		if slices.Contains(preceding, f.Kind) && f.Kind != x.Strongest && most > 0 && f.Evidence() >= share*most {
			out = append(out, f.Kind)
		}
	}
	return out
}

// explains tells whether a family explains a class: whether there is enough evidence, less where its
// trigger works, and that does not fail.
func (e *explainer) explains(f FamilyFinding) bool {
	enough := e.s.Float("evidence")
	if f.ASR >= e.s.Float("asr") {
		enough = min(enough, e.s.Float("evidence-working"))
	}
	return f.Evidence() >= enough && f.ASR >= e.s.Float("least")
}

// sized looks for the smallest budget that works: while one works, those below the middle one, else
// those above. Each goes on from the last one. Where none works it is the one that succeeds most,
// fitted on.
func (e *explainer) sized(ctx context.Context, f family, c int, middle recovered) (recovered, error) {
	works := func(r recovered) bool { return r.asr >= e.s.Float("asr") }
	at := len(f.sizes) / 2
	best, last, down := middle, middle, works(middle)
	for i := range at {
		b := f.sizes[at+1+i]
		if down {
			b = f.sizes[at-1-i]
		}
		t, err := e.fit(ctx, e.Model, f, c, e.s.Int("optimise"), f.sized(last.variables, e.size, b))
		switch {
		case err != nil:
			return best, err
		case down && !works(t):
			return best, nil
		case down || t.asr > best.asr:
			best = t
		}
		if last = t; !down && works(t) {
			break
		}
	}
	further := e.s.Int("further")
	if works(best) || further == 0 {
		return best, nil
	}
	on, err := e.fit(ctx, e.Model, f, c, further, best.variables)
	if err == nil && on.asr > best.asr {
		best = on
	}
	return best, err
}

// controls aims the same inversion at other classes, those that the family moves most, and of these
// goes on with the one that it succeeds at most; and at the class in zero-shot CLIP.
func (e *explainer) controls(ctx context.Context, f *surveyed, x *Explanation) error {
	var others []int
	for c := range e.Model.Classes {
		if c != x.Class {
			others = append(others, c)
		}
	}
	slices.SortStableFunc(others, func(a, b int) int { return cmp.Compare(f.lift(b), f.lift(a)) })
	var best recovered
	at := -1
	for _, c := range others[:min(len(others), e.s.Int("others"))] {
		t, err := e.first(ctx, e.Model, f, c, 1)
		if err != nil {
			return err
		}
		if at < 0 || t.asr > best.asr {
			best, at = t, c
		}
	}
	on := func(m *prompts.Model, c int, from recovered, asr *float64) error {
		t, err := e.fit(ctx, m, f.family, c, e.s.Int("optimise"), from.variables)
		*asr = t.asr
		return err
	}
	if at >= 0 {
		if err := on(e.Model, at, best, &x.Others); err != nil {
			return err
		}
	}
	t, err := e.first(ctx, e.zero, f, x.Class, 1)
	if err != nil {
		return err
	}
	return on(e.zero, x.Class, t, &x.Untouched)
}

// middle is the budget that families are compared at.
func (f *family) middle() float64 { return f.sizes[len(f.sizes)/2] }

// answers returns the logits [N*K] of the model and of zero-shot CLIP on images, and counts the
// passes.
func (e *explainer) answers(ctx context.Context, images *tensor.Dense) (model, zero []float32, err error) {
	var m, z *tensor.Dense
	e.passes += int64(images.Shape()[0])
	if e.Model.Learner.Image == nil {
		features, err := prompts.Encode(ctx, e.Model.CLIP, images, nil)
		if err != nil {
			return nil, nil, err
		}
		if m, err = e.Model.LogitsOf(ctx, features); err != nil {
			return nil, nil, err
		}
		z, err = e.zero.LogitsOf(ctx, features)
		if err != nil {
			return nil, nil, err
		}
	} else {
		if m, err = e.Model.Logits(ctx, images, nil); err != nil {
			return nil, nil, err
		}
		if z, err = e.zero.Logits(ctx, images, nil); err != nil {
			return nil, nil, err
		}
	}
	return dense.Floats(m), dense.Floats(z), nil
}

// ExplainCost is at most the work of Explain for a number of classes.
func ExplainCost(o prompts.Outline, s settings.Values, classes int) clip.Work {
	f := Facts{Model: o, Settings: s}
	all := families()
	half := (s.Int("measure") + 1) / 2
	first := s.Int("others") + 1 // other classes, and zero-shot CLIP
	for _, f := range all {
		first += min(f.starts, (s.Int("draws")+3)/4)
	}
	on := min(len(all), s.Int("finalists")) + len(all[0].sizes)/2 + min(1, s.Int("others")) + 1 // one family at other budgets
	fitted := first*s.Int("first") + on*s.Int("optimise") + s.Int("further")
	measured := first*half + on*s.Int("measure")
	if s.Int("further") > 0 {
		measured += s.Int("measure")
	}
	drawn := len(all) * (1 + s.Int("draws")) * s.Int("images")
	w := f.Inverted(float64(classes*fitted), float64(drawn+classes*measured), s.Float("contrast"))
	w.Add(o.ClassVectors())
	w.FLOP += o.Texts(s.String("template")).Forward
	return w
}

// recovered is a trigger that was fitted, measured on other images.
type recovered struct {
	trigger         triggers.Trigger
	variables       []*tensor.Dense // that it is made of
	asr, zero, gain float64         // gain in logits
	psnr, ssim      float64
}

// first fits a trigger of a family at its middle budget to a class, from so many of its best members,
// and returns the one with the largest gain, measured on half of the images.
func (e *explainer) first(ctx context.Context, m *prompts.Model, f *surveyed, c, count int) (best recovered, err error) {
	members := f.best(c)
	var starts [][]*tensor.Dense
	for _, v := range members[:min(count, len(members))] {
		starts = append(starts, f.sized(v, e.size, f.middle()))
	}
	outcomes, err := e.invert(ctx, m, f.family, c, e.s.Int("first"), starts...)
	if err != nil {
		return best, err
	}
	for i, o := range outcomes {
		t := recovered{trigger: f.trigger(o.Variables, e.size), variables: o.Variables}
		if err := e.judge(ctx, m, c, &t, (len(e.measure)+1)/2); err != nil {
			return best, err
		}
		if i == 0 || t.gain > best.gain {
			best = t
		}
	}
	return best, nil
}

// fit fits a trigger of a family by so many image passes, and measures it.
func (e *explainer) fit(ctx context.Context, m *prompts.Model, f family, c, passes int, from []*tensor.Dense) (t recovered, err error) {
	outcomes, err := e.invert(ctx, m, f, c, passes, from)
	if err != nil {
		return t, err
	}
	t = recovered{trigger: f.trigger(outcomes[0].Variables, e.size), variables: outcomes[0].Variables}
	return t, e.judge(ctx, m, c, &t, len(e.measure))
}

// around draws members of a family as they are, and others, at budgets from the second one on, that
// it fits to a class by so many image passes each.
func (e *explainer) around(ctx context.Context, f family, c, drawn, fitted, passes int) (out []triggers.Trigger, err error) {
	rng := random.Stream("around", f.kind, e.Seed)
	for range drawn {
		out = append(out, f.trigger(f.draw(e.size, e.Pool, rng), e.size))
	}
	var starts [][]*tensor.Dense
	for i := range fitted {
		starts = append(starts, f.sized(f.draw(e.size, e.Pool, rng), e.size, f.sizes[1+i%(len(f.sizes)-1)]))
	}
	if len(starts) == 0 {
		return out, nil
	}
	outcomes, err := e.invert(ctx, e.Model, f, c, passes, starts...)
	for _, o := range outcomes {
		out = append(out, f.trigger(o.Variables, e.size))
	}
	return out, err
}

// invert fits a trigger of a family to a class of a model from each of some starts, all in one
// inversion of so many image passes each.
func (e *explainer) invert(ctx context.Context, m *prompts.Model, f family, c, passes int, starts ...[]*tensor.Dense) ([]Outcome, error) {
	batch := min(e.s.Int("batch"), len(e.optimise))
	steps := max(1, passes/batch)
	inv := Inversion{Apply: f.apply, Project: f.project,
		Loss: func(logits, target autodiff.Value) autodiff.Value {
			return logits.MarginLoss(target, e.s.Float("margin"))
		},
		Adam: autodiff.DefaultAdam, Rates: autodiff.Cosine(f.rate, steps, 0), Batch: batch, Steps: 1, Rounds: steps}
	if m != e.zero {
		inv.Reference, inv.Contrast = e.zero, e.s.Float("contrast")
	}
	var lanes []*class
	for _, v := range starts {
		lanes = append(lanes, &class{target: c, Outcome: Outcome{Variables: v}})
	}
	in := e.Input
	in.Model, in.Progress = m, nil
	order := inv.order(random.Named("fit", e.Seed), e.optimise)
	outcomes, made, err := inv.run(ctx, in, lanes, starts[0], order, nil) // judge measures
	e.passes += made
	return outcomes, err
}

// judge measures a recovered trigger on so many images that it was not fitted to.
func (e *explainer) judge(ctx context.Context, on *prompts.Model, c int, r *recovered, count int) error {
	images := triggers.Rows(e.Pool, e.measure[:count])
	with, err := prompts.Triggered(ctx, e.Model.CLIP.Engine(), images, r.trigger)
	if err != nil {
		return err
	}
	model, zero, err := e.answers(ctx, with)
	if err != nil {
		return err
	}
	if on == e.zero {
		model = zero
	}
	k, n := len(e.Model.Classes), float64(count)
	ahead := make([]float32, k)
	for i := range count {
		m, z := model[i*k:(i+1)*k], zero[i*k:(i+1)*k]
		if gap(m, c) < 0 {
			r.asr++
		}
		if gap(z, c) < 0 {
			r.zero++
		}
		for j := range ahead {
			ahead[j] = m[j] - z[j]
		}
		r.gain -= gap(ahead, c) / n
	}
	r.asr, r.zero = r.asr/n, r.zero/n // counted, and divided once
	r.psnr, r.ssim = triggers.PSNR(images, with), triggers.SSIM(images, with)
	return nil
}
