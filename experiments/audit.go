package experiments

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/clip/safetensors"
	"clipinspector/datasets"
	"clipinspector/engine"
	"clipinspector/inspector"
	"clipinspector/prompts"
	"clipinspector/results"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// Audit says which delivered model is looked at, and with what.
type Audit struct {
	Checkpoint string // what prompts.ReadCheckpoint reads
	Classes    string // file of class names, one a line in the order of the labels; empty where the checkpoint holds them
	CLIP       string // the encoder that the prompts were tuned for
	OOD        string // unlabelled images that show none of the classes: a folder, "builtin:mini", or a pool by name
	Shots      string // labelled images: a folder with a folder for each class, or a dataset by name; may be empty
	PerClass   int    // how many images of each class to tune on at most
	References int    // clean models to tune where there are labelled images
	Detector   string
	Sets       []string // detector.NAME=VALUE, tuning.NAME=VALUE, repair.NAME=VALUE
	Seed       int
	Device     string
	Threads    int
	Report     io.Writer // estimate and progress; nil for none
}

// Decision is what an audit comes to.
type Decision string

// The decisions.
const (
	DecisionClean      Decision = "clean"
	DecisionBackdoored Decision = "backdoored"
	DecisionUnclear    Decision = "cannot tell"
)

const (
	// fewestClasses is how many classes it takes for an outlier to stand out from a crowd.
	fewestClasses = 5
	// near is how close to k an index is too close to call, in standard deviations: at k = 2 the indices that between 1 % and 5 %
	// of clean models exceed.
	near = 1.0 / 3
	// fewestImages is the smallest pool that an audit makes do with.
	fewestImages = 50
)

// Decide turns the anomaly index of a model into a decision, and says why.
func Decide(index, k float64, classes int) (Decision, string) {
	switch {
	case classes < fewestClasses:
		return DecisionUnclear, fmt.Sprintf("%d classes are too few for one to stand out; it takes %d", classes, fewestClasses)
	case math.IsNaN(index) || math.Abs(index-k) <= near:
		return DecisionUnclear, fmt.Sprintf("the index %.2f is within %.2f of k = %g", index, near, k)
	case index > k:
		return DecisionBackdoored, fmt.Sprintf("the index %.2f is above k = %g", index, k)
	}
	return DecisionClean, fmt.Sprintf("the index %.2f is below k = %g", index, k)
}

// Finding is the report of an audit, and its JSON.
type Finding struct {
	Decision   Decision       `json:"decision"`
	Why        string         `json:"why"`
	Index      results.Num    `json:"index"`
	K          float64        `json:"k"`
	Suspect    string         `json:"suspect"`           // the most suspicious class, whether flagged or not; empty for none
	Classes    []ClassFinding `json:"classes,omitempty"` // by label
	Encoder    *ClassFinding  `json:"encoder,omitempty"` // instead, from a detector that looks at no classes
	References *Comparison    `json:"references,omitempty"`
	Checkpoint string         `json:"checkpoint"`
	CLIP       string         `json:"clip"` // fingerprint of the encoders
	Learner    string         `json:"learner"`
	Pool       string         `json:"pool"`
	PoolImages int            `json:"pool_images"`
	PoolHash   string         `json:"pool_fingerprint"`
	Detector   map[string]any `json:"detector"`
	Seed       int            `json:"seed"`
	Engine     string         `json:"engine"`
	Passes     int64          `json:"image_passes"`
	Seconds    float64        `json:"seconds"`

	report *inspector.Report
}

// ClassFinding is what the detector found out about a class.
type ClassFinding struct {
	Class string      `json:"class"`
	Index results.Num `json:"index"`
	Score results.Num `json:"score"`
	Loss  results.Num `json:"loss"`
	ASR   results.Num `json:"asr"`  // of the recovered trigger, on the pool
	Norm  results.Num `json:"norm"` // size of the recovered trigger
}

// Comparison sets the model's index beside those of clean models that the auditor tuned.
type Comparison struct {
	Indices []results.Num `json:"indices"`
	P       float64       `json:"p"` // see PValue
}

// PValue is the chance of an index at least this high among clean models, estimated from clean references: (1 + how many
// references have an index as high or higher) / (1 + references). It is exact when the model is clean and exchangeable with
// them (Davison and Hinkley, Bootstrap Methods, 1997, section 4.2), and cannot fall below 1 / (1 + references).
func PValue(index float64, references []float64) float64 {
	n := 1
	for _, r := range references {
		if !(r < index) {
			n++
		}
	}
	return float64(n) / float64(1+len(references))
}

// audit is an Audit with everything opened.
type audit struct {
	Audit
	engine   engine.Engine
	clip     *clip.Model
	encoder  *Encoder
	model    *prompts.Model
	detector *inspector.Detector
	options  settings.Values // of the detector
	tuning   settings.Values // of the references
	repair   settings.Values
	pool     *tensor.Dense
	opened   *pool
	shots    prompts.Data // to tune on
	test     prompts.Data // to measure on
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
	defer func() {
		if err != nil {
			a.close()
			a = nil
		}
	}()
	var names []string
	if o.Classes != "" {
		if names, err = prompts.ReadClasses(o.Classes); err != nil {
			return a, err
		}
	}
	if a.encoder, err = OpenEncoder(o.CLIP); err != nil {
		return a, err
	}
	e, err := OpenEngine(o.Device, o.Threads)
	if err != nil {
		return a, err
	}
	a.engine = e
	if a.clip, err = a.encoder.On(a.engine); err != nil {
		return a, err
	}
	if a.model, err = prompts.ReadCheckpoint(o.Checkpoint, names, a.clip); err != nil {
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
		err = a.openShots(ctx)
	}
	return a, err
}

// settings resolves what --set says about detector, tuning and repair.
func (a *audit) settings() error {
	given := map[string]map[string]any{"detector": {}, "repair": {},
		"tuning": {"epochs": 25, "optimizer": "adam", "rate": 0.01, "weight-decay": 0.0}}
	for _, set := range a.Sets {
		path, text, ok := strings.Cut(set, "=")
		part, name, below := strings.Cut(path, ".")
		if !ok || !below || given[part] == nil {
			return fmt.Errorf("--set %s: want detector.NAME=VALUE, tuning.NAME=VALUE or repair.NAME=VALUE", set)
		}
		var v any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			return fmt.Errorf("--set %s: the value is no YAML: %w", set, err)
		}
		given[part][name] = v
	}
	for _, p := range []struct {
		part   string
		params []settings.Param
		to     *settings.Values
	}{{"detector", a.detector.Params, &a.options}, {"tuning", prompts.TuneParams, &a.tuning}, {"repair", inspector.RepairParams, &a.repair}} {
		v, err := settings.Resolve(p.params, given[p.part])
		if err != nil {
			return fmt.Errorf("--set %s: %w", p.part, err)
		}
		*p.to = v
	}
	return nil
}

// openPool loads as many pool images as the detector asks for; a smaller pool is split four to one into images to optimise and
// to measure on.
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
		a.line("%d images of the pool are left out: their names are classes of the model (%s)", p.Len()-kept.Len(), some3(excluded))
	}
	n := kept.Len()
	if n < fewestImages {
		return fmt.Errorf("pool %s: %d images are too few to find a trigger with: want %d at least, better 1,000", a.OOD, n, fewestImages)
	}
	if n < wanted {
		a.line("the pool has %d images, fewer than the %d asked for: %d are for optimising, %d for measuring", n, wanted, n-n/5, n/5)
		a.options["optimise"], a.options["measure"], wanted = n-n/5, n/5, n
	}
	indices := datasets.All(n)
	source64("audit pool", a.Seed).Shuffle(n, func(i, j int) { indices[i], indices[j] = indices[j], indices[i] })
	a.opened = &pool{Pool: kept, indices: indices[:wanted], size: size, fingerprint: digest(kept.Fingerprint(), indices[:wanted], size)}
	a.pool, err = datasets.LoadPool(ctx, kept, a.opened.indices, size)
	return err
}

// openShots loads labelled images: of each class up to PerClass of the training and validation splits to tune on, and those of
// the test split to measure on. A folder is split 50 : 20 : 30. Its folders must be the model's classes.
func (a *audit) openShots(ctx context.Context) error {
	size := a.encoder.Config.Vision.ImageSize
	name := a.Shots
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		abs, err := filepath.Abs(name)
		if err != nil {
			return err
		}
		name = "folder:" + abs
	}
	ds, err := datasets.Open(name, datasets.Options{Size: size})
	if err != nil {
		return err
	}
	labels, err := matchClasses(a.Shots, ds.Classes(), a.model.Classes)
	if err != nil {
		return err
	}
	const mostTest = 2000
	ds = datasets.Limit(ds, datasets.Test, mostTest)
	load := func(split datasets.Split, indices []int) (prompts.Data, error) {
		images, l, err := datasets.LoadSplit(ctx, ds, split, indices, size, nil)
		for i := range l {
			l[i] = labels[l[i]]
		}
		return prompts.Data{Images: images, Labels: l}, err
	}
	if a.test, err = load(datasets.Test, nil); err != nil {
		return err
	}
	rng := source64("audit shots", a.Seed)
	taken := make([]int, len(ds.Classes()))
	var parts []prompts.Data
	for _, split := range []datasets.Split{datasets.Train, datasets.Val} {
		var chosen []int
		for _, i := range rng.Perm(ds.Len(split)) {
			if l := ds.Label(split, i); taken[l] < a.PerClass {
				taken[l]++
				chosen = append(chosen, i)
			}
		}
		if len(chosen) == 0 {
			continue
		}
		part, err := load(split, chosen)
		if err != nil {
			return err
		}
		parts = append(parts, part)
	}
	var pixels []float32
	for _, p := range parts {
		pixels = append(pixels, p.Images.Data().([]float32)...)
		a.shots.Labels = append(a.shots.Labels, p.Labels...)
	}
	if len(a.shots.Labels) == 0 {
		return fmt.Errorf("labelled images %s: none to tune on", a.Shots)
	}
	a.shots.Images = triggers.Dense(pixels, len(a.shots.Labels), 3, size, size)
	return nil
}

// matchClasses returns the model's label of each class of a dataset. The names must be the same, but for case and underscores.
func matchClasses(from string, have, want []string) ([]int, error) {
	fold := func(s string) string { return strings.ToLower(strings.TrimSpace(datasets.PromptName(s))) }
	at := map[string]int{}
	for l, c := range want {
		at[fold(c)] = l
	}
	out := make([]int, len(have))
	seen := make([]bool, len(want))
	for i, c := range have {
		l, ok := at[fold(c)]
		if !ok {
			return nil, fmt.Errorf("labelled images %s: %.80q is no class of the model; its classes are such as %s", from, c, some3(want))
		}
		out[i], seen[l] = l, true
	}
	if l := slices.Index(seen, false); l >= 0 {
		return nil, fmt.Errorf("labelled images %s: the model's class %.80q has none", from, want[l])
	}
	return out, nil
}

// some3 is the beginning of a list of names, each in quotes, which keep control characters from the terminal.
func some3(names []string) string {
	var b strings.Builder
	for i, n := range names[:min(3, len(names))] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.40q", n)
	}
	return b.String()
}

func (a *audit) line(format string, args ...any) {
	if a.Report != nil {
		fmt.Fprintf(a.Report, format+"\n", args...)
	}
}

// job is the model as the estimates see it.
func (a *audit) job() *ModelJob {
	l := Choice{Name: a.model.Learner.Name, Settings: a.model.Settings}
	return &ModelJob{Suite: &Suite{Learner: l, Tuning: a.tuning}, encoder: a.encoder, set: &set{prompts: a.model.Classes}}
}

func (a *audit) detection() Work {
	d := DetectionJob{Model: a.job(), Detector: Choice{Name: a.detector.Name, Settings: a.options}, pool: a.opened}
	return d.work()
}

// estimate says how long the work will take at the rate that the device shows in half a second.
func (a *audit) estimate(what string, w Work) error {
	if a.Report == nil {
		return nil
	}
	rate, err := towerRate(a.engine, a.encoder.Config, time.Second/2)
	if err != nil {
		return err
	}
	left := time.Duration(w.FLOP / rate * float64(time.Second))
	unit := time.Second
	if left < 10*time.Second {
		unit = 100 * time.Millisecond
	}
	a.line("%s: %d classes, %d pool images, %.0f image passes, %.3g operations: about %s on %s", what, len(a.model.Classes),
		len(a.opened.indices), w.Passes, w.FLOP, left.Round(unit), a.engine.Name())
	return nil
}

// Inspect looks at a delivered model and, with labelled images, at clean models that it tunes for comparison, and writes what it
// found into the folder out: report.json, verdict.png, and of the suspect's recovered trigger trigger.png and
// trigger.safetensors.
func Inspect(ctx context.Context, o Audit, out string) (*Finding, error) {
	a, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	defer a.close()
	if o.Shots == "" {
		a.References = 0
	}
	w := a.detection()
	for range a.References {
		w.add(a.detection())
		w.add(a.job().tuneWork(float64(len(a.shots.Labels)), 1, a.tuning))
	}
	if err := a.estimate("inspection", w); err != nil {
		return nil, err
	}
	f, err := a.find(ctx)
	if err != nil {
		return nil, err
	}
	if a.References > 0 {
		if f.References, err = a.compare(ctx, float64(f.Index)); err != nil {
			return nil, err
		}
	}
	return f, f.write(out)
}

// find runs the detector on the delivered model.
func (a *audit) find(ctx context.Context) (*Finding, error) {
	start := time.Now()
	r, err := a.inspect(ctx, a.model, "inverting classes")
	if err != nil {
		return nil, err
	}
	f := &Finding{Index: results.Num(r.Index), K: a.options.Float("k"), Checkpoint: a.Checkpoint,
		CLIP: a.encoder.fingerprint, Learner: a.model.Learner.Name, Pool: a.OOD, PoolImages: len(a.opened.indices),
		PoolHash: a.opened.fingerprint, Detector: named(Choice{a.detector.Name, a.options}), Seed: a.Seed, Engine: a.engine.Fingerprint(),
		Passes: r.ImagePasses, Seconds: time.Since(start).Seconds(), report: r}
	if r.Suspect >= 0 {
		f.Suspect = a.model.Classes[r.Suspect]
	}
	f.Decision, f.Why = a.decide(r)
	finding := func(name string, c inspector.ClassResult) ClassFinding {
		return ClassFinding{name, results.Num(c.Index), results.Num(c.Score), results.Num(c.Loss), results.Num(c.ASR), results.Num(c.Norm)}
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

func (a *audit) inspect(ctx context.Context, m *prompts.Model, what string) (*inspector.Report, error) {
	step, end := progress(a.Report, what)
	defer end()
	return a.detector.Inspect(ctx, inspector.Input{Model: m, Pool: a.pool, Seed: draw("audit", a.Seed), Settings: a.options, Progress: step})
}

// compare tunes clean models with the delivered model's learner, each from prompts of its own on a resample of the labelled
// images, with replacement within each class, and looks at them as at the delivered one.
func (a *audit) compare(ctx context.Context, index float64) (*Comparison, error) {
	step, end := progress(a.Report, "clean references")
	defer end()
	quiet := *a
	quiet.Report = nil
	c := &Comparison{}
	var indices []float64
	for i := range a.References {
		m, err := prompts.New(a.clip, a.model.Learner, a.model.Settings, a.model.Classes, source64("reference", a.Seed, "/", i))
		if err != nil {
			return nil, err
		}
		data := resample(a.shots, source64("resample", a.Seed, "/", i))
		if _, err := prompts.Tune(ctx, m, data, a.tuning, nil, draw("reference tuning", a.Seed, "/", i), nil); err != nil {
			return nil, err
		}
		r, err := quiet.inspect(ctx, m, "")
		if err != nil {
			return nil, err
		}
		indices = append(indices, r.Index)
		c.Indices = append(c.Indices, results.Num(r.Index))
		step(i+1, a.References)
	}
	c.P = PValue(index, indices)
	return c, nil
}

// resample draws as many images of each class as there are, with replacement.
func resample(d prompts.Data, rng *rand.Rand) prompts.Data {
	byLabel := map[int][]int{}
	for i, l := range d.Labels {
		byLabel[l] = append(byLabel[l], i)
	}
	shape := d.Images.Shape()
	size := shape.TotalSize() / shape[0]
	pixels := make([]float32, 0, shape.TotalSize())
	for _, l := range d.Labels {
		i := byLabel[l][rng.IntN(len(byLabel[l]))]
		pixels = append(pixels, d.Images.Data().([]float32)[i*size:(i+1)*size]...)
	}
	return prompts.Data{Images: triggers.Dense(pixels, shape[0], shape[1], shape[2], shape[3]), Labels: d.Labels}
}

// write writes the files of a finding.
func (f *Finding) write(out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("making the output folder: %w", err)
	}
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	put := func(name string, write func(w io.Writer) error) {
		if err == nil {
			err = safetensors.WriteAtomic(filepath.Join(out, name), write)
		}
	}
	put("report.json", func(w io.Writer) error { _, err := w.Write(append(raw, '\n')); return err })
	t := f.trigger()
	var picture *image.NRGBA
	if t != nil {
		picture = enlarge(triggers.Draw(t), 256)
		put("trigger.png", func(w io.Writer) error { return png.Encode(w, picture) })
		if err == nil {
			err = triggers.Write(filepath.Join(out, "trigger.safetensors"), t)
		}
	}
	put("verdict.png", func(w io.Writer) error { return drawFinding(w, f, picture) })
	return err
}

// enlarge repeats pixels until a picture has at least so many on a side.
func enlarge(m *image.NRGBA, side int) *image.NRGBA {
	w, h := m.Bounds().Dx(), m.Bounds().Dy()
	n := max(1, (side+w-1)/w)
	out := image.NewNRGBA(image.Rect(0, 0, w*n, h*n))
	for y := range h * n {
		for x := range w * n {
			out.SetNRGBA(x, y, m.NRGBAAt(x/n, y/n))
		}
	}
	return out
}

// Print writes a finding for a person to read.
func (f *Finding) Print(w io.Writer, out string) error {
	var b strings.Builder
	figure := func(v results.Num, digits int) string {
		if !v.Defined() {
			return "-"
		}
		return fmt.Sprintf("%.*f", digits, float64(v))
	}
	fmt.Fprintf(&b, "%-28s %8s %8s %8s %8s\n", "class", "index", "score", "loss", "ASR")
	for _, c := range f.rows() {
		mark := ""
		switch {
		case c.Class == f.Suspect:
			mark = "  <- suspect"
		case !c.Score.Defined():
			mark = "  ruled out"
		}
		fmt.Fprintf(&b, "%-28s %8s %8s %8s %8s%s\n", fmt.Sprintf("%.28s", strings.Trim(fmt.Sprintf("%q", c.Class), `"`)),
			figure(c.Index, 2), figure(c.Score, 3), figure(c.Loss, 3), figure(c.ASR, 3), mark)
	}
	fmt.Fprintf(&b, "\nverdict: %s (%s)\n", f.Decision, f.Why)
	if f.Suspect != "" {
		fmt.Fprintf(&b, "suspected target: %q\n", f.Suspect)
	}
	if r := f.References; r != nil {
		most := math.Inf(-1)
		for _, i := range r.Indices {
			most = max(most, float64(i))
		}
		fmt.Fprintf(&b, "beside %d clean references (highest index %.2f): p = %.3f\n", len(r.Indices), most, r.P)
	}
	fmt.Fprintf(&b, "written: %s\n", filepath.Join(out, "{report.json,verdict.png,trigger.png,trigger.safetensors}"))
	_, err := io.WriteString(w, b.String())
	return err
}
