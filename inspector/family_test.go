package inspector

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"clipinspector/autodiff"
	"clipinspector/engine/cpu"
	"clipinspector/internal/dense"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// Of every family: what is optimised shows images as the trigger does that is made of it, members
// keep to the range of pixels, another budget changes how much a member changes, and a gradient
// step downhill goes downhill for a patch as for a warp.
func TestFamiliesShowWhatTheirTriggersShow(t *testing.T) {
	e, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	const size, n = 12, 3
	rng := rand.New(rand.NewPCG(1, 2))
	pixels := make([]float32, n*3*size*size)
	for i := range pixels {
		pixels[i] = rng.Float32()
	}
	pool := triggers.Dense(pixels, n, 3, size, size)
	for _, f := range families() {
		t.Run(f.kind, func(t *testing.T) {
			if f.kind != Kinds[indexOf(f.kind)] {
				t.Errorf("Kinds lists %v", Kinds)
			}
			var before float64
			for i, v := range [][]float64{{f.sizes[0]}, {f.sizes[len(f.sizes)-1]}} {
				member := f.sized(f.draw(size, pool, rand.New(rand.NewPCG(7, 7))), size, v[0])
				with, err := prompts.Triggered(context.Background(), e, pool, f.trigger(member, size))
				if err != nil {
					t.Fatal(err)
				}
				g := autodiff.New(e)
				var vars []autodiff.Value
				for _, m := range member {
					vars = append(vars, g.Const(dense.Floats(m), append([]int{1}, m.Shape()...)...))
				}
				y := f.apply(g.Const(pixels, 1, n, 3, size, size), vars)
				p, err := g.Compile(y)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Free()
				if err := p.Run(); err != nil {
					t.Fatal(err)
				}
				got, err := p.Read(y)
				if err != nil {
					t.Fatal(err)
				}
				var most, change float64
				for j, w := range dense.Floats(with) {
					if w < 0 || w > 1 {
						t.Fatalf("a pixel of %v", w)
					}
					most = max(most, math.Abs(float64(got[j]-w)))
					change += math.Abs(float64(w - pixels[j]))
				}
				if most > 1e-4 {
					t.Errorf("what is optimised differs from the trigger by %.2g", most)
				}
				if i == 1 && change <= before {
					t.Errorf("budget %.3f changes images by %.3f, budget %.3f by %.3f", f.sizes[0], before, v[0], change)
				}
				before = change
			}
		})
	}
}

func indexOf(kind string) int {
	for i, k := range Kinds {
		if k == kind {
			return i
		}
	}
	return 0
}

// The members of a round are all there, and at least half of them are of the strongest kind.
func TestPartsOfARound(t *testing.T) {
	for all := range 12 {
		for kinds := 1; kinds <= 3; kinds++ {
			sum := 0
			for i := range kinds {
				sum += part(all, i, kinds)
			}
			if sum != all || 2*part(all, 0, kinds) < all {
				t.Errorf("%d members of %d kinds: %d of the first, %d in all", all, kinds, part(all, 0, kinds), sum)
			}
		}
	}
}

// A repair goes against the strongest kind, and against a warp or a perturbation that is near it;
// not against what the strongest kind takes precedence over.
func TestNearKinds(t *testing.T) {
	kinds := func(strongest string, evidence ...float64) []string {
		x := Explanation{Strongest: strongest}
		for i, gain := range evidence {
			x.Families = append(x.Families, FamilyFinding{Kind: Kinds[i], Gain: gain})
		}
		return x.Near(0.3)
	}
	for _, c := range []struct {
		got, want []string
	}{ //                  patch, blend, perturbation, warp, wave
		{kinds(KindPatch, 4, 3, 1.4, 0, 0), []string{KindPatch, KindPerturbation}},
		{kinds(KindPatch, 4, 3, 1, 1.3, 0), []string{KindPatch, KindWarp}},
		{kinds(KindPatch, 4, 0, 1, 0, 0), []string{KindPatch}},
		{kinds(KindPerturbation, 4, 4, 3, 0, 1.5), []string{KindPerturbation}},
		{kinds(KindWave, -2, -3, -1, -1, -1), []string{KindWave}},
		{kinds(KindWarp), []string{KindWarp}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("against %v; want %v", c.got, c.want)
		}
	}
}

// Half the evidence is enough where the trigger of the middle budget works, and none where it fails.
func TestEvidenceThatIsEnough(t *testing.T) {
	s, err := settings.Resolve(ExplainParams, map[string]any{"evidence": 1.0, "evidence-working": 0.5, "asr": 0.9, "least": 0.7})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		gain, asr float64
		want      bool
	}{{1, 0.7, true}, {0.99, 0.89, false}, {0.5, 0.9, true}, {0.49, 1, false}, {3, 0.69, false}} {
		if got := (&explainer{s: s}).explains(FamilyFinding{Gain: x.gain, ASR: x.asr}); got != x.want {
			t.Errorf("evidence %v, ASR %v: explains %v; want %v", x.gain, x.asr, got, x.want)
		}
	}
}
