package experiments

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"clipinspector/attacks"
	"clipinspector/results"
	"clipinspector/settings"
)

// ModelJob is one model cell with what it takes to run it.
type ModelJob struct {
	Cell    results.ModelCell
	Suite   *Suite
	Dataset DatasetSpec
	Attack  Choice
	Seed    int
	Target  int // -1 for a clean model

	encoder *Encoder
	set     *set
	ood     *pool
}

// DetectionJob is one detection cell with what it takes to run it.
type DetectionJob struct {
	Cell     results.DetectionCell
	Model    *ModelJob
	Detector Choice

	pool     *pool
	measured string // identity of what it measures, see measurement
}

// RepairJob is one repair cell with what it takes to run it.
type RepairJob struct {
	Cell      results.RepairCell
	Detection *DetectionJob
	Settings  settings.Values
}

// String names the cell for a person.
func (m *ModelJob) String() string {
	return fmt.Sprintf("%s, %s, seed %d", m.Dataset.Name, m.Attack.Name, m.Seed)
}

// String names the cell for a person.
func (d *DetectionJob) String() string { return fmt.Sprintf("%s on %s", d.Detector.Name, d.Model) }

// String names the cell for a person.
func (r *RepairJob) String() string { return fmt.Sprintf("repair of %s", r.Detection.Model) }

// Plan is the cells of a suite file, each once, in the order in which they run.
type Plan struct {
	File       *File
	Models     []*ModelJob
	Detections []*DetectionJob
	Repairs    []*RepairJob
	Engine     string // fingerprint of the engine that the detections are planned for

	models     map[string]*ModelJob
	detections map[string]*DetectionJob
	repairs    map[string]*RepairJob
	measured   map[string]*DetectionJob // the first of those that measure the same and judge it differently
}

// Plan opens what the suites of a file name and lays out their cells: per suite (combination of the sweep), seed, dataset
// and attack one model, and per detector one detection on it. Cells that combinations share are planned once.
//
// A model's identity names everything that decides the model and its figures, and no detector, so that a detector's setting
// never makes a model again. A detection's names the model, the detector's settings, the pool and the engine.
func (w *World) Plan(f *File, engine string) (*Plan, error) {
	p := &Plan{File: f, Engine: engine, models: map[string]*ModelJob{}, detections: map[string]*DetectionJob{},
		repairs: map[string]*RepairJob{}, measured: map[string]*DetectionJob{}}
	for i := range f.Suites {
		u := &f.Suites[i]
		encoder, err := w.Encoder(u.CLIP)
		if err != nil {
			return nil, fmt.Errorf("suite %s: %w", f.Name, err)
		}
		for _, seed := range u.Seeds {
			for _, dataset := range u.Datasets {
				for _, attack := range u.Attacks {
					job := &ModelJob{Suite: u, Dataset: dataset, Attack: attack, Seed: seed, encoder: encoder}
					if err := w.plan(p, job); err != nil {
						return nil, fmt.Errorf("suite %s: %w", f.Name, err)
					}
				}
			}
		}
	}
	return p, nil
}

func (w *World) plan(p *Plan, job *ModelJob) (err error) {
	u, size := job.Suite, job.encoder.Config.Vision.ImageSize
	if job.set, err = w.dataset(u, job.Dataset, size); err != nil {
		return err
	}
	if job.ood, err = w.pool(u, u.OOD, job.set); err != nil {
		return err
	}
	attack, err := attacks.Find(job.Attack.Name)
	if err != nil {
		return err
	}
	job.Target = -1
	if attack.Backdoors() {
		job.Target = Target(job.Seed, job.Dataset.Name, job.Attack.Name, len(job.set.Classes()))
	}
	job.Cell = results.ModelCell{
		Dataset: job.set.label(), Attack: job.Attack.Name, Learner: u.Learner.Name, Seed: job.Seed,
		Order: len(p.Models),
		Settings: map[string]any{
			"dataset":     map[string]any{"name": job.Dataset.Name, "classes": len(job.set.Classes()), "fingerprint": job.set.Fingerprint()},
			"shots":       u.Shots,
			"test-images": u.TestImages,
			"learner":     named(u.Learner),
			"tuning":      map[string]any(u.Tuning),
			"attack":      named(job.Attack),
			"seed":        job.Seed,
			"clip":        job.encoder.fingerprint,
			"size":        size,
			"ood":         map[string]any{"name": u.OOD.Name, "images": len(job.ood.indices), "fingerprint": job.ood.fingerprint},
			"version":     ModelVersion,
		},
	}
	if job.Cell.Key, err = job.Cell.Identity(); err != nil {
		return err
	}
	if known := p.models[job.Cell.Key]; known != nil {
		job = known
	} else {
		p.models[job.Cell.Key] = job
		p.Models = append(p.Models, job)
	}
	for _, d := range u.Detectors {
		if err := w.planDetection(p, &DetectionJob{Model: job, Detector: d}, u); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) planDetection(p *Plan, job *DetectionJob, u *Suite) (err error) {
	if job.pool, err = w.pool(u, u.Pool, job.Model.set); err != nil {
		return err
	}
	job.Cell = results.DetectionCell{
		ModelKey: job.Model.Cell.Key, Detector: job.Detector.Name, Order: len(p.Detections),
		Settings: map[string]any{
			"detector": named(job.Detector),
			"pool": map[string]any{"name": u.Pool.Name, "images": len(job.pool.indices), "seed": u.Pool.Seed,
				"fingerprint": job.pool.fingerprint},
			"engine":  p.Engine,
			"version": DetectionVersion,
		},
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
	if u.Repair == nil || u.Repair.Name != job.Detector.Name {
		return nil
	}
	return p.planRepair(&RepairJob{Detection: job, Settings: u.Repair.Settings})
}

func (p *Plan) planRepair(job *RepairJob) (err error) {
	job.Cell = results.RepairCell{DetectionKey: job.Detection.Cell.Key, Order: len(p.Repairs),
		Settings: map[string]any{"repair": map[string]any(job.Settings), "version": RepairVersion}}
	if job.Cell.Key, err = job.Cell.Identity(); err != nil {
		return err
	}
	if p.repairs[job.Cell.Key] == nil {
		p.repairs[job.Cell.Key] = job
		p.Repairs = append(p.Repairs, job)
	}
	return nil
}

// basis is the detection of a detection or repair cell.
func (p *Plan) basis(kind results.Kind, key string) *DetectionJob {
	if kind == results.KindRepair {
		return p.repairs[key].Detection
	}
	return p.detections[key]
}

func named(c Choice) map[string]any {
	m := map[string]any{"name": c.Name}
	for k, v := range c.Settings {
		m[k] = v
	}
	return m
}

// digest hashes things by their printed form.
func digest(parts ...any) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%v\n", p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// settings say where a suite's settings come from.
func (f *File) settings() map[string]any {
	m := map[string]any{"file": f.Path, "set": slices.Clone(f.Sets)}
	from := []any{}
	for i, u := range f.Suites {
		if c := u.Calibrated; c != nil && !slices.ContainsFunc(f.Suites[:i], func(v Suite) bool {
			return v.Calibrated != nil && v.Calibrated.SHA256 == c.SHA256
		}) {
			from = append(from, map[string]any{"file": c.Path, "sha256": c.SHA256})
		}
	}
	if len(from) > 0 {
		m["calibrated"] = from
	}
	return m
}

// store writes the plan into the store.
func (p *Plan) store(s *results.Store, versions map[string]string) error {
	models := make([]results.ModelCell, len(p.Models))
	for i, m := range p.Models {
		models[i] = m.Cell
	}
	detections := make([]results.DetectionCell, len(p.Detections))
	for i, d := range p.Detections {
		detections[i] = d.Cell
	}
	if err := s.Plan(results.Suite{Name: p.File.Name, YAML: p.File.Text, Versions: versions,
		Settings: p.File.settings()}, models, detections); err != nil {
		return err
	}
	repairs := make([]results.RepairCell, len(p.Repairs))
	for i, r := range p.Repairs {
		repairs[i] = r.Cell
	}
	return s.PlanRepairs(p.File.Name, repairs)
}
