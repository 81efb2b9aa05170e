package experiments

import (
	"path/filepath"
	"time"

	"clipinspector/inspector"
	"clipinspector/results"
)

// measurement is the identity of what a detection measures, apart from how it is judged; "" where the two are one.
func (d *DetectionJob) measurement() (string, error) {
	detector, err := inspector.Find(d.Detector.Name)
	if err != nil {
		return "", err
	}
	s, judged := detector.Measurement(d.Detector.Settings)
	if !judged {
		return "", nil
	}
	of := map[string]any{"model": d.Cell.ModelKey}
	for name, v := range d.Cell.Settings {
		of[name] = v
	}
	of["detector"] = named(Choice{d.Detector.Name, s})
	return results.Key(of)
}

// judgedAnew gives a detection's verdict from what another finished cell of the plan measured with the same settings but for those that
// decide the verdict, where there is one. Image passes and seconds are those of the measuring, whose triggers it shares.
func (k *worker) judgedAnew(job *DetectionJob) (r results.DetectionResult, ok bool, err error) {
	start := time.Now()
	detector, err := inspector.Find(job.Detector.Name)
	if err != nil {
		return r, false, err
	}
	for _, twin := range k.plan.measured[job.measured] {
		row, found, err := k.store.Detection(twin.Cell.Key)
		if err != nil {
			return r, false, err
		}
		if !found || twin == job || row.State != results.Finished {
			continue
		}
		if _, err := readRecovered(filepath.Join(k.out, row.Result.Path)); err != nil {
			continue // lost or damaged: measured again
		}
		r = row.Result
		r.Versions = k.versions
		report := &inspector.Report{ImagePasses: r.ImagePasses}
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
