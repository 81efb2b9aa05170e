package experiments

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"time"

	"gorgonia.org/tensor"

	"clipinspector/inspector"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/results/store"
	"clipinspector/triggers"
)

// runExplanation looks once more at the suspect of a detection, whatever the verdict, and says
// which kind of trigger it answers to. What was recovered is held against the true trigger: its
// success on the same images and, of two patches, their places and sizes.
func (k *worker) runExplanation(ctx context.Context, job *explanationJob) (store.ExplanationResult, error) {
	start := time.Now()
	var none store.ExplanationResult
	model := job.Detection.Model
	m, made, err := k.delivered(model)
	if err != nil {
		return none, err
	}
	row, ok, err := k.store.Detection(job.Cell.DetectionKey)
	switch {
	case err != nil:
		return none, err
	case !ok || row.State != store.Finished:
		return none, errors.New("the detection is not finished")
	case row.Result.Suspect == store.NoClass:
		return none, errors.New("the detector suspects no class that a second look could be taken at")
	}
	pool, err := k.world.PoolImages(ctx, job.Detection.Pool)
	if err != nil {
		return none, err
	}
	in := lookedAt(model, m, pool)
	found, passes, err := inspector.Explain(ctx, in, job.Settings, row.Result.Suspect)
	if err != nil {
		return none, err
	}
	x := found[0]
	r := store.ExplanationResult{Class: x.Class, Said: x.Kind, Strongest: x.Strongest, Size: x.Size, Anywhere: x.Anywhere, ASR: x.ASR,
		ZeroShot: x.ZeroShot, Others: x.Others, Untouched: x.Untouched, PSNR: x.PSNR, SSIM: x.SSIM, IoU: math.NaN(), Distance: math.NaN(), TrueSize: math.NaN(), TrueASR: math.NaN(),
		ImagePasses: passes, Path: explanationPath(job.Cell.Key), Versions: k.versions}
	for _, f := range x.Families {
		r.Families = append(r.Families, store.FamilyEvidence{Kind: f.Kind, Lift: f.Lift, Gain: f.Gain, ASR: f.ASR})
	}
	if made.Backdoored {
		trigger, err := Planted(k.out, made)
		kept := !errors.Is(err, fs.ErrNotExist) || made.TriggerHash != "" // a function is not
		if kept && err != nil {
			return none, fmt.Errorf("%w: %w", errModelLost, err)
		}
		// Of a nil trigger neither exists.
		if r.IoU, r.Distance = triggers.Overlap(x.Trigger, trigger); !math.IsNaN(r.IoU) {
			r.TrueSize = inspector.SizeOf(inspector.KindPatch, trigger)
		}
		if kept {
			images := triggers.Rows(pool, inspector.Unseen(pool.Shape()[0], job.Settings, in.Seed))
			predicted, err := k.predict(ctx, model, m, "", images, trigger)
			if err != nil {
				return none, err
			}
			r.TrueASR, _ = prompts.SuccessRate(predicted, nil, made.Target)
		}
	}
	full, err := makeFolder(k.out, r.Path)
	if err == nil {
		err = triggers.Write(full, x.Trigger)
	}
	if err == nil {
		r.Hash, err = HashFile(full)
	}
	if err != nil {
		return none, fmt.Errorf("writing the trigger of an explanation: %w", err)
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// lookedAt is what a second look at a model may look at.
func lookedAt(job *modelJob, m *prompts.Model, pool *tensor.Dense) inspector.Input {
	return inspector.Input{Model: m, Pool: pool, Seed: random.Number("explanation", job.Seed, "/", job.Set.ID)}
}

// explained says which kind of trigger the suspect of a repair answers to, as the explanation cell
// of the same settings has found out or would find out.
func (k *worker) explained(ctx context.Context, job *repairJob, m *prompts.Model, pool *tensor.Dense, suspect int) (*inspector.Explanation, error) {
	cell, err := explanationCell(job.Detection, job.Explaining)
	if err != nil {
		return nil, err
	}
	row, ok, err := k.store.Explanation(cell.Key)
	if err != nil {
		return nil, err
	}
	if ok && row.State == store.Finished {
		path := filepath.Join(k.out, row.Result.Path)
		if hash, err := HashFile(path); err == nil && hash == row.Result.Hash {
			t, err := triggers.Read(path)
			x := &inspector.Explanation{Class: row.Result.Class, Kind: row.Result.Said, Strongest: row.Result.Strongest, Trigger: t}
			for _, f := range row.Result.Families {
				x.Families = append(x.Families, inspector.FamilyFinding{Kind: f.Kind, Lift: f.Lift, Gain: f.Gain, ASR: f.ASR})
			}
			return x, err
		}
	}
	found, _, err := inspector.Explain(ctx, lookedAt(job.Detection.Model, m, pool), job.Explaining, suspect)
	if err != nil {
		return nil, err
	}
	return &found[0], nil
}
