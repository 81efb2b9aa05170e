package stats

import "clipinspector/results/store"

// followed is a finished explanation or repair, with its detection and its model.
type followed[C, R any] struct {
	store.Row[C, R]
	detection store.DetectionRow
	model     store.ModelRow
}

// follow counts rows that follow detections in tally, names the failed ones, and gives the finished
// ones with what they follow. of is the key of a cell's detection.
func follow[C, R any](sum *Summary, what string, tally *Tally, rows []store.Row[C, R], of func(C) string,
	detections []store.DetectionRow, models map[string]store.ModelRow) (finished []followed[C, R]) {
	byKey := map[string]store.DetectionRow{}
	for _, d := range detections {
		byKey[d.Cell.Key] = d
	}
	for _, r := range rows {
		d := byKey[of(r.Cell)]
		m := models[d.Cell.ModelKey]
		tally.add(r.State)
		tally.Blocked += boolInt(r.State == store.Pending && (d.State == store.Failed || m.State == store.Failed))
		if r.State == store.Failed {
			sum.Failures = append(sum.Failures, Failure{what + " of " + describe(m.Cell), r.Message})
		}
		if r.State == store.Finished && d.State == store.Finished && m.State == store.Finished {
			finished = append(finished, followed[C, R]{r, d, m})
		}
	}
	return finished
}

// byVerdict gives the rows of one attack in two parts, those with a flagged model first. A part
// without rows is left out.
func byVerdict[C, R any](rows []followed[C, R], part func(verdict string, rows []followed[C, R])) {
	for _, flagged := range []bool{true, false} {
		var list []followed[C, R]
		for _, r := range rows {
			if r.detection.Result.Backdoored == flagged {
				list = append(list, r)
			}
		}
		switch {
		case len(list) == 0:
		case flagged:
			part("flagged", list)
		case list[0].model.Result.Backdoored:
			part("missed", list)
		default:
			part("not flagged", list)
		}
	}
}
