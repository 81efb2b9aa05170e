package experiments

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"clipinspector/inspector"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/results/store"
	"clipinspector/triggers"
)

// errTriggersLost says that the triggers that a finished detection recovered are not on the disk.
var errTriggersLost = errors.New("the recovered triggers are lost or damaged on the disk")

// runRepair repairs the model of a cell with what its detection recovered, whether the verdict was
// backdoored or not, and measures it beside the delivered model, the control and prompts tuned
// afresh, all for the same number of steps.
func (k *worker) runRepair(ctx context.Context, job *repairJob, progress prompts.Progress) (store.RepairResult, error) {
	start := time.Now()
	var none store.RepairResult
	model := job.Detection.Model
	m, made, err := k.delivered(model)
	if err != nil {
		return none, err
	}
	row, ok, err := k.store.Detection(job.Cell.DetectionKey)
	if err != nil {
		return none, err
	}
	if !ok || row.State != store.Finished {
		return none, fmt.Errorf("%w: the detection is not finished", errTriggersLost)
	}
	if why := row.Result.Unsure; why != "" && row.Result.Suspect == store.NoClass {
		return none, fmt.Errorf("the detector could not tell (%s): there is no trigger to repair with", why)
	}
	recovered, err := Recovered(k.out, row.Result.Path, row.Result.Hash)
	if err != nil {
		return none, fmt.Errorf("%w: %w", errTriggersLost, err)
	}
	if len(recovered) != len(m.Classes) {
		return none, fmt.Errorf("%w: %d for %d classes", errTriggersLost, len(recovered), len(m.Classes))
	}
	if row.Result.Suspect == store.NoClass {
		return none, errors.New("the detector ruled out every class: there is no trigger to repair with")
	}
	suspect := row.Result.Suspect
	if recovered[suspect] == nil {
		return none, errors.New("the detector recovered no trigger of its suspect: there is none to repair with")
	}
	var trigger triggers.Trigger
	if made.Backdoored {
		switch trigger, err = Planted(k.out, made); {
		case errors.Is(err, fs.ErrNotExist) && made.TriggerHash == "":
			return none, errors.New("the model's trigger is a function, which is not kept: nothing can tell what a repair does to it")
		case err != nil:
			return none, fmt.Errorf("%w: %w", errModelLost, err)
		}
	}
	shots, err := k.world.Shots(ctx, model.Set, model.Suite.Shots, model.Seed, job.Settings.Int("views"), job.Settings.Float("crop"))
	if err != nil {
		return none, err
	}
	cell := []any{model.Seed, "/", model.Set.ID, "/", model.draws()}
	fresh, err := prompts.New(m.CLIP, m.Learner, m.Settings, m.Classes, random.Stream("retuned prompts", cell...))
	if err != nil {
		return none, err
	}
	pool, err := k.world.PoolImages(ctx, job.Detection.Pool)
	if err != nil {
		return none, err
	}
	detector, err := inspector.Find(job.Detection.Detector.Name)
	if err != nil {
		return none, err
	}
	in := inspector.RepairInput{Model: m, Shots: shots, Triggers: recovered, Suspect: suspect, Detector: detector,
		Options: job.Detection.Detector.Settings, Pool: pool, Seed: random.Number("repair", cell...), Settings: job.Settings}
	if in.Explaining = job.Explaining; in.Explaining != nil {
		if in.Explanation, err = k.explained(ctx, job, m, pool, suspect); err != nil {
			return none, err
		}
	}
	whole, err := inspector.WholePool(ctx, m.CLIP, pool)
	if err != nil {
		return none, err
	}
	unlabelled, _, err := inspector.PoolShots(ctx, m.CLIP, m.Classes, whole, model.Suite.Shots, in.Seed)
	if err != nil {
		return none, err
	}
	r := store.RepairResult{Path: repairPath(job.Cell.Key), Versions: k.versions}
	measure := func(name string, m *prompts.Model) error {
		arm, err := k.arm(ctx, model, m, trigger, made.Target, recovered[suspect], suspect)
		arm.Name = name
		r.Arms = append(r.Arms, arm)
		return err
	}
	if err := measure(store.ArmDelivered, m); err != nil {
		return none, err
	}
	for i, a := range []struct {
		name    string
		from    *prompts.Model
		shots   prompts.Data
		control bool
	}{{store.ArmRepaired, m, shots, false}, {store.ArmControl, m, shots, true}, {store.ArmRetuned, fresh, shots, true},
		{store.ArmUnlabelled, m, unlabelled, false}} {
		in := in
		in.Model, in.Shots, in.Control = a.from, a.shots, a.control
		in.Progress = func(done, total int) { progress(i*total+done, 4*total) }
		out, err := inspector.Repair(ctx, in)
		if err == nil {
			err = measure(a.name, out)
		}
		if err == nil && a.name == store.ArmRepaired {
			r.Hash, err = k.keepRepaired(r.Path, out)
		}
		if err != nil {
			return none, err
		}
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// arm measures a model: on clean test images, on those with the true trigger, if there is one, and
// with the recovered one.
func (k *worker) arm(ctx context.Context, job *modelJob, m *prompts.Model, trigger triggers.Trigger, target int, recovered triggers.Trigger,
	suspect int) (store.Arm, error) {
	a := store.Arm{ASR: math.NaN(), ASRAll: math.NaN(), ASRRecovered: math.NaN()}
	test, labels, err := k.world.Test(ctx, job.Set)
	if err != nil {
		return a, err
	}
	predicted, err := k.predict(ctx, job, m, "test "+job.Set.Key, test, nil)
	if err != nil {
		return a, err
	}
	a.ACC = prompts.Accuracy(predicted, labels)
	if trigger != nil {
		if predicted, err = k.predict(ctx, job, m, "", test, trigger); err != nil {
			return a, err
		}
		a.ASRAll, a.ASR = prompts.SuccessRate(predicted, labels, target)
	}
	if recovered != nil {
		if predicted, err = k.predict(ctx, job, m, "", test, recovered); err != nil {
			return a, err
		}
		_, a.ASRRecovered = prompts.SuccessRate(predicted, labels, suspect)
	}
	return a, nil
}

// keepRepaired writes a repaired model below the output folder and returns the hash of its file.
func (k *worker) keepRepaired(path string, m *prompts.Model) (string, error) {
	full, err := makeFolder(k.out, path)
	if err == nil {
		err = m.Write(full)
	}
	if err != nil {
		return "", fmt.Errorf("writing the repaired model: %w", err)
	}
	return HashFile(full)
}
