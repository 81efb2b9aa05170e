package stats

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkAUROCInterval is the interval of 5,000 models in few and in many datasets.
func BenchmarkAUROCInterval(b *testing.B) {
	for _, k := range []int{10, 100, 1000, 5000} {
		b.Run(fmt.Sprint(k), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			const n = 5000
			scores, labels, clusters := make([]float64, n), make([]bool, n), make([]string, n)
			for i := range n {
				labels[i] = rng.IntN(5) > 0
				scores[i], clusters[i] = rng.NormFloat64(), fmt.Sprintf("set-%05d", i%k)
			}
			for b.Loop() {
				aurocInterval(scores, labels, clusters, Resamples, BootstrapSeed)
			}
		})
	}
}
