package inspector

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/prompts"
	"clipinspector/triggers"

	"clipinspector/settings"
)

// A seed puts the same typical triggers on the same images whoever the model is, another one
// others, and no image stays as it is.
func TestTypicalTriggersAreThoseOfTheSeed(t *testing.T) {
	const size = 24
	pool := cliptest.Images(20, size, 3)
	rows := []int{4, 9, 2, 7, 11, 0}
	with := func(seed uint64) []float32 {
		c := cliptest.Tiny(t, computetest.CPU(t, 2), size)
		x, err := typical(context.Background(), Input{Model: &prompts.Model{CLIP: c}, Pool: pool, Seed: seed}, rows)
		if err != nil {
			t.Fatal(err)
		}
		return dense.Floats(x)
	}
	first := with(1)
	if !slices.Equal(first, with(1)) {
		t.Error("the same seed gave other images")
	}
	if slices.Equal(first, with(2)) {
		t.Error("another seed gave the same images")
	}
	plain := dense.Floats(triggers.Rows(pool, rows))
	for i, n := 0, len(plain)/len(rows); i < len(rows); i++ {
		if slices.Equal(first[i*n:(i+1)*n], plain[i*n:(i+1)*n]) {
			t.Errorf("image %d has no trigger", i)
		}
	}
}

// Evidence that is read back from a file is judged or refused, whatever it says.
func FuzzEvidence(f *testing.F) {
	d, err := Find("separation")
	if err != nil {
		f.Fatal(err)
	}
	s, err := settings.Resolve(d.Params, nil)
	if err != nil {
		f.Fatal(err)
	}
	const k = 3
	good := `{"source":"shots","accuracy":1,"vectors":[[1,0],[0,1],[-1,0]],"common":[0,1],"reach":[-1,-2,-3]}`
	f.Add(good, good)
	f.Add(`{"reach":[0,0,0],"vectors":[[1],[2],[3]],"common":[1,2]}`, `{"reach":[0,0,0],"from":[[0,1,2],[1,0,2],[1,2,0]]}`)
	f.Add(`{"reach":[1e308,-1e308,1],"vectors":[],"from":[[],[],[]]}`, `{"trial":32,"reach":[1,2,3]}`)
	f.Fuzz(func(t *testing.T, model, reference string) {
		var m, r Evidence
		if json.Unmarshal([]byte(model), &m) != nil || m.Check(k) != nil || json.Unmarshal([]byte(reference), &r) != nil {
			return
		}
		finding := &Finding{Classes: make([]ClassResult, k), Evidence: &m}
		if err := judgeByReferences(s, []*Evidence{&r, &r, &r}, finding); err != nil {
			return
		}
		if finding.Suspect < 0 || finding.Suspect >= k {
			t.Errorf("the suspect is class %d of %d", finding.Suspect, k)
		}
	})
}
