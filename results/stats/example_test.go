package stats_test

import (
	"fmt"

	"clipinspector/results/stats"
)

// The anomaly indices of two backdoored and two clean models: one pair of four is in the wrong
// order.
func ExampleAUROC() {
	index := []float64{3.1, 0.9, 1.2, 0.4}
	backdoored := []bool{true, true, false, false}
	fmt.Println(stats.AUROC(index, backdoored))
	// Output: 0.75
}

// 47 verdicts of 50 are right.
func ExampleWilson() {
	lo, hi := stats.Wilson(47, 50)
	fmt.Printf("%.3f [%.3f, %.3f]\n", 47./50, lo, hi)
	// Output: 0.940 [0.838, 0.979]
}

func ExampleROC() {
	for _, p := range stats.ROC([]float64{3.1, 0.9, 1.2, 0.4}, []bool{true, true, false, false}) {
		fmt.Println(p.FPR, p.TPR)
	}
	// Output:
	// 0 0
	// 0 0.5
	// 0.5 0.5
	// 0.5 1
	// 1 1
}
