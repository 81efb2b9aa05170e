package cpu

// #include "ci.h"
import "C"

import "clipinspector/engine"

// activation is an expensive function, or its derivative, that is applied to a product tile by tile
// while the tile is in the cache: z = f(y), or with x z = f'(x)*y.
type activation struct {
	f    C.int
	x, z []float32
}

// fuses returns what next does to the product that ins has just computed, if it can be done tile by
// tile.
func fuses(ins, next *engine.Instr, in, out, nextIn, nextOut [][]float32) *activation {
	var operand int
	act := &activation{f: unaryCode[next.Attr.Func], z: nextOut[0]}
	switch next.Op {
	case engine.Unary:
	case engine.UnaryGrad:
		operand, act.x = 1, nextIn[0]
	default:
		return nil
	}
	if next.Attr.Func != engine.QuickGELU && next.Attr.Func != engine.GELU || next.In[operand].Slot != ins.Out[0].Slot ||
		next.In[operand].Size() != ins.Out[0].Size() || overlap(act.x, out[0]) {
		return nil
	}
	// The result may lie where an input of the product was, which is read until the product is
	// done.
	for _, x := range in {
		if overlap(act.z, x) {
			return nil
		}
	}
	return act
}

// gemmTile returns the shape of a product's tiles. Packing a tile's operands costs as much as
// 1/rows + 1/columns of its arithmetic, so tiles are as large as they can be while there are enough
// of them to share among the cores.
func gemmTile(batch, m, n, k int) (tm, tn int) {
	const (
		enough  = 8       // tiles
		minWork = 1 << 20 // multiplications of a tile, below which handing it out costs more than it brings
	)
	tm, tn = min(m, 512), min(n, 1152)
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

// panels are the shapes of a product's panels at each level: the columns of a packed strip, and the
// rows.
var panels = map[C.int]struct{ strip, rows int }{2: {C.CI_STRIP_v2, C.CI_ROWS_v2}, 3: {C.CI_STRIP_v3, C.CI_ROWS_v3},
	4: {C.CI_STRIP_v4, C.CI_ROWS_v4}}

// stripTiles returns how a product by a packed matrix is cut: into so many rows of tiles, of as many
// panels each but for one, and into tiles of tn columns. A tile of many rows reads the packing more
// rarely, and gemm.h keeps up to 120 rows in the cache; where rows give too few tiles to share,
// columns are cut, at the packing's strips. A multiple of eight tiles is even for most numbers of
// cores.
func stripTiles(simd C.int, m, n int) (rows, tn int) {
	const enough, high, low = 8, 120, 48 // tiles, and a tile's rows
	rows = min(roundUp((m+high-1)/high, enough), (m+low-1)/low)
	strip := panels[simd].strip
	cols := min((enough+rows-1)/rows, (n+4*strip-1)/(4*strip))
	return rows, roundUp((n+cols-1)/cols, strip)
}

// matMul appends a product, and an activation of it where there is one.
func (c *compiler) matMul(ins *engine.Instr, in, out [][]float32, act *activation) {
	at := ins.Attr
	a, b, bias, y := in[0], in[1], in[2], out[0]
	if at.M == 0 || at.N == 0 || at.Batch == 0 {
		return
	}
	if at.Batch > 1 && at.StrideB == 0 && !at.TransA && at.StrideA == at.M*at.K {
		at.M, at.Batch = at.M*at.Batch, 1 // one tall product
	}
	then := func(yo, m, n int) {
		if act != nil {
			C.ci_gemm_then(c.e.simd, act.f, C.long(m), C.long(n), fp(y[yo:]), fp(from(act.x, yo)), fp(act.z[yo:]), C.long(at.N))
		}
	}
	ldb, colB := at.N, 1
	if at.TransB {
		ldb, colB = at.K, at.K
	}
	ta, tb := bit(at.TransA), bit(at.TransB)
	weight := c.bound(ins.In[1])
	// Packing pays where it is kept with a weight or serves many rows.
	if at.Batch == 1 && !at.TransA && (weight != nil || at.M >= 64) {
		packed := c.pack(weight, b, tb, at.N, at.K)
		rows, tn := stripTiles(c.e.simd, at.M, at.N)
		cols := (at.N + tn - 1) / tn
		high := panels[c.e.simd].rows
		all := (at.M + high - 1) / high // panels
		c.add(rows*cols, func(t, _ int) {
			i, j := all*(t/cols)/rows*high, t%cols*tn
			m, n := min(all*(t/cols+1)/rows*high, at.M)-i, min(tn, at.N-j)
			C.ci_gemm_packed(c.e.simd, C.long(m), C.long(n), C.long(at.K), C.float(at.Alpha), fp(a[i*at.K:]), C.long(at.K), fp(packed[j*at.K:]),
				fp(from(bias, j)), fp(y[i*at.N+j:]), C.long(at.N))
			then(i*at.N+j, m, n)
		})
		return
	}
	lda, rowA := at.K, at.K
	if at.TransA {
		lda, rowA = at.M, 1
	}
	tm, tn := gemmTile(at.Batch, at.M, at.N, at.K)
	rows, cols := (at.M+tm-1)/tm, (at.N+tn-1)/tn
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
		C.ci_gemm(c.e.simd, ta, tb, C.long(m), C.long(n), C.long(at.K), C.float(at.Alpha), fp(a[p*at.StrideA+i*rowA:]), C.long(lda),
			fp(b[p*at.StrideB+j*colB:]), C.long(ldb), fp(from(bias, j)), fp(y[yo:]), C.long(at.N))
		then(yo, m, n)
	}
	n := at.Batch * rows * cols
	c.add((n+group-1)/group, func(t, _ int) {
		for i := t * group; i < min(n, (t+1)*group); i++ {
			one(i)
		}
	})
}

// packing is a matrix cut into strips for the product of gemm.c, as one of its buffer's generations
// had it.
type packing struct {
	data       []float32
	generation uint64 // 0: never packed
	programs   int    // that read it
}

type packingKey struct {
	tb   C.int
	n, k int
}

// unpacked is how many numbers the packings take that a program needs and nobody keeps yet; those
// of other operands than weights are small.
func (e *Engine) unpacked(p *engine.Program) (n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ins := range p.Instrs {
		if ins.Op != engine.MatMul || p.Slots[ins.In[1].Slot].Bound == nil || ins.Attr.Batch != 1 || ins.Attr.TransA {
			continue
		}
		b, at := p.Slots[ins.In[1].Slot].Bound.(*buffer), ins.Attr
		if b != nil && b.packings[packingKey{bit(at.TransB), at.N, at.K}] == nil {
			n += int64(at.N) * int64(at.K)
		}
	}
	return n
}

// pack appends the step that packs op(b) [k,n]. Packings of a bound buffer are kept with it while a
// program reads them, and packed again only when the buffer has been written to.
func (c *compiler) pack(weight *buffer, b []float32, tb C.int, n, k int) []float32 {
	strip := panels[c.e.simd].strip
	strips, ldb := (n+strip-1)/strip, n
	if tb != 0 {
		ldb = k
	}
	p := &packing{}
	if weight != nil {
		c.e.mu.Lock()
		defer c.e.mu.Unlock()
		key := packingKey{tb, n, k}
		if weight.packings == nil {
			weight.packings = map[packingKey]*packing{}
		}
		if old := weight.packings[key]; old != nil {
			p = old
		} else {
			weight.packings[key] = p
		}
		p.programs++
		c.uses = append(c.uses, use{weight, key})
	}
	if p.data == nil {
		p.data = aligned(max(1, strips*strip*k))
	}
	per := max(1, tileSize/(strip*max(1, k)))
	c.add((strips+per-1)/per, func(t, _ int) {
		C.ci_gemm_pack(c.e.simd, tb, C.long(t*per), C.long(min(strips, (t+1)*per)), C.long(n), C.long(k), fp(b), C.long(ldb),
			fp(p.data))
	})
	if weight != nil {
		c.steps[len(c.steps)-1].due = func() bool {
			due := p.generation != weight.generation
			p.generation = weight.generation
			return due
		}
	}
	return p.data
}
