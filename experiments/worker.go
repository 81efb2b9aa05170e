package experiments

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/experiments/world"
	"clipinspector/results/store"
)

// worker runs one cell after the other on its own device.
type worker struct {
	name     string
	engine   engine.Engine
	world    *world.World
	plan     *Plan
	store    *store.Store
	out      string
	lease    time.Duration
	versions map[string]string
	report   *report
	clips    map[string]*clip.Model
}

func newWorker(i int, e engine.Engine, w *world.World, p *Plan, s *store.Store, o Options, versions map[string]string, r *report) *worker {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return &worker{fmt.Sprintf("%s/%d/%d/%d", host, os.Getpid(), time.Now().UnixNano(), i), e, w, p, s, o.Out, o.Lease, versions, r,
		map[string]*clip.Model{}}
}

// idle is how long a worker waits when others hold all that is left.
const idle = 200 * time.Millisecond

// work leases cells until none is left that anybody could run: models first, then references,
// detections, explanations, repairs.
func (k *worker) work(ctx context.Context) error {
	defer func() {
		for _, m := range k.clips {
			m.Free()
		}
	}()
	suite := k.plan.File.Name
	for ctx.Err() == nil {
		model, ok, err := k.store.LeaseModel(suite, k.name, k.lease)
		if err != nil {
			return err
		}
		if ok {
			if err := k.model(ctx, model.Key); err != nil {
				return err
			}
			continue
		}
		reference, ok, err := k.store.LeaseReference(suite, k.name, k.lease)
		if err != nil {
			return err
		}
		if ok {
			if err := k.reference(ctx, reference.Key); err != nil {
				return err
			}
			continue
		}
		detection, ok, err := k.store.LeaseDetection(suite, k.name, k.lease)
		if err != nil {
			return err
		}
		if ok {
			if err := k.detection(ctx, detection.Key); err != nil {
				return err
			}
			continue
		}
		explanation, ok, err := k.store.LeaseExplanation(suite, k.name, k.lease)
		if err != nil {
			return err
		}
		if ok {
			if err := k.explanation(ctx, explanation.Key); err != nil {
				return err
			}
			continue
		}
		repair, ok, err := k.store.LeaseRepair(suite, k.name, k.lease)
		if err != nil {
			return err
		}
		if ok {
			if err := k.repair(ctx, repair.Key); err != nil {
				return err
			}
			continue
		}
		progress, err := k.store.Progress(suite)
		if err != nil || progress.Done() {
			return err
		}
		select {
		case <-time.After(idle):
		case <-ctx.Done():
		}
	}
	return nil
}

func (k *worker) model(ctx context.Context, key string) error {
	job := k.plan.models[key]
	return k.cell(ctx, store.KindModel, key, job, func(ctx context.Context, step func(done, total int)) error {
		r, err := k.runModel(ctx, job, step)
		if err != nil {
			return err
		}
		return k.store.FinishModel(key, k.name, r)
	})
}

func (k *worker) reference(ctx context.Context, key string) error {
	job := k.plan.references[key]
	return k.cell(ctx, store.KindReference, key, job, func(ctx context.Context, step func(done, total int)) error {
		r, err := k.runReference(ctx, job, step)
		if err != nil {
			return err
		}
		return k.store.FinishReference(key, k.name, r)
	})
}

func (k *worker) detection(ctx context.Context, key string) error {
	job := k.plan.detections[key]
	return k.cell(ctx, store.KindDetection, key, job, func(ctx context.Context, step func(done, total int)) error {
		r, err := k.runDetection(ctx, job, step)
		if err != nil {
			return err
		}
		return k.store.FinishDetection(key, k.name, r)
	})
}

func (k *worker) explanation(ctx context.Context, key string) error {
	job := k.plan.explanations[key]
	return k.cell(ctx, store.KindExplanation, key, job, func(ctx context.Context, _ func(done, total int)) error {
		r, err := k.runExplanation(ctx, job)
		if err != nil {
			return err
		}
		return k.store.FinishExplanation(key, k.name, r)
	})
}

func (k *worker) repair(ctx context.Context, key string) error {
	job := k.plan.repairs[key]
	return k.cell(ctx, store.KindRepair, key, job, func(ctx context.Context, step func(done, total int)) error {
		r, err := k.runRepair(ctx, job, step)
		if err != nil {
			return err
		}
		return k.store.FinishRepair(key, k.name, r)
	})
}

var errLeaseLost = errors.New("another worker has taken over the cell")

// cell runs a leased cell while its lease is kept alive. What goes wrong in the cell is recorded;
// the error returned is one that ends the run.
func (k *worker) cell(ctx context.Context, kind store.Kind, key string, job fmt.Stringer, run func(context.Context, func(done, total int)) error) error {
	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		k.keep(own, cancel, kind, key)
	}()
	end := k.report.begin(kind, key)
	err := guard(func() error { return run(own, k.report.step(key)) })
	end()
	lost := errors.Is(context.Cause(own), errLeaseLost)
	cancel(nil)
	<-beating
	switch {
	case err == nil || lost:
		return nil
	case ctx.Err() != nil:
		return k.let(k.store.Release(kind, key, k.name))
	case errors.Is(err, errModelLost):
		k.report.line("%s: %v: it is made again", job, err)
		return errors.Join(k.store.Reopen(store.KindModel, k.plan.basis(kind, key).Model.Cell.Key), k.let(k.store.Release(kind, key, k.name)))
	case errors.Is(err, errTriggersLost):
		k.report.line("%s: %v: they are recovered again", job, err)
		return errors.Join(k.store.Reopen(store.KindDetection, k.plan.basis(kind, key).Cell.Key), k.let(k.store.Release(kind, key, k.name)))
	case errors.Is(err, errReferencePending): // others are at it
		time.Sleep(idle)
		return k.let(k.store.Release(kind, key, k.name))
	case errors.Is(err, errReferenceLost):
		k.report.line("%s: %v: it is made again", job, err)
		var lost *referenceLost
		errors.As(err, &lost)
		return errors.Join(k.store.Reopen(store.KindReference, lost.key), k.let(k.store.Release(kind, key, k.name)))
	case errors.Is(err, store.ErrConflict):
		return fmt.Errorf("%s: %w", job, err)
	}
	k.report.line("failed: %s: %v", job, err)
	return k.let(k.store.Fail(kind, key, k.name, err.Error()))
}

// let takes it that a lease was lost in between: somebody else cares for the cell.
func (k *worker) let(err error) error {
	if errors.Is(err, store.ErrLeaseLost) {
		return nil
	}
	return err
}

// keep renews the lease of a cell until ctx ends; when the lease is lost it says so to the cell.
func (k *worker) keep(ctx context.Context, cancel context.CancelCauseFunc, kind store.Kind, key string) {
	ticker := time.NewTicker(k.lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// Another error, such as a full disk, will show when the cell finishes.
		if err := k.store.Renew(kind, key, k.name, k.lease); errors.Is(err, store.ErrLeaseLost) && ctx.Err() == nil {
			cancel(errLeaseLost)
			return
		}
	}
}

// guard turns a panic, a fault of the program in one cell, into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			stack := strings.Split(string(debug.Stack()), "\n")
			err = fmt.Errorf("a fault of the program: %v\n%s", p, strings.Join(stack[:min(len(stack), 24)], "\n"))
		}
	}()
	return f()
}
