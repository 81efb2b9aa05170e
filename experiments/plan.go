package experiments

import (
	"fmt"
	"slices"

	"clipinspector/attacks"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/inspector"
	"clipinspector/internal/random"
	"clipinspector/results/store"
	"clipinspector/settings"
)

// modelJob is one model cell with what it takes to run it.
type modelJob struct {
	Cell    store.ModelCell
	Suite   *suite.Suite
	Dataset suite.DatasetSpec
	Attack  suite.Choice
	Seed    int
	target  int // -1 for a clean model

	Encoder *world.Encoder
	Set     *world.Set
	ood     *world.Pool
}

// detectionJob is one detection cell with what it takes to run it.
type detectionJob struct {
	Cell     store.DetectionCell
	Model    *modelJob
	Detector suite.Choice

	Pool       *world.Pool
	References []*referenceJob // what a detector that needs any holds the model against
	measured   string          // identity of what it measures, see measurement
}

// referenceJob is one reference cell with what it takes to run it: a clean reference for the models
// of one learner, encoder, dataset and few-shot sample, and what a detector measures of it.
type referenceJob struct {
	Cell     store.ReferenceCell
	Model    *modelJob    // one of the models that are held against it
	Suite    *suite.Suite // whose references they are: a model may be of several points of a sweep
	Detector suite.Choice
	Number   int // among the references of those models

	Pool *world.Pool
}

// explanationJob is one explanation cell with what it takes to run it.
type explanationJob struct {
	Cell      store.ExplanationCell
	Detection *detectionJob
	Settings  settings.Values
}

// repairJob is one repair cell with what it takes to run it.
type repairJob struct {
	Cell       store.RepairCell
	Detection  *detectionJob
	Settings   settings.Values
	Explaining settings.Values // of the second look that names the kind to repair against; nil to repair against the verdict
}

// String names the cell for a person.
func (m *modelJob) String() string {
	return fmt.Sprintf("%s, %s, seed %d", m.Dataset.Name, m.Attack.Name, m.Seed)
}

// draws is the name of the model's attack in what is drawn for it.
func (m *modelJob) draws() string {
	if a, err := attacks.Find(m.Attack.Name); err == nil {
		return a.Draws()
	}
	return m.Attack.Name
}

// String names the cell for a person.
func (r *referenceJob) String() string {
	return fmt.Sprintf("reference %d for %s, seed %d", r.Number, r.Model.Dataset.Name, r.Model.Seed)
}

// String names the cell for a person.
func (d *detectionJob) String() string { return fmt.Sprintf("%s on %s", d.Detector.Name, d.Model) }

// String names the cell for a person.
func (x *explanationJob) String() string { return fmt.Sprintf("explanation of %s", x.Detection) }

// String names the cell for a person.
func (r *repairJob) String() string { return fmt.Sprintf("repair of %s", r.Detection.Model) }

// Plan is the cells of a suite file, each once, in the order in which they run.
type Plan struct {
	File         *suite.File
	Models       []*modelJob
	References   []*referenceJob
	Detections   []*detectionJob
	Explanations []*explanationJob
	Repairs      []*repairJob
	Engine       string   // fingerprint of the engine that the detections are planned for
	same         []string // which datasets of the file are the same pictures, in words

	shard   Shard // what part of a suite this is
	samples map[sample][]*referenceJob
	workOf  map[*modelJob]float64 // operations of a model and all that hangs on it; nil until it is asked for
	whole   int                   // models of the suite, where this is a part of it

	models       map[string]*modelJob
	references   map[string]*referenceJob
	detections   map[string]*detectionJob
	explanations map[string]*explanationJob
	repairs      map[string]*repairJob
	measured     map[string]*detectionJob // the first of those that measure the same and judge it differently
}

// NewPlan opens what the suites of a file name and lays out their cells: per suite (combination of
// the sweep), seed, dataset and attack one model, and per detector one detection on it. Cells that
// combinations share are planned once.
//
// A model's identity names everything that decides the model and its figures, and no detector, so
// that a detector's setting never makes a model again. A detection's names the model, the
// detector's settings, the pool and the engine.
func NewPlan(w *world.World, f *suite.File, engine string) (*Plan, error) {
	p := &Plan{File: f, Engine: engine, models: map[string]*modelJob{}, references: map[string]*referenceJob{}, samples: map[sample][]*referenceJob{}, detections: map[string]*detectionJob{},
		explanations: map[string]*explanationJob{}, repairs: map[string]*repairJob{}, measured: map[string]*detectionJob{}}
	if cells := cellsOf(f); cells > mostCells {
		return nil, fmt.Errorf("suite %s: %.3g cells, more than the %d that one plan may have: fewer seeds, datasets, attacks, detectors or values of "+
			"the sweep, in several suites if need be", f.Name, cells, mostCells)
	}
	for i := range f.Suites {
		u := &f.Suites[i]
		encoder, err := w.Encoder(u.CLIP)
		if err != nil {
			return nil, fmt.Errorf("suite %s: %w", f.Name, err)
		}
		for _, seed := range u.Seeds {
			for _, dataset := range u.Datasets {
				for _, attack := range u.Attacks {
					job := &modelJob{Suite: u, Dataset: dataset, Attack: attack, Seed: seed, Encoder: encoder}
					if err := p.planModel(w, job); err != nil {
						return nil, fmt.Errorf("suite %s: %w", f.Name, err)
					}
				}
			}
		}
	}
	return p, nil
}

// mostCells bounds a plan: more take longer to lay out than anybody waits, and no machine to
// compute.
const mostCells = 100_000

// cellsOf is how many cells a file asks for at most, before those that combinations share are
// planned once.
func cellsOf(f *suite.File) (cells float64) {
	for i := range f.Suites {
		u := &f.Suites[i]
		each := 1 + len(u.Detectors)
		if u.Repair != nil {
			each += len(u.Detectors)
		}
		if u.Explain != nil {
			each += len(u.Detectors)
		}
		cells += float64(len(u.Seeds)) * float64(len(u.Datasets)) * float64(len(u.Attacks)) * float64(each)
	}
	return cells
}

func (p *Plan) planModel(w *world.World, job *modelJob) (err error) {
	u, size := job.Suite, job.Encoder.Config.Vision.ImageSize
	if job.Set, err = w.Dataset(u, job.Dataset, size); err != nil {
		return err
	}
	o, err := job.outline()
	if err == nil {
		err = o.Check()
	}
	if err != nil {
		return fmt.Errorf("%s with %s: %w", job.Dataset.Name, u.Learner.Name, err)
	}
	if job.ood, err = w.Pool(u, u.OOD, job.Set); err != nil {
		return err
	}
	attack, err := attacks.Find(job.Attack.Name)
	if err != nil {
		return err
	}
	job.target = -1
	if attack.Backdoors() {
		job.target = target(job.Seed, job.Set.ID, attack.Draws(), len(job.Set.Classes()))
	}
	job.Cell = store.ModelCell{
		Dataset: job.Set.ResultName(), Attack: job.Attack.Name, Learner: u.Learner.Name, Seed: job.Seed,
		Order: len(p.Models),
		Settings: map[string]any{
			"dataset":     map[string]any{"name": job.Set.ID, "classes": len(job.Set.Classes()), "fingerprint": job.Set.Fingerprint()},
			"shots":       u.Shots,
			"test-images": u.TestImages,
			"learner":     u.Learner.Map(),
			"tuning":      map[string]any(u.Tuning),
			"attack":      job.Attack.Map(),
			"seed":        job.Seed,
			"clip":        job.Encoder.Fingerprint(),
			"size":        size,
			"ood":         map[string]any{"name": job.ood.ID, "images": len(job.ood.Indices), "fingerprint": job.ood.Fingerprint},
			"version":     modelVersion,
		},
	}
	if job.Cell.Key, err = job.Cell.Identity(); err != nil {
		return err
	}
	if known := p.models[job.Cell.Key]; known != nil {
		note := fmt.Sprintf("dataset %s holds the same pictures as %s: they are one set and are computed once", job.Dataset.Name, known.Dataset.Name)
		if job.Dataset.Name != known.Dataset.Name && !slices.Contains(p.same, note) {
			p.same = append(p.same, note)
		}
		job = known
	} else {
		p.models[job.Cell.Key] = job
		p.Models = append(p.Models, job)
	}
	for _, d := range u.Detectors {
		if err := p.planDetection(w, &detectionJob{Model: job, Detector: d}, u); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) planDetection(w *world.World, job *detectionJob, u *suite.Suite) (err error) {
	if job.Pool, err = w.Pool(u, u.Pool, job.Model.Set); err != nil {
		return err
	}
	if err := job.check(); err != nil {
		return err
	}
	if err := p.planReferences(job, u); err != nil {
		return err
	}
	deciding, err := job.deciding()
	if err != nil {
		return err
	}
	job.Cell = store.DetectionCell{
		ModelKey: job.Model.Cell.Key, Detector: job.Detector.Name, Order: len(p.Detections),
		Settings: map[string]any{
			"detector": deciding,
			"pool": map[string]any{"name": job.Pool.ID, "images": len(job.Pool.Indices), "seed": u.Pool.Seed,
				"fingerprint": job.Pool.Fingerprint},
			"engine":  p.Engine,
			"version": detectionVersion,
		},
	}
	if len(job.References) > 0 {
		of := referencesOf(u)
		if u.References.Settings.String("source") == inspector.FromPool {
			of["version"] = foreignVersion
		}
		job.Cell.Settings["references"] = of
	}
	if job.Cell.Key, err = job.Cell.Identity(); err != nil {
		return err
	}
	if known := p.detections[job.Cell.Key]; known != nil {
		job = known
	} else {
		p.detections[job.Cell.Key] = job
		p.Detections = append(p.Detections, job)
		if job.measured, err = job.measurement(); err != nil {
			return err
		}
		if job.measured != "" && p.measured[job.measured] == nil {
			p.measured[job.measured] = job
		}
	}
	if u.Explain != nil && u.Explain.Name == job.Detector.Name {
		if err := p.planExplanation(&explanationJob{Detection: job, Settings: u.Explain.Settings}); err != nil {
			return err
		}
	}
	if u.Repair == nil || u.Repair.Name != job.Detector.Name {
		return nil
	}
	repair := &repairJob{Detection: job, Settings: u.Repair.Settings}
	if repair.Settings.String("against") == "kind" {
		if x := u.Explain; x != nil && x.Name == u.Repair.Name {
			repair.Explaining = x.Settings
		} else if repair.Explaining, err = settings.Resolve(inspector.ExplainParams, nil); err != nil {
			return err
		}
	}
	return p.planRepair(repair)
}

// check asks the detector whether it can work with its settings, the pool and the model.
func (d *detectionJob) check() error {
	detector, err := inspector.Find(d.Detector.Name)
	if err != nil || detector.Check == nil {
		return err
	}
	f, err := d.facts()
	if err == nil {
		err = detector.Check(f)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	return nil
}

// deciding are the name and settings of the detector that decide something about the model.
func (d *detectionJob) deciding() (map[string]any, error) {
	detector, err := inspector.Find(d.Detector.Name)
	if err != nil || detector.Idle == nil {
		return d.Detector.Map(), err
	}
	f, err := d.facts()
	if err != nil {
		return nil, err
	}
	return settings.Values(d.Detector.Map()).Without(detector.Idle(f)), nil
}

// explanationCell is the cell of a second look at what a detection suspects.
func explanationCell(d *detectionJob, s settings.Values) (c store.ExplanationCell, err error) {
	c = store.ExplanationCell{DetectionKey: d.Cell.Key, Settings: map[string]any{"explain": map[string]any(s), "version": explanationVersion}}
	c.Key, err = c.Identity()
	return c, err
}

func (p *Plan) planExplanation(job *explanationJob) (err error) {
	if job.Cell, err = explanationCell(job.Detection, job.Settings); err != nil {
		return err
	}
	job.Cell.Order = len(p.Explanations)
	if p.explanations[job.Cell.Key] == nil {
		p.explanations[job.Cell.Key] = job
		p.Explanations = append(p.Explanations, job)
	}
	return nil
}

func (p *Plan) planRepair(job *repairJob) (err error) {
	job.Cell = store.RepairCell{DetectionKey: job.Detection.Cell.Key, Order: len(p.Repairs),
		Settings: map[string]any{"repair": map[string]any(job.Settings), "version": repairVersion}}
	if job.Explaining != nil {
		job.Cell.Settings["explain"], job.Cell.Settings["explained"] = map[string]any(job.Explaining), explanationVersion
	}
	if job.Cell.Key, err = job.Cell.Identity(); err != nil {
		return err
	}
	if p.repairs[job.Cell.Key] == nil {
		p.repairs[job.Cell.Key] = job
		p.Repairs = append(p.Repairs, job)
	}
	return nil
}

// basis is the detection of a detection, explanation or repair cell.
func (p *Plan) basis(kind store.Kind, key string) *detectionJob {
	switch kind {
	case store.KindRepair:
		return p.repairs[key].Detection
	case store.KindExplanation:
		return p.explanations[key].Detection
	}
	return p.detections[key]
}

// has tells whether a cell is one of the plan's.
func (p *Plan) has(kind store.Kind, key string) bool {
	switch kind {
	case store.KindModel:
		return p.models[key] != nil
	case store.KindReference:
		return p.references[key] != nil
	case store.KindDetection:
		return p.detections[key] != nil
	case store.KindExplanation:
		return p.explanations[key] != nil
	}
	return p.repairs[key] != nil
}

// Store writes the plan into the store.
func (p *Plan) Store(s *store.Store, versions map[string]string) error {
	models := make([]store.ModelCell, len(p.Models))
	for i, m := range p.Models {
		models[i] = m.Cell
	}
	detections := make([]store.DetectionCell, len(p.Detections))
	for i, d := range p.Detections {
		detections[i] = d.Cell
	}
	if err := s.Plan(store.Suite{Name: p.File.Name, YAML: p.File.Text, Versions: versions,
		Settings: p.settings()}, models, detections); err != nil {
		return err
	}
	references := make([]store.ReferenceCell, len(p.References))
	for i, r := range p.References {
		references[i] = r.Cell
	}
	if err := s.PlanReferences(p.File.Name, references); err != nil {
		return err
	}
	explanations := make([]store.ExplanationCell, len(p.Explanations))
	for i, x := range p.Explanations {
		explanations[i] = x.Cell
	}
	if err := s.PlanExplanations(p.File.Name, explanations); err != nil {
		return err
	}
	repairs := make([]store.RepairCell, len(p.Repairs))
	for i, r := range p.Repairs {
		repairs[i] = r.Cell
	}
	return s.PlanRepairs(p.File.Name, repairs)
}

// target returns the target class of the backdoored model of a dataset, an attack and a seed, among
// so many classes. No other setting moves it, so that the cells of an ablation are comparable.
func target(seed int, dataset, attack string, classes int) int {
	return int(random.Number("target", seed, "/", dataset, "/", attack) % uint64(classes))
}
