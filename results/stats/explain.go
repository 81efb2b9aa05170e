package stats

import "clipinspector/results/store"

// ExplanationFigures say what the suspects of one attack's models with one verdict were said to
// answer to.
type ExplanationFigures struct {
	Attack        string      `json:"attack"`
	Verdict       string      `json:"verdict"` // "flagged"; "missed" or, of clean models, "not flagged"
	Models        int         `json:"models"`
	SuspectsRight int         `json:"suspects_right"` // models whose suspect is the target
	Said          Object[int] `json:"said"`           // how many answer to which kind, as first seen; see Kinds of Summary
	Reached       int         `json:"reached"`        // those that are explained by a trigger whose ASR is at least store.FiringASR
	OthersReached int         `json:"others_reached"` // those of which the same inversion reaches that in another class
	TrueReach     Share       `json:"true_reach"`     // those whose suspect is the target and whose true trigger reaches that on the same images, and how many of them are reached
	TrueFails     Share       `json:"true_fails"`     // those whose suspect is the target and whose true trigger does not
	ASR           Num         `json:"asr"`            // the rest are means: of recovered triggers, on unseen pool images
	TrueASR       Num         `json:"true_asr"`       // of true triggers at the target, on the same images
	ZeroShot      Num         `json:"zero_shot_asr"`  // of the same triggers under zero-shot CLIP
	IoU           Num         `json:"iou"`            // of recovered patches with true ones
	Distance      Num         `json:"distance"`       // of their centres, as a share of the image's side
	Size          Num         `json:"size"`           // of those recovered patches, in pixels a side
	TrueSize      Num         `json:"true_size"`      // of the true ones
	Passes        Num         `json:"image_passes"`
	Seconds       Num         `json:"seconds"`
	Backdoored    bool        `json:"-"`
}

// Share counts models, and how many of them are explained by a trigger whose ASR is at least
// store.FiringASR.
type Share struct {
	Reached int `json:"reached"`
	Models  int `json:"models"`
}

type explained = followed[store.ExplanationCell, store.ExplanationResult]

// addExplanations adds a row for every attack and verdict.
func (sum *Summary) addExplanations(explanations []store.ExplanationRow, detections []store.DetectionRow, models map[string]store.ModelRow) {
	rows := follow(sum, "explanation", &sum.ExplanationTally, explanations,
		func(c store.ExplanationCell) string { return c.DetectionKey }, detections, models)
	attacks, lists := split(rows, func(x explained) string { return x.model.Cell.Attack })
	for i, name := range attacks {
		byVerdict(lists[i], func(verdict string, rows []explained) {
			sum.Explanations = append(sum.Explanations, explanationFigures(name, verdict, rows))
		})
	}
}

func explanationFigures(attack, verdict string, rows []explained) ExplanationFigures {
	f := ExplanationFigures{Attack: attack, Verdict: verdict, Models: len(rows), Backdoored: rows[0].model.Result.Backdoored}
	var asr, trueASR, zero, iou, distance, size, trueSize, passes, seconds []float64
	for _, e := range rows[0].Result.Families {
		f.Said = append(f.Said, Entry[int]{Name: e.Kind})
	}
	f.Said = append(f.Said, Entry[int]{Name: "none"})
	for _, x := range rows {
		r := x.Result
		f.SuspectsRight += boolInt(f.Backdoored && r.Class == x.model.Result.Target)
		for i := range f.Said {
			f.Said[i].Value += boolInt(f.Said[i].Name == r.Said)
		}
		reached := boolInt(r.Said != "none" && r.ASR >= store.FiringASR)
		f.Reached += reached
		if n := Num(r.TrueASR); n.Defined() {
			trueASR = append(trueASR, r.TrueASR)
			if r.Class == x.model.Result.Target {
				of := &f.TrueFails
				if r.TrueASR >= store.FiringASR {
					of = &f.TrueReach
				}
				of.Models, of.Reached = of.Models+1, of.Reached+reached
			}
		}
		f.OthersReached += boolInt(r.Others >= store.FiringASR)
		asr, zero, passes, seconds = append(asr, r.ASR), append(zero, r.ZeroShot), append(passes, float64(r.ImagePasses)), append(seconds, r.Seconds)
		if n := Num(r.IoU); n.Defined() && r.Said != "none" {
			iou, distance = append(iou, r.IoU), append(distance, r.Distance)
			size, trueSize = append(size, r.Size), append(trueSize, r.TrueSize)
		}
	}
	f.TrueASR = Num(mean(trueASR))
	f.ASR, f.ZeroShot, f.IoU, f.Distance = Num(mean(asr)), Num(mean(zero)), Num(mean(iou)), Num(mean(distance))
	f.Size, f.TrueSize = Num(mean(size)), Num(mean(trueSize))
	f.Passes, f.Seconds = Num(mean(passes)), Num(mean(seconds))
	return f
}
