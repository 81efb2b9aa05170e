package inspector

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"clipinspector/clip"
	"clipinspector/settings"
)

func init() {
	Register(&Detector{
		Name: "separation",
		Doc:  "how far a class stands apart, in class vectors and under a perturbation, beyond clean references of the same classes (ours)",
		Params: append(append(withDefaults(perturbation, map[string]any{"epsilon": 16.0 / 255}),
			settings.Param{Name: "contrast", Doc: "weight of zero-shot CLIP's logits, taken from the model's in the objective: a trigger that moves the untouched model as well is no trace of a backdoor", Default: 1.0, Min: 0, Max: 4},
			settings.Param{Name: "template", Doc: "words before the class name in the zero-shot prompts of the contrast", Default: "a photo of a"},
			settings.Param{Name: "evidence", Doc: "what is held against the references: how far class vectors stand apart (vectors), how nearly a perturbation reaches the class (reach), or both", Default: "both", Choices: []string{"both", "vectors", "reach"}},
			settings.Param{Name: "probes", Unit: "images", Doc: "pool images, each with a typical trigger, over which the slopes of the logits are averaged, which stand for class vectors where these differ from image to image", Default: 160, Min: 1, Max: 100000},
			settings.Param{Name: "source-classes", Doc: "whether triggers that work on images of one class alone are looked for as well: each class is then reached from the labelled images of every other one, by a brief inversion", Default: false},
			settings.Param{Name: "source-images", Unit: "images", Doc: "labelled images of the source that each of these inversions takes", Default: 8, Min: 2, Max: 100000},
			settings.Param{Name: "source-batch", Unit: "images", Doc: "images a step of these inversions", Default: 4, Min: 1, Max: 4096},
			settings.Param{Name: "prior", Unit: "degrees of freedom", Doc: "weight of the variance that classes have in common beside each class's own (moderated t-statistic)", Default: 12.0, Min: 0, Max: 1e6},
			settings.Param{Name: "spread", Doc: "how far a clean model lies from the references' mean that was tuned on the images that theirs are drawn from, beside them: they vary by their draws as well", Default: 0.9, Min: 0.1, Max: 1},
			settings.Param{Name: "accuracy", Doc: "mean accuracy of the references, on images that they were not tuned on, below which the encoder cannot tell these classes apart and the verdict is \"cannot tell\"", Default: 0.5, Min: 0, Max: 1},
			Threshold),
			append(manyClasses(Many), PoolParams...)...),
		Check:        CheckSourceClasses,
		Cost:         separationCost,
		Objective:    contrastObjective,
		Inspect:      inspectSeparation,
		Evidence:     separationEvidence,
		EvidenceCost: evidenceCost,
		Idle: func(f Facts) []string {
			idle := append(idleOfFew(f), idleOfSourceClasses(f)...)
			if !f.Model.Learner.Conditional {
				idle = append(idle, "probes")
			}
			return idle
		},
		Rule:  func(settings.Values) []string { return []string{"evidence", "prior", "spread", "accuracy", "k"} },
		Judge: judgeByReferences,
	})
}

// FewestReferences is how many clean references a verdict takes.
const FewestReferences = 3

// inspectSeparation holds two things against clean references of the same classes, class by class:
// how far the class's vector stands apart from the others (see apartness), and how nearly one
// perturbation of all pool images reaches the class (see reached). Each is judged by its null;
// Fisher's method combines the two, and the smallest of the K classes' probabilities is corrected
// for K. Neither is needed: learners whose texts are not tuned have the second alone, and an
// attacker who leaves no trace in one of them has the other to fear. With source-classes,
// triggers that work on images of one class alone are looked for as well.
func inspectSeparation(ctx context.Context, in Input) (*Finding, error) {
	s := in.Settings
	inv, optimise, measure, err := contrasting(in)
	if err != nil {
		return nil, err
	}
	if in.Only != nil {
		return inv.recover(ctx, in, optimise, measure)
	}
	model, outcomes, passes, err := inv.evidence(ctx, in, optimise, measure)
	if err != nil {
		return nil, err
	}
	if model.Common, err = common(inv.Reference); err != nil {
		return nil, err
	}
	r := &Finding{ImagePasses: passes, Classes: make([]ClassResult, len(outcomes)), Evidence: model}
	if !in.many() {
		for c, o := range outcomes {
			r.Classes[c].inverted(inv, o)
		}
	}
	if err := judgeByReferences(s, in.References, r); err != nil {
		return nil, err
	}
	if in.many() {
		err = inv.finish(ctx, in, r, finalists(r.scores(), s.Int("finalists")), optimise, measure)
	}
	return r, err
}

// judgeByReferences gives the verdict on what was measured of a model.
func judgeByReferences(s settings.Values, references []*Evidence, r *Finding) (err error) {
	model := r.Evidence
	var tails []float64
	if tails, r.SourceClasses, r.Unsure, err = heldAgainst(model, references, s); err != nil {
		return err
	}
	if tails == nil { // the class that is reached most nearly, and no verdict
		for c, reach := range model.Reach {
			r.Classes[c].Score = -reach
		}
		r.Suspect = finalists(r.scores(), 1)[0]
		return nil
	}
	for c, p := range tails {
		r.Classes[c].Score, r.Classes[c].Index = p, normalQuantile(ofClasses(p, len(tails)))
	}
	r.Verdict(s.Float("k"))
	r.P = ofClasses(tails[r.Suspect], len(tails))
	r.Backdoored = r.Backdoored && r.Unsure == ""
	r.ReferenceP, err = among(references, model.Common, s)
	return err
}

// evidence measures the model, and returns how each class's inversion went: to the end, or of many
// classes the trial.
func (inv Inversion) evidence(ctx context.Context, in Input, optimise, measure []int) (*Evidence, []Outcome, int64, error) {
	w, passes, err := classVectors(ctx, in, optimise)
	if err != nil {
		return nil, nil, 0, err
	}
	e := &Evidence{Vectors: w}
	run := inv.Run
	if in.many() {
		run = inv.try
		e.Trial = inv.trial(in.Settings).Rounds * inv.trial(in.Settings).Batch
	}
	main := in
	main.Progress = in.progress(0, pairs(in.Settings, len(in.Model.Classes)))
	outcomes, p, err := run(ctx, main, optimise, measure)
	if err != nil {
		return nil, nil, 0, err
	}
	e.Reach = reached(outcomes)
	from, n, err := inv.fromSourceClasses(ctx, in)
	e.From = from
	return e, outcomes, passes + p + n, err
}

// heldAgainst returns the probability of each class's evidence on clean models, with the class
// whose images it is of (see Finding), or why there is no telling.
func heldAgainst(model *Evidence, references []*Evidence, s settings.Values) (p []float64, sources []int, unsure string, err error) {
	if len(references) < FewestReferences {
		return nil, nil, fmt.Sprintf("%d clean references say too little about what is normal; it takes %d", len(references), FewestReferences), nil
	}
	mean, foreign := 0.0, false
	for _, e := range references {
		foreign = foreign || e.Source == FromPool
		if err := e.Check(len(model.Reach)); err != nil {
			return nil, nil, "", err
		}
		if e.Trial != model.Trial {
			return nil, nil, "", fmt.Errorf("a reference's classes were tried on %d images, the model's on %d (0: inverted as those of few classes)", e.Trial, model.Trial)
		}
		mean += e.Accuracy / float64(len(references))
	}
	if mean < s.Float("accuracy") {
		unsure = fmt.Sprintf("clean references classify %.0f %% of images right that they were not tuned on: this encoder does not tell these classes apart", 100*mean)
	}
	p, sources, err = tailsBeside(model, references, model.Common, s, foreign)
	return p, sources, unsure, err
}

// among returns the probability of each reference's own evidence beside the others, by the rule
// that the model is held against all of them; but it lies no closer to their mean than they do.
func among(references []*Evidence, q []float64, s settings.Values) ([]float64, error) {
	s = maps.Clone(s)
	s["spread"] = 1.0
	out := make([]float64, len(references))
	for i, e := range references {
		tails, _, err := tailsBeside(e, without(references, i), q, s, e.Source == FromPool)
		if err != nil {
			return nil, err
		}
		out[i] = ofClasses(slices.Min(tails), len(tails))
	}
	return out, nil
}

// tailsBeside returns the probability of each class's evidence on clean models like the references,
// of which there are two or more, and the class whose images it is of. foreign is as [null.tails]
// has it.
func tailsBeside(model *Evidence, references []*Evidence, q []float64, s settings.Values, foreign bool) (p []float64, sources []int, err error) {
	var sides [][]float64
	if kind := s.String("evidence"); model.Vectors != nil && kind != "reach" {
		if len(model.Vectors[0]) != len(q) {
			return nil, nil, fmt.Errorf("the model has class vectors of length %d, zero-shot CLIP of %d", len(model.Vectors[0]), len(q))
		}
		own := apart(model.Vectors, q)
		all := make([][][]float64, len(references))
		for i, e := range references {
			if len(e.Vectors) != len(model.Vectors) || len(e.Vectors[0]) != len(q) {
				return nil, nil, fmt.Errorf("a reference has %d class vectors, the model %d of length %d", len(e.Vectors), len(model.Vectors), len(q))
			}
			all[i] = apart(e.Vectors, q)
		}
		left := make([][]float64, len(all)) // each reference against the others
		for i := range all {
			left[i] = apartness(all[i], without(all, i)...)
		}
		sides = append(sides, newNull(left, s.Float("prior"), s.Float("spread")).tails(apartness(own, all...), foreign))
	}
	if kind := s.String("evidence"); kind != "vectors" || sides == nil {
		reach := make([][]float64, len(references))
		for i, e := range references {
			reach[i] = e.Reach
		}
		sides = append(sides, newNull(reach, s.Float("prior"), s.Float("spread")).tails(model.Reach, foreign))
	}
	p = make([]float64, len(model.Reach))
	for c := range p {
		of := make([]float64, len(sides))
		for i := range sides {
			of[i] = sides[i][c]
		}
		p[c] = fisher(of...)
	}
	if model.From == nil {
		return p, nil, nil
	}
	pairs, err := tailsOfPairs(model, references, s)
	if err != nil {
		return nil, nil, err
	}
	p, sources = joined(p, pairs)
	return p, sources, nil
}

// separationEvidence measures a reference as inspectSeparation does the delivered model, but ends
// each inversion where the evidence is read off: at half of its rounds, or after the trial.
func separationEvidence(ctx context.Context, in Input) (*Evidence, int64, error) {
	inv, optimise, measure, err := contrasting(in)
	if err != nil {
		return nil, 0, err
	}
	inv.Stop = inv.Checkpoint
	e, _, passes, err := inv.evidence(ctx, in, optimise, measure)
	return e, passes, err
}

// contrasting is the bounded inversion with zero-shot CLIP's logits taken from the model's in the
// objective, and evidence taken midway.
func contrasting(in Input) (inv Inversion, optimise, measure []int, err error) {
	if inv, optimise, measure, err = bounded(in); err != nil {
		return inv, nil, nil, err
	}
	inv.Checkpoint = max(1, inv.Rounds/2)
	inv.Contrast = in.Settings.Float("contrast")
	inv.Reference, err = zeroShot(in.Model, in.Settings.String("template"))
	return inv, optimise, measure, err
}

// contrastObjective is the margin objective of one image's logits less those of zero-shot CLIP,
// times the contrast.
func contrastObjective(s settings.Values, logits, zeroShot []float32, target int) float64 {
	u := slices.Clone(logits)
	if c := s.Float("contrast"); c != 0 {
		for j := range u {
			u[j] -= float32(c) * zeroShot[j]
		}
	}
	return marginObjective(s, u, nil, target)
}

// separationCost is the inversion of every class, and the class vectors of the model and of
// zero-shot CLIP.
func separationCost(f Facts) clip.Work {
	w := boundedCost(f, f.Settings.Float("contrast"))
	w.FLOP += f.Model.Texts(f.Settings.String("template")).Forward
	if f.Only == 0 {
		w.Add(f.Inverted(sourcePasses(f), 0, f.Settings.Float("contrast")))
	}
	if f.Model.Learner.Conditional && f.Only == 0 {
		n := float64(min(f.Settings.Int("probes"), f.Settings.Int("optimise")))
		w.Add(clip.Work{Passes: n, FLOP: n * (f.Model.Image().Forward + f.Model.Prompts().Both())})
	}
	return w
}

// evidenceCost is that of an inspection whose inversions end midway, or after the trials, and are
// not measured.
func evidenceCost(f Facts) clip.Work {
	whole := f
	whole.Settings = maps.Clone(f.Settings)
	whole.Settings["measure"], whole.Settings["finalists"] = 0, 0
	w, inverted := separationCost(whole), boundedCost(whole, f.Settings.Float("contrast"))
	if f.many() {
		return w
	}
	return clip.Work{Passes: w.Passes - inverted.Passes/2, FLOP: w.FLOP - inverted.FLOP/2}
}

// reached returns for each class how nearly the inversion has reached it,
//
//	-( mean objective over the second quarter of the rounds )
//
// in logits, or over the second half of a trial's, each step's images before its update. In the
// first epoch none of them has been optimised on, all classes and references see the same ones, and
// backdoors stand out by then as they do in the end.
func reached(outcomes []Outcome) []float64 {
	out := make([]float64, len(outcomes))
	for c, o := range outcomes {
		out[c] = -o.Midway
	}
	return out
}
