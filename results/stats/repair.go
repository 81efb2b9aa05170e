package stats

import (
	"slices"

	"clipinspector/results/store"
)

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

type repaired = followed[store.RepairCell, store.RepairResult]

// addRepairs adds a row for every attack and verdict, and where there is more than one attack rows
// over all of them.
func (sum *Summary) addRepairs(repairs []store.RepairRow, detections []store.DetectionRow, models map[string]store.ModelRow) {
	rows := follow(sum, "repair", &sum.RepairTally, repairs,
		func(c store.RepairCell) string { return c.DetectionKey }, detections, models)
	add := func(attack string, rows []repaired) {
		byVerdict(rows, func(verdict string, rows []repaired) {
			sum.Repairs = append(sum.Repairs, repairFigures(attack, verdict, rows))
		})
	}
	attacks, lists := split(rows, func(r repaired) string { return r.model.Cell.Attack })
	for i, name := range attacks {
		add(name, lists[i])
	}
	if len(attacks) > 2 {
		backdoored := slices.DeleteFunc(rows, func(r repaired) bool { return !r.model.Result.Backdoored })
		add("all backdoored", backdoored)
		sum.Repairs = append(sum.Repairs, repairFigures("all backdoored", "any", backdoored))
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
