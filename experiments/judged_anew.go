package experiments

import (
	"fmt"
	"maps"
	"time"

	"clipinspector/inspector"
	"clipinspector/results/store"
	"clipinspector/settings"
)

// measurement is the identity of what a detection measures, apart from how it is judged; "" where
// the two are one.
func (d *detectionJob) measurement() (string, error) {
	detector, err := inspector.Find(d.Detector.Name)
	if err != nil {
		return "", err
	}
	rule := detector.Judging(d.Detector.Settings)
	if len(rule) == 0 || detector.Judge == nil {
		return "", nil
	}
	return measurementOf(d.Cell, rule)
}

// measurementOf is the identity of what a cell measures: all that its own identity covers but the
// settings named rule.
func measurementOf(c store.DetectionCell, rule []string) (string, error) {
	chosen, ok := c.Settings["detector"].(map[string]any)
	if !ok {
		return "", fmt.Errorf("detection cell %s has no detector's settings", c.Key)
	}
	of := maps.Clone(c.Settings)
	of["detector"] = map[string]any(settings.Values(chosen).Without(rule))
	return store.DetectionCell{ModelKey: c.ModelKey, Detector: c.Detector, Settings: of}.Identity()
}

// judgedAnew gives a detection's verdict from what another finished cell of the folder, of this
// suite or another, measured with the same settings but for those that decide the verdict, where
// there is one. Image passes and seconds are those of the measuring, whose triggers it shares.
func (k *worker) judgedAnew(job *detectionJob) (r store.DetectionResult, ok bool, err error) {
	if job.measured == "" {
		return r, false, nil
	}
	start := time.Now()
	detector, err := inspector.Find(job.Detector.Name)
	if err != nil {
		return r, false, err
	}
	twins, err := k.store.DetectionsOf(job.Cell.ModelKey, job.Detector.Name)
	if err != nil {
		return r, false, err
	}
	rule := detector.Judging(job.Detector.Settings)
	for _, twin := range twins {
		measured, err := measurementOf(twin.Cell, rule)
		if err != nil {
			return r, false, err
		}
		if measured != job.measured || twin.Cell.Key == job.Cell.Key || twin.State != store.Finished {
			continue
		}
		if _, err := Recovered(k.out, twin.Result.Path, twin.Result.Hash); err != nil {
			continue // lost or damaged: measured again
		}
		r = twin.Result
		r.Versions = k.versions
		if r.Unsure != "" { // which no rule changes
			return r, true, nil
		}
		report := &inspector.Finding{ImagePasses: r.ImagePasses}
		for _, c := range r.Classes {
			report.Classes = append(report.Classes, inspector.ClassResult{Loss: c.Loss, ASR: c.ASR, Norm: c.Norm, Score: c.Score, Reached: c.Reached})
		}
		detector.Judge(job.Detector.Settings, report)
		for i := range r.Classes {
			r.Classes[i].Index = report.Classes[i].Index
		}
		r.Index, r.Backdoored, r.Suspect = report.Index, report.Backdoored, report.Suspect
		r.Seconds += time.Since(start).Seconds()
		return r, true, nil
	}
	return r, false, nil
}
