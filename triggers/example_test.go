package triggers_test

import (
	"fmt"

	"clipinspector/triggers"
)

// A white patch of 2 x 2 pixels in the corner of an image of 8 x 8.
func ExampleMeasure() {
	const size = 8
	mask, white := make([]float32, size*size), make([]float32, 3*size*size)
	for i := range white {
		white[i] = 1
	}
	for _, i := range []int{0, 1, size, size + 1} {
		mask[i] = 1
	}
	patch := triggers.Masked{Mask: triggers.Dense(mask, size, size), Pattern: triggers.Dense(white, 3, size, size)}
	fmt.Printf("%s: %.4f of the area\n", patch.Kind(), triggers.Measure(patch).Area)
	// Output: masked: 0.0625 of the area
}
