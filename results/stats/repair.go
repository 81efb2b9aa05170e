package stats

import "clipinspector/results/store"

// RepairFigures are the mean figures of the repairs of one attack's models with one verdict.
type RepairFigures struct {
	Attack        string             `json:"attack"`  // "all backdoored" in the rows over all attacks
	Verdict       string             `json:"verdict"` // "flagged"; "missed" or, of clean models, "not flagged"; "any" over both
	Models        int                `json:"models"`
	SuspectsRight int                `json:"suspects_right"` // models whose suspect is the target
	Arms          Object[ArmFigures] `json:"arms"`           // in the order of the arms
	Backdoored    bool               `json:"-"`              // how the models were made
}

// ArmFigures are the means of one arm.
type ArmFigures struct {
	ACC          Num `json:"acc"`
	ASR          Num `json:"asr"` // with the true trigger, without the target class's images
	ASRMax       Num `json:"asr_max"`
	ASRRecovered Num `json:"asr_recovered"` // with the suspect's recovered trigger
}

// repaired is a finished repair with its detection and its model.
type repaired struct {
	store.RepairRow
	detection store.DetectionRow
	model     store.ModelRow
}

// addRepairs adds a row for every attack and verdict, and where there is more than one attack rows over all of them.
func (sum *Summary) addRepairs(repairs []store.RepairRow, detections []store.DetectionRow, models map[string]store.ModelRow) {
	byKey := map[string]store.DetectionRow{}
	for _, d := range detections {
		byKey[d.Cell.Key] = d
	}
	var rows, backdoored []repaired
	for _, r := range repairs {
		d := byKey[r.Cell.DetectionKey]
		m := models[d.Cell.ModelKey]
		sum.RepairTally.add(r.State)
		sum.RepairTally.Blocked += boolInt(r.State == store.Pending && (d.State == store.Failed || m.State == store.Failed))
		if r.State == store.Failed {
			sum.Failures = append(sum.Failures, Failure{"repair of " + describe(m.Cell), r.Message})
		}
		if r.State == store.Finished && d.State == store.Finished && m.State == store.Finished {
			rows = append(rows, repaired{r, d, m})
			if m.Result.Backdoored {
				backdoored = append(backdoored, repaired{r, d, m})
			}
		}
	}
	attacks, lists := split(rows, func(r repaired) string { return r.model.Cell.Attack })
	for i, name := range attacks {
		sum.addVerdicts(name, lists[i])
	}
	if len(attacks) > 2 {
		sum.addVerdicts("all backdoored", backdoored)
		sum.Repairs = append(sum.Repairs, repairFigures("all backdoored", "any", backdoored))
	}
}

func (sum *Summary) addVerdicts(attack string, rows []repaired) {
	for _, flagged := range []bool{true, false} {
		var list []repaired
		for _, r := range rows {
			if r.detection.Result.Backdoored == flagged {
				list = append(list, r)
			}
		}
		if len(list) == 0 {
			continue
		}
		verdict := "not flagged"
		switch {
		case flagged:
			verdict = "flagged"
		case list[0].model.Result.Backdoored:
			verdict = "missed"
		}
		sum.Repairs = append(sum.Repairs, repairFigures(attack, verdict, list))
	}
}

func repairFigures(attack, verdict string, rows []repaired) RepairFigures {
	f := RepairFigures{Attack: attack, Verdict: verdict, Models: len(rows)}
	for _, r := range rows {
		f.Backdoored = r.model.Result.Backdoored
		f.SuspectsRight += boolInt(f.Backdoored && r.detection.Result.Suspect == r.model.Result.Target)
	}
	for _, arm := range store.Arms {
		var acc, asr, recovered []float64
		most := undefined
		for _, r := range rows {
			a, ok := r.Result.Arm(arm)
			if !ok {
				continue
			}
			acc, asr, recovered = append(acc, a.ACC), append(asr, a.ASR), append(recovered, a.ASRRecovered)
			if n := Num(a.ASR); n.Defined() && !(most > n) {
				most = n
			}
		}
		f.Arms = append(f.Arms, Entry[ArmFigures]{arm, ArmFigures{Num(mean(acc)), Num(mean(asr)), most, Num(mean(recovered))}})
	}
	return f
}
