package experiments

import (
	"reflect"

	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/inspector"
	"clipinspector/results/store"
	"clipinspector/settings"
)

// planReferences plans what the detector of a detection holds the model against.
func (p *Plan) planReferences(job *detectionJob, u *suite.Suite) error {
	d, err := inspector.Find(job.Detector.Name)
	if err != nil || d.Evidence == nil {
		return err
	}
	m := job.Model
	// Models of one sample that the suite's detector looks at are held against the same references:
	// named once, not for each attack.
	group := sample{u, m.Set, m.Seed, job.Detector.Name, reflect.ValueOf(job.Detector.Settings).Pointer(), job.Pool}
	if known := p.samples[group]; known != nil {
		job.References = known
		return nil
	}
	defer func() { p.samples[group] = job.References }()
	deciding, err := job.deciding()
	if err != nil {
		return err
	}
	for i := range u.References.Settings.Int("count") {
		r := &referenceJob{Model: m, Suite: u, Detector: job.Detector, Number: i, Pool: job.Pool}
		of := referencesOf(u)
		of["tuning"] = map[string]any(r.tuning())
		delete(of, "count") // more of them are more cells
		delete(of, "longest")
		r.Cell = store.ReferenceCell{
			Dataset: m.Cell.Dataset, Learner: m.Cell.Learner, Seed: m.Seed, Order: len(p.References),
			Settings: map[string]any{
				"number":     i,
				"references": of,
				"detector":   map[string]any(settings.Values(deciding).Without(d.Judging(job.Detector.Settings))),
				"pool": map[string]any{"name": job.Pool.ID, "images": len(job.Pool.Indices), "seed": u.Pool.Seed,
					"fingerprint": job.Pool.Fingerprint},
				"engine":  p.Engine,
				"version": referenceVersion,
			},
		}
		for _, name := range []string{"dataset", "shots", "seed", "clip", "size"} {
			r.Cell.Settings[name] = m.Cell.Settings[name]
		}
		if r.Cell.Key, err = r.Cell.Identity(); err != nil {
			return err
		}
		if known := p.references[r.Cell.Key]; known != nil {
			r = known
		} else {
			p.references[r.Cell.Key] = r
			p.References = append(p.References, r)
		}
		job.References = append(job.References, r)
	}
	return nil
}

// sample is what references are of: a suite's few-shot sample, as one of its detectors looks at it.
type sample struct {
	suite    *suite.Suite
	set      *world.Set
	seed     int
	detector string
	settings uintptr // which of the suite's entries of that detector
	pool     *world.Pool
}

// tuning is how the reference is tuned.
func (r *referenceJob) tuning() settings.Values {
	x := r.Suite.References
	return inspector.ReferenceTuning(x.Tuning, longest(r.Suite), r.Number)
}

// referencesOf are a suite's settings of references, as identities name them.
func referencesOf(u *suite.Suite) map[string]any {
	of := map[string]any{"learner": u.References.Learner.Map(), "tuning": map[string]any(u.References.Tuning)}
	for name, v := range u.References.Settings {
		of[name] = v
	}
	delete(of, "longest")
	if l := longest(u); l != 1 { // without it as before there was another
		of["longest"] = l
	}
	return of
}

// longest is how many times the epochs the longest of a suite's references is tuned.
func longest(u *suite.Suite) float64 {
	s := u.References.Settings
	return inspector.Longest(s.Float("longest"), s.String("source"))
}
