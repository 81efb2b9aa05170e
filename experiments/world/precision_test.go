package world

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/cpu"
	"clipinspector/engine/cuda"
	"clipinspector/engine/cuda/host"
	"clipinspector/internal/dense"
)

// What a GPU's precisions cost the mini CLIP's features, on the emulated device: the same
// roundings, the same kernels.
func TestFeaturesOnAnEmulatedGPU(t *testing.T) {
	encoder, err := OpenEncoder("builtin:mini")
	if err != nil {
		t.Fatal(err)
	}
	n := 8
	if testing.Short() {
		n = 1
	}
	size := encoder.Config.Vision.ImageSize
	data, rng := make([]float32, n*3*size*size), rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = rng.Float32()
	}
	images := dense.New(data, n, 3, size, size)
	features := func(e engine.Engine) []float32 {
		m, err := encoder.On(e)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Free()
		f, err := m.EncodeImages(t.Context(), images, n)
		if err != nil {
			t.Fatal(err)
		}
		return dense.Floats(f)
	}
	c, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := features(c)
	bounds := map[cuda.Precision]float64{cuda.FP32: 1e-5, cuda.TF32: 3e-3, cuda.BF16: 3e-2}
	for _, p := range []cuda.Precision{cuda.FP32, cuda.TF32, cuda.BF16} {
		d, err := host.New(host.Options{})
		if errors.Is(err, host.ErrNoCompiler) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		e, err := cuda.NewOn(d, "emulated", p)
		if err != nil {
			t.Fatal(err)
		}
		e.SetSmallProduct(0) // a few images are enough
		got := features(e)
		var square, worst float64 // features have length 1
		for i, v := range want {
			square += math.Pow(float64(v-got[i]), 2)
			if (i+1)%(len(want)/n) == 0 {
				worst, square = math.Max(worst, math.Sqrt(square)), 0
			}
		}
		t.Logf("%s: features differ from the CPU's by at most %.2g of their length", p, worst)
		if worst > bounds[p] {
			t.Errorf("%s: features differ by %.2g of their length, at most %.2g is allowed", p, worst, bounds[p])
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
