package audit

import (
	"context"
	"fmt"

	"clipinspector/clip"
	"clipinspector/experiments"
	"clipinspector/inspector"
	"clipinspector/internal/progress"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/settings"
)

const (
	// mostReferences is how many references an audit makes where nobody says how many.
	mostReferences = 8
	// patience is how many times the work of the verdict alone an audit may take with its
	// references, where nobody says how many.
	patience = 5
	// leastLongest is for how many times the epochs the longest reference of few-shot images is tuned
	// even if that takes longer: references of one length call models that were tuned for longer
	// backdoored.
	leastLongest = 4
)

// countReferences decides how many references there will be: as asked for, or as many as fit into
// five times the work of the verdict alone, eight at most, and no fewer than a verdict takes. Where
// these take longer, as with learners of the image tower, and nobody says how long they are tuned,
// the long ones are tuned for less.
func (a *audit) countReferences() error {
	switch {
	case a.detector.Evidence == nil && a.References > 0:
		return fmt.Errorf("%s holds models against no references: leave --references out, or take --detector separation", a.detector.Name)
	case a.detector.Evidence == nil || a.References > 0:
		return nil
	}
	fit := func(n int) bool {
		left := (patience - 1) * a.detection().FLOP
		for i := range n {
			left -= a.reference(i).FLOP
		}
		return left >= 0
	}
	a.References = inspector.FewestReferences
	if a.longest == 0 {
		for a.longest = inspector.Longest(0, a.source()); a.longest > leastLongest && !fit(a.References); a.longest-- {
		}
	}
	for a.References < mostReferences && fit(a.References+1) {
		a.References++
	}
	return nil
}

// source is what references are tuned on.
func (a *audit) source() string {
	if a.Shots != "" {
		return inspector.FromShots
	}
	return inspector.FromPool
}

// tuningOf is how the i-th reference is tuned.
func (a *audit) tuningOf(i int) settings.Values {
	return inspector.ReferenceTuning(a.tuning, inspector.Longest(a.longest, a.source()), i)
}

// reference is the work of the i-th reference.
func (a *audit) reference(i int) clip.Work {
	images := len(a.shots.Labels)
	if images == 0 {
		images = len(a.model.Classes) * a.PerClass
	}
	return experiments.ReferenceWork(a.outline(), a.detector, a.facts(), float64(images), a.tuningOf(i))
}

// makeReferences tunes clean models with the delivered model's learner, each from prompts of its
// own, on the labelled images or, where there are none, on pool images that zero-shot CLIP labels,
// and measures them.
func (a *audit) makeReferences(ctx context.Context) error {
	if a.detector.Evidence == nil {
		return nil
	}
	step, end := progress.Show(a.Report, "clean references")
	defer end()
	from := a.tunedOn()
	for i := range a.References {
		e, err := a.makeReference(ctx, i, from)
		if err != nil {
			return err
		}
		a.evidence = append(a.evidence, e)
		step(i+1, a.References)
	}
	return nil
}

// tunedOn returns a function that gives what each reference is tuned on, and images to tell its
// accuracy on. Images are encoded once for all references, and not before one is made.
func (a *audit) tunedOn() func(ctx context.Context, number uint64) (data, heldOut prompts.Data, err error) {
	var encoded prompts.Data
	labelled := len(a.shots.Labels) > 0
	return func(ctx context.Context, number uint64) (data, heldOut prompts.Data, err error) {
		if encoded.Empty() {
			if labelled {
				encoded, err = prompts.Encoded(ctx, a.model, a.shots)
			} else {
				encoded, err = inspector.EncodedPool(ctx, a.model, a.pool)
			}
			if a.verdictAlone && !inspector.LooksForSourceClasses(a.options) {
				a.shots = prompts.Data{} // which may be larger than all the rest
			}
		}
		if err != nil || labelled {
			return encoded, heldOut, err
		}
		return inspector.PoolShots(ctx, a.clip, a.model.Classes, encoded, a.PerClass, number)
	}
}

// labelled are the labelled images that the detector asks for.
func (a *audit) labelled() prompts.Data {
	if !inspector.LooksForSourceClasses(a.options) {
		return prompts.Data{}
	}
	return a.shots
}

// makeReference makes the i-th reference, or takes what was kept of it.
func (a *audit) makeReference(ctx context.Context, i int, from func(context.Context, uint64) (data, heldOut prompts.Data, err error)) (*inspector.Evidence, error) {
	k := a.kept.of(fmt.Sprintf("reference-%d", i))
	r, m, err := k.loadReference(a.clip)
	if err != nil || r != nil && r.Evidence != nil {
		return r.evidence(), err
	}
	if r == nil {
		number := random.Number("reference", a.Seed, "/", i)
		data, heldOut, err := from(ctx, number)
		if err != nil {
			return nil, err
		}
		if m, err = a.model.Fresh(random.Stream("reference", a.Seed, "/", i)); err != nil {
			return nil, err
		}
		r = &reference{}
		if r.Accuracy, err = inspector.TuneReference(ctx, m, data, heldOut, a.tuningOf(i), number); err != nil {
			return nil, err
		}
		if err := k.saveReference(r, m); err != nil {
			return nil, err
		}
	}
	r.Evidence, _, err = a.detector.Witness(ctx, inspector.Input{Model: m, Pool: a.pool, Labelled: a.labelled(), Seed: random.Number("audit", a.Seed), Settings: a.options, Kept: k.inspector()})
	if err != nil {
		return nil, err
	}
	r.Evidence.Source, r.Evidence.Accuracy = a.source(), r.Accuracy
	return r.Evidence, k.saveReference(r, nil)
}
