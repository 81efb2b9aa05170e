package inspector

import (
	"math"
	"math/rand/v2"
	"testing"

	"clipinspector/clip/cliptest"
	"clipinspector/engine/cpu"
	"clipinspector/prompts"
	"clipinspector/settings"
)

// twoModels are a tuned model of five classes and zero-shot CLIP's over the same.
func twoModels(t *testing.T) (m, reference *prompts.Model) {
	t.Helper()
	e, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	l, err := prompts.FindLearner("coop")
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(l.Params, map[string]any{"context": 2, "class-specific": true})
	if err != nil {
		t.Fatal(err)
	}
	if m, err = prompts.New(cliptest.Tiny(t, e, 8), l, s, cliptest.Classes[:5], rand.New(rand.NewPCG(5, 5))); err != nil {
		t.Fatal(err)
	}
	if reference, err = zeroShot(m, "a photo of a"); err != nil {
		t.Fatal(err)
	}
	return m, reference
}

// A push is the slope of a straight line: what the other class vectors, freed of what zero-shot CLIP's have in common, lose on average as one
// goes along the direction that tells the class from them. Here the direction is found by solving for it, and lengths by walking it.
func TestPushesByAnotherWay(t *testing.T) {
	m, reference := twoModels(t)
	got, err := pushes(m, reference)
	if err != nil {
		t.Fatal(err)
	}
	matrix := func(m *prompts.Model) (out [][]float64) {
		v, err := m.ClassVectors()
		if err != nil {
			t.Fatal(err)
		}
		for i := range m.Classes {
			var row []float64
			for j := range v.Shape()[1] {
				x, err := v.At(i, j)
				if err != nil {
					t.Fatal(err)
				}
				row = append(row, float64(x.(float32)))
			}
			out = append(out, row)
		}
		return out
	}
	w, w0 := matrix(m), matrix(reference)
	dot := func(a, b []float64) (s float64) {
		for i := range a {
			s += a[i] * b[i]
		}
		return s
	}
	some := 0
	for c := range w {
		// Inner products with the common direction's projector I - qq' are those of the vectors less the product of their parts along q.
		q := make([]float64, len(w[0]))
		for _, v := range w0 {
			for i := range v {
				q[i] += v[i]
			}
		}
		in := func(a, b []float64) float64 { return dot(a, b) - dot(a, q)*dot(b, q)/dot(q, q) }
		others := make([]float64, len(q))
		for j, v := range w {
			for i := range v {
				if j != c {
					others[i] += v[i] / float64(len(w)-1)
				}
			}
		}
		distance := math.Sqrt(in(w[c], w[c]) - 2*in(w[c], others) + in(others, others))
		want := math.Max(0, (in(others, others)-in(others, w[c]))/distance)
		if math.Abs(got[c]-want) > 1e-9 {
			t.Errorf("class %d: push %v, want %v", c, got[c], want)
		}
		if want > 0 {
			some++
		}
	}
	if some < 2 {
		t.Errorf("pushes %v: the test shows little", got)
	}
}

// A class from which all others move away together gains push, and a class that moves away from the others alone does not gain as much.
func TestPushSeesTheOthersMove(t *testing.T) {
	m, reference := twoModels(t)
	before, err := pushes(m, reference)
	if err != nil {
		t.Fatal(err)
	}
	v, err := m.ClassVectors()
	if err != nil {
		t.Fatal(err)
	}
	untouched, err := reference.ClassVectors()
	if err != nil {
		t.Fatal(err)
	}
	data, d := v.Data().([]float32), v.Shape()[1]
	original := append([]float32(nil), data...)
	// A direction that zero-shot CLIP's vectors do not have in common.
	trigger, rng := make([]float64, d), rand.New(rand.NewPCG(1, 1))
	q := make([]float64, d)
	for i, x := range untouched.Data().([]float32) {
		q[i%d] += float64(x)
	}
	var along, length float64
	for i := range trigger {
		trigger[i] = rng.NormFloat64()
		along += trigger[i] * q[i]
		length += q[i] * q[i]
	}
	norm := 0.0
	for i := range trigger {
		trigger[i] -= along / length * q[i]
		norm += trigger[i] * trigger[i]
	}
	move := func(class int, by float64) {
		for i := range trigger {
			data[class*d+i] += float32(by * trigger[i] / math.Sqrt(norm))
		}
	}
	const target = 4
	move(target, 1)
	alone, err := pushes(m, reference)
	if err != nil {
		t.Fatal(err)
	}
	copy(data, original)
	move(target, 0.5)
	for c := range m.Classes {
		if c != target {
			move(c, -0.5)
		}
	}
	together, err := pushes(m, reference)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("class %d: %.3f before, %.3f when it moves alone, %.3f when the others move as well", target, before[target], alone[target], together[target])
	if together[target] < before[target]+0.1 || together[target] < alone[target]+0.1 {
		t.Errorf("pushes before %v, alone %v, together %v", before, alone, together)
	}
}

// An attacker who lets no other class retreat leaves no push. That a trigger reaches the class with ease still shows, unless one looks
// away (loss-shape: 0).
func TestTheLossShowsWhoAvoidsThePush(t *testing.T) {
	ci, err := Find("ci")
	if err != nil {
		t.Fatal(err)
	}
	judged := func(given map[string]any) *Report {
		s, err := settings.Resolve(ci.Params, given)
		if err != nil {
			t.Fatal(err)
		}
		r := &Report{}
		for c := range 8 {
			r.Classes = append(r.Classes, ClassResult{Loss: 3 + 0.2*float64(c), Score: -0.1})
		}
		r.Classes[5].Loss = 0.1
		ci.Judge(s, r)
		return r
	}
	if r := judged(nil); !r.Backdoored || r.Suspect != 5 {
		t.Errorf("index %.2f, suspect %d, want more than %g and class 5", r.Index, r.Suspect, K)
	}
	if r := judged(map[string]any{"loss-shape": 0.0}); r.Backdoored {
		t.Errorf("by the push alone: index %.2f", r.Index)
	}
}
