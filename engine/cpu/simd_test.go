package cpu

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"clipinspector/engine"
	"clipinspector/internal/enginetest"
)

// levels returns an engine for each level that this processor has.
func levels(t *testing.T) (all []*Engine) {
	t.Helper()
	for _, name := range []string{"v2", "v3", "v4"} {
		t.Setenv(SIMDEnv, name)
		e, err := New(Options{Threads: 1})
		if err != nil {
			t.Logf("%s is not compared: %v", name, err)
			continue
		}
		t.Cleanup(func() { e.Close() })
		all = append(all, e)
	}
	return all
}

// sameBits executes a case with all engines. What is no number has many forms, which count as one.
func sameBits(t *testing.T, all []*Engine, c *enginetest.Case) {
	t.Helper()
	want, err := c.Exec(all[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all[1:] {
		got, err := c.Exec(e)
		if err != nil {
			t.Fatal(err)
		}
		for k := range want {
			for i, v := range want[k] {
				if g := got[k][i]; math.Float32bits(v) != math.Float32bits(g) && (v == v || g == g) {
					t.Fatalf("%v: output %d, element %d is %v (%#x) with %s, %v (%#x) with %s", c, k, i, v, math.Float32bits(v),
						all[0].SIMD(), g, math.Float32bits(g), e.SIMD())
				}
			}
		}
	}
}

// The processor decides no bit of a result.
func TestLevelsDoNotChangeABit(t *testing.T) {
	all := levels(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for op := engine.Op(0); int(op) < engine.NumOps; op++ {
		for range 25 {
			sameBits(t, all, enginetest.Random(rng, op))
		}
	}
	normal := func(shape ...int) enginetest.Array {
		x := make([]float32, engine.Size(shape))
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return enginetest.Array{Shape: shape, Data: x}
	}
	empty := func(shape ...int) enginetest.Array { return enginetest.Array{Shape: shape} }
	// Sums that are cut into parts, and heads whose products are packed at one level and not at
	// another.
	a, b, bias := normal(130, 800), normal(1200, 800), normal(1200)
	product := func(n int) *enginetest.Case {
		return &enginetest.Case{Op: engine.MatMul, Attr: engine.Attr{Batch: 1, M: 130, N: n, K: 800, TransB: true, Alpha: 0.3},
			In:  []enginetest.Array{a, {Shape: []int{n, 800}, Data: b.Data[:n*800]}, {Shape: []int{n}, Data: bias.Data[:n]}},
			Out: []enginetest.Array{empty(130, n)}}
	}
	sameBits(t, all, product(100))
	// Wide products copy rows first, narrow ones do not.
	wide, err := product(1200).Exec(all[len(all)-1])
	if err != nil {
		t.Fatal(err)
	}
	narrow, err := product(100).Exec(all[len(all)-1])
	if err != nil {
		t.Fatal(err)
	}
	for i := range 130 {
		if got, want := wide[0][i*1200:][:100], narrow[0][i*100:][:100]; !slices.Equal(got, want) {
			t.Fatalf("row %d of a wide product begins %v, alone these columns are %v", i, got[:4], want[:4])
		}
	}
	for _, h := range []struct{ s, heads, d int }{{37, 3, 32}, {77, 2, 64}, {20, 2, 24}, {9, 4, 4}} {
		at, w := engine.Attr{Heads: h.heads, Causal: h.s == 20}, h.heads*h.d
		qkv := normal(2, h.s, 3*w)
		forward := &enginetest.Case{Op: engine.Attention, Attr: at, In: []enginetest.Array{qkv}, Out: []enginetest.Array{empty(2, h.s, w), empty(2, h.heads, h.s)}}
		sameBits(t, all, forward)
		out, err := forward.Exec(all[0])
		if err != nil {
			t.Fatal(err)
		}
		o, lse := enginetest.Array{Shape: []int{2, h.s, w}, Data: out[0]}, enginetest.Array{Shape: []int{2, h.heads, h.s}, Data: out[1]}
		sameBits(t, all, &enginetest.Case{Op: engine.AttentionGrad, Attr: at, In: []enginetest.Array{qkv, o, lse, normal(2, h.s, w)},
			Out: []enginetest.Array{empty(2, h.s, 3*w)}})
	}
	// Every function of one argument, at numbers of all sizes.
	x := []float32{float32(math.Inf(-1)), float32(math.Inf(1)), 0, float32(math.Copysign(0, -1)), math.MaxFloat32, -math.MaxFloat32}
	for len(x) < 20000 {
		x = append(x, math.Float32frombits(rng.Uint32()), float32(rng.NormFloat64()*8))
	}
	in := enginetest.Array{Shape: []int{len(x)}, Data: x}
	for f := engine.Affine; f <= engine.Reciprocal; f++ {
		at, out := engine.Attr{Func: f, Alpha: 1.5, Beta: -0.5, Lo: -1, Hi: 0.7}, []enginetest.Array{empty(len(x))}
		sameBits(t, all, &enginetest.Case{Op: engine.Unary, Attr: at, In: []enginetest.Array{in}, Out: out})
		sameBits(t, all, &enginetest.Case{Op: engine.UnaryGrad, Attr: at, In: []enginetest.Array{in, in}, Out: out})
	}
}

func TestALevelThatIsNoneIsRefused(t *testing.T) {
	t.Setenv(SIMDEnv, "v5")
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), `CLIPINSPECTOR_SIMD is "v5": want v2 to v`) {
		t.Error(err)
	}
}

// golden are the hashes of what each version of the kernels makes of some instructions, on any
// machine.
var golden = map[string]uint64{"4": 0x31cb53d857cee1da}

func TestKernelsChangeWithTheirVersionAlone(t *testing.T) {
	e := newEngine(t, 1)
	rng := rand.New(rand.NewPCG(11, 12))
	h := fnv.New64a()
	for op := engine.Op(0); int(op) < engine.NumOps; op++ {
		for range 12 {
			out, err := enginetest.Random(rng, op).Exec(e)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range out {
				binary.Write(h, binary.LittleEndian, x)
			}
		}
	}
	if got := h.Sum64(); got != golden[kernels] {
		t.Errorf("results hash to %#x, not to version %s's %#x: if bits were meant to change, raise kernels", got, kernels, golden[kernels])
	}
}
