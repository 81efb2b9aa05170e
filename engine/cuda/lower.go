package cuda

import (
	"fmt"
	"math"

	"clipinspector/engine"
)

// lowering turns instructions into steps. Addresses in scratch memory and among the shapes are
// known only at the end: they are recorded as offsets with a fix.
type lowering struct {
	e       *Engine
	slots   []slot
	steps   []Step
	shapes  []int64 // dimensions and strides that kernels read
	scratch int64   // bytes that the hungriest instruction needs

	fixes        []fix
	productFixes []*Ptr
	shadowFixes  []shadowFix
	shadows      map[*buffer]bool
}

type slot struct {
	ptr     Ptr
	half    bool
	buffer  *buffer // nil in the arena
	written bool    // bound, and changed by the program
}

type fix struct {
	at    *uint64
	shape bool // else scratch
}

type shadowFix struct {
	at *Ptr
	of *buffer
}

// shapeRef and scratchRef are arguments whose address is not known yet: an index and an offset.
type (
	shapeRef   int
	scratchRef int64
)

// launch appends a kernel. Arguments are operands, pointers, numbers and references.
func (l *lowering) launch(kernel string, grid [3]int, block, shared int, args ...any) {
	s := Step{Kernel: kernel, Grid: grid, Block: block, Shared: shared, Args: make([]uint64, len(args))}
	for i, a := range args {
		at := &s.Args[i]
		switch a := a.(type) {
		case engine.Operand:
			*at = uint64(l.ptr(a))
		case Ptr:
			*at = uint64(a)
		case int:
			*at = uint64(int64(a))
		case bool:
			if a {
				*at = 1
			}
		case float64:
			*at = math.Float64bits(a)
		case shapeRef:
			*at = uint64(8 * a)
			l.fixes = append(l.fixes, fix{at, true})
		case scratchRef:
			*at = uint64(a)
			l.fixes = append(l.fixes, fix{at, false})
		default:
			panic(fmt.Sprintf("cuda: kernel %s: argument %d is a %T", kernel, i, a))
		}
	}
	l.steps = append(l.steps, s)
}

// each appends a kernel of 256 threads a block, each of which takes `per` of n elements.
func (l *lowering) each(kernel string, n, per int, args ...any) {
	if n > 0 {
		l.launch(kernel, [3]int{ceil(n, 256*per), 1, 1}, 256, 0, args...)
	}
}

// rows appends a kernel in which a warp takes a row.
func (l *lowering) rows(kernel string, rows int, args ...any) {
	if rows > 0 {
		l.launch(kernel, [3]int{ceil(rows, 8), 1, 1}, 256, 0, args...)
	}
}

// need reserves scratch for one instruction.
func (l *lowering) need(bytes int64) scratchRef {
	l.scratch = max(l.scratch, bytes)
	return 0
}

func (l *lowering) ptr(o engine.Operand) Ptr {
	if o.Slot < 0 {
		return 0
	}
	return l.slots[o.Slot].ptr
}

// half returns the bit set of the operands that are stored as bf16, in the given order.
func (l *lowering) half(ops ...engine.Operand) (bits int) {
	for i, o := range ops {
		if o.Slot >= 0 && l.slots[o.Slot].half {
			bits |= 1 << i
		}
	}
	return bits
}

// shape stores lists of dimensions and strides and returns where they lie.
func (l *lowering) shape(lists ...[]int) shapeRef {
	at := shapeRef(len(l.shapes))
	for _, list := range lists {
		for _, v := range list {
			l.shapes = append(l.shapes, int64(v))
		}
	}
	l.shapes = append(l.shapes, 0) // never empty: an address is made of it
	return at
}

// lower appends the steps of one instruction.
func (l *lowering) lower(ins *engine.Instr) error {
	in, out, at := ins.In, ins.Out, &ins.Attr
	switch ins.Op {
	case engine.MatMul:
		return l.matMul(ins)
	case engine.Attention, engine.AttentionGrad:
		return l.attention(ins)
	case engine.LayerNorm:
		r, w := rowsOf(in[0])
		l.rows(wide("layernorm", w), r, in[0], in[1], in[2], in[3], out[0], out[1], out[2], r, w, at.Eps, l.half(in[0], out[0]))
	case engine.LayerNormGrad:
		r, w := rowsOf(in[0])
		l.rows(wide("layernorm_grad", w), r, in[0], in[1], in[2], in[3], in[4], out[0], r, w, l.half(in[3]))
	case engine.LayerNormParamGrad:
		r, w := rowsOf(in[0])
		parts := clamp(r/256, 1, 64)
		per := ceil(r, parts)
		scratch := l.need(4 * 2 * int64(parts) * int64(w))
		l.launch("layernorm_param_grad", [3]int{ceil(w, 32), parts, 1}, 256, 0, in[0], in[1], in[2], scratch, r, w, per)
		l.each("layernorm_param_sum", w, 1, scratch, out[0], out[1], parts, w)
	case engine.Unary:
		p, q := bounds(at)
		l.each("unary", in[0].Size(), 4, in[0], out[0], in[0].Size(), int(at.Func), p, q, l.half(in[0], out[0]))
	case engine.UnaryGrad:
		p, q := bounds(at)
		l.each("unary_grad", in[0].Size(), 4, in[0], in[1], out[0], in[0].Size(), int(at.Func), p, q, l.half(in[0], in[1], out[0]))
	case engine.Binary:
		l.binary(ins)
	case engine.SumTo:
		l.sumTo(in[0], out[0], at.Alpha)
	case engine.BroadcastTo:
		y := out[0].Shape
		l.copy(in[0], out[0], 0, 0, y, broadcastStrides(in[0].Shape, y), strides(y))
	case engine.MaxAxis:
		outer, n, inner := around(in[0].Shape, at.Axis)
		l.each("max_axis", outer*inner, 1, in[0], out[0], out[1], outer, n, inner)
	case engine.MaxAxisGrad:
		outer, n, inner := around(out[0].Shape, at.Axis)
		l.each("max_axis_grad", outer*n*inner, 1, in[0], in[1], out[0], outer, n, inner)
	case engine.Slice:
		sx := strides(in[0].Shape)
		l.copy(in[0], out[0], at.From*sx[at.Axis], 0, out[0].Shape, sx, strides(out[0].Shape))
	case engine.Pad:
		sy := strides(out[0].Shape)
		l.each("zero", out[0].Size(), 4, out[0], out[0].Size())
		l.copy(in[0], out[0], 0, at.From*sy[at.Axis], in[0].Shape, strides(in[0].Shape), sy)
	case engine.Concat:
		sy, from := strides(out[0].Shape), 0
		for _, x := range in {
			l.copy(x, out[0], 0, from*sy[at.Axis], x.Shape, strides(x.Shape), sy)
			from += x.Shape[at.Axis]
		}
	case engine.Permute:
		sx, y := strides(in[0].Shape), out[0].Shape
		s := make([]int, len(y))
		for i, a := range at.Axes {
			s[i] = sx[a]
		}
		l.copy(in[0], out[0], 0, 0, y, s, strides(y))
	case engine.Gather:
		v, w := rowsOf(in[0])
		if n := in[1].Size(); n > 0 && w > 0 {
			l.launch("gather", [3]int{n, ceil(w, 256), 1}, 256, 0, in[0], in[1], out[0], v, w, l.e.fault)
		}
	case engine.ScatterAdd:
		v, w := rowsOf(out[0])
		if v > 0 && w > 0 {
			l.launch("scatter_add", [3]int{v, ceil(w, 256), 1}, 256, 0, in[0], in[1], out[0], in[0].Size(), v, w, l.e.fault)
		}
	case engine.Softmax:
		r, w := rowsOf(in[0])
		l.rows("softmax", r, in[0], out[0], r, w)
	case engine.SoftmaxGrad:
		r, w := rowsOf(in[0])
		l.rows("softmax_grad", r, in[0], in[1], out[0], r, w)
	case engine.CrossEntropy:
		r, w := rowsOf(in[0])
		l.rows("cross_entropy", r, in[0], in[1], out[0], r, w, l.e.fault)
	case engine.CrossEntropyGrad:
		r, w := rowsOf(in[0])
		l.rows("cross_entropy_grad", r, in[0], in[1], in[2], out[0], r, w, l.e.fault)
	case engine.Margin:
		r, w := rowsOf(in[0])
		l.rows("margin", r, in[0], in[1], out[0], r, w, at.Alpha, l.e.fault)
	case engine.MarginGrad:
		r, w := rowsOf(in[0])
		l.rows("margin_grad", r, in[0], in[1], in[2], out[0], r, w, at.Alpha, l.e.fault)
	case engine.ArgMax:
		r, w := rowsOf(in[0])
		l.rows("argmax", r, in[0], out[0], r, w)
	case engine.Normalize:
		r, w := rowsOf(in[0])
		l.rows("normalize", r, in[0], out[0], out[1], r, w)
	case engine.NormalizeGrad:
		r, w := rowsOf(in[0])
		l.rows("normalize_grad", r, in[0], in[1], in[2], out[0], r, w)
	case engine.Patchify:
		s := in[0].Shape
		l.each("patchify", in[0].Size(), 1, in[0], out[0], in[0].Size(), s[1], s[2], s[3], at.Patch, l.half(out[0]))
	case engine.Unpatchify:
		s := out[0].Shape
		l.each("unpatchify", out[0].Size(), 1, in[0], out[0], out[0].Size(), s[1], s[2], s[3], at.Patch, l.half(in[0]))
	case engine.GridSample, engine.GridSampleGrad:
		return l.gridSample(ins)
	case engine.Crop:
		s, y := in[0].Shape, out[0]
		l.each("crop", y.Size(), 1, in[0], in[1], y, y.Size(), s[1], s[2], s[3], y.Shape[2], y.Shape[3], l.e.fault)
	case engine.Assign:
		l.each("cast", in[0].Size(), 4, in[0], out[0], in[0].Size(), l.half(in[0], out[0]))
	case engine.SGD:
		l.each("sgd", in[0].Size(), 1, in[0], in[1], in[2], in[3], in[4], in[0].Size(), in[4].Size(), at.Momentum, at.WeightDecay)
	case engine.Adam:
		l.each("adam", in[0].Size(), 1, in[0], in[1], in[2], in[3], in[4], in[5], in[0].Size(), in[5].Size(), at.Beta1, at.Beta2,
			at.Eps, at.WeightDecay, at.Decoupled)
	default:
		return fmt.Errorf("this engine does not know the operation")
	}
	return nil
}

// bounds returns the two numbers that a function reads.
func bounds(at *engine.Attr) (p, q float64) {
	if at.Func == engine.Clamp {
		return at.Lo, at.Hi
	}
	return at.Alpha, at.Beta
}

// wide chooses the variant that keeps rows in registers.
func wide(kernel string, w int) string {
	if w%128 == 0 && w <= 1024 {
		return kernel + "_128"
	}
	return kernel
}

// maxGrid is the largest second and third dimension of a grid.
const maxGrid = 65535

// matMul: by the library where there is one, in the precision asked for.
func (l *lowering) matMul(ins *engine.Instr) error {
	at := &ins.Attr
	a, b, bias, y := ins.In[0], ins.In[1], ins.In[2], ins.Out[0]
	if y.Size() == 0 {
		return nil
	}
	if l.e.info.Library == "" || at.K == 0 {
		if at.Batch > maxGrid || ceil(at.N, 64) > maxGrid {
			return fmt.Errorf("%d products of %d columns are too many for one launch", at.Batch, at.N)
		}
		ai, ak, bk, bj := at.K, 1, at.N, 1
		if at.TransA {
			ai, ak = 1, at.M
		}
		if at.TransB {
			bk, bj = 1, at.K
		}
		l.launch("gemm", [3]int{ceil(at.M, 64), ceil(at.N, 64), at.Batch}, 256, 0, a, b, bias, y, at.M, at.N, at.K, ai, ak, bk, bj,
			at.StrideA, at.StrideB, at.Alpha, l.half(a, b, y))
		return nil
	}
	p := &Product{Batch: at.Batch, M: at.M, N: at.N, K: at.K, StrideA: at.StrideA, StrideB: at.StrideB, TransA: at.TransA, TransB: at.TransB,
		A: l.ptr(a), B: l.ptr(b), Bias: l.ptr(bias), Y: l.ptr(y), Alpha: float32(at.Alpha), Exact: l.e.precision == FP32,
		HalfA: l.slots[a.Slot].half, HalfB: l.slots[b.Slot].half, HalfY: l.slots[y.Slot].half}
	if l.e.bigProduct(ins) {
		room := int64(0)
		l.narrow(a, &p.A, &p.HalfA, &room)
		l.narrow(b, &p.B, &p.HalfB, &room)
		if p.HalfY && bias.Slot >= 0 {
			var done bool
			l.narrow(bias, &p.Bias, &done, &room)
		}
		l.need(room)
	}
	l.steps = append(l.steps, Step{Product: p})
	return nil
}

// narrow makes *ptr point to a bf16 copy of an operand that is float32: a shadow of a constant,
// made once, or a copy in scratch.
func (l *lowering) narrow(o engine.Operand, ptr *Ptr, half *bool, room *int64) {
	if *half {
		return
	}
	*half = true
	s := &l.slots[o.Slot]
	if s.buffer != nil && !s.written {
		l.shadows[s.buffer] = true
		l.shadowFixes = append(l.shadowFixes, shadowFix{ptr, s.buffer})
		return
	}
	*ptr = Ptr(*room)
	l.productFixes = append(l.productFixes, ptr)
	l.each("cast", o.Size(), 4, o, scratchRef(*room), o.Size(), 2)
	*room += (2*int64(o.Size()) + 255) / 256 * 256
}

func (l *lowering) gridSample(ins *engine.Instr) error {
	in, out := ins.In, ins.Out
	x, grid := in[0].Shape, in[1].Shape
	b, c, h, w, m, grids := x[0], x[1], x[2], x[3], grid[1]*grid[2], grid[0]
	if b > maxGrid {
		return fmt.Errorf("%d images are more than %d", b, maxGrid)
	}
	if ins.Op == engine.GridSample {
		l.each("grid_sample", b*m, 1, in[0], in[1], out[0], b, c, h, w, m, grids)
		return nil
	}
	if out[0].Slot >= 0 {
		l.launch("grid_sample_grad_x", [3]int{ceil(h, 128), b, 1}, 128, 0, in[1], in[2], out[0], c, h, w, m, grids)
	}
	if out[1].Slot >= 0 {
		l.each("grid_sample_grad_grid", grids*m, 1, in[0], in[1], in[2], out[1], b, c, h, w, m, grids)
	}
	return nil
}

func (l *lowering) binary(ins *engine.Instr) {
	y := ins.Out[0]
	dims, s := merge(y.Shape, broadcastStrides(ins.In[0].Shape, y.Shape), broadcastStrides(ins.In[1].Shape, y.Shape))
	v := neighbours(dims, s, 0)
	l.each("binary", y.Size(), v, ins.In[0], ins.In[1], y, y.Size(), int(ins.Attr.Func), l.shape(dims, s[0], s[1]), len(dims), v)
}

// copy appends a copy of a box of the given dimensions, read from x with strides sx and written to
// y with sy.
func (l *lowering) copy(x, y engine.Operand, xFrom, yFrom int, dims, sx, sy []int) {
	n := engine.Size(dims)
	dims, s := merge(dims, sx, sy)
	v := neighbours(dims, s, xFrom|yFrom)
	if s[1][len(dims)-1] != 1 {
		v = 1
	}
	l.each("copy_strided", n, v, x, y, n, xFrom, yFrom, l.shape(dims, s[0], s[1]), len(dims), v)
}

// sumTo: one launch where the outputs alone fill the device, else one for parts of the sums and one
// that adds the parts.
func (l *lowering) sumTo(x, y engine.Operand, alpha float64) {
	var kept, summed, keptStride, summedStride []int
	sx := strides(x.Shape)
	inner := false // the last dimension that is not 1 is summed
	for k, n := range x.Shape {
		switch {
		case n == 1:
		case y.Shape[k] == n:
			kept, keptStride, inner = append(kept, n), append(keptStride, sx[k]), false
		default:
			summed, summedStride, inner = append(summed, n), append(summedStride, sx[k]), true
		}
	}
	outer, m := engine.Size(kept), engine.Size(summed)
	if outer == 0 {
		return
	}
	kept, ks := merge(kept, keptStride)
	summed, ss := merge(summed, summedStride)
	kernel, blocks := "sum_outer", ceil(outer, 32)
	if inner && m > 64 {
		kernel, blocks = "sum_inner", outer
	}
	parts := clamp(min(m/2048, 1024/blocks), 1, 64)
	per := ceil(m, parts)
	shape := l.shape(kept, ks[0], summed, ss[0])
	if parts == 1 {
		l.launch(kernel, [3]int{blocks, 1, 1}, 256, 0, x, y, outer, m, per, alpha, shape, len(kept), len(summed))
		return
	}
	scratch := l.need(4 * int64(parts) * int64(outer))
	l.launch(kernel, [3]int{blocks, parts, 1}, 256, 0, x, scratch, outer, m, per, 1.0, shape, len(kept), len(summed))
	l.launch("sum_outer", [3]int{ceil(outer, 32), 1, 1}, 256, 0, scratch, y, outer, parts, parts, alpha,
		l.shape([]int{outer}, []int{1}, []int{parts}, []int{outer}), 1, 1)
}

// merge drops dimensions of size 1 and joins neighbours that lie behind one another under all
// strides. At least one dimension is left.
func merge(dims []int, lists ...[]int) ([]int, [][]int) {
	var d []int
	s := make([][]int, len(lists))
	for k, n := range dims {
		if n == 1 {
			continue
		}
		if last := len(d) - 1; last >= 0 {
			joins := true
			for i, list := range lists {
				joins = joins && s[i][last] == n*list[k]
			}
			if joins {
				d[last] *= n
				for i, list := range lists {
					s[i][last] = list[k]
				}
				continue
			}
		}
		d = append(d, n)
		for i, list := range lists {
			s[i] = append(s[i], list[k])
		}
	}
	if len(d) == 0 {
		d = []int{1}
		for i := range s {
			s[i] = []int{1}
		}
	}
	return d, s
}

// neighbours returns 4 where a thread can take four elements along the last dimension, else 1: the
// strides there are 0 or 1, and where 1 every row begins at a multiple of 4.
func neighbours(dims []int, lists [][]int, from int) int {
	last := len(dims) - 1
	if dims[last]%4 != 0 || from%4 != 0 {
		return 1
	}
	for _, s := range lists {
		if s[last] > 1 {
			return 1
		}
		for k := range last {
			if s[last] == 1 && s[k]%4 != 0 {
				return 1
			}
		}
	}
	return 4
}

// strides returns the distances between neighbours along each dimension of a row-major array.
func strides(shape []int) []int {
	s, n := make([]int, len(shape)), 1
	for k := len(shape) - 1; k >= 0; k-- {
		s[k] = n
		n *= shape[k]
	}
	return s
}

// broadcastStrides returns the strides of an array of shape small seen as one of shape big: 0 where
// it is repeated.
func broadcastStrides(small, big []int) []int {
	s := strides(small)
	for k, n := range small {
		if n == 1 && big[k] != 1 {
			s[k] = 0
		}
	}
	return s
}

// rowsOf returns the number and the width of an operand's rows.
func rowsOf(o engine.Operand) (rows, w int) {
	if w = 1; len(o.Shape) > 0 {
		w = o.Shape[len(o.Shape)-1]
	}
	if w == 0 {
		return 0, 0
	}
	return o.Size() / w, w
}

// around returns the product of the dimensions before an axis, the axis, and that of those behind.
func around(shape []int, axis int) (outer, n, inner int) {
	return engine.Size(shape[:axis]), shape[axis], engine.Size(shape[axis+1:])
}

func ceil(n, d int) int { return (n + d - 1) / d }

func clamp(n, lo, hi int) int { return min(max(n, lo), hi) }
