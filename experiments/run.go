package experiments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"clipinspector/engine"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/results/store"
)

// Options say where and how a suite runs. None of them changes a result, except that scores belong
// to one kind of device.
type Options struct {
	Out     string        // folder that everything is written to; runs/NAME when empty
	Device  string        // "cpu", "cuda:N", "cuda:N/bf16"; see OpenEngine
	Workers int           // cells at a time; 0: one for every two threads
	Threads int           // of all workers together; 0: all cores
	Shard   Shard         // what part of the suite; it lies in a folder of its own below Out
	Scratch string        // local folder to compute in; what has come is published to Out. Empty: in Out itself, or for a shard on a network file system a temporary one
	Lease   time.Duration // how long a killed process keeps others from its cells; 0: 15 seconds
	Report  io.Writer     // progress: a bar on a terminal, lines elsewhere; nil for none
}

// DefaultOut is the folder of a suite when none is named.
func DefaultOut(suite string) string { return filepath.Join("runs", suite) }

// Run plans a suite into the store below o.Out and runs every cell that is not finished yet. Other
// processes may run the same suite into the same folder at once. A cell that fails is recorded and
// reported, and the others go on. When ctx ends the cells at hand are given back. It returns how
// far the suite has come; the error is not nil when that is not to the end.
//
// With o.Shard it runs that part of the suite alone, below o.Out in a folder of the shard's own;
// see Merge.
func Run(ctx context.Context, f *suite.File, o Options) (done store.Progress, err error) {
	var none store.Progress
	if o.Out == "" {
		o.Out = DefaultOut(f.Name)
	}
	o.Out = o.Shard.Folder(o.Out)
	if o.Lease <= 0 {
		o.Lease = 15 * time.Second
	}
	count, threads := world.Share(o.Device, o.Workers, o.Threads)
	engines, err := openEngines(o.Device, count, threads)
	defer func() {
		for _, e := range engines {
			_ = e.Close() // nothing is left to lose
		}
	}()
	if err != nil {
		return none, err
	}
	world := world.New()
	world.Watch(ctx, o.Report)
	plan, err := NewPlan(world, f, engines[0].Fingerprint())
	if err != nil {
		return none, err
	}
	plan = plan.part(o.Shard)
	if o.Scratch == "" && o.Shard.Of > 0 && store.NetworkFS(o.Out) != "" && os.Getenv(store.NetworkVariable) != "1" {
		o.Scratch = os.TempDir()
	}
	var staged *stage
	if o.Scratch != "" {
		if staged, err = openStage(o.Out, o.Scratch, true); err != nil {
			return none, err
		}
		o.Out = staged.local
		defer func() { err = errors.Join(err, staged.publish(), staged.close()) }()
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return none, fmt.Errorf("making the output folder: %w", err)
	}
	results, err := store.Open(filepath.Join(o.Out, StoreFile))
	if err != nil {
		return none, err
	}
	defer results.Close()
	versions := versions(engines[0])
	known, err := results.Models(f.Name)
	if err != nil {
		return none, err
	}
	if err := plan.Store(results, versions); err != nil {
		return none, err
	}
	if err := plan.verify(world, results); err != nil {
		return none, err
	}
	results = results.Only(plan.has)                                    // others may plan into the same suite, for other seeds say
	if _, err := results.RetryFailed(f.Name, math.MaxInt); err != nil { // whatever the reason was, it may have passed
		return none, err
	}
	sweep(o.Out)
	report := newReport(o.Report, results, plan, count)
	if w, ok := engines[0].(interface{ Warning() string }); ok && w.Warning() != "" {
		report.line("%s", w.Warning())
	}
	for _, note := range slices.Concat(plan.replaced(known), plan.same, plan.leftOut()) {
		report.line("%s", note)
	}
	if staged != nil {
		own, stop := context.WithCancel(ctx)
		defer stop()
		go staged.keep(own, report.line)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for i, e := range engines {
		k := newWorker(i, e, world, plan, results, o, versions, report)
		group.Go(func() error { return k.work(groupCtx) })
	}
	err = group.Wait()
	report.close()
	progress, perr := results.Progress(f.Name)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil && perr != nil:
		err = perr
	case err == nil:
		err = plan.unfinished(results, progress)
	}
	return progress, err
}

func openEngines(device string, count, threads int) (engines []engine.Engine, err error) {
	for range count {
		e, err := world.OpenEngine(device, threads)
		if err != nil {
			return engines, err
		}
		engines = append(engines, e)
	}
	return engines, nil
}

// Planned returns those of the rows that a run of the suite as it stands plans on a device. A folder
// may hold others under the same name: of other seeds, say, or held against other references.
func Planned(f *suite.File, device string, models []store.ModelRow, detections []store.DetectionRow) ([]store.ModelRow, []store.DetectionRow, error) {
	engines, err := openEngines(device, 1, 1)
	for _, e := range engines {
		defer func() { _ = e.Close() }() // nothing is left to lose
	}
	if err != nil {
		return nil, nil, err
	}
	p, err := NewPlan(world.New(), f, engines[0].Fingerprint())
	if err != nil {
		return nil, nil, err
	}
	models = slices.DeleteFunc(models, func(m store.ModelRow) bool { return p.models[m.Cell.Key] == nil })
	detections = slices.DeleteFunc(detections, func(d store.DetectionRow) bool { return p.detections[d.Cell.Key] == nil })
	return models, detections, nil
}

// ErrFailedCells says that a run came to its end with cells that failed.
var ErrFailedCells = errors.New("some cells failed")

func (p *Plan) unfinished(results *store.Store, done store.Progress) error {
	m, d, x, r := done.Models, done.Detections, done.Explanations, done.Repairs
	if m.Failed == 0 && d.Failed == 0 && x.Failed == 0 && r.Failed == 0 {
		return nil
	}
	first, err := p.firstFailed(results)
	if err != nil {
		return err
	}
	repairs := ""
	if x.Planned > 0 {
		repairs = fmt.Sprintf(", and %d of %d explanations", x.Failed, x.Planned)
	}
	if r.Planned > 0 {
		repairs += fmt.Sprintf(", and %d of %d repairs", r.Failed, r.Planned)
	}
	return fmt.Errorf("%w: %d of %d models and %d of %d detections (%d more wait for those models)%s; the first: %s; run again to retry them",
		ErrFailedCells, m.Failed, m.Planned, d.Failed, d.Planned, d.Blocked, repairs, first)
}

// firstFailed names the first cell that failed, models before detections before repairs, and says
// why it did.
func (p *Plan) firstFailed(results *store.Store) (string, error) {
	models, err := results.Models(p.File.Name)
	if err != nil {
		return "", err
	}
	for _, m := range models {
		if job := p.models[m.Cell.Key]; m.State == store.Failed && job != nil {
			return fmt.Sprintf("%s: %s", job, m.Message), nil
		}
	}
	detections, err := results.Detections(p.File.Name)
	if err != nil {
		return "", err
	}
	for _, d := range detections {
		if job := p.detections[d.Cell.Key]; d.State == store.Failed && job != nil {
			return fmt.Sprintf("%s: %s", job, d.Message), nil
		}
	}
	explanations, err := results.Explanations(p.File.Name)
	if err != nil {
		return "", err
	}
	for _, x := range explanations {
		if job := p.explanations[x.Cell.Key]; x.State == store.Failed && job != nil {
			return fmt.Sprintf("%s: %s", job, x.Message), nil
		}
	}
	repairs, err := results.Repairs(p.File.Name)
	if err != nil {
		return "", err
	}
	for _, r := range repairs {
		if job := p.repairs[r.Cell.Key]; r.State == store.Failed && job != nil {
			return fmt.Sprintf("%s: %s", job, r.Message), nil
		}
	}
	return "planned by another process", nil
}

// versions says which program on which engine computes: kept beside every result, and no part of
// any identity.
func versions(e engine.Engine) map[string]string {
	v := map[string]string{"engine": e.Fingerprint(), "go": runtime.Version(), "model": strconv.Itoa(modelVersion),
		"detection": strconv.Itoa(detectionVersion), "repair": strconv.Itoa(repairVersion),
		"explanation": strconv.Itoa(explanationVersion)}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" || s.Key == "vcs.modified" {
				v[s.Key] = s.Value
			}
		}
	}
	return v
}
