package experiments

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/inspector"
	"clipinspector/internal/experimentstest"
	"clipinspector/results/store"
)

// held is the tiny suite with a detector that holds models against references.
func held(t *testing.T, sets ...string) *suite.File {
	return experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t)),
		append([]string{"detectors=[{name: separation, optimise: 16, measure: 8, batch: 8}]", "references={count: 3}"}, sets...)...)
}

// References are made once for the models of a dataset and a seed, whatever attack they are of: the
// same bytes for any number of workers. They are not made again, unless what was measured of them
// is lost or damaged.
func TestReferencesAreSharedAndKept(t *testing.T) {
	f := held(t)
	out := t.TempDir()
	want := runTiny(t, f, Options{Out: out, Workers: 1})
	if got := runTiny(t, f, Options{Out: t.TempDir(), Workers: 3, Threads: 1}); !bytes.Equal(got, want) {
		t.Errorf("three workers: another export: %s", experimentstest.FirstDifference(got, want))
	}
	files, err := filepath.Glob(filepath.Join(out, "references", "*", evidenceFile))
	if err != nil || len(files) != 2*3 {
		t.Fatalf("evidence of %d references, %v; want three for each of two datasets", len(files), err)
	}
	attempts := func() (first, all int) {
		s := experimentstest.Store(t, filepath.Join(out, StoreFile))
		rows := experimentstest.Rows(t, s.References)
		for _, r := range rows {
			all += r.Attempts
			if strings.Contains(files[0], r.Cell.Key) {
				first = r.Attempts
			}
			if r.State != store.Finished || !(r.Result.Accuracy >= 0 && r.Result.Accuracy <= 1) || r.Result.ImagePasses == 0 {
				t.Errorf("%+v", r)
			}
		}
		return first, all
	}
	runTiny(t, f, Options{Out: out})
	if _, all := attempts(); all != 6 {
		t.Errorf("run again, %d attempts at six references", all)
	}
	if err := os.WriteFile(files[0], []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Another level asks for what was measured of the references, and for no new ones.
	again := held(t, "detectors.separation.k=1")
	again.Suites[0].CLIP = f.Suites[0].CLIP
	if _, err := Run(context.Background(), again, Options{Out: out}); err != nil {
		t.Fatal(err)
	}
	if first, all := attempts(); first != 2 || all != 7 {
		t.Errorf("after one was damaged, %d attempts at it and %d in all, want 2 and 7", first, all)
	}
}

// What decides a reference is in its identity; what only judges models is not, nor is how many
// there are.
func TestIdentitiesOfReferences(t *testing.T) {
	clip := experimentstest.TinyCLIP(t)
	keys := func(sets ...string) map[string]bool {
		f := experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(clip), append([]string{"detectors=[{name: separation, optimise: 16, measure: 8, batch: 8}]",
			"references={count: 3}"}, sets...)...)
		p, err := NewPlan(world.New(), f, "engine")
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, r := range p.References {
			out[r.Cell.Key] = true
		}
		return out
	}
	was := keys()
	if len(was) != 6 {
		t.Fatalf("%d references, want 6", len(was))
	}
	for set, stay := range map[string]int{"detectors.separation.k=3": 6, "detectors.separation.evidence=reach": 6, "references.count=5": 6, "attacks=[clean]": 6,
		"references.longest=8": 6, "references.longest=0": 6, "references.longest=1": 2, // the first of each dataset is tuned as the models are
		"detectors.separation.source-images=16": 6, "detectors.separation.source-classes=false": 6, "detectors.separation.source-classes=true": 0,
		"detectors.separation.epsilon=0.01": 0, "references.source=pool": 0, "references.tuning={epochs: 3}": 0, "seeds=[2]": 0, "shots=1": 0, "tuning.epochs=3": 0} {
		n := 0
		for key := range keys(set) {
			if was[key] {
				n++
			}
		}
		if n != stay {
			t.Errorf("%s: %d references stay, want %d", set, n, stay)
		}
	}
}

// The estimate of a reference is what it takes.
func TestReferencesCostWhatTheEstimateSays(t *testing.T) {
	f := held(t)
	p, err := NewPlan(world.New(), f, "engine")
	if err != nil {
		t.Fatal(err)
	}
	e := p.estimate()
	d, err := inspector.Find("separation")
	if err != nil {
		t.Fatal(err)
	}
	facts, err := p.Detections[0].facts()
	if err != nil {
		t.Fatal(err)
	}
	// Two steps of eight images: the first is half of the rounds.
	if half, whole := d.EvidenceCost(facts).Passes, d.Cost(facts).Passes; half != float64(len(facts.Model.Classes)*8) || whole != float64(len(facts.Model.Classes)*(16+8)) {
		t.Errorf("%v image passes for evidence, %v for a verdict", half, whole)
	}
	if e.References.FLOP <= 0 || len(p.References) != 6 {
		t.Errorf("%+v", e)
	}
}

// A suite that looks for sources shows its detector the few-shot images: the report has more image
// passes than without, for each pair of classes, and references have the reach of each. Without
// labelled images it is refused before anything is computed.
func TestSuitesThatLookForSourceClasses(t *testing.T) {
	out := t.TempDir()
	on := []string{"attacks=[clean]", "detectors.separation.source-classes=true", "detectors.separation.source-images=4"}
	f := held(t, on...)
	runTiny(t, f, Options{Out: out})
	p, err := NewPlan(world.New(), f, "engine")
	if err != nil {
		t.Fatal(err)
	}
	s := experimentstest.Store(t, filepath.Join(out, StoreFile))
	rows := experimentstest.Rows(t, s.Detections)
	if len(rows) != len(p.Detections) || len(rows) == 0 {
		t.Fatalf("%d detections, %d planned", len(rows), len(p.Detections))
	}
	for i, r := range rows {
		if want := p.Detections[i].work().Passes; float64(r.Result.ImagePasses) != want {
			t.Errorf("%d image passes, %v planned", r.Result.ImagePasses, want)
		}
	}
	files, err := filepath.Glob(filepath.Join(out, "references", "*", evidenceFile))
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, path := range files {
		var e inspector.Evidence
		raw, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(raw, &e)
		}
		if err != nil || len(e.From) != len(e.Reach) || len(e.From) == 0 {
			t.Errorf("%s: reach from the images of %d of %d classes, %v", path, len(e.From), len(e.Reach), err)
		}
	}
	if _, err := NewPlan(world.New(), held(t, append(on, "references.source=pool")...), "engine"); err == nil || !strings.Contains(err.Error(), "references.source=shots") {
		t.Errorf("sources without labelled images: %v", err)
	}
}
