package plugin

import (
	"fmt"

	"clipinspector/autodiff"
)

// expression is what a plugin recorded: operations, each of results of earlier ones.
type expression struct {
	Nodes   []operation
	Outputs []int
}

type operation struct {
	Op string
	Of []int     // earlier operations
	By []float64 // numbers
}

// mostOperations bounds an expression.
const mostOperations = 1000

// operations are what an expression is made of: so many results of earlier ones, so many numbers.
var operations = map[string]struct {
	of, by int
	record func(of []autodiff.Value, by []float64) autodiff.Value
}{
	"add":           {2, 0, func(x []autodiff.Value, _ []float64) autodiff.Value { return x[0].Add(x[1]) }},
	"sub":           {2, 0, func(x []autodiff.Value, _ []float64) autodiff.Value { return x[0].Sub(x[1]) }},
	"mul":           {2, 0, func(x []autodiff.Value, _ []float64) autodiff.Value { return x[0].Mul(x[1]) }},
	"div":           {2, 0, func(x []autodiff.Value, _ []float64) autodiff.Value { return x[0].Div(x[1]) }},
	"affine":        {1, 2, func(x []autodiff.Value, by []float64) autodiff.Value { return x[0].Affine(by[0], by[1]) }},
	"clamp":         {1, 2, func(x []autodiff.Value, by []float64) autodiff.Value { return x[0].Clamp(by[0], by[1]) }},
	"tanh":          {1, 0, func(x []autodiff.Value, _ []float64) autodiff.Value { return x[0].Tanh() }},
	"relu":          {1, 0, func(x []autodiff.Value, _ []float64) autodiff.Value { return x[0].ReLU() }},
	"exp":           {1, 0, func(x []autodiff.Value, _ []float64) autodiff.Value { return x[0].Exp() }},
	"square":        {1, 0, func(x []autodiff.Value, _ []float64) autodiff.Value { return x[0].Square() }},
	"cross-entropy": {2, 0, func(x []autodiff.Value, _ []float64) autodiff.Value { return x[0].CrossEntropy(x[1]) }},
	"margin":        {2, 1, func(x []autodiff.Value, by []float64) autodiff.Value { return x[0].MarginLoss(x[1], by[0]) }},
	"total": {1, 0, func(x []autodiff.Value, _ []float64) autodiff.Value {
		c := x[0].Dim(0)
		return x[0].Reshape(c, x[0].Size()/c).SumTo(c, 1)
	}},
}

// check says what is wrong with an expression of so many inputs and outputs.
func (e *expression) check(inputs, outputs int) error {
	if len(e.Nodes) > mostOperations {
		return fmt.Errorf("%d operations, more than %d", len(e.Nodes), mostOperations)
	}
	if len(e.Outputs) != outputs {
		return fmt.Errorf("%d results, want %d", len(e.Outputs), outputs)
	}
	for i, n := range e.Nodes {
		if n.Op == "input" {
			if len(n.Of) != 0 || len(n.By) != 1 || n.By[0] != float64(int(n.By[0])) || n.By[0] < 0 || int(n.By[0]) >= inputs {
				return fmt.Errorf("operation %d: there are %d inputs", i, inputs)
			}
			continue
		}
		known, ok := operations[n.Op]
		if !ok {
			return fmt.Errorf("unknown operation %.40q", n.Op)
		}
		if len(n.Of) != known.of || len(n.By) != known.by {
			return fmt.Errorf("operation %d, %s: %d values and %d numbers, want %d and %d", i, n.Op, len(n.Of), len(n.By), known.of, known.by)
		}
		for _, at := range n.Of {
			if at < 0 || at >= i {
				return fmt.Errorf("operation %d, %s: there is no earlier operation %d", i, n.Op, at)
			}
		}
	}
	for _, at := range e.Outputs {
		if at < 0 || at >= len(e.Nodes) {
			return fmt.Errorf("there is no operation %d", at)
		}
	}
	return nil
}

// record records the expression, which was checked, of its inputs.
func (e *expression) record(inputs ...autodiff.Value) []autodiff.Value {
	values := make([]autodiff.Value, len(e.Nodes))
	for i, n := range e.Nodes {
		if n.Op == "input" {
			values[i] = inputs[int(n.By[0])]
			continue
		}
		of := make([]autodiff.Value, len(n.Of))
		for j, at := range n.Of {
			of[j] = values[at]
		}
		values[i] = operations[n.Op].record(of, n.By)
	}
	out := make([]autodiff.Value, len(e.Outputs))
	for i, at := range e.Outputs {
		out[i] = values[at]
	}
	return out
}
