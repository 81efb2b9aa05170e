package inspector_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"clipinspector/clip/cliptest"
	"clipinspector/engine"
	"clipinspector/engine/plain"
	"clipinspector/inspector"
)

// narrow is an engine that takes so many images at once.
type narrow struct {
	engine.Engine
	images int
}

func (n narrow) AtOnce() int { return n.images }

// Classes that are done make room for others: fewer images go through, and what becomes of the others is the same to the bit although they
// share their steps with other classes than before.
func TestFinishedClassesMakeRoom(t *testing.T) {
	const size, batch, rounds = 8, 4, 60
	m := untuned(t, cliptest.Tiny(t, narrow{newCPU(t, 2), 2 * batch}, size), "coop", cliptest.Classes[:6])
	in := inspector.Input{Model: m, Pool: cliptest.Images(8, size, 11), Seed: 1}
	run := func(last map[int]int) ([]inspector.Outcome, int64) {
		var w []*watch
		inv := additive(0.1, batch, rounds, &w, func(class int) *watch {
			return &watch{round: func(w *watch, _ inspector.Round) (bool, error) { return len(w.rounds) == last[class], nil }}
		})
		o, passes, err := inv.Run(bg, in, indices(0, 4), indices(4, 8))
		if err != nil {
			t.Fatal(err)
		}
		return o, passes
	}
	want, full := run(nil)
	got, passes := run(map[int]int{0: 5, 3: 7}) // of the pairs 0 1, 2 3 and 4 5 remain 2 1 and 4 5
	for k, o := range got {
		if rounds := map[int]int{0: 5, 3: 7}[k]; rounds != 0 {
			if o.Rounds != rounds {
				t.Errorf("class %d took %d rounds, want %d", k, o.Rounds, rounds)
			}
		} else if !equal(o.Variables, want[k].Variables) || o.Loss != want[k].Loss || o.ASR != want[k].ASR {
			t.Errorf("class %d: loss %v, with all others beside it %v", k, o.Loss, want[k].Loss)
		}
	}
	if saved := int64(2 * (rounds - 25) * batch); passes != full-saved { // the classes are grouped anew after 25 rounds
		t.Errorf("%d image passes, want %d less than %d", passes, saved, full)
	}
}

// halved is the inversion of additive without controllers and with halving.
func halved(batch, rounds int, h *inspector.Halving) inspector.Inversion {
	inv := additive(0.1, batch, rounds, nil, nil)
	inv.Control, inv.Halving = nil, h
	return inv
}

// The most suspicious classes go on, as if there were no halving; the others stop, with the loss that they had come to.
func TestHalvingStopsTheLeastSuspicious(t *testing.T) {
	const size, batch, rounds = 8, 4, 8
	e := narrow{plain.New[float64](), 2 * batch}
	m := untuned(t, cliptest.Tiny(t, e, size), "coop", cliptest.Classes)
	in := inspector.Input{Model: m, Pool: cliptest.Images(12, size, 12), Seed: 1}
	var w []*watch
	inv := additive(0.1, batch, rounds, &w, func(int) *watch { return &watch{} })
	want, _, err := inv.Run(bg, in, indices(0, 8), indices(8, 12))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]float64{}
	order := []float64{4, 0, 5, 1, 3, 2} // 0 is the most suspicious
	inv = halved(batch, rounds, &inspector.Halving{Rungs: 2, Keep: 0.7, Suspicion: func(classes []int, losses []float64) []float64 {
		v := make([]float64, len(classes))
		for i, k := range classes {
			seen[k], v[i] = losses[i], -order[k]
		}
		return v
	}})
	got, passes, err := inv.Run(bg, in, indices(0, 8), indices(8, 12))
	if err != nil {
		t.Fatal(err)
	}
	// Rungs after 8·0.49 = 4 and 8·0.7 = 6 rounds, the first of means over rounds 3 and 4, the second over round 6 alone. Of six
	// classes five go on, then four.
	if want := int64((6*4+5*2+4*2)*batch + 4*4); passes != want {
		t.Errorf("%d image passes, want %d", passes, want)
	}
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-5*(1+math.Abs(b)) }
	for k, o := range got {
		rungs := 2
		if order[k] == 5 {
			rungs = 1
		}
		if o.Stopped != (order[k] > 3) || len(o.Rungs) != rungs {
			t.Errorf("class %d at place %v: stopped %v, %d rungs", k, order[k], o.Stopped, len(o.Rungs))
			continue
		}
		if r := w[k].rounds; !near(o.Rungs[0], (r[2].Loss+r[3].Loss)/2) || rungs == 2 && !near(o.Rungs[1], r[5].Loss) {
			t.Errorf("class %d: losses %v at the rungs, by round they are %v %v %v", k, o.Rungs, r[2].Loss, r[3].Loss, r[5].Loss)
		}
		if last := o.Rungs[rungs-1]; seen[k] != last || o.Stopped && o.Loss != last {
			t.Errorf("class %d: loss %v at the rung, ranked by %v, stopped at %v", k, last, seen[k], o.Loss)
		}
		after := rounds
		if o.Stopped {
			after = 2 + 2*rungs
		}
		far := 0.0 // float64 is cut to float32 between two groupings
		for i, v := range o.Variables[0].Data().([]float32) {
			far = math.Max(far, math.Abs(float64(v-w[k].after[after-1][0].Data().([]float32)[i])))
		}
		if o.Rounds != after || far > 1e-5 || !o.Stopped && !near(o.Loss, want[k].Loss) {
			t.Errorf("class %d after %d rounds is %v away from what it is without halving, at loss %v", k, o.Rounds, far, o.Loss)
		}
	}
}

// Classes that were stopped enter the statistics at the loss that they would have come to if they had gone on like the others on the
// median, and none of them then looks more suspicious than all that did go on.
func TestLossesOfStoppedClasses(t *testing.T) {
	outcomes := []inspector.Outcome{
		{Loss: 1, Rungs: []float64{7, 3}},  // 1 + loss falls to 1/4 from the first rung, 1/2 from the second
		{Loss: 2, Rungs: []float64{8, 5}},  // 1/3, 1/2
		{Loss: 4, Rungs: []float64{9, 19}}, // 1/2, 1/4
		{Loss: 11, Rungs: []float64{11}, Stopped: true},
		{Loss: 7, Rungs: []float64{9, 7}, Stopped: true},
		{Loss: 1.5, Rungs: []float64{9, 1.5}, Stopped: true}, // 2.5/2 - 1 is less than any loss that was reached
	}
	for t0, want := range []float64{1, 2, 4, 12./3 - 1, 8./2 - 1, 1} {
		if got := inspector.AtTheEnd(outcomes, 1)[t0]; math.Abs(got-want) > 1e-12 {
			t.Errorf("class %d ends at %v, want %v", t0, got, want)
		}
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		n := 3 + rng.IntN(5)
		gain, o := make([]float64, n+4), make([]inspector.Outcome, n+4)
		score := func(c int, loss float64) float64 { return -gain[c] / math.Sqrt(math.Sqrt(0.05+loss)) }
		worst := math.Inf(-1)
		for c := range o {
			gain[c] = rng.ExpFloat64()
			o[c] = inspector.Outcome{Rungs: []float64{10 * rng.ExpFloat64()}, Stopped: c >= n}
			if o[c].Loss = o[c].Rungs[0]; c < n {
				o[c].Loss *= rng.Float64()
				worst = math.Max(worst, score(c, o[c].Rungs[0]))
			} else if s := score(c, o[c].Loss); s < worst { // it would have gone on
				gain[c] *= worst / s
			}
		}
		loss := inspector.AtTheEnd(o, 0.05)
		best := 0
		for c := range o {
			if score(c, loss[c]) < score(best, loss[best])-1e-12 {
				best = c
			}
		}
		if o[best].Stopped {
			t.Fatalf("seed %d: the most suspicious class was stopped: %+v", seed, o)
		}
	}
}

// With halving CI gives a verdict for fewer image passes, on a score that it can extrapolate and on no other.
func TestCIHalves(t *testing.T) {
	ci, err := inspector.Find("ci")
	if err != nil {
		t.Fatal(err)
	}
	m := untuned(t, cliptest.Tiny(t, newCPU(t, 2), 16), "coop", cliptest.Classes)
	given := map[string]any{"optimise": 32, "measure": 7, "batch": 4}
	full := inspect(t, ci, input(t, ci, m, cliptest.Images(50, 16, 1), given))
	given["halving"], given["keep"] = 1, 0.5 // after four of eight steps three of six classes go on
	got := inspect(t, ci, input(t, ci, m, cliptest.Images(50, 16, 1), given))
	if want := int64((6*4+3*4)*4 + 3*7); got.ImagePasses != want || full.ImagePasses != 6*(32+7) {
		t.Errorf("%d image passes, want %d; %d without halving", got.ImagePasses, want, full.ImagePasses)
	}
	given["score"] = "loss"
	if _, err := ci.Inspect(bg, input(t, ci, m, cliptest.Images(50, 16, 1), given)); err == nil {
		t.Error("halving went on with a score that is no power")
	}
}
