package inspector_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/inspector"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// The detector of docs/extending.md. It is registered in this test only, so that the contract runs
// over it as well.

func init() {
	inspector.Register(&inspector.Detector{
		Name: "universal",
		Doc:  "loss of a bounded targeted universal perturbation (after Moosavi-Dezfooli et al., CVPR 2017)",
		Params: append([]settings.Param{
			{Name: "epsilon", Unit: "pixel value", Doc: "bound on each pixel", Default: 10.0 / 255, Min: 0.1 / 255, Max: 1},
			{Name: "batch", Unit: "images", Doc: "images a step", Default: 32, Min: 1, Max: 4096},
			inspector.IndexRule("studentized"), inspector.Threshold,
		}, inspector.PoolParams...),
		Check:   inspector.CheckPool,
		Cost:    inspector.OneEpoch,
		Inspect: universal,
	})
}

func universal(ctx context.Context, in inspector.Input) (*inspector.Finding, error) {
	s, epsilon := in.Settings, in.Settings.Float("epsilon")
	optimise, measure, err := inspector.SplitPool(in)
	if err != nil {
		return nil, err
	}
	batch := min(s.Int("batch"), len(optimise))
	inv := inspector.Inversion{
		Start: func(size int, rng *rand.Rand) []*tensor.Dense { // the variables of one class
			return []*tensor.Dense{triggers.Dense(make([]float32, 3*size*size), 3, size, size)}
		},
		Apply: func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value { // [1,B,3,S,S], [C,3,S,S] to [C,B,3,S,S]
			return triggers.ApplyAdditive(pixels, v[0].Reshape(v[0].Dim(0), 1, 3, v[0].Dim(2), v[0].Dim(3)))
		},
		Loss:    autodiff.Value.CrossEntropy,
		Project: func(v []autodiff.Value) []autodiff.Value { return []autodiff.Value{v[0].Clamp(-epsilon, epsilon)} },
		Trigger: func(v []*tensor.Dense) triggers.Trigger { return triggers.Additive{Delta: v[0]} },
		Adam:    autodiff.DefaultAdam, Rates: []float32{float32(epsilon / 4)},
		Batch: batch, Steps: 1, Rounds: len(optimise) / batch,
	}
	outcomes, passes, err := inv.Run(ctx, in, optimise, measure)
	if err != nil {
		return nil, err
	}
	r := &inspector.Finding{ImagePasses: passes}
	for _, o := range outcomes {
		t := inv.Trigger(o.Variables)
		r.Classes = append(r.Classes, inspector.ClassResult{Loss: o.Loss, ASR: o.ASR, Norm: triggers.Measure(t).LInf,
			Score: o.Loss, Reached: o.ASR >= 0.9, Trigger: t}) // the lower its score, the more suspicious the class
	}
	r.Judge(s.String("index"), s.Float("k"))
	return r, nil
}

// What docs/extending.md shows is what is tested here.
func TestTheGuideShowsThisDetector(t *testing.T) {
	guide, err := os.ReadFile("../docs/extending.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	code := string(source)
	code = code[strings.Index(code, "func universal("):strings.Index(code, "// What docs/extending.md")]
	if !strings.Contains(string(guide), strings.TrimSpace(code)) {
		t.Error("docs/extending.md shows another detector than example_test.go")
	}
}
