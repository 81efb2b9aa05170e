package cmd

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"

	"clipinspector/internal/files"
	"clipinspector/results/store"
)

// mlflowExperiment is the meta.yaml of an experiment in MLflow's file store.
type mlflowExperiment struct {
	Artifacts string `yaml:"artifact_location"`
	Created   int64  `yaml:"creation_time"`
	ID        string `yaml:"experiment_id"`
	Updated   int64  `yaml:"last_update_time"`
	Stage     string `yaml:"lifecycle_stage"`
	Name      string `yaml:"name"`
}

// mlflowRun is the meta.yaml of a run, with what lies beside it.
type mlflowRun struct {
	Artifacts  string   `yaml:"artifact_uri"`
	End        int64    `yaml:"end_time"` // ms
	Entry      string   `yaml:"entry_point_name"`
	Experiment string   `yaml:"experiment_id"`
	Stage      string   `yaml:"lifecycle_stage"`
	ID         string   `yaml:"run_id"`
	Name       string   `yaml:"run_name"`
	UUID       string   `yaml:"run_uuid"`
	Source     string   `yaml:"source_name"`
	SourceType int      `yaml:"source_type"`
	Version    string   `yaml:"source_version"`
	Start      int64    `yaml:"start_time"`
	Status     int      `yaml:"status"` // 3 finished, 4 failed
	Tags       []string `yaml:"tags"`
	User       string   `yaml:"user_id"`

	params, tags map[string]string
	metrics      map[string]float64
	files        []string // below the output folder
}

// mlflowName is what may not be in the names of params, metrics and tags, which become files: less
// than MLflow allows.
var mlflowName = regexp.MustCompile(`[^A-Za-z0-9_. -]|^\.+`)

// exportMLflow writes a suite as an experiment of MLflow's file store below dir: a run for each
// finished or failed model, and below it one for each detection, with settings as params, figures
// as metrics, verdicts as tags, models and triggers as artifacts. The same store gives the same
// runs; what is there of them is written again.
func exportMLflow(w io.Writer, out, suite, dir string) error {
	s, suite, err := openSuite(out, suite)
	if err != nil {
		return err
	}
	defer s.Close()
	suites, err := s.Suites()
	if err != nil {
		return err
	}
	models, err := s.Models(suite)
	if err != nil {
		return err
	}
	detections, err := s.Detections(suite)
	if err != nil {
		return err
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte("clip-inspector " + suite))
	x := mlflowExperiment{ID: strconv.FormatUint(binary.LittleEndian.Uint64(sum[:])%1e18, 10), Stage: "active", Name: suite}
	for _, u := range suites {
		if u.Name == suite {
			x.Created = u.Created.UnixMilli()
		}
	}
	x.Updated, x.Artifacts = x.Created, "file://"+filepath.Join(root, x.ID)
	if err := writeMeta(filepath.Join(root, x.ID), x); err != nil {
		return err
	}
	of, runs := map[string]store.ModelRow{}, 0
	write := func(r mlflowRun, key, kind string, seconds float64) error {
		sum := sha256.Sum256([]byte(suite + " " + key))
		r.ID = fmt.Sprintf("%x", sum[:16])
		r.UUID, r.Experiment, r.Stage, r.SourceType, r.User = r.ID, x.ID, "active", 4, "clip-inspector"
		r.Artifacts = x.Artifacts + "/" + r.ID + "/artifacts"
		r.Start, r.End, r.Tags = x.Created, x.Created, []string{}
		if seconds > 0 {
			r.End += int64(1000 * seconds)
		}
		r.tags["mlflow.runName"], r.tags["mlflow.source.name"], r.tags["cell"], r.tags["kind"] = r.Name, "clip-inspector", key, kind
		runs++
		return r.write(filepath.Join(root, x.ID, r.ID), out)
	}
	for _, m := range models {
		of[m.Cell.Key] = m
		if m.State == store.Pending {
			continue
		}
		c, r := m.Cell, m.Result
		run := mlflowRun{Name: fmt.Sprintf("%s %s %s %d", c.Dataset, c.Attack, c.Learner, c.Seed), Status: mlflowStatus(m.State),
			tags: map[string]string{"message": m.Message}, params: cellParams(c), metrics: map[string]float64{}}
		flatten(run.params, "", c.Settings)
		if m.State == store.Finished {
			run.metrics = map[string]float64{"acc": r.ACC, "asr": r.ASR, "asr_ood": r.ASROOD, "psnr": r.PSNR, "ssim": r.SSIM, "seconds": r.Seconds}
			run.tags["backdoored"] = strconv.FormatBool(r.Backdoored)
			run.files = []string{r.Path, filepath.Join(filepath.Dir(r.Path), "trigger.safetensors")}
		}
		if err := write(run, c.Key, "model", r.Seconds); err != nil {
			return err
		}
	}
	for _, d := range detections {
		if d.State == store.Pending {
			continue
		}
		m, r := of[d.Cell.ModelKey], d.Result
		parent := sha256.Sum256([]byte(suite + " " + d.Cell.ModelKey))
		run := mlflowRun{Name: d.Cell.Detector + " on " + fmt.Sprintf("%s %s %s %d", m.Cell.Dataset, m.Cell.Attack, m.Cell.Learner, m.Cell.Seed),
			Status: mlflowStatus(d.State), tags: map[string]string{"message": d.Message, "mlflow.parentRunId": fmt.Sprintf("%x", parent[:16])},
			params: cellParams(m.Cell), metrics: map[string]float64{}}
		flatten(run.params, "", d.Cell.Settings)
		run.params["detector"] = d.Cell.Detector
		if d.State == store.Finished {
			run.metrics = map[string]float64{"index": r.Index, "image_passes": float64(r.ImagePasses), "seconds": r.Seconds,
				"correct": float64(boolInt(r.Unsure == "" && r.Backdoored == m.Result.Backdoored))}
			run.tags["verdict"] = map[bool]string{true: "backdoored", false: "clean"}[r.Backdoored]
			if r.Unsure != "" {
				run.tags["verdict"] = "cannot tell"
			}
			run.files = []string{r.Path}
		}
		if err := write(run, d.Cell.Key, "detection", r.Seconds); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(w, "%d runs of the suite %s are written below %s; show them by  mlflow ui --backend-store-uri %s\n", runs, suite, dir, dir)
	return err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func mlflowStatus(s store.State) int {
	if s == store.Failed {
		return 4
	}
	return 3
}

func cellParams(c store.ModelCell) map[string]string {
	return map[string]string{"dataset": c.Dataset, "attack": c.Attack, "learner": c.Learner, "seed": strconv.Itoa(c.Seed)}
}

// flatten adds settings under dotted names.
func flatten(to map[string]string, prefix string, m map[string]any) {
	for name, v := range m {
		if below, ok := v.(map[string]any); ok {
			flatten(to, prefix+name+".", below)
		} else if known := to[prefix+name]; known == "" {
			to[prefix+name] = fmt.Sprint(v)
		}
	}
}

func writeMeta(dir string, meta any) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("MLflow's folder: %w", err)
	}
	raw, err := yaml.Marshal(meta)
	if err != nil {
		return err
	}
	return files.WriteAtomic(filepath.Join(dir, "meta.yaml"), func(w io.Writer) error { _, err := w.Write(raw); return err })
}

// write writes a run with its params, metrics, tags and artifacts, which lie below out.
func (r mlflowRun) write(dir, out string) error {
	put := func(kind, name, text string) error {
		if err := os.MkdirAll(filepath.Join(dir, kind), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, kind, mlflowName.ReplaceAllString(name, "_")), []byte(text), 0o644)
	}
	const longestParam = 6000 // characters that MLflow takes
	for _, name := range slices.Sorted(maps.Keys(r.params)) {
		if err := put("params", name, fmt.Sprintf("%.*s", longestParam, r.params[name])); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.tags)) {
		if r.tags[name] == "" {
			continue
		}
		if err := put("tags", name, r.tags[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.metrics)) {
		if v := r.metrics[name]; !math.IsNaN(v) && !math.IsInf(v, 0) {
			if err := put("metrics", name, fmt.Sprintf("%d %s 0\n", r.Start, strconv.FormatFloat(v, 'g', -1, 64))); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "artifacts"), 0o755); err != nil {
		return err
	}
	for _, path := range r.files {
		if !filepath.IsLocal(path) {
			return fmt.Errorf("the store names the file %q, which is not below the output folder", path)
		}
		if err := copyFile(filepath.Join(out, path), filepath.Join(dir, "artifacts", filepath.Base(path))); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return writeMeta(dir, r)
}

func copyFile(from, to string) error {
	f, err := files.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return files.WriteAtomic(to, func(w io.Writer) error { _, err := io.Copy(w, f); return err })
}
