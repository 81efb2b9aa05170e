package clip

import (
	"fmt"
	"math"
	"strings"

	"clipinspector/internal/safetensors"
)

// Stored is a tensor of some file that has not been read yet. Check the shape first: it decides how
// much memory Float32 takes.
type Stored struct {
	Shape   []int
	Float32 func() ([]float32, error) // row-major
}

// Comparison is how tensors that somebody delivered compare with the weights of a CLIP.
type Comparison struct {
	Tensors int // compared
	// Rounded counts those that have more digits than the weights, which are theirs rounded to half
	// precision or bfloat16: what the digits hold cannot be told.
	Rounded   int
	Different []Difference // those that are not the weights, in order of names
}

// Difference is a tensor that is not the weight of its name.
type Difference struct {
	Tensor  string
	Largest float64 // largest difference of a number; infinite where one is not a number
}

// Compare holds tensors against the weights, one after the other, so that no two are in memory.
// openAI tells the name that a tensor has in OpenAI's state dicts, whose layout is expected (see
// openAIName). A tensor is the same when, throughout, its numbers are the weights', or the weights'
// rounded to half precision or to bfloat16, to nearest and ties to even as PyTorch rounds: no
// tolerance beyond that. Tensors that a CLIP of these weights does not have, or of another shape,
// are an error.
func (w Weights) Compare(tensors map[string]Stored, openAI func(name string) string) (Comparison, error) {
	var c Comparison
	of := map[string][]string{} // the weights that OpenAI holds in one tensor, in its order
	transposed := map[string]bool{}
	for name := range w {
		from, part, parts, flip := openAIName(name)
		if of[from] == nil {
			of[from] = make([]string, parts)
		}
		of[from][part], transposed[from] = name, flip
	}
	for _, name := range sortedNames(tensors) {
		t, from := tensors[name], openAI(name)
		if dropped(from) {
			continue
		}
		names := of[from]
		if names == nil {
			return c, unknownTensor(name)
		}
		want := openAIShape(w[names[0]].Shape(), len(names), transposed[from])
		if !fits(t.Shape, want) {
			return c, shapeError(name, t.Shape, want)
		}
		got, err := t.Float32()
		if err != nil {
			return c, fmt.Errorf("tensor %s: %w", name, err)
		}
		if transposed[from] {
			got = transpose(got, want[0], want[1])
		}
		var given []float32
		for _, n := range names {
			given = append(given, safetensors.Values(w[n])...)
		}
		c.Tensors++
		switch {
		case roundsTo(given, got):
		case roundsTo(got, given):
			c.Rounded++
		default:
			d := Difference{Tensor: name}
			for i, v := range got {
				gap := math.Abs(float64(v) - float64(given[i]))
				if math.IsNaN(gap) {
					gap = math.Inf(1)
				}
				d.Largest = max(d.Largest, gap)
			}
			c.Different = append(c.Different, d)
		}
	}
	return c, nil
}

// dropped tells the buffers that are no weights.
func dropped(name string) bool {
	switch name {
	case "input_resolution", "context_length", "vocab_size", "attn_mask":
		return true
	}
	return strings.HasSuffix(name, ".position_ids") || strings.HasSuffix(name, ".num_batches_tracked")
}

// roundsTo tells whether b is a, all of it in one precision.
func roundsTo(a, b []float32) bool {
	for _, d := range []safetensors.DType{safetensors.F32, safetensors.F16, safetensors.BF16} {
		same := true
		for i := 0; i < len(a) && same; i++ {
			same = safetensors.Round(a[i], d) == b[i]
		}
		if same {
			return true
		}
	}
	return false
}
