package inspector

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/internal/dense"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// RepairParams are the settings of Repair: which triggers, on how many images, and those of the
// tuning loop.
var RepairParams = append([]settings.Param{
	{Name: "against", Doc: "triggers to repair against: of the kinds that a second look finds the suspect to answer to most (kind), or the detector's own (verdict)", Default: "kind", Choices: []string{"kind", "verdict"}},
	{Name: "near", Doc: "share of the most evidence from which a warp or a perturbation is repaired against as well, where another kind is the strongest; half of the members of a round are then of these kinds (our choice)", Default: 0.3, Min: 0, Max: 1},
	{Name: "drawn", Unit: "triggers", Doc: "typical members of the kinds that are drawn in each round (our choice)", Default: 4, Min: 0, Max: 1000},
	{Name: "fitted", Unit: "triggers", Doc: "other members of the kinds that are drawn in each round and fitted to the model as it is by then (our choice)", Default: 8, Min: 1, Max: 1000},
	{Name: "optimise", Unit: "images", Doc: "image passes by which each of these is fitted (our choice)", Default: 400, Min: 1, Max: 1000000},
	{Name: "rounds", Doc: "how often the model is inverted anew, each time before an equal part of the epochs; 0 repairs with what was recovered beforehand alone, as the paper does", Default: 3, Min: 0, Max: 100},
	{Name: "epsilon", Unit: "pixel value", Doc: "against the verdict: bound on each pixel of the perturbations of the rounds, for a detector that has such a bound (our choice)", Default: 24.0 / 255, Min: 0.1 / 255, Max: 1},
	{Name: "contrast", Doc: "weight of zero-shot CLIP's logits in the objective of the rounds, but for a detector that has no such weight; 0 undoes what CLIP itself is prone to as well (our choice)", Default: 0.0, Min: 0, Max: 4},
	{Name: "triggers", Doc: "against the verdict: recovered triggers to repair with, the suspect's, or those of all classes in turn, for when the suspect may be the wrong one", Default: "suspect", Choices: []string{"suspect", "all"}},
	{Name: "share", Doc: "share of the few-shot images that are also shown with a recovered trigger and their own label (our choice)", Default: 1.0, Min: 0.01, Max: 1},
}, withDefaults(prompts.TuneParams, map[string]any{"epochs": 12, "optimizer": "adam", "rate": 0.02, "weight-decay": 0.0})...)

// withDefaults returns declarations with other defaults. Views stay as they are: a recovered
// trigger has its place in a view, and a crop that came after it would cut it.
func withDefaults(params []settings.Param, defaults map[string]any) []settings.Param {
	params = slices.Clone(params)
	for i, p := range params {
		if d, ok := defaults[p.Name]; ok {
			params[i].Default = d
		}
		if p.Name == "views" {
			params[i].Min = 1
			params[i].Doc = "how many ways each few-shot image is shown: as it is, and as random crops, mirrored or not, drawn once"
		}
	}
	return params
}

// RepairInput is what a repair may look at.
type RepairInput struct {
	Model    *prompts.Model     // the delivered model; it stays as it is
	Shots    prompts.Data       // few-shot images with their right labels
	Triggers []triggers.Trigger // what the detector recovered from the model, by class; nil where there is nothing
	Suspect  int                // the class that the detector suspects
	Detector *Detector          // what inverts the model in the rounds
	Options  settings.Values    // the detector's settings
	Pool     *tensor.Dense      // the detector's pool; see Input
	// Explanation is what a second look says of the suspect, and Explaining its settings; nil to
	// repair against the verdict.
	Explanation *Explanation
	Explaining  settings.Values
	Control     bool // show the images that would carry a trigger as they are instead: the same steps on clean images
	Seed        uint64
	Settings    settings.Values  // of RepairParams
	Progress    prompts.Progress // may be nil
}

// Repair returns a copy of the delivered model whose prompts are fine-tuned such that recovered
// triggers no longer move images from their class (the paper's repair: fine-tuning on correctly
// labelled triggered images): on the few-shot images, and on a share of them once more with a
// trigger, all with their right labels. In each of its rounds triggers are recovered from the model
// as it is by then, and those of earlier rounds stay in use: members of the kind that the suspect
// answers to most, whether that explains it or not, and of those that are near it, or without an
// explanation what the detector recovers. The same input gives the same model to the bit.
func Repair(ctx context.Context, in RepairInput) (*prompts.Model, error) {
	views := max(1, in.Shots.Views)
	if n := len(in.Shots.Labels); n == 0 || in.Shots.Images.Shape()[0] != n*views {
		return nil, fmt.Errorf("repair: %d labels for %d images in %d views", n, in.Shots.Images.Shape()[0], views)
	}
	if in.Suspect < 0 || in.Suspect >= len(in.Model.Classes) {
		return nil, fmt.Errorf("repair: the suspect is class %d of %d", in.Suspect, len(in.Model.Classes))
	}
	if x := in.Explanation; x != nil && x.Class != in.Suspect {
		return nil, fmt.Errorf("repair: the suspect is class %d; class %d was explained", in.Suspect, x.Class)
	}
	rounds, epochs := in.Settings.Int("rounds"), in.Settings.Int("epochs")
	m := in.Model.Clone()
	if rounds == 0 {
		list := in.choose(nil, in.Triggers)
		if in.Explanation != nil {
			list = []triggers.Trigger{in.Explanation.Trigger}
		}
		return m, in.tune(ctx, m, list, epochs, in.Progress)
	}
	if rounds > epochs {
		return nil, fmt.Errorf("repair: %d rounds of %d epochs: want at least an epoch a round", rounds, epochs)
	}
	var list []triggers.Trigger
	for r := range rounds {
		if !in.Control {
			recover := in.invert
			if in.Explanation != nil {
				recover = in.members
			}
			found, err := recover(ctx, m, r)
			if err != nil {
				return nil, fmt.Errorf("repair: inverting the model in round %d: %w", r+1, err)
			}
			list = append(list, found...)
		}
		done := r * epochs / rounds
		part := (r+1)*epochs/rounds - done
		err := in.tune(ctx, m, list, part, func(step, steps int) {
			if in.Progress != nil {
				in.Progress(done*steps+part*step, epochs*steps)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// members draws members of the kinds that the suspect answers to most, and fits others to the model.
func (in RepairInput) members(ctx context.Context, m *prompts.Model, round int) ([]triggers.Trigger, error) {
	s := maps.Clone(in.Explaining)
	s["contrast"] = in.Settings.Float("contrast")
	e, err := newExplainer(Input{Model: m, Pool: in.Pool, Seed: in.Seed + uint64(round)}, s)
	if err != nil {
		return nil, err
	}
	kinds := in.Explanation.Near(in.Settings.Float("near"))
	var out []triggers.Trigger
	for i, kind := range kinds {
		found, err := e.around(ctx, families()[slices.Index(Kinds, kind)], in.Suspect, part(in.Settings.Int("drawn"), i, len(kinds)), part(in.Settings.Int("fitted"), i, len(kinds)), in.Settings.Int("optimise"))
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// part is how many of all members of a round are of kind i of so many: half of them of the first, the
// others of the rest.
func part(all, i, kinds int) int {
	switch near := kinds - 1; {
	case near == 0:
		return all
	case i == 0:
		return all - all/2
	default:
		return i*(all/2)/near - (i-1)*(all/2)/near
	}
}

// invert lets the detector recover from the model the triggers that the settings ask for.
func (in RepairInput) invert(ctx context.Context, m *prompts.Model, round int) ([]triggers.Trigger, error) {
	s := maps.Clone(in.Options)
	for _, name := range []string{"epsilon", "contrast"} {
		if _, ok := s[name].(float64); ok {
			s[name] = in.Settings.Float(name)
		}
	}
	only := []int{in.Suspect}
	if in.Settings.String("triggers") == "all" {
		only = everyView(len(m.Classes), 1)
	}
	report, err := in.Detector.Inspect(ctx, Input{Model: m, Pool: in.Pool, Seed: in.Seed + uint64(round), Settings: s, Only: only})
	if err != nil {
		return nil, err
	}
	out := make([]triggers.Trigger, len(report.Classes))
	for c, r := range report.Classes {
		out[c] = r.Trigger
	}
	return in.choose(nil, out), nil
}

// choose adds those of the recovered triggers to the list that the settings name.
func (in RepairInput) choose(list, recovered []triggers.Trigger) []triggers.Trigger {
	for c, t := range recovered {
		if t != nil && (c == in.Suspect || in.Settings.String("triggers") == "all") {
			list = append(list, t)
		}
	}
	return list
}

// tune fine-tunes the model for so many epochs, each trigger being carried by as many images as any
// other.
func (in RepairInput) tune(ctx context.Context, m *prompts.Model, list []triggers.Trigger, epochs int, progress prompts.Progress) error {
	if len(list) == 0 && !in.Control {
		return fmt.Errorf("repair: no trigger was recovered for class %d", in.Suspect)
	}
	n, shape := len(in.Shots.Labels), in.Shots.Images.Shape()
	views := shape[0] / n
	size := shape.TotalSize() / n // of all views of an image
	pixels, labels := slices.Clone(dense.Floats(in.Shots.Images)), slices.Clone(in.Shots.Labels)
	order := random.Named("repair", in.Seed).Perm(n)[:max(1, int(in.Settings.Float("share")*float64(n)))]
	for _, i := range order {
		pixels = append(pixels, dense.Floats(in.Shots.Images)[i*size:(i+1)*size]...)
		labels = append(labels, in.Shots.Labels[i])
	}
	for i, t := range list {
		if in.Control {
			break
		}
		from, to := i*len(order)/len(list), (i+1)*len(order)/len(list)
		if from == to {
			continue
		}
		carriers := pixels[(n+from)*size : (n+to)*size]
		with, err := prompts.Triggered(ctx, m.CLIP.Engine(), triggers.Dense(carriers, (to-from)*views, shape[1], shape[2], shape[3]), t)
		if err != nil {
			return fmt.Errorf("repair: %w", err)
		}
		copy(carriers, dense.Floats(with))
	}
	s := maps.Clone(in.Settings)
	s["epochs"] = epochs
	data := prompts.Data{Images: triggers.Dense(pixels, len(labels)*views, shape[1], shape[2], shape[3]), Labels: labels, Views: views}
	_, err := prompts.Tune(ctx, m, data, s, nil, in.Seed, progress)
	return err
}

// RepairCost is at most the work of Repair with so many labelled images. detection is that of the
// detector's inversion in a round, and explaining what RepairInput has.
func RepairCost(o prompts.Outline, images float64, repair, explaining settings.Values, detection clip.Work) clip.Work {
	w := o.Tuned(images*(1+repair.Float("share")), repair, prompts.Poisoning{})
	if explaining != nil {
		f := Facts{Model: o, Settings: explaining}
		detection = f.Inverted(float64(repair.Int("fitted")*repair.Int("optimise")), 0, repair.Float("contrast"))
	}
	for range repair.Int("rounds") {
		w.Add(detection)
	}
	return w
}
