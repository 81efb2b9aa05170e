package cpu

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"clipinspector/engine"
)

// recorder writes programs for benchmarks.
type recorder struct {
	e        *Engine
	p        engine.Program
	rng      *rand.Rand
	flop     float64
	elements int // of the operand that a time is shown for
}

func newRecorder(e *Engine) *recorder { return &recorder{e: e, rng: rand.New(rand.NewPCG(7, 8))} }

func (r *recorder) weight(shape ...int) engine.Operand {
	n := engine.Size(shape)
	b, err := r.e.NewBuffer(n)
	if err != nil {
		panic(err)
	}
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.rng.NormFloat64()) * 0.05
	}
	b.Write(0, x)
	r.p.Slots = append(r.p.Slots, engine.Slot{Len: n, Bound: b})
	return engine.Operand{Slot: len(r.p.Slots) - 1, Shape: shape}
}

func (r *recorder) value(shape ...int) engine.Operand {
	n := engine.Size(shape)
	r.p.Slots = append(r.p.Slots, engine.Slot{Len: n, Offset: r.p.Arena})
	r.p.Arena += (n + 15) / 16 * 16
	return engine.Operand{Slot: len(r.p.Slots) - 1, Shape: shape}
}

func (r *recorder) emit(op engine.Op, at engine.Attr, in []engine.Operand, out ...engine.Operand) {
	r.p.Instrs = append(r.p.Instrs, engine.Instr{Op: op, Attr: at, In: in, Out: out})
}

type ops = []engine.Operand

// linear is y = x·wᵀ + bias, or with back dx = dy·w.
func (r *recorder) linear(x, w, bias engine.Operand, back bool) engine.Operand {
	rows := x.Size() / x.Shape[len(x.Shape)-1]
	at := engine.Attr{Batch: 1, M: rows, N: w.Shape[0], K: w.Shape[1], TransB: true, Alpha: 1}
	if back {
		at.N, at.K, at.TransB = w.Shape[1], w.Shape[0], false
	}
	y := r.value(append(append([]int(nil), x.Shape[:len(x.Shape)-1]...), at.N)...)
	r.emit(engine.MatMul, at, ops{x, w, bias}, y)
	r.flop += 2 * float64(at.M) * float64(at.N) * float64(at.K)
	return y
}

// tower records the blocks of a vision transformer forward and backward to its input.
func (r *recorder) tower(batch, s, w, mlp, heads, layers int) {
	abs, ln := engine.Absent, engine.Attr{Eps: 1e-5}
	rows := batch * s
	type kept struct{ h1, st1, g1, qkv, o, lse, h2, st2, g2, pre, wqkv, wo, w1, w2 engine.Operand }
	var ks []kept
	x, delta := r.weight(batch, s, w), abs
	for range layers {
		var k kept
		k.g1, k.g2 = r.weight(w), r.weight(w)
		k.wqkv, k.wo, k.w1, k.w2 = r.weight(3*w, w), r.weight(w, w), r.weight(mlp, w), r.weight(w, mlp)
		y := r.value(batch, s, w)
		k.st1, k.h1 = r.value(rows, 2), x
		h := abs
		if delta.Slot >= 0 {
			h = r.value(batch, s, w)
			k.h1 = h
		}
		r.emit(engine.LayerNorm, ln, ops{x, k.g1, k.g1, delta}, y, k.st1, h)
		k.qkv = r.linear(y, k.wqkv, r.weight(3*w), false)
		k.o, k.lse = r.value(batch, s, w), r.value(batch, heads, s)
		r.emit(engine.Attention, engine.Attr{Heads: heads}, ops{k.qkv}, k.o, k.lse)
		a := r.linear(k.o, k.wo, r.weight(w), false)
		y2 := r.value(batch, s, w)
		k.st2, k.h2 = r.value(rows, 2), r.value(batch, s, w)
		r.emit(engine.LayerNorm, ln, ops{k.h1, k.g2, k.g2, a}, y2, k.st2, k.h2)
		k.pre = r.linear(y2, k.w1, r.weight(mlp), false)
		act := r.value(batch, s, mlp)
		r.emit(engine.Unary, engine.Attr{Func: engine.QuickGELU}, ops{k.pre}, act)
		delta = r.linear(act, k.w2, r.weight(w), false)
		x = k.h2
		ks = append(ks, k)
	}
	dh := delta // any gradient
	for i := layers - 1; i >= 0; i-- {
		k := ks[i]
		da := r.linear(dh, k.w2, abs, true)
		dp := r.value(batch, s, mlp)
		r.emit(engine.UnaryGrad, engine.Attr{Func: engine.QuickGELU}, ops{k.pre, da}, dp)
		dy := r.linear(dp, k.w1, abs, true)
		dh2 := r.value(batch, s, w)
		r.emit(engine.LayerNormGrad, ln, ops{k.h2, k.g2, k.st2, dy, dh}, dh2)
		do := r.linear(dh2, k.wo, abs, true)
		dqkv := r.value(batch, s, 3*w)
		r.emit(engine.AttentionGrad, engine.Attr{Heads: heads}, ops{k.qkv, k.o, k.lse, do}, dqkv)
		dy1 := r.linear(dqkv, k.wqkv, abs, true)
		dh1 := r.value(batch, s, w)
		r.emit(engine.LayerNormGrad, ln, ops{k.h1, k.g1, k.st1, dy1, dh2}, dh1)
		dh = dh1
	}
}

// cpuTime returns the time that the process has spent on processors, which other processes disturb
// less than the clock.
func cpuTime() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// run benchmarks the recorded program.
func (r *recorder) run(b *testing.B) {
	x, err := r.e.Compile(&r.p)
	if err != nil {
		b.Fatal(err)
	}
	x.Run()
	start := cpuTime()
	for b.Loop() {
		x.Run()
	}
	spent := cpuTime() - start
	report(b, r.flop, spent)
	if r.elements > 0 {
		b.ReportMetric(1e9*spent/float64(b.N)/float64(r.elements), "cpu-ns/element")
	}
}

// report shows the rate by the clock and by time spent on processors.
func report(b *testing.B, flop, cpu float64) {
	if flop > 0 {
		b.ReportMetric(flop*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		b.ReportMetric(flop*float64(b.N)/cpu/1e9, "GFLOP/cpu-s")
	}
}

// shapes are products of ViT-B/32 at batch 16 and of the mini CLIP's image tower at batch 64.
var shapes = []struct{ m, n, k int }{{800, 2304, 768}, {800, 768, 768}, {800, 3072, 768}, {800, 768, 3072},
	{2368, 288, 96}, {2368, 96, 96}, {2368, 192, 96}, {2368, 96, 192}}

func BenchmarkMatMul(b *testing.B) {
	for _, back := range []bool{false, true} {
		for _, s := range shapes {
			b.Run(fmt.Sprintf("%v/%dx%dx%d", map[bool]string{false: "NT", true: "NN"}[back], s.m, s.n, s.k), func(b *testing.B) {
				r := newRecorder(newEngine(b, 1))
				w := r.weight(s.n, s.k)
				if back {
					w = r.weight(s.k, s.n)
				}
				r.linear(r.weight(s.m, s.k), w, r.weight(s.n), back)
				r.run(b)
			})
		}
	}
}

// BenchmarkTower is forward and backward through all blocks; compare its rate with that of
// BenchmarkMatMul.
func BenchmarkTower(b *testing.B) {
	for _, c := range []struct {
		name                            string
		batch, s, w, mlp, heads, layers int
	}{{"ViT-B32x16", 16, 50, 768, 3072, 12, 12}, {"mini-x64", 64, 37, 96, 192, 3, 5}} {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/%d", c.name, threads), func(b *testing.B) {
				r := newRecorder(newEngine(b, threads))
				r.tower(c.batch, c.s, c.w, c.mlp, c.heads, c.layers)
				r.run(b)
			})
		}
	}
}

func BenchmarkKernels(b *testing.B) {
	abs := engine.Absent
	for _, s := range []struct{ batch, s, w, heads int }{{16, 50, 768, 12}, {64, 37, 96, 3}} {
		each := func(name string, elements int, record func(r *recorder)) {
			b.Run(fmt.Sprintf("%s/%dx%dx%d", name, s.batch, s.s, s.w), func(b *testing.B) {
				r := newRecorder(newEngine(b, 1))
				record(r)
				r.elements = elements
				r.run(b)
			})
		}
		n, rows := s.batch*s.s*s.w, s.batch*s.s
		at := engine.Attr{Heads: s.heads, Eps: 1e-5, Func: engine.QuickGELU}
		each("attention", n, func(r *recorder) {
			r.emit(engine.Attention, at, ops{r.weight(s.batch, s.s, 3*s.w)}, r.value(s.batch, s.s, s.w), r.value(s.batch, s.heads, s.s))
		})
		each("attention-grad", n, func(r *recorder) {
			o := r.weight(s.batch, s.s, s.w)
			r.emit(engine.AttentionGrad, at, ops{r.weight(s.batch, s.s, 3*s.w), o, r.weight(s.batch, s.heads, s.s), o}, r.value(s.batch, s.s, 3*s.w))
		})
		each("layernorm", n, func(r *recorder) {
			x, g := r.weight(rows, s.w), r.weight(s.w)
			r.emit(engine.LayerNorm, at, ops{x, g, g, r.weight(rows, s.w)}, r.value(rows, s.w), r.value(rows, 2), r.value(rows, s.w))
		})
		each("layernorm-grad", n, func(r *recorder) {
			x := r.weight(rows, s.w)
			r.emit(engine.LayerNormGrad, at, ops{x, r.weight(s.w), r.weight(rows, 2), x, abs}, r.value(rows, s.w))
		})
		each("quickgelu", 4*n, func(r *recorder) { r.emit(engine.Unary, at, ops{r.weight(rows, 4*s.w)}, r.value(rows, 4*s.w)) })
		each("quickgelu-grad", 4*n, func(r *recorder) {
			x := r.weight(rows, 4*s.w)
			r.emit(engine.UnaryGrad, at, ops{x, x}, r.value(rows, 4*s.w))
		})
		each("softmax", n, func(r *recorder) { r.emit(engine.Softmax, at, ops{r.weight(rows, s.w)}, r.value(rows, s.w)) })
		each("add", n, func(r *recorder) {
			x := r.weight(rows, s.w)
			r.emit(engine.Binary, engine.Attr{Func: engine.Add}, ops{x, r.weight(1, s.w)}, r.value(rows, s.w))
		})
		each("sum-rows", n, func(r *recorder) {
			r.emit(engine.SumTo, engine.Attr{Alpha: 1}, ops{r.weight(rows, s.w)}, r.value(1, s.w))
		})
		each("sum-columns", n, func(r *recorder) {
			r.emit(engine.SumTo, engine.Attr{Alpha: 1}, ops{r.weight(rows, s.w)}, r.value(rows, 1))
		})
		each("adam", n, func(r *recorder) {
			p, m, v := r.weight(rows, s.w), r.weight(rows, s.w), r.weight(rows, s.w)
			r.emit(engine.Adam, engine.Attr{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, ops{p, r.weight(rows, s.w), m, v, r.weight(1), r.weight(4)}, p, m, v)
		})
	}
	each := func(name string, op engine.Op, at engine.Attr, in, out []int) {
		b.Run(name, func(b *testing.B) {
			r := newRecorder(newEngine(b, 1))
			r.emit(op, at, ops{r.weight(in...)}, r.value(out...))
			r.elements = engine.Size(in)
			r.run(b)
		})
	}
	each("patchify", engine.Patchify, engine.Attr{Patch: 32}, []int{16, 3, 224, 224}, []int{16, 49, 3072})
	each("unpatchify", engine.Unpatchify, engine.Attr{Patch: 32}, []int{16, 49, 3072}, []int{16, 3, 224, 224})
	each("clamp", engine.Unary, engine.Attr{Func: engine.Clamp, Hi: 1}, []int{16, 3, 224, 224}, []int{16, 3, 224, 224})
	each("sum-batch", engine.SumTo, engine.Attr{Alpha: 1}, []int{16, 3, 224, 224}, []int{1, 3, 224, 224})
	each("sum-all", engine.SumTo, engine.Attr{Alpha: 1}, []int{16, 3, 224, 224}, []int{1, 1, 1, 1})
}
