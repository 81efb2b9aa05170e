// Package bench measures how fast an engine is: a tower forward and backward to its input, beside
// the matrix products of the same program run back to back, in the same run with the same threads;
// and the tuning of one model's prompts.
package bench

import (
	"fmt"
	"io"
	"slices"
	"time"

	"clipinspector/autodiff"
	"clipinspector/clip"
	"clipinspector/engine"
)

// Case is one tower to measure.
type Case struct {
	Name   string
	Config clip.Config
	Batch  int
	Tokens int // of each text, where the text tower is measured; 0: the image tower
}

// Tower is an image tower at the batch of an inversion step.
func Tower(c clip.Config) Case { return Case{Name: "encoder", Config: c, Batch: 64} }

// Cases are the towers that `bench` measures: an encoder's own and OpenAI's ViT-B/32 and ViT-B/16,
// or on a device that takes hundreds of images to fill, ViT-B/16 with as many.
func Cases(e engine.Engine, encoder clip.Config) []Case {
	if d, ok := e.(interface{ AtOnce() int }); ok {
		return []Case{{Name: "encoder", Config: encoder, Batch: d.AtOnce()}, {Name: "ViT-B/16", Config: clip.ViTB16(), Batch: d.AtOnce()}}
	}
	return []Case{Tower(encoder), {Name: "encoder, text", Config: encoder, Batch: 32, Tokens: encoder.Text.ContextLength},
		{Name: "ViT-B/32", Config: clip.ViTB32(), Batch: 16}, {Name: "ViT-B/16", Config: clip.ViTB16(), Batch: 4}}
}

// Result is what was measured of a case.
type Result struct {
	Case
	FLOP     float64 // of one pass forward and backward, matrix products and attention
	Seconds  float64 // of one pass
	Products float64 // operations a second of the program's matrix products alone, back to back
	Limit    float64 // operations a second of additions and multiplications in registers, measured in turn with them; 0 where the engine cannot tell
	Arena    int64   // bytes of intermediate values
}

// Rate is the operations a second of the whole pass.
func (r Result) Rate() float64 { return r.FLOP / r.Seconds }

// Run measures a case with random weights, repeating each part for at least the given time.
func Run(e engine.Engine, c Case, atLeast time.Duration) (Result, error) {
	fail := func(err error) (Result, error) { return Result{}, fmt.Errorf("bench %s: %w", c.Name, err) }
	t, err := newTower(e, c)
	if err != nil {
		return fail(err)
	}
	defer t.free()
	products := *t.recorded
	products.Instrs = nil
	var productFLOP, limitFLOP float64
	for _, ins := range t.recorded.Instrs {
		if ins.Op == engine.MatMul {
			products.Instrs = append(products.Instrs, ins)
			productFLOP += float64(autodiff.FLOP(ins))
		}
	}
	exec, err := e.Compile(&products)
	if err != nil {
		return fail(err)
	}
	defer exec.Free()
	parts := []func() error{t.program.Run, exec.Run}
	if l, ok := e.(interface{ FMA() float64 }); ok {
		parts = append(parts, func() error { limitFLOP = l.FMA(); return nil })
	}
	seconds, err := inTurn(parts, t.wait, atLeast)
	if err != nil {
		return fail(err)
	}
	r := Result{Case: c, FLOP: float64(t.program.Stats().FLOP), Seconds: seconds[0], Products: productFLOP / seconds[1],
		Arena: t.program.Stats().ArenaBytes}
	if len(seconds) > 2 {
		r.Limit = limitFLOP / seconds[2]
	}
	return r, nil
}

// Rate measures how many operations a second a tower runs at, by one of its layers: they are alike,
// and all the weights of a large tower with their packings take gigabytes.
func Rate(e engine.Engine, c Case, atLeast time.Duration) (float64, error) {
	c.Config.Vision.Layers = min(c.Config.Vision.Layers, 1)
	for i, blocks := range c.Config.Vision.Stages { // of a ResNet
		c.Config.Vision.Stages[i] = min(blocks, 1)
	}
	t, err := newTower(e, c)
	if err != nil {
		return 0, fmt.Errorf("bench %s: %w", c.Name, err)
	}
	defer t.free()
	seconds, err := repeat(t.program.Run, t.wait, atLeast)
	if err != nil {
		return 0, fmt.Errorf("bench %s: %w", c.Name, err)
	}
	return float64(t.program.Stats().FLOP) / seconds, nil
}

// tower is a case's tower, forward and back to its input, ready to run.
type tower struct {
	model    *clip.Model
	program  *autodiff.Program
	grad     autodiff.Value
	recorded *engine.Program
}

// newTower compiles a case with random weights.
func newTower(e engine.Engine, c Case) (t *tower, err error) {
	other := &c.Config.Text.Layers // the tower that is not measured
	if c.Tokens > 0 {
		other = &c.Config.Vision.Layers
	}
	*other, c.Config.Text.VocabSize = 1, 2
	keep := &recorder{Engine: e}
	t = &tower{}
	if t.model, err = clip.NewModel(keep, c.Config, clip.RandomWeights(c.Config, 1), nil); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.free()
		}
	}()
	g := autodiff.New(keep)
	var x, features autodiff.Value
	if c.Tokens > 0 {
		x = g.Input(c.Batch, c.Tokens, c.Config.Text.Width)
		features = t.model.Bind(g).Text(x, slices.Repeat([]int{c.Tokens - 1}, c.Batch))
	} else {
		x = g.Input(c.Batch, 3, c.Config.Vision.ImageSize, c.Config.Vision.ImageSize)
		features = t.model.Bind(g).Image(x, clip.ImagePrompts{})
	}
	t.grad = autodiff.Grad(features.Square().Sum(), autodiff.None, x)[0]
	if t.program, err = g.Compile(t.grad); err != nil {
		return nil, err
	}
	t.recorded = keep.program
	pixels := make([]float32, x.Size())
	for i := range pixels {
		pixels[i] = float32(i%255) / 255
	}
	return t, t.program.Write(x, pixels)
}

// wait returns when all that was asked of the engine is done.
func (t *tower) wait() error { return t.program.Array(t.grad).Buffer.Read(0, make([]float32, 1)) }

func (t *tower) free() {
	if t.program != nil {
		t.program.Free()
	}
	t.model.Free()
}

// recorder keeps the last program that was compiled.
type recorder struct {
	engine.Engine
	program *engine.Program
}

// Compile implements engine.Engine.
func (r *recorder) Compile(p *engine.Program) (engine.Executable, error) {
	r.program = p
	return r.Engine.Compile(p)
}

// repeat returns the seconds of one run: the shortest of several groups, since other work on the
// machine only ever adds.
func repeat(run, wait func() error, atLeast time.Duration) (float64, error) {
	seconds, err := inTurn([]func() error{run}, wait, atLeast)
	if err != nil {
		return 0, err
	}
	return seconds[0], nil
}

// inTurn is repeat for several parts that are to be compared: their groups take turns, and none is
// much shorter than a run of the longest part, so that none of them alone has the machine's good or
// bad moment.
func inTurn(parts []func() error, wait func() error, atLeast time.Duration) ([]float64, error) {
	const groups = 4
	best, least := make([]float64, len(parts)), atLeast/groups
	for range groups {
		for i, run := range parts {
			start, n := time.Now(), 0
			for n == 0 || time.Since(start) < least {
				if err := run(); err != nil {
					return nil, err
				}
				n++
			}
			if err := wait(); err != nil {
				return nil, err
			}
			s := time.Since(start).Seconds() / float64(n)
			if best[i] == 0 || s < best[i] {
				best[i] = s
			}
			least = max(least, time.Duration(s/2*float64(time.Second)))
		}
	}
	return best, nil
}

// Print measures cases and writes a line each.
func Print(w io.Writer, e engine.Engine, cases []Case, atLeast time.Duration) ([]Result, error) {
	var results []Result
	fmt.Fprintf(w, "engine: %s\n%-14s %6s %14s %12s %10s %16s %8s %16s %8s %12s\n", e.Fingerprint(),
		"tower", "batch", "operations", "ms a pass", "GFLOP/s", "products GFLOP/s", "share", "limit GFLOP/s", "share", "arena MB")
	for _, c := range cases {
		r, err := Run(e, c, atLeast)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
		limit, share := "-", "-"
		if r.Limit > 0 {
			limit, share = fmt.Sprintf("%.1f", r.Limit/1e9), fmt.Sprintf("%.0f%%", 100*r.Products/r.Limit)
		}
		if _, err := fmt.Fprintf(w, "%-14s %6d %14.3g %12.2f %10.1f %16.1f %7.0f%% %16s %8s %12.1f\n", c.Name, c.Batch, r.FLOP, 1e3*r.Seconds,
			r.Rate()/1e9, r.Products/1e9, 100*r.Rate()/r.Products, limit, share, float64(r.Arena)/(1<<20)); err != nil {
			return nil, err
		}
	}
	_, err := fmt.Fprintln(w, "(a pass: forward, and back to the input, pixels or embeddings; products: the matrix products of the same pass run back to back, activations left out, "+
		"and the pass's share of them; limit: multiplications with additions in registers alone, and the products' share of it)")
	return results, err
}
