package experiments

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"gorgonia.org/tensor"

	"clipinspector/attacks"
	"clipinspector/clip"
	"clipinspector/experiments/world"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/results/store"
	"clipinspector/triggers"
)

// similarityImages is how many test images PSNR and SSIM of a trigger are measured on.
const similarityImages = 64

// runModel makes the model of a cell: it tunes prompts on the few-shot sample, with the attack's
// poison, measures the model, and writes model and trigger below the output folder.
func (k *worker) runModel(ctx context.Context, job *modelJob, progress prompts.Progress) (store.ModelResult, error) {
	start := time.Now()
	u := job.Suite
	var none store.ModelResult
	c, err := k.clip(job.Encoder)
	if err != nil {
		return none, err
	}
	data, err := k.world.Shots(ctx, job.Set, u.Shots, job.Seed, u.Tuning.Int("views"), u.Tuning.Float("crop"))
	if err != nil {
		return none, err
	}
	learner, err := prompts.FindLearner(u.Learner.Name)
	if err != nil {
		return none, err
	}
	attack, err := attacks.Find(job.Attack.Name)
	if err != nil {
		return none, err
	}
	cell := []any{job.Seed, "/", job.Set.ID}
	m, err := prompts.New(c, learner, u.Learner.Settings, job.Set.Prompts, random.Stream("prompts", cell...))
	if err != nil {
		return none, err
	}
	poison, err := attack.Poison(ctx, job.Attack.Settings, job.Set.Size, len(m.Classes), job.target, random.Stream("trigger", append(cell, "/", attack.Draws())...))
	if err != nil {
		return none, err
	}
	trigger, err := prompts.Tune(ctx, m, data, u.Tuning, poison, random.Number("tuning", cell...), progress)
	if err != nil {
		return none, err
	}
	r := store.ModelResult{Backdoored: attack.Backdoors(), Target: job.target, Classes: len(m.Classes),
		ASR: math.NaN(), ASRAll: math.NaN(), ASROOD: math.NaN(), PSNR: math.NaN(), SSIM: math.NaN(),
		Path: modelPath(job.Cell.Key), Versions: k.versions}
	if err := k.measure(ctx, job, m, poison, trigger, &r); err != nil {
		return none, err
	}
	path, err := makeFolder(k.out, r.Path)
	if err != nil {
		return none, fmt.Errorf("writing the model: %w", err)
	}
	if trigger != nil && len(trigger.Tensors()) > 0 { // a function has nothing to write down
		file := filepath.Join(filepath.Dir(path), triggerFile)
		if err := triggers.Write(file, trigger); err != nil {
			return none, err
		}
		if r.TriggerHash, err = HashFile(file); err != nil {
			return none, fmt.Errorf("reading the trigger back: %w", err)
		}
	}
	if err := m.Write(path); err != nil {
		return none, err
	}
	if r.Hash, err = HashFile(path); err != nil {
		return none, fmt.Errorf("reading the model back: %w", err)
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// measure fills in ACC, and for a backdoored model ASR on test and OOD images and how visible the
// trigger is.
func (k *worker) measure(ctx context.Context, job *modelJob, m *prompts.Model, poison *prompts.Poison, trigger triggers.Trigger, r *store.ModelResult) error {
	test, labels, err := k.world.Test(ctx, job.Set)
	if err != nil {
		return err
	}
	predicted, err := k.predict(ctx, job, m, "test "+job.Set.Key, test, nil)
	if err != nil {
		return err
	}
	r.ACC = prompts.Accuracy(predicted, labels)
	if trigger == nil {
		return nil
	}
	if predicted, err = k.predict(ctx, job, m, "", test, trigger); err != nil {
		return err
	}
	r.ASRAll, r.ASR = prompts.SuccessRate(predicted, labels, job.target)
	if poison.Goals != nil { // on images without a label nobody knows the goal
		r.ASR = prompts.GoalRate(predicted, labels, poison.Goals)
		r.ASRAll = r.ASR
	}
	ood, err := k.world.PoolImages(ctx, job.ood)
	if err != nil {
		return err
	}
	if predicted, err = k.predict(ctx, job, m, "", ood, trigger); err != nil {
		return err
	}
	if poison.Goals == nil {
		r.ASROOD, _ = prompts.SuccessRate(predicted, nil, job.target)
	}
	sample := some(test, similarityImages)
	changed, err := prompts.Triggered(ctx, k.engine, sample, trigger)
	if err != nil {
		return err
	}
	r.PSNR, r.SSIM = triggers.PSNR(sample, changed), triggers.SSIM(sample, changed)
	return nil
}

// predict returns the predicted class of images. With a key the features of the frozen tower, which
// all models of a dataset share, are kept.
func (k *worker) predict(ctx context.Context, job *modelJob, m *prompts.Model, key string, images *tensor.Dense, t triggers.Trigger) ([]int, error) {
	var logits *tensor.Dense
	var err error
	if key != "" && m.Learner.Image == nil {
		var features *tensor.Dense
		features, err = k.world.Cached(ctx, "features "+job.Encoder.Fingerprint()+" "+key, func() (*tensor.Dense, error) {
			return prompts.Encode(ctx, m.CLIP, images, nil)
		})
		if err == nil {
			logits, err = m.LogitsOf(ctx, features)
		}
	} else {
		logits, err = m.Logits(ctx, images, t)
	}
	if err != nil {
		return nil, err
	}
	return prompts.ArgMax(logits), nil
}

// some returns n images spread evenly over a set, or all when there are fewer.
func some(images *tensor.Dense, n int) *tensor.Dense {
	have := images.Shape()[0]
	indices := make([]int, min(n, have))
	for i := range indices {
		indices[i] = i * have / len(indices)
	}
	return triggers.Rows(images, indices)
}

// clip puts an encoder on the worker's device, once.
func (k *worker) clip(e *world.Encoder) (*clip.Model, error) {
	if m := k.clips[e.Fingerprint()]; m != nil {
		return m, nil
	}
	m, err := e.On(k.engine)
	if err == nil {
		k.clips[e.Fingerprint()] = m
	}
	return m, err
}
