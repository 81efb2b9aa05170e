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
)

const (
	// mostReferences is how many references an audit makes where nobody says how many.
	mostReferences = 8
	// patience is how many times the work of the verdict alone an audit may take with its references, where nobody says how many.
	patience = 5
)

// countReferences decides how many references there will be: as asked for, or as many as fit into five times the work of the verdict alone,
// eight at most, and no fewer than a verdict takes.
func (a *audit) countReferences() error {
	switch {
	case a.detector.Evidence == nil && a.References > 0:
		return fmt.Errorf("%s holds models against no references: leave --references out, or take --detector separation", a.detector.Name)
	case a.detector.Evidence == nil || a.References > 0:
		return nil
	}
	verdict, each := a.detection(), a.reference()
	a.References = max(inspector.FewestReferences, min(mostReferences, int((patience-1)*verdict.FLOP/each.FLOP)))
	return nil
}

// reference is the work of one reference.
func (a *audit) reference() clip.Work {
	images := len(a.shots.Labels)
	if images == 0 {
		images = len(a.model.Classes) * a.PerClass
	}
	return experiments.ReferenceWork(a.outline(), a.detector, a.facts(), float64(images), a.tuning)
}

// makeReferences tunes clean models with the delivered model's learner, each from prompts of its own, on the labelled images or, where there
// are none, on pool images that zero-shot CLIP labels, and measures them.
func (a *audit) makeReferences(ctx context.Context) error {
	if a.detector.Evidence == nil {
		return nil
	}
	step, end := progress.Show(a.Report, "clean references")
	defer end()
	for i := range a.References {
		number := random.Number("reference", a.Seed, "/", i)
		data, source := a.shots, inspector.FromShots
		var heldOut prompts.Data
		if len(data.Labels) == 0 {
			var err error
			source = inspector.FromPool
			if data, heldOut, err = inspector.PoolShots(ctx, a.clip, a.model.Classes, a.pool, a.PerClass, number); err != nil {
				return err
			}
		}
		m, err := a.model.Fresh(random.Stream("reference", a.Seed, "/", i))
		if err != nil {
			return err
		}
		accuracy, err := inspector.TuneReference(ctx, m, data, heldOut, a.tuning, number)
		if err != nil {
			return err
		}
		e, _, err := a.detector.Witness(ctx, inspector.Input{Model: m, Pool: a.pool, Seed: random.Number("audit", a.Seed), Settings: a.options})
		if err != nil {
			return err
		}
		e.Source, e.Accuracy = source, accuracy
		a.evidence = append(a.evidence, e)
		step(i+1, a.References)
	}
	return nil
}
