package experiments

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"clipinspector/inspector"
	"clipinspector/prompts"
	"clipinspector/results/store"
)

// errModelLost says that a model that the store calls finished is not on the disk as it was
// written.
var errModelLost = errors.New("the model is lost or damaged on the disk")

// delivered reads the model of a finished cell as it lies on the disk, and its figures.
func (k *worker) delivered(job *modelJob) (*prompts.Model, store.ModelResult, error) {
	row, ok, err := k.store.Model(job.Cell.Key)
	if err != nil {
		return nil, row.Result, err
	}
	if !ok || row.State != store.Finished {
		return nil, row.Result, fmt.Errorf("%w: it is not finished", errModelLost)
	}
	path := filepath.Join(k.out, row.Result.Path)
	switch hash, err := HashFile(path); {
	case err != nil:
		return nil, row.Result, fmt.Errorf("%w: %w", errModelLost, err)
	case hash != row.Result.Hash:
		return nil, row.Result, fmt.Errorf("%w: %s is not the file that was written", errModelLost, path)
	}
	c, err := k.clip(job.Encoder)
	if err != nil {
		return nil, row.Result, err
	}
	m, err := prompts.Read(path, c)
	return m, row.Result, err
}

// runDetection lets a detector look at the model of a cell as it lies on the disk, and writes the
// triggers that it recovered below the output folder; or judges what another cell measured, where
// one differs in nothing but the verdict.
func (k *worker) runDetection(ctx context.Context, job *detectionJob, progress func(done, total int)) (store.DetectionResult, error) {
	start := time.Now()
	var none store.DetectionResult
	if r, ok, err := k.judgedAnew(job); ok || err != nil {
		return r, err
	}
	m, _, err := k.delivered(job.Model)
	if err != nil {
		return none, err
	}
	images, err := k.world.PoolImages(ctx, job.Pool)
	if err != nil {
		return none, err
	}
	d, err := inspector.Find(job.Detector.Name)
	if err != nil {
		return none, err
	}
	evidence, err := k.evidence(job)
	if err != nil {
		return none, err
	}
	labelled, err := k.labelled(ctx, job.Model, job.Detector.Settings)
	if err != nil {
		return none, err
	}
	report, err := d.Look(ctx, inspector.Input{
		Model: m, Pool: images, Labelled: labelled, Settings: job.Detector.Settings, References: evidence, Progress: progress, Seed: lookSeed(d, job.Model),
	})
	if err != nil {
		return none, err
	}
	r := store.DetectionResult{Index: report.Index, Backdoored: report.Backdoored, Suspect: report.Suspect, Unsure: report.Unsure,
		ImagePasses: report.ImagePasses, Path: detectionPath(job.Cell.Key), Versions: k.versions}
	add := func(class int, s inspector.ClassResult) {
		r.Classes = append(r.Classes, store.ClassScore{Class: class, Loss: s.Loss, ASR: s.ASR, Score: s.Score, Index: s.Index,
			Norm: s.Norm, Reached: s.Reached})
	}
	for i, s := range report.Classes {
		if !s.RuledOut() {
			add(i, s)
		}
	}
	if report.Whole != nil {
		add(store.NoClass, *report.Whole)
	}
	full, err := makeFolder(k.out, r.Path)
	if err == nil {
		err = writeRecovered(full, report)
	}
	if err == nil {
		r.Hash, err = HashFile(full)
	}
	if err != nil {
		return none, fmt.Errorf("writing the recovered triggers: %w", err)
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}
