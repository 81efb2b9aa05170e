package store

import (
	"bufio"
	"fmt"
	"io"
	"math"
)

// Export writes the suite's cells as JSON lines: models, detections, repairs, each
// by (Order, Key), with settings, measured figures, verdicts and class scores.
// Durations, times, workers, paths, versions and error messages are left out,
// so that the same settings and seeds give the same bytes however the run was
// cut into workers, threads and resumptions. NaN is null, infinities are the
// strings "+Inf" and "-Inf".
func (s *Store) Export(w io.Writer, suite string) error {
	models, err := s.Models(suite)
	if err != nil {
		return err
	}
	detections, err := s.Detections(suite)
	if err != nil {
		return err
	}
	repairs, err := s.Repairs(suite)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	line := func(v any) error {
		raw, err := CanonicalJSON(v)
		if err != nil {
			return err
		}
		_, err = out.Write(append(raw, '\n'))
		return err
	}
	for _, m := range models {
		v := map[string]any{
			"kind": KindModel, "key": m.Cell.Key, "order": m.Cell.Order, "state": m.State,
			"dataset": m.Cell.Dataset, "attack": m.Cell.Attack, "learner": m.Cell.Learner, "seed": m.Cell.Seed,
			"settings": m.Cell.Settings,
		}
		if m.State == Finished {
			v["result"] = exportModelResult(m.Result)
		}
		if err := line(v); err != nil {
			return fmt.Errorf("export model cell %s: %w", ShortKey(m.Cell.Key), err)
		}
	}
	for _, d := range detections {
		v := map[string]any{
			"kind": KindDetection, "key": d.Cell.Key, "order": d.Cell.Order, "state": d.State,
			"model": d.Cell.ModelKey, "detector": d.Cell.Detector, "settings": d.Cell.Settings,
		}
		if d.State == Finished {
			v["result"] = exportDetectionResult(d.Result)
		}
		if err := line(v); err != nil {
			return fmt.Errorf("export detection cell %s: %w", ShortKey(d.Cell.Key), err)
		}
	}
	for _, r := range repairs {
		v := map[string]any{
			"kind": KindRepair, "key": r.Cell.Key, "order": r.Cell.Order, "state": r.State,
			"detection": r.Cell.DetectionKey, "settings": r.Cell.Settings,
		}
		if r.State == Finished {
			v["result"] = exportRepairResult(r.Result)
		}
		if err := line(v); err != nil {
			return fmt.Errorf("export repair cell %s: %w", ShortKey(r.Cell.Key), err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("export suite %q: %w", suite, err)
	}
	return nil
}

func exportModelResult(r ModelResult) map[string]any {
	return map[string]any{
		"backdoored": r.Backdoored, "target": r.Target, "classes": r.Classes,
		"acc": exact(r.ACC), "asr": exact(r.ASR), "asr_all": exact(r.ASRAll), "asr_ood": exact(r.ASROOD),
		"psnr": exact(r.PSNR), "ssim": exact(r.SSIM), "hash": r.Hash,
	}
}

func exportDetectionResult(r DetectionResult) map[string]any {
	classes := make([]any, len(r.Classes))
	for i, c := range r.Classes {
		classes[i] = map[string]any{
			"class": c.Class, "loss": exact(c.Loss), "asr": exact(c.ASR), "score": exact(c.Score),
			"index": exact(c.Index), "norm": exact(c.Norm), "reached": c.Reached,
		}
	}
	return map[string]any{
		"index": exact(r.Index), "backdoored": r.Backdoored, "suspect": r.Suspect,
		"image_passes": r.ImagePasses, "classes": classes,
	}
}

// exact is a float64 as JSON can hold it without loss.
func exact(v float64) any {
	switch {
	case math.IsNaN(v):
		return nil
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return v
}
