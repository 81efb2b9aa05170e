package engine

import "fmt"

// Op is an operation. The comment of each constant is its whole contract: every engine implements
// all of them, and package engine/plain is the reference. "Rows" are the leading dimensions taken
// together: an operand [.., W] has R = size/W rows. Indices are whole numbers stored as floats
// (exact below 2^24).
type Op uint8

const (
	// MatMul: y = alpha * op(a)·op(b) + bias. In: a, b, bias [N] (or Absent). Out: y. Attr.Batch
	// products of M x K by K x N; op(a) is a [M,K], or with TransA a stored as [K,M]; op(b)
	// likewise [K,N], or with TransB [N,K]. Product i reads a at i*StrideA, b at i*StrideB and
	// writes y at i*M*N; stride 0 shares.
	MatMul Op = iota
	// Attention: multi-head attention softmax(q·kᵀ/sqrt(d))·v per head. In: qkv [B,S,3W], the rows
	// holding q, k, v one after another, each cut into Attr.Heads heads of d = W/Heads. Out: o
	// [B,S,W], lse [B,Heads,S], the logarithm of each row's sum of exponentials (of the scaled
	// scores), kept for the gradient. Attr.Causal hides later positions.
	Attention
	// AttentionGrad: In: qkv, o, lse, do [B,S,W]. Out: dqkv [B,S,3W].
	AttentionGrad
	// LayerNorm: h = x (+ residual), y = (h-mean)/sqrt(var+Eps)*gamma + beta over the last
	// dimension W. In: x [..,W], gamma [W], beta [W], residual [..,W] (or Absent). Out: y, stats
	// [R,2] holding mean and 1/sqrt(var+Eps), h (Absent when there is no residual).
	LayerNorm
	// LayerNormGrad: In: h, gamma, stats, dy, dh (gradient that reaches h from elsewhere, or
	// Absent). Out: dx, which is the gradient of both x and residual.
	LayerNormGrad
	// LayerNormParamGrad: In: h, stats, dy. Out: dgamma [W], dbeta [W].
	LayerNormParamGrad
	// Unary: y = f(x) element by element, f = Attr.Func. In: x. Out: y.
	Unary
	// UnaryGrad: dx = f'(x)*dy. In: x, dy. Out: dx.
	UnaryGrad
	// Binary: y = f(a, b) with numpy's broadcasting, f = Attr.Func. Ranks are equal (the builder
	// pads with ones), at most 6. In: a, b. Out: y.
	Binary
	// SumTo: y = Attr.Alpha * sum of x over the dimensions in which y has size 1. Ranks are equal.
	// In: x. Out: y. The order of the summation is fixed by the shapes.
	SumTo
	// BroadcastTo: the transpose of SumTo without Alpha. Ranks are equal. In: x. Out: y.
	BroadcastTo
	// MaxAxis: y = max of x along Attr.Axis (size 1 in y), the first of equals. In: x. Out: y,
	// index (shape of y).
	MaxAxis
	// MaxAxisGrad: dy goes to the place of the maximum, zero elsewhere. In: index, dy. Out: dx.
	MaxAxisGrad
	// Slice: the part from Attr.From on along Attr.Axis, as long as y. In: x. Out: y.
	Slice
	// Pad: zero except for x placed at Attr.From along Attr.Axis: the transpose of Slice. In: x.
	// Out: y.
	Pad
	// Concat: inputs one after another along Attr.Axis. In: x0, x1, ... Out: y.
	Concat
	// Permute: dimension i of y is dimension Attr.Axes[i] of x. In: x. Out: y.
	Permute
	// Gather: rows of a table. In: table [V,W], index (any shape, n numbers in 0..V-1). Out: y, n
	// rows of W.
	Gather
	// ScatterAdd: y [V,W] = zero, plus row i of x added to row index[i], in the order of i. In:
	// index, x. Out: y.
	ScatterAdd
	// Softmax over the last dimension. In: x. Out: y.
	Softmax
	// SoftmaxGrad: dx = y*(dy - sum(y*dy)). In: y, dy. Out: dx.
	SoftmaxGrad
	// CrossEntropy: loss_r = log(sum_c exp x_rc) - x_r,label. In: x [R,C], label [R]. Out: loss
	// [R].
	CrossEntropy
	// CrossEntropyGrad: dx = (softmax(x) - onehot(label))*dloss. In: x, label, dloss [R]. Out: dx.
	CrossEntropyGrad
	// Margin: loss_r = max(0, Attr.Alpha + max_{c != t} x_rc - x_rt), t = label_r, the first of
	// equal maxima. C >= 2. In: x [R,C], label [R]. Out: loss [R].
	Margin
	// MarginGrad: where the loss is positive +dloss at the largest other class and -dloss at the
	// label; zero elsewhere. In: x, label, dloss [R]. Out: dx.
	MarginGrad
	// ArgMax: index of the largest of each row, the first of equals. In: x [..,C]. Out: index [R].
	ArgMax
	// Normalize: y = x/|x| over the last dimension, |x| = max(sqrt(sum x²), 1e-12). In: x. Out: y,
	// norm [R].
	Normalize
	// NormalizeGrad: dx = (dy - y*sum(y*dy))/norm. In: y, norm, dy. Out: dx.
	NormalizeGrad
	// Patchify: cuts [B,C,H,W] into squares of side Attr.Patch, row by row: y [B,(H/p)(W/p),C*p*p],
	// a patch stored as [C,p,p], which is the order of a convolution's weights. In: x. Out: y.
	Patchify
	// Unpatchify: the inverse (and transpose) of Patchify. In: y. Out: x.
	Unpatchify
	// GridSample: bilinear sampling, align_corners = true, zero outside. In: x [B,C,H,W], grid
	// [G,H',W',2] with G = 1 (shared) or B, holding (x,y) in [-1,1]. Out: y [B,C,H',W'].
	GridSample
	// GridSampleGrad: In: x, grid, dy. Out: dx (or Absent), dgrid (or Absent).
	GridSampleGrad
	// Crop: a box of each image, scaled to the output's size as Pillow scales (bicubic with a =
	// -0.5, widened where it shrinks, no pixel outside the box), without rounding to 8 bits or
	// clipping. In: x [B,C,H,W], box [B,5], whole numbers: left, top, width, height, in pixels and
	// inside the image, and 1 where the result is mirrored left to right, else 0. Out: y
	// [B,C,H',W'].
	Crop
	// Assign: copies. In: x. Out: the destination, a bound slot.
	Assign
	// SGD: one step of torch.optim.SGD, in place. g = grad + WeightDecay*param; v = Momentum*v + g
	// (v = g at step 0); param -= lr*v, lr = schedule[min(step, len-1)]. In: param, grad, v (Absent
	// when Momentum is 0), step [1], schedule [T]. Out: param, v (or Absent).
	SGD
	// Adam: one step of torch.optim.Adam(W), in place, t = step+1. With Decoupled (AdamW) param *=
	// 1 - lr*WeightDecay first, else grad += WeightDecay*param. m = b1*m + (1-b1)*grad; v = b2*v +
	// (1-b2)*grad²; param -= lr*(m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + Eps). In: param, grad, m, v,
	// step [1], schedule [T]. Out: param, m, v.
	Adam
	numOps
)

// NumOps is the number of operations.
const NumOps = int(numOps)

var opNames = [...]string{"matmul", "attention", "attention-grad", "layernorm", "layernorm-grad", "layernorm-param-grad",
	"unary", "unary-grad", "binary", "sum-to", "broadcast-to", "max-axis", "max-axis-grad", "slice", "pad", "concat",
	"permute", "gather", "scatter-add", "softmax", "softmax-grad", "cross-entropy", "cross-entropy-grad", "margin",
	"margin-grad", "argmax", "normalize", "normalize-grad", "patchify", "unpatchify", "grid-sample", "grid-sample-grad",
	"crop", "assign", "sgd", "adam"}

func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// Func is an elementwise function of Unary or Binary.
type Func uint8

const (
	// Functions of one argument.

	Affine    Func = iota // Alpha*x + Beta
	Clamp                 // min(max(x, Lo), Hi); the derivative is 1 for Lo <= x <= Hi, as in PyTorch
	QuickGELU             // x*sigmoid(1.702x), CLIP's
	GELU                  // x*Phi(x), the exact one (erf)
	ReLU                  // max(x, 0); derivative 0 at 0
	Tanh
	Sigmoid
	Exp
	Log
	Abs  // derivative 0 at 0
	Sign // derivative 0
	Square
	Sqrt
	Reciprocal

	// Functions of two arguments.

	Add
	Sub
	Mul
	Div
	Maximum // no gradient is recorded
	Minimum // no gradient is recorded
	Equal   // 1 where a == b, else 0; no gradient
	GreaterEqual
)

// Attr holds the attributes of an instruction; each operation's comment says which it reads.
type Attr struct {
	Func                  Func
	Batch, M, N, K        int
	StrideA, StrideB      int
	TransA, TransB        bool
	Alpha, Beta           float64
	Lo, Hi                float64
	Heads                 int
	Causal                bool
	Eps                   float64
	Axis, From            int
	Axes                  []int
	Patch                 int
	Momentum, WeightDecay float64
	Beta1, Beta2          float64
	Decoupled             bool
}
