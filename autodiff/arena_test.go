package autodiff

import (
	"math/rand/v2"
	"slices"
	"testing"

	"clipinspector/engine"
	"clipinspector/engine/plain"
)

// Sharing the arena changes no result: a program that keeps a few outputs gives the same bits as
// the program in which every value has memory of its own.
func TestArenaSharing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	e := plain.New[float64]()
	shared := 0
	for n := range uint64(300) {
		compile := func(outputs func(g *Graph, vs []Value) []Value) (*Program, []Value) {
			g := New(e)
			vs := outputs(g, randomGraph(g, rand.New(rand.NewPCG(seed, n))))
			p, err := g.Compile(vs...)
			if err != nil {
				t.Fatal(err)
			}
			checkPlan(t, g.plan())
			if err := p.Run(); err != nil {
				t.Fatal(err)
			}
			return p, vs
		}
		few := []int(nil)
		want, all := compile(func(g *Graph, vs []Value) []Value {
			pick := rand.New(rand.NewPCG(seed+1, n))
			for range 1 + pick.IntN(3) {
				few = append(few, vs[pick.IntN(len(vs))].id)
			}
			all := make([]Value, len(g.values))
			for i := range all {
				all[i] = Value{g, i}
			}
			return all
		})
		got, vs := compile(func(g *Graph, _ []Value) []Value {
			var vs []Value
			for _, id := range few {
				vs = append(vs, Value{g, id})
			}
			return vs
		})
		if want.Stats().ArenaBytes != 0 {
			t.Errorf("graph %d: an arena of %d bytes although every value is an output", n, want.Stats().ArenaBytes)
		}
		intermediate := int64(0)
		for _, ins := range got.g.plan().Instrs {
			for _, o := range ins.Out {
				if o.Slot >= 0 && got.g.slots[o.Slot].bound == nil {
					intermediate += 4 * int64(roundUp(got.g.slots[o.Slot].len))
				}
			}
		}
		if got.Stats().ArenaBytes > intermediate {
			t.Errorf("graph %d: an arena of %d bytes for %d bytes of values", n, got.Stats().ArenaBytes, intermediate)
		}
		if got.Stats().ArenaBytes < intermediate {
			shared++
		}
		for range 2 { // outputs are the same after another run
			for _, v := range vs {
				if !slices.Equal(data(t, got, v), data(t, want, all[v.id])) {
					t.Errorf("graph %d: value %d differs when the arena is shared", n, v.id)
				}
			}
			if err := got.Run(); err != nil {
				t.Fatal(err)
			}
		}
		got.Free()
		want.Free()
		if t.Failed() {
			return
		}
	}
	if shared < 100 {
		t.Errorf("only %d of 300 graphs shared memory", shared)
	}
}

// The arena of a long chain does not grow with its length.
func TestArenaOfAChain(t *testing.T) {
	sizes := map[int]int64{}
	for _, n := range []int{10, 1000} {
		g := New(plain.New[float32]())
		x := g.Input(1000)
		for range n {
			x = x.Tanh()
		}
		p, err := g.Compile(x)
		if err != nil {
			t.Fatal(err)
		}
		sizes[n] = p.Stats().ArenaBytes
		p.Free()
	}
	if sizes[1000] != sizes[10] || sizes[10] > 4*2*1024 {
		t.Errorf("arenas of %v bytes", sizes)
	}
}

// A span that is given back joins its neighbours, whatever the order.
func TestArenaJoinsNeighbours(t *testing.T) {
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	for range 200 {
		var a arena
		var live []span
		for range 60 {
			if len(live) == 0 || r.IntN(2) == 0 {
				n := 1 + r.IntN(200)
				s := span{a.alloc(n), n}
				for _, o := range live {
					if s.off < o.off+o.len && o.off < s.off+s.len {
						t.Fatalf("%v overlaps %v", s, o)
					}
				}
				if s.off%align != 0 || s.off+s.len > a.size {
					t.Fatalf("%v in an arena of %d", s, a.size)
				}
				live = append(live, s)
			} else {
				i := r.IntN(len(live))
				a.release(live[i].off, live[i].len)
				live = slices.Delete(live, i, i+1)
			}
		}
		for _, s := range live {
			a.release(s.off, s.len)
		}
		if len(a.free) > 1 || (len(a.free) == 1 && a.free[0] != span{0, a.size}) {
			t.Fatalf("free list %v of an empty arena of %d", a.free, a.size)
		}
	}
}

// tower is a transformer block as CLIP's image tower has it, with a loss.
type tower struct {
	pixels, gamma, beta, proj, inProj, outProj, bias, loss Value
}

func newTower(g *Graph) tower {
	const width = 12
	w := tower{pixels: g.Input(2, 3, 4, 4), gamma: g.Input(width), beta: g.Input(width), proj: g.Input(width, 12),
		inProj: g.Input(3*width, width), outProj: g.Input(width, width), bias: g.Input(3 * width)}
	x := w.pixels.Affine(2, -1).Patchify(2).Linear(w.proj, None)
	h := x
	y := x.LayerNorm(w.gamma, w.beta)
	for range 2 {
		a := y.Linear(w.inProj, w.bias).Attention(3, false).Linear(w.outProj, None)
		y, h = a.AddLayerNorm(h, w.gamma, w.beta)
	}
	w.loss = y.QuickGELU().Mul(h).Mean()
	return w
}

func ops(ins []engine.Instr) map[engine.Op]int {
	m := map[engine.Op]int{}
	for _, i := range ins {
		m[i.Op]++
	}
	return m
}
