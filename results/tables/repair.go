package tables

import (
	"math"
	"strconv"

	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// repairGrid has a row per attack and verdict: accuracy, then success of the true trigger, of every
// arm.
func repairGrid(sum *stats.Summary) grid {
	g := grid{head: []string{"attack", "verdict"}, left: 2}
	g.head = append(g.head, "models", "suspects right")
	for _, what := range []string{"ACC", "ASR"} {
		for _, arm := range store.Arms {
			g.head = append(g.head, what+" "+arm)
		}
	}
	g.head = append(g.head, "highest ASR repaired")
	for _, f := range sum.Repairs {
		right := dash
		if f.Backdoored {
			right = fraction(f.SuspectsRight, f.Models)
		}
		row := []string{f.Attack, f.Verdict, strconv.Itoa(f.Models), right}
		for _, a := range f.Arms {
			row = append(row, decimals(a.Value.ACC, 3))
		}
		most := stats.Num(math.NaN())
		for _, a := range f.Arms {
			row = append(row, decimals(a.Value.ASR, 3))
			if a.Name == store.ArmRepaired {
				most = a.Value.ASRMax
			}
		}
		g.rows = append(g.rows, append(row, decimals(most, 3)))
	}
	return g
}

const repairLegend = "Means over models. ASR is that of the true trigger, which no repair has seen. Every arm but the delivered model takes the same " +
	"number of steps: repaired with recovered triggers, control on clean images only, retuned on clean images only from fresh prompts."
