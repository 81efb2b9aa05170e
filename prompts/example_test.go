package prompts_test

import (
	"fmt"
	"math/rand/v2"

	"clipinspector/clip"
	"clipinspector/clip/mini"
	"clipinspector/engine/cpu"
	"clipinspector/prompts"
	"clipinspector/settings"
)

// Prompts of CoOp for three classes on the CLIP that the program carries: four context tokens for
// all of them, and class vectors to hold images against.
func Example() {
	fail := func(err error) { fmt.Println(err) }
	e, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		fail(err)
		return
	}
	defer e.Close()
	config, weights, tokenizer, err := mini.Load()
	if err != nil {
		fail(err)
		return
	}
	c, err := clip.NewModel(e, config, weights, tokenizer)
	if err != nil {
		fail(err)
		return
	}
	coop, err := prompts.FindLearner("coop")
	if err != nil {
		fail(err)
		return
	}
	s, err := settings.Resolve(coop.Params, map[string]any{"context": 4, "class-specific": false})
	if err != nil {
		fail(err)
		return
	}
	m, err := prompts.New(c, coop, s, []string{"cat", "dog", "car"}, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		fail(err)
		return
	}
	vectors, err := m.ClassVectors()
	if err != nil {
		fail(err)
		return
	}
	fmt.Println("context", m.Params["ctx"].Shape()[0], "tokens; class vectors", vectors.Shape()[0])
	// Output: context 4 tokens; class vectors 3
}
