package inspector_test

import (
	"fmt"

	"clipinspector/inspector"
)

// One class of eight is far easier to reach than the others: its score is an outlier, and its index
// exceeds k = 2.
func ExampleIndices() {
	losses := []float64{4.1, 3.8, 4.4, 0.3, 4.0, 3.9, 4.2, 3.7}
	for class, index := range inspector.Indices("mad", losses) {
		if index > inspector.K {
			fmt.Printf("class %d: %.1f\n", class, index)
		}
	}
	// Output: class 3: 12.3
}
