// Package audit looks at one delivered model: Inspect says whether it is backdoored and writes a
// report, Repair also fine-tunes it until its recovered trigger no longer works, and Convert writes
// it in another form.
//
// The model comes from a stranger. What its file holds is named in the report, or the file is
// refused.
package audit

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/datasets"
	"clipinspector/engine"
	"clipinspector/experiments"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/inspector"
	"clipinspector/internal/files"
	"clipinspector/internal/memory"
	"clipinspector/internal/printable"
	"clipinspector/internal/progress"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/results/stats"
	"clipinspector/settings"
)

// Audit says which delivered model is looked at, and with what.
type Audit struct {
	Checkpoint string // what prompts.ReadCheckpoint reads
	Classes    string // file of class names, in the order of the labels; empty where the checkpoint holds them
	prompts.Hints
	CLIP       string // the encoder that the prompts were tuned for
	OOD        string // unlabelled images that show none of the classes: a folder, "builtin:mini", or a pool by name
	Shots      string // labelled images: a folder with a folder for each class, or a dataset by name; may be empty
	PerClass   int    // how many images of each class to tune on at most
	References int    // clean models to hold it against; 0 for as many as five times the verdict's own work allows
	Explain    int    // how many classes, the suspect first, to look at once more for the kind of trigger that they answer to
	Detector   string
	Sets       []string // detector.NAME=VALUE, tuning.NAME=VALUE, references.longest=N, repair.NAME=VALUE
	Seed       int
	Device     string
	Threads    int
	MaxTime    time.Duration // an audit that takes longer by its estimate is refused; 0 for no limit
	Report     io.Writer     // estimate and progress; nil for none

	verdictAlone bool // labelled images serve the references, and nothing is measured on any
}

// fewestImages is the smallest pool that an audit makes do with.
const fewestImages = 50

// audit is an Audit with everything opened.
type audit struct {
	Audit
	engine     engine.Engine
	clip       *clip.Model
	encoder    *world.Encoder
	model      *prompts.Model
	subject    Subject
	delivered  clip.Comparison // of the encoders in the checkpoint with the given ones
	detector   *inspector.Detector
	options    settings.Values // of the detector
	tuning     settings.Values // of the references
	longest    float64         // see inspector.ReferenceTuning
	repair     settings.Values
	explaining settings.Values
	pool       *tensor.Dense
	opened     *world.Pool
	shots      prompts.Data          // to tune on
	test       prompts.Data          // to measure on
	evidence   []*inspector.Evidence // of references
	kept       *kept                 // nil where nothing is
}

func (a *audit) close() {
	if a.clip != nil {
		a.clip.Free()
	}
	if a.engine != nil {
		_ = a.engine.Close() // nothing is left to lose
	}
}

// open reads and checks everything that an audit needs.
func (o Audit) open(ctx context.Context) (a *audit, err error) {
	a = &audit{Audit: o}
	// Most of the heap are few large arrays, which the collector does not look into: collecting often
	// costs little, and of a large model's arrays what nobody needs any more takes a gigabyte.
	debug.SetGCPercent(20)
	defer func() {
		if err != nil {
			a.close()
			a = nil
		}
	}()
	read := files.Trace()
	var names []string
	defer func() { _ = read() }() // where it ends in an error
	if o.Classes != "" {
		if names, err = prompts.ReadClasses(o.Classes); err != nil {
			return a, err
		}
	}
	if a.encoder, err = world.OpenEncoder(o.CLIP); err != nil {
		return a, err
	}
	e, err := world.OpenEngine(o.Device, o.Threads)
	if err != nil {
		return a, err
	}
	a.engine = e
	if a.clip, err = a.encoder.On(a.engine); err != nil {
		return a, err
	}
	if a.model, err = prompts.ReadCheckpoint(o.Checkpoint, names, o.Hints, a.clip); err != nil {
		return a, err
	}
	if a.delivered, err = prompts.CompareEncoders(o.Checkpoint, a.encoder.Weights); err != nil {
		return a, err
	}
	a.encoder.Weights = nil // they lie on the device, and would take as much memory once more
	if a.subject, err = newSubject(read(), o.Checkpoint, a.model); err != nil {
		return a, err
	}
	if a.detector, err = inspector.Find(o.Detector); err != nil {
		return a, err
	}
	if err = a.settings(); err != nil {
		return a, err
	}
	if err = a.openPool(ctx); err != nil {
		return a, err
	}
	if o.Shots != "" {
		if err = a.openShots(ctx); err != nil {
			return a, err
		}
	}
	if a.detector.Check != nil {
		if err = a.detector.Check(a.facts()); err != nil {
			return a, fmt.Errorf("--detector %s: %w", a.detector.Name, err)
		}
	}
	return a, nil
}

// auditSettings are the sections that --set PATH=VALUE changes, before it does: clean references
// are tuned with Adam.
const auditSettings = "detector: {}\ntuning: {epochs: 25, optimizer: adam, rate: 0.01, weight-decay: 0}\nreferences: {}\nrepair: {}\nexplain: {}\n"

// settings resolves what --set says about detector, tuning, references and repair, as strictly as
// of a suite.
func (a *audit) settings() error {
	got, err := suite.Sections("the settings of an audit, such as detector.epsilon=0.05", auditSettings, a.Sets,
		suite.Section{Name: "detector", What: "detector " + a.detector.Name, Params: a.detector.Params}, suite.Section{Name: "tuning", What: "tuning", Params: prompts.TuneParams},
		suite.Section{Name: "references", What: "references", Params: []settings.Param{inspector.LongestParam}},
		suite.Section{Name: "repair", What: "repair", Params: inspector.RepairParams}, suite.Section{Name: "explain", What: "explain", Params: inspector.ExplainParams})
	if err != nil {
		return err
	}
	a.options, a.tuning, a.longest, a.repair, a.explaining = got[0], got[1], got[2].Float("longest"), got[3], got[4]
	return nil
}

// openPool loads as many pool images as the detector asks for; a smaller pool is split four to one
// into images to optimise and to measure on.
func (a *audit) openPool(ctx context.Context) error {
	size := a.encoder.Config.Vision.ImageSize
	name, builtin := strings.CutPrefix(a.OOD, "builtin:")
	if _, err := os.Stat(a.OOD); err == nil && !builtin {
		abs, err := filepath.Abs(a.OOD)
		if err != nil {
			return err
		}
		name = "folder:" + abs
	}
	wanted := a.options.Int("optimise") + a.options.Int("measure")
	p, err := datasets.OpenPool(name, datasets.Options{Size: size, Seed: uint64(max(0, a.Seed)), PoolLen: min(wanted, 100_000)})
	if err != nil {
		return err
	}
	kept, excluded := datasets.ExcludeOverlap(p, a.model.Classes)
	if len(excluded) > 0 {
		a.line("%d images of the pool are left out: their names are classes of the model (%s)", p.Len()-kept.Len(), world.FirstNames(excluded))
	}
	n := kept.Len()
	if n < fewestImages {
		return fmt.Errorf("pool %s: %d images are too few to find a trigger with: want %d at least, better 1,000", a.OOD, n, fewestImages)
	}
	if n < wanted {
		a.line("the pool has %d images, fewer than the %d asked for: %d are for optimising, %d for measuring", n, wanted, n-n/5, n/5)
		a.options["optimise"], a.options["measure"], wanted = n-n/5, n/5, n
	}
	own, err := settings.Resolve(a.detector.Params, nil)
	if err != nil {
		return err
	}
	if n, own := a.options.Int("optimise"), own.Int("optimise"); 2*n < own {
		a.model.Notes = append(slices.Clip(a.model.Notes), fmt.Sprintf("there are %d pool images to invert on, fewer than half of the %d that %s has by itself: "+
			"a trigger that takes more is not found", n, own, a.detector.Name))
	}
	indices := datasets.All(n)
	random.Stream("audit pool", a.Seed).Shuffle(n, func(i, j int) { indices[i], indices[j] = indices[j], indices[i] })
	a.opened = world.NewPool(kept, indices[:wanted], size)
	a.pool, err = datasets.LoadPool(ctx, kept, a.opened.Indices, size)
	return err
}

func (a *audit) line(format string, args ...any) {
	if a.Report != nil {
		fmt.Fprintln(a.Report, printable.Lines(fmt.Sprintf(format, args...)))
	}
}

// outline is the model as the estimates see it.
func (a *audit) outline() prompts.Outline {
	return prompts.Outline{Learner: a.model.Learner, Settings: a.model.Settings, Config: a.encoder.Config, Classes: a.model.Classes,
		Tokens: a.encoder.Tokens()}
}

func (a *audit) facts() inspector.Facts {
	return inspector.Facts{Model: a.outline(), Pool: len(a.opened.Indices), Labelled: len(a.shots.Labels), Settings: a.options}
}

// detection is the work of one inspection.
func (a *audit) detection() clip.Work {
	if a.detector.Cost == nil {
		return clip.Work{}
	}
	return a.detector.Cost(a.facts())
}

// estimate says how long the work will take at the rate that the device shows in half a second, and
// refuses what takes longer than it may, or more memory than is free.
func (a *audit) estimate(what string, w clip.Work) error {
	if a.engine.Name() == "cpu" {
		if err := memory.Check("the image tower's weights, packed for products,", a.encoder.Config.Packed()); err != nil {
			return fmt.Errorf("%s: %w: close other programs, or raise the limit", what, err)
		}
	}
	if a.Report == nil && a.MaxTime == 0 {
		return nil
	}
	rate, err := experiments.TowerRate(a.engine, a.encoder.Config, time.Second/2)
	if err != nil {
		return err
	}
	left := time.Duration(min(w.FLOP/rate, float64(math.MaxInt64/time.Second)) * float64(time.Second))
	unit := time.Second
	if left < 10*time.Second {
		unit = 100 * time.Millisecond
	}
	a.line("%s: %d classes, %d pool images, %.0f image passes, %.3g operations: about %s on %s", what, len(a.model.Classes),
		len(a.opened.Indices), w.Passes, w.FLOP, left.Round(unit), a.engine.Name())
	if a.MaxTime > 0 && left > a.MaxTime {
		return fmt.Errorf("%s of %d classes would take about %s, longer than the %s that it may: allow more by --max-time %s, or take fewer images "+
			"by --set detector.optimise=%d", what, len(a.model.Classes), left.Round(unit), a.MaxTime, (left*3/2).Round(time.Minute)+time.Minute,
			max(fewestImages, a.options.Int("optimise")/4))
	}
	return nil
}

// Inspect makes the clean references that the detector needs, looks at the delivered model, and
// writes what it found into the folder out: report.json, verdict.png, the audited model as
// audited.safetensors, and of the suspect's recovered trigger trigger.png and trigger.safetensors;
// of each class that was looked at once more, explained-1.png and explained-1.safetensors and so
// on.
func Inspect(ctx context.Context, o Audit, out string) (*Report, error) {
	o.verdictAlone = true
	a, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	defer a.close()
	if err := a.countReferences(); err != nil {
		return nil, err
	}
	doubt, err := a.detector.Doubt(ctx, inspector.Input{Model: a.model, Pool: a.pool})
	if err != nil {
		return nil, err
	}
	if doubt == "" { // else nothing is inverted, and nothing held against it
		w := a.detection()
		for i := range a.References {
			w.Add(a.reference(i))
		}
		if !a.detector.Classless {
			w.Add(inspector.ExplainCost(a.outline(), a.explaining, a.Explain))
		}
		if err := a.estimate(fmt.Sprintf("inspection, with %d clean references", a.References), w); err != nil {
			return nil, err
		}
		if a.kept, err = a.openKept(out); err != nil {
			return nil, err
		}
		if err := a.firstOpinion(); err != nil {
			return nil, err
		}
		if err := a.makeReferences(ctx); err != nil {
			return nil, err
		}
	}
	f, err := a.find(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.explain(ctx, f); err != nil {
		return nil, err
	}
	if f.Subject.Audited, err = a.keep(out); err != nil {
		return nil, err
	}
	if err := f.write(out); err != nil {
		return nil, err
	}
	return f, a.kept.remove()
}

// firstOpinion says what the class vectors alone betray, long before the verdict.
func (a *audit) firstOpinion() error {
	if a.detector.Evidence == nil {
		return nil
	}
	class, index, err := inspector.FirstOpinion(a.model, a.options)
	if err == nil && class >= 0 {
		a.line("first opinion: the class vectors alone say that %q stands apart most, with an index of %.1f among the other classes; "+
			"without references that is a hint, no verdict", a.model.Classes[class], index)
	}
	return err
}

// keep writes the audited model below out.
func (a *audit) keep(out string) (f ReadFile, err error) {
	f.Path = filepath.Join(out, auditedFile)
	if err = os.MkdirAll(out, 0o755); err == nil {
		err = a.model.Write(f.Path)
	}
	if err == nil {
		f.SHA256, err = experiments.HashFile(f.Path)
	}
	if err != nil {
		return f, fmt.Errorf("writing the audited model: %w", err)
	}
	return f, nil
}

// find runs the detector on the delivered model.
func (a *audit) find(ctx context.Context) (*Report, error) {
	start := time.Now()
	r, err := a.inspect(ctx, a.model, "inverting classes")
	if err != nil {
		return nil, err
	}
	f := &Report{Index: stats.Num(r.Index), K: a.options.Float("k"), Checkpoint: a.Checkpoint,
		CLIP: a.encoder.Fingerprint(), Delivered: newDelivered(a.delivered, a.model), Subject: a.subject, Notes: a.model.Notes, Learner: a.model.Learner.Name, Pool: a.OOD, PoolImages: len(a.opened.Indices),
		PoolHash: a.opened.Fingerprint, Detector: suite.Choice{Name: a.detector.Name, Settings: a.options}.Map(), Seed: a.Seed, Engine: a.engine.Fingerprint(),
		Passes: r.ImagePasses, Seconds: time.Since(start).Seconds(), report: r}
	if r.Suspect >= 0 {
		f.Suspect = a.model.Classes[r.Suspect]
		if r.SourceClasses != nil && r.SourceClasses[r.Suspect] >= 0 {
			f.SourceClass = a.model.Classes[r.SourceClasses[r.Suspect]]
		}
	}
	f.Decision, f.Why = a.decide(r)
	if n := len(a.evidence); n > 0 {
		f.References = &ReferenceFinding{Count: n, Source: a.evidence[0].Source, P: r.P}
		for i, e := range a.evidence {
			f.References.Accuracy += e.Accuracy / float64(n)
			f.References.Epochs = append(f.References.Epochs, a.tuningOf(i).Int("epochs"))
		}
		for _, p := range r.ReferenceP {
			f.References.Others = append(f.References.Others, stats.Num(p))
		}
	}
	for _, g := range r.Twins {
		var names []string
		for _, c := range g {
			names = append(names, a.model.Classes[c])
		}
		f.Twins = append(f.Twins, names)
	}
	finding := func(name string, c inspector.ClassResult) ClassReport {
		return ClassReport{name, stats.Num(c.Index), stats.Num(c.Score), stats.Num(c.Loss), stats.Num(c.ASR), stats.Num(c.Norm)}
	}
	for i, c := range r.Classes {
		f.Classes = append(f.Classes, finding(a.model.Classes[i], c))
	}
	if r.Whole != nil {
		e := finding("(image encoder)", *r.Whole)
		f.Encoder = &e
	}
	return f, nil
}

func (a *audit) inspect(ctx context.Context, m *prompts.Model, what string) (*inspector.Finding, error) {
	step, end := progress.Show(a.Report, what)
	defer end()
	var k *kept
	if m == a.model {
		k = a.kept.of("delivered")
	}
	return a.detector.Look(ctx, inspector.Input{Model: m, Pool: a.pool, Labelled: a.labelled(), Seed: random.Number("audit", a.Seed), Settings: a.options, References: a.evidence, Progress: step, Kept: k.inspector()})
}
