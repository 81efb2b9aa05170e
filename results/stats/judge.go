package stats

import (
	"slices"

	"clipinspector/results/store"
)

// Judge measures verdicts against the truth about their models: those of one
// detector with one choice of settings, say. Cells that are not finished, and
// detections whose model is not among the models, do not count.
func Judge(models []store.ModelRow, detections []store.DetectionRow) Figures {
	byKey := map[string]store.ModelRow{}
	for _, m := range models {
		byKey[m.Cell.Key] = m
	}
	var trials []trial
	for _, d := range detections {
		if m, ok := byKey[d.Cell.ModelKey]; ok && m.State == store.Finished && d.State == store.Finished {
			trials = append(trials, newTrial(d, m))
		}
	}
	slices.SortStableFunc(trials, func(a, b trial) int { return a.order - b.order })
	return figuresOf(trials, nil)
}
