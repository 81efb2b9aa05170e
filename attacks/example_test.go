package attacks_test

import (
	"fmt"
	"math/rand/v2"

	"clipinspector/attacks"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// The trigger that SIG gives a model: the seed decides nothing, the amplitude is the largest change
// of a pixel.
func Example() {
	sig, err := attacks.Find("sig")
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := settings.Resolve(sig.Params, map[string]any{"amplitude": 0.1})
	if err != nil {
		fmt.Println(err)
		return
	}
	t := sig.Trigger(v, 64, rand.New(rand.NewPCG(1, 0)))
	fmt.Printf("%s, %d px, at most %.2f\n", t.Kind(), t.Size(), triggers.Measure(t).LInf)
	// Output: additive, 64 px, at most 0.10
}
