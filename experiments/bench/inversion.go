package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/inspector"
	"clipinspector/settings"
)

// The paper's load: 50 models whose classes make 5,955 inversions, each on about 1,000 images.
const (
	paperInversions = 5955
	paperImages     = 1000
)

// Inversion is what CI took on a model with random weights.
type Inversion struct {
	Classes, Images int
	Passes          int64
	FLOP            float64 // of the image tower: forward and back where the trigger is optimised, forward where it is measured
	Seconds         float64
}

// Invert runs CI as a detector on a CLIP of architecture c with random weights, and random images:
// the whole of it, text tower, triggers, optimiser and verdict included, with the paper's
// objective. A tenth of the images measures.
func Invert(ctx context.Context, e engine.Engine, c clip.Config, classes, images int) (Inversion, error) {
	fail := func(err error) (Inversion, error) { return Inversion{}, fmt.Errorf("bench inversion: %w", err) }
	delivered, pool, err := untuned(e, c, classes, images, map[string]any{"context": 4}, rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		return fail(err)
	}
	defer delivered.CLIP.Free()
	detector, err := inspector.Find("ci")
	if err != nil {
		return fail(err)
	}
	measure := max(1, images/10)
	s, err := settings.Resolve(detector.Params, map[string]any{"optimise": images - measure, "measure": measure,
		"epsilon": 16.0 / 255})
	if err != nil {
		return fail(err)
	}
	r := Inversion{Classes: classes, Images: images}
	start := time.Now()
	report, err := detector.Inspect(ctx, inspector.Input{Model: delivered, Seed: 1, Settings: s, Pool: pool})
	if err != nil {
		return fail(err)
	}
	r.Seconds, r.Passes = time.Since(start).Seconds(), report.ImagePasses
	forward, back, err := towerFLOP(e, c)
	if err != nil {
		return fail(err)
	}
	measured := int64((classes + 1) * measure) // each class with its trigger, and once without
	r.FLOP = float64(r.Passes-measured)*(forward+back) + float64(measured)*forward
	return r, nil
}

// towerFLOP counts one image through the image tower, and back to its pixels.
func towerFLOP(e engine.Engine, c clip.Config) (forward, back float64, err error) {
	count := func(grad bool) (float64, error) {
		keep := &planner{Engine: e}
		c.Text.Layers, c.Text.VocabSize = 1, 2
		m, err := clip.NewModel(keep, c, clip.RandomWeights(c, 1), nil)
		if err != nil {
			return 0, err
		}
		defer m.Free()
		g := autodiff.New(keep)
		x := g.Input(1, 3, c.Vision.ImageSize, c.Vision.ImageSize)
		y := m.Bind(g).Image(x, clip.ImagePrompts{})
		if grad {
			y = autodiff.Grad(y.Square().Sum(), autodiff.None, x)[0]
		}
		p, err := g.Compile(y)
		if err != nil {
			return 0, err
		}
		defer p.Free()
		return float64(p.Stats().FLOP), nil
	}
	if forward, err = count(false); err != nil {
		return 0, 0, err
	}
	both, err := count(true)
	return forward, both - forward, err
}

// planner compiles nothing: programs are only counted.
type planner struct{ engine.Engine }

// Compile implements engine.Engine.
func (planner) Compile(*engine.Program) (engine.Executable, error) { return nothing{}, nil }

type nothing struct{}

func (nothing) Run() error { return nil }
func (nothing) Free()      {}

// PrintInversion writes what CI took, and what the paper's load would take at that rate.
func PrintInversion(w io.Writer, r Inversion, name string) error {
	each := r.Seconds / float64(r.Classes*r.Images)
	_, err := fmt.Fprintf(w, "CI, %s, %d classes x %d images: %.2f s, %.3g s for a class and image, %d image passes, %.3g operations, %.1f GFLOP/s\n"+
		"the paper's load, %d inversions x %d images, at that rate: %.3g operations, %s\n", name, r.Classes, r.Images, r.Seconds, each, r.Passes,
		r.FLOP, r.FLOP/r.Seconds/1e9, paperInversions, paperImages, r.FLOP/float64(r.Classes*r.Images)*paperInversions*paperImages,
		time.Duration(each*paperInversions*paperImages*float64(time.Second)).Round(time.Second))
	return err
}

// Peaks are what the engine reaches at best: operations a second in a large product, bytes a second
// read and written by a copy.
type Peaks struct{ Product, Copy float64 }

// MeasurePeaks times a square product of the given side and a copy of n numbers.
func MeasurePeaks(e engine.Engine, side, n int, atLeast time.Duration) (Peaks, error) {
	run := func(ins engine.Instr, sizes ...int) (float64, error) {
		p := &engine.Program{Instrs: []engine.Instr{ins}}
		var last engine.Buffer
		for _, size := range sizes {
			b, err := e.NewBuffer(size)
			if err != nil {
				return 0, err
			}
			defer b.Free()
			p.Slots, last = append(p.Slots, engine.Slot{Len: size, Bound: b}), b
		}
		x, err := e.Compile(p)
		if err != nil {
			return 0, err
		}
		defer x.Free()
		one := make([]float32, 1)
		return repeat(x.Run, func() error { return last.Read(0, one) }, atLeast)
	}
	at := func(slot int, shape ...int) engine.Operand { return engine.Operand{Slot: slot, Shape: shape} }
	seconds, err := run(engine.Instr{Op: engine.MatMul, In: []engine.Operand{at(0, side, side), at(1, side, side), engine.Absent},
		Out: []engine.Operand{at(2, side, side)}, Attr: engine.Attr{Batch: 1, M: side, N: side, K: side, TransB: true, Alpha: 1}},
		side*side, side*side, side*side)
	if err != nil {
		return Peaks{}, fmt.Errorf("bench: a product of side %d: %w", side, err)
	}
	p := Peaks{Product: 2 * float64(side) * float64(side) * float64(side) / seconds}
	if seconds, err = run(engine.Instr{Op: engine.Assign, In: []engine.Operand{at(0, n)}, Out: []engine.Operand{at(1, n)}}, n, n); err != nil {
		return Peaks{}, fmt.Errorf("bench: a copy of %d numbers: %w", n, err)
	}
	p.Copy = 8 * float64(n) / seconds
	return p, nil
}
