//go:build cuda

package cuda_test

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"clipinspector/engine"
	"clipinspector/engine/cuda"
	"clipinspector/internal/enginetest"
)

// These tests need a GPU: the program that holds them ends at once without a driver. See
// experiments/bench/gpu.sh.

func openDevice(t *testing.T, p cuda.Precision) *cuda.Engine {
	t.Helper()
	e, err := cuda.New(0, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	t.Log(e.Fingerprint(), e.Warning())
	return e
}

func TestDeviceAgreesWithTheReference(t *testing.T) {
	enginetest.Run(t, openDevice(t, cuda.FP32), 2e-5)
}

func TestDeviceAgreesWithoutALibrary(t *testing.T) {
	t.Setenv(cuda.LibraryEnv, "none")
	enginetest.Run(t, openDevice(t, cuda.FP32), 2e-5)
}

func TestDeviceLowerPrecisions(t *testing.T) {
	for p, tol := range tolerance {
		for _, library := range []string{os.Getenv(cuda.LibraryEnv), "none"} {
			t.Run(string(p)+" library="+library, func(t *testing.T) {
				t.Setenv(cuda.LibraryEnv, library)
				e := openDevice(t, p)
				e.HalfEverywhere()
				lower(t, e, p, tol)
			})
		}
	}
}

func TestDeviceAttention(t *testing.T) {
	for _, p := range []cuda.Precision{cuda.TF32, cuda.BF16} {
		t.Run(string(p), func(t *testing.T) {
			e := openDevice(t, p)
			e.HalfEverywhere()
			eachAttention(t, p, func(t *testing.T, c *enginetest.Case, tol float64) { agrees(t, staged{e}, c, tol) })
		})
	}
}

// Fresh inputs, other ones in every run of the test.
func TestDeviceOnFreshInputs(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	e := openDevice(t, cuda.FP32)
	rng := rand.New(rand.NewPCG(seed, 1))
	for op := engine.Op(0); int(op) < engine.NumOps; op++ {
		for range 20 {
			if err := enginetest.Random(rng, op).Check(e, 2e-5); err != nil {
				t.Error(err)
				break
			}
		}
	}
}

func TestDeviceRepeatsItself(t *testing.T) {
	e := openDevice(t, cuda.TF32)
	rng := rand.New(rand.NewPCG(8, 9))
	for op := engine.Op(0); int(op) < engine.NumOps; op++ {
		for range 5 {
			c := enginetest.Random(rng, op)
			x, err := c.Exec(e)
			if err != nil {
				t.Fatal(err)
			}
			y, err := c.Exec(e)
			if err != nil {
				t.Fatal(err)
			}
			for k := range x {
				for i, v := range x[k] {
					if math.Float32bits(v) != math.Float32bits(y[k][i]) {
						t.Fatalf("%v: output %d, element %d is %v, then %v", c, k, i, v, y[k][i])
					}
				}
			}
		}
	}
}
