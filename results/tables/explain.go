package tables

import (
	"strconv"

	"clipinspector/results/stats"
)

// explanationGrid has a row per attack and verdict: what the models are said to answer to, and what
// the recovered triggers do.
func explanationGrid(sum *stats.Summary) grid {
	g := grid{head: []string{"attack", "verdict", "models", "suspects right"}, left: 2}
	for _, s := range sum.Explanations[0].Said {
		g.head = append(g.head, s.Name)
	}
	g.head = append(g.head, "reached", "where the true one does", "where it does not", "others reached", "ASR", "true ASR", "ASR zero-shot", "IoU", "distance", "side", "true side", "image passes", "seconds")
	of := func(s stats.Share) string {
		if s.Models == 0 {
			return dash
		}
		return fraction(s.Reached, s.Models)
	}
	for _, f := range sum.Explanations {
		right := dash
		if f.Backdoored {
			right = fraction(f.SuspectsRight, f.Models)
		}
		row := []string{f.Attack, f.Verdict, strconv.Itoa(f.Models), right}
		for _, s := range f.Said {
			row = append(row, strconv.Itoa(s.Value))
		}
		g.rows = append(g.rows, append(row, fraction(f.Reached, f.Models), of(f.TrueReach), of(f.TrueFails), fraction(f.OthersReached, f.Models),
			decimals(f.ASR, 3), decimals(f.TrueASR, 3), decimals(f.ZeroShot, 3),
			decimals(f.IoU, 2), decimals(f.Distance, 2), decimals(f.Size, 1), decimals(f.TrueSize, 1), decimals(f.Passes, 0), decimals(f.Seconds, 1)))
	}
	return g
}

const explanationLegend = "How many suspects are said to answer to which kind of trigger. Reached: explained by a trigger whose ASR is at least 0.9 on " +
	"unseen pool images, of all models, and of those found whose true trigger comes to that on the same images or does not; others reached: the same inversion, aimed at other classes of the model, comes to that. IoU and distance are of recovered patches " +
	"with true ones; the distance of the centres is a share of the image's side. Sides are those of recovered and of true patches, in pixels. Passes and seconds are a model's."
