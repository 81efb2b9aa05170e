package baselines

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"clipinspector/autodiff"
	"clipinspector/engine"
	"clipinspector/engine/plain"
	"clipinspector/inspector"
	"clipinspector/internal/enginetest"
)

// A step's objective and its gradients to both variables, at the costs of three steps, are those
// that PyTorch computes from the authors' formulas; testdata/gradients.py made them.
func TestGradientsAgreeWithPyTorch(t *testing.T) {
	const size, images, classes, target, pixels = 6, 5, 4, 2, 3 * 6 * 6
	raw, err := os.ReadFile("testdata/gradients.json")
	if err != nil {
		t.Fatal(err)
	}
	var fixture map[string][]struct {
		Cost, Loss, Penalty float64
		Gradients           [][]float64
	}
	if err := json.Unmarshal(raw, &fixture); err != nil {
		t.Fatal(err)
	}
	hashed := func(name string, n int) []float32 {
		out := make([]float32, n)
		for i, v := range enginetest.Hashed(name, n) {
			out[i] = float32(v)
		}
		return out
	}
	pool := hashed("pixels", images*pixels)
	for i, v := range pool {
		pool[i] = (v + 1) / 2
	}
	for name, inv := range map[string]inspector.Inversion{"neural-cleanse": cleanseInversion(resolve(t, "neural-cleanse", nil)),
		"pixel-backdoor": pixelInversion(resolve(t, "pixel-backdoor", nil))} {
		if len(fixture[name]) != 3 {
			t.Fatalf("%d steps of %s", len(fixture[name]), name)
		}
		for step, want := range fixture[name] {
			for e, tolerance := range map[engine.Engine]float64{plain.New[float64](): 1e-6, plain.New[float32](): 1e-4} {
				g := autodiff.New(e)
				var v []autodiff.Value
				for i, grad := range want.Gradients {
					shape := []int{1, 3, size, size}
					if len(grad) == size*size { // a mask has no channels
						shape = []int{1, size, size}
					}
					v = append(v, g.Const(hashed(fmt.Sprintf("%s %d %d", name, step, i), len(grad)), shape...))
				}
				x := inv.Apply(g.Const(pool, 1, images, 3, size, size), v).Reshape(images, pixels)
				logits := x.Linear(g.Const(hashed("weight", classes*pixels), classes, pixels), autodiff.None)
				loss := inv.Loss(logits, g.Const([]float32{target, target, target, target, target}, images)).Sum().Scale(1.0 / images)
				penalty := inv.Penalty(v).Sum()
				grads := autodiff.Grad(loss.Add(penalty.Scale(want.Cost)), autodiff.None, v...)
				p, err := g.Compile(append(grads, loss, penalty)...)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Free()
				if err := p.Run(); err != nil {
					t.Fatal(err)
				}
				agree := func(what string, v autodiff.Value, want []float64) {
					got, err := p.Read(v)
					if err != nil || len(got) != len(want) {
						t.Fatalf("%s, step %d, %s: %d numbers, want %d (%v)", name, step, what, len(got), len(want), err)
					}
					var gap, largest float64
					for i, w := range want {
						gap, largest = max(gap, math.Abs(float64(got[i])-w)), max(largest, math.Abs(w))
					}
					if !(gap <= tolerance*largest) {
						t.Errorf("%s, step %d, %s: max|a-b|/max|b| is %g, want %g", name, step, what, gap/largest, tolerance)
					}
				}
				agree("loss", loss, []float64{want.Loss})
				agree("penalty", penalty, []float64{want.Penalty})
				for i, grad := range grads {
					agree(fmt.Sprintf("gradient to variable %d", i), grad, want.Gradients[i])
				}
			}
		}
	}
}
