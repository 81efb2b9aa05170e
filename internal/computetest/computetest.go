// Package computetest runs computations for the tests of everything above the engines.
package computetest

import (
	"testing"

	"clipinspector/autodiff"
	"clipinspector/engine"
	"clipinspector/engine/cpu"
)

// CPU is an engine of the processor that the test closes.
func CPU(t testing.TB, threads int) engine.Engine {
	t.Helper()
	e, err := cpu.New(cpu.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// Run computes values of a graph once and returns the numbers of each, row by row.
func Run(t testing.TB, g *autodiff.Graph, values ...autodiff.Value) [][]float32 {
	t.Helper()
	p, err := g.Compile(values...)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Free()
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	out := make([][]float32, len(values))
	for i, v := range values {
		if out[i], err = p.Read(v); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
