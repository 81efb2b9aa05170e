package cpu

// #include "ci.h"
import "C"

import "clipinspector/engine"

// fuses reports whether next applies an expensive function to the product that ins has just computed, so that both can be
// done tile by tile while the numbers are in the cache.
func fuses(ins, next *engine.Instr) bool {
	return next.Op == engine.Unary && (next.Attr.Func == engine.QuickGELU || next.Attr.Func == engine.GELU) &&
		next.In[0].Slot == ins.Out[0].Slot && next.In[0].Size() == ins.Out[0].Size()
}

// gemmTile returns the shape of a product's tiles. Packing a tile's operands costs as much as 1/rows + 1/columns of its
// arithmetic, so tiles are as large as they can be while there are enough of them to share among the cores.
func gemmTile(batch, m, n, k int) (tm, tn int) {
	const (
		enough  = 16      // tiles
		minWork = 1 << 20 // multiplications of a tile, below which handing it out costs more than it brings
	)
	tm, tn = min(m, 256), min(n, 768)
	count := func() int { return batch * ((m + tm - 1) / tm) * ((n + tn - 1) / tn) }
	for count() < enough && tm*tn*k >= 2*minWork {
		switch {
		case tn >= 2*tm && tn > 64:
			tn = roundUp((tn+1)/2, 16)
		case tm > 32:
			tm = roundUp((tm+1)/2, 8)
		case tn > 64:
			tn = roundUp((tn+1)/2, 16)
		default:
			return tm, tn
		}
	}
	// Tiles of one size rather than a small one at the end.
	tm = min(tm, roundUp((m+(m+tm-1)/tm-1)/((m+tm-1)/tm), 8))
	tn = min(tn, roundUp((n+(n+tn-1)/tn-1)/((n+tn-1)/tn), 16))
	return tm, tn
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// matMul appends a product, and act of it into z where z is not nil.
func (c *compiler) matMul(ins *engine.Instr, in, out [][]float32, act engine.Func, z []float32) {
	at := ins.Attr
	a, b, bias, y := in[0], in[1], in[2], out[0]
	if at.M == 0 || at.N == 0 || at.Batch == 0 {
		return
	}
	if at.Batch > 1 && at.StrideB == 0 && !at.TransA && at.StrideA == at.M*at.K {
		at.M, at.Batch = at.M*at.Batch, 1 // one tall product
	}
	lda, rowA, ldb, colB := at.K, at.K, at.N, 1
	if at.TransA {
		lda, rowA = at.M, 1
	}
	if at.TransB {
		ldb, colB = at.K, at.K
	}
	tm, tn := gemmTile(at.Batch, at.M, at.N, at.K)
	rows, cols := (at.M+tm-1)/tm, (at.N+tn-1)/tn
	own, ta, tb := c.e.blas.own, bit(at.TransA), bit(at.TransB)
	var f C.int
	if z != nil {
		f = unaryCode[act]
	}
	// Small products of a batch are done several at a time.
	group := 1
	if rows*cols == 1 {
		group = max(1, min(at.Batch, (1<<18)/max(1, at.M*at.N*at.K)))
	}
	one := func(t int) {
		// Neighbours share the rows of a, which are the larger operand.
		p, r, q := t/(rows*cols), t/cols%rows, t%cols
		i, j := r*tm, q*tn
		m, n := min(tm, at.M-i), min(tn, at.N-j)
		yo := (p*at.M+i)*at.N + j
		var bj, zj []float32
		if bias != nil {
			bj = bias[j:]
		}
		if z != nil {
			zj = z[yo:]
		}
		C.ci_gemm_tile(own, ta, tb, C.int(m), C.int(n), C.int(at.K), C.float(at.Alpha), fp(a[p*at.StrideA+i*rowA:]), C.int(lda),
			fp(b[p*at.StrideB+j*colB:]), C.int(ldb), fp(y[yo:]), C.int(at.N), fp(bj), f, fp(zj))
	}
	n := at.Batch * rows * cols
	c.add((n+group-1)/group, func(t, _ int) {
		for i := t * group; i < min(n, (t+1)*group); i++ {
			one(i)
		}
	})
}
