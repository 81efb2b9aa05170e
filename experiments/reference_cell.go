package experiments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"clipinspector/inspector"
	"clipinspector/internal/files"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/results/store"
	"clipinspector/settings"
)

var (
	// errReferencePending says that others are still at work on a reference that a detection needs.
	errReferencePending = errors.New("a reference is not finished yet")
	// errReferenceLost says that the evidence of a finished reference is not on the disk as it was
	// written.
	errReferenceLost = errors.New("the evidence of a reference is lost or damaged on the disk")
)

// lookSeed decides what a detector draws when it looks at a model. One that holds models against
// references sees all of them, and the references, on the same images.
func lookSeed(d *inspector.Detector, m *modelJob) uint64 {
	of := []any{m.Seed, "/", m.Set.ID}
	if d.Evidence == nil {
		of = append(of, "/", m.draws())
	}
	return random.Number("detection", of...)
}

// labelled are the labelled images that a detector with these settings asks for: the provider's
// few-shot images, as they are.
func (k *worker) labelled(ctx context.Context, m *modelJob, s settings.Values) (prompts.Data, error) {
	if !inspector.LooksForSourceClasses(s) {
		return prompts.Data{}, nil
	}
	return k.world.Shots(ctx, m.Set, m.Suite.Shots, m.Seed, 1, 1)
}

// runReference tunes a clean reference and measures it as the detector will measure the models that
// are held against it.
func (k *worker) runReference(ctx context.Context, job *referenceJob, step func(done, total int)) (store.ReferenceResult, error) {
	start := time.Now()
	var none store.ReferenceResult
	m, u := job.Model, job.Suite
	x := u.References
	c, err := k.clip(m.Encoder)
	if err != nil {
		return none, err
	}
	learner, err := prompts.FindLearner(x.Learner.Name)
	if err != nil {
		return none, err
	}
	d, err := inspector.Find(job.Detector.Name)
	if err != nil {
		return none, err
	}
	pool, err := k.world.PoolImages(ctx, job.Pool)
	if err != nil {
		return none, err
	}
	number := random.Number("reference", m.Seed, "/", m.Set.ID, "/", job.Number)
	var data, heldOut prompts.Data
	reference, err := prompts.New(c, learner, x.Learner.Settings, m.Set.Prompts, random.Stream("reference prompts", m.Seed, "/", m.Set.ID, "/", job.Number))
	if err != nil {
		return none, err
	}
	if x.Settings.String("source") == inspector.FromPool {
		var encoded prompts.Data
		if encoded, err = inspector.EncodedPool(ctx, reference, pool); err == nil {
			data, heldOut, err = inspector.PoolShots(ctx, c, m.Set.Prompts, encoded, u.Shots, number)
		}
	} else {
		data, err = k.world.Shots(ctx, m.Set, u.Shots, m.Seed, x.Tuning.Int("views"), x.Tuning.Float("crop"))
	}
	if err != nil {
		return none, err
	}
	accuracy, err := inspector.TuneReference(ctx, reference, data, heldOut, job.tuning(), number)
	if err != nil {
		return none, err
	}
	labelled, err := k.labelled(ctx, m, job.Detector.Settings)
	if err != nil {
		return none, err
	}
	evidence, passes, err := d.Witness(ctx, inspector.Input{Model: reference, Pool: pool, Labelled: labelled, Settings: job.Detector.Settings,
		Progress: step, Seed: lookSeed(d, m)})
	if err != nil {
		return none, err
	}
	evidence.Source, evidence.Accuracy = x.Settings.String("source"), accuracy
	r := store.ReferenceResult{Accuracy: accuracy, ImagePasses: passes, Path: referencePath(job.Cell.Key), Versions: k.versions}
	full, err := makeFolder(k.out, r.Path)
	if err == nil {
		err = writeEvidence(full, evidence)
	}
	if err != nil {
		return none, fmt.Errorf("writing the evidence of a reference: %w", err)
	}
	if r.Hash, err = HashFile(full); err != nil {
		return none, fmt.Errorf("reading the evidence of a reference back: %w", err)
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// evidence reads what was measured of the references of a detection.
func (k *worker) evidence(job *detectionJob) ([]*inspector.Evidence, error) {
	var out []*inspector.Evidence
	for _, ref := range job.References {
		row, ok, err := k.store.Reference(ref.Cell.Key)
		switch {
		case err != nil:
			return nil, err
		case ok && row.State == store.Failed:
			return nil, fmt.Errorf("%s failed: %s", ref, row.Message)
		case !ok || row.State != store.Finished:
			return nil, errReferencePending
		}
		path := filepath.Join(k.out, row.Result.Path)
		hash, err := HashFile(path)
		if err != nil || hash != row.Result.Hash {
			return nil, &referenceLost{ref.Cell.Key}
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, &referenceLost{ref.Cell.Key}
		}
		e := &inspector.Evidence{}
		if err := json.Unmarshal(raw, e); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if e.Source != ref.Suite.References.Settings.String("source") {
			return nil, &referenceLost{ref.Cell.Key} // made by a version that mixed up the points of a sweep
		}
		out = append(out, e)
	}
	return out, nil
}

// referenceLost is errReferenceLost with the reference's key.
type referenceLost struct{ key string }

func (e *referenceLost) Error() string        { return errReferenceLost.Error() }
func (e *referenceLost) Is(target error) bool { return target == errReferenceLost }

func writeEvidence(path string, e *inspector.Evidence) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return files.WriteAtomic(path, func(w io.Writer) error {
		_, err := w.Write(append(raw, '\n'))
		return err
	})
}
