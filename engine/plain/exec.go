package plain

import (
	"fmt"

	"clipinspector/engine"
)

// arities holds the number of inputs (-1: any) and outputs of each operation.
var arities = map[engine.Op]struct{ in, out int }{
	engine.MatMul: {3, 1}, engine.Attention: {1, 2}, engine.AttentionGrad: {4, 1},
	engine.LayerNorm: {4, 3}, engine.LayerNormGrad: {5, 1}, engine.LayerNormParamGrad: {3, 2},
	engine.Unary: {1, 1}, engine.UnaryGrad: {2, 1}, engine.Binary: {2, 1},
	engine.SumTo: {1, 1}, engine.BroadcastTo: {1, 1}, engine.MaxAxis: {1, 2}, engine.MaxAxisGrad: {2, 1},
	engine.Slice: {1, 1}, engine.Pad: {1, 1}, engine.Concat: {-1, 1}, engine.Permute: {1, 1},
	engine.Gather: {2, 1}, engine.ScatterAdd: {2, 1},
	engine.Softmax: {1, 1}, engine.SoftmaxGrad: {2, 1}, engine.CrossEntropy: {2, 1}, engine.CrossEntropyGrad: {3, 1},
	engine.Margin: {2, 1}, engine.MarginGrad: {3, 1}, engine.ArgMax: {1, 1},
	engine.Normalize: {1, 2}, engine.NormalizeGrad: {3, 1},
	engine.Patchify: {1, 1}, engine.Unpatchify: {1, 1}, engine.GridSample: {2, 1}, engine.GridSampleGrad: {3, 2},
	engine.Crop: {2, 1}, engine.Assign: {1, 1}, engine.SGD: {5, 2}, engine.Adam: {6, 3},
}

// Exec executes one instruction. in and out hold the operands' numbers, nil where an operand is
// absent; see the comment of the operation for what they mean. Shapes are believed.
func Exec[T Float](ins *engine.Instr, in, out [][]T) {
	Kernel[T](ins.Op)(ins, in, out)
}

// Kernel returns the function that executes an operation.
func Kernel[T Float](op engine.Op) func(ins *engine.Instr, in, out [][]T) {
	switch op {
	case engine.MatMul:
		return matMul[T]
	case engine.Attention:
		return attention[T]
	case engine.AttentionGrad:
		return attentionGrad[T]
	case engine.LayerNorm:
		return layerNorm[T]
	case engine.LayerNormGrad:
		return layerNormGrad[T]
	case engine.LayerNormParamGrad:
		return layerNormParamGrad[T]
	case engine.Unary:
		return unary[T]
	case engine.UnaryGrad:
		return unaryGrad[T]
	case engine.Binary:
		return binary[T]
	case engine.SumTo:
		return sumTo[T]
	case engine.BroadcastTo:
		return broadcastTo[T]
	case engine.MaxAxis:
		return maxAxis[T]
	case engine.MaxAxisGrad:
		return maxAxisGrad[T]
	case engine.Slice:
		return slice[T]
	case engine.Pad:
		return pad[T]
	case engine.Concat:
		return concat[T]
	case engine.Permute:
		return permute[T]
	case engine.Gather:
		return gather[T]
	case engine.ScatterAdd:
		return scatterAdd[T]
	case engine.Softmax:
		return softmax[T]
	case engine.SoftmaxGrad:
		return softmaxGrad[T]
	case engine.CrossEntropy:
		return crossEntropy[T]
	case engine.CrossEntropyGrad:
		return crossEntropyGrad[T]
	case engine.Margin:
		return margin[T]
	case engine.MarginGrad:
		return marginGrad[T]
	case engine.ArgMax:
		return argMax[T]
	case engine.Normalize:
		return normalize[T]
	case engine.NormalizeGrad:
		return normalizeGrad[T]
	case engine.Patchify:
		return patchify[T]
	case engine.Unpatchify:
		return unpatchify[T]
	case engine.GridSample:
		return gridSample[T]
	case engine.GridSampleGrad:
		return gridSampleGrad[T]
	case engine.Crop:
		return crop[T]
	case engine.Assign:
		return assign[T]
	case engine.SGD:
		return sgd[T]
	case engine.Adam:
		return adam[T]
	}
	panic(fmt.Sprintf("plain: unknown operation %v", op))
}

// last returns the size of the last dimension, which is the width of a row; 1 for a scalar.
func last(o engine.Operand) int {
	if len(o.Shape) == 0 {
		return 1
	}
	return o.Shape[len(o.Shape)-1]
}

// around returns the product of the dimensions before an axis, the axis itself, and the product of
// those behind it.
func around(shape []int, axis int) (outer, n, inner int) {
	return engine.Size(shape[:axis]), shape[axis], engine.Size(shape[axis+1:])
}
