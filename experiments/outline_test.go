package experiments

import (
	"strings"
	"testing"

	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
)

// Without data and weights the paper's grid is planned by published numbers: 50 models, and for CI
// on the ten sets' 1,191 classes, five models each, 1,000 images a class, and 128 of them once more
// for its first-order gain.
func TestThePapersGridIsPlannedWithoutItsData(t *testing.T) {
	f, err := suite.Load("../configs/paper.yaml", []string{"data.root=" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	w := world.New()
	if _, err := NewPlan(w, f, "engine"); err == nil {
		t.Error("a run was planned without data")
	}
	w = world.New()
	w.Outlines = &world.Outlines{}
	p, err := NewPlan(w, f, "engine")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Models) != 50 || len(p.Detections) != 200 || len(p.References) != 10*6 {
		t.Errorf("%d models, %d detections, %d references", len(p.Models), len(p.Detections), len(p.References))
	}
	for _, n := range p.estimate().ByName {
		if n.Name == "ci" && n.Work.Passes != 5*(1191*1000+10*200) {
			t.Errorf("CI takes %v image passes", n.Work.Passes)
		}
	}
	notes := strings.Join(w.Outlines.Notes, "\n")
	for _, u := range f.Suites[0].Datasets {
		if !strings.Contains(notes, "dataset "+u.Name+":") {
			t.Errorf("nothing is said of %s", u.Name)
		}
	}
	if len(w.Outlines.Notes) != 13 { // ten sets, the encoder, two pools
		t.Errorf("notes:\n%s", notes)
	}
}

// A learner's context that leaves no room for a class name is refused before anything is tuned. How
// many images a conditional learner is probed on is part of its detections' identity, and of no
// other's.
func TestContextsAndProbesOfConditionalLearners(t *testing.T) {
	plan := func(set ...string) (*Plan, error) {
		f, err := suite.Load("../configs/mini-separation.yaml", append(set, "seeds=[1]", "attacks=[clean]", "datasets=[mini-food]"))
		if err != nil {
			t.Fatal(err)
		}
		return NewPlan(world.New(), f, "engine")
	}
	if _, err := plan("learner={name: cocoop, context: 16}"); err == nil || !strings.Contains(err.Error(), `mini-food with cocoop: class "ice cream"`) {
		t.Errorf("16 context tokens: %v", err)
	}
	for learner, want := range map[string]bool{"coop": false, "cocoop": true} {
		var keys []string
		for _, probes := range []string{"100", "160"} {
			p, err := plan("learner={name: "+learner+", context: 4}", "detectors.separation.probes="+probes)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, p.Detections[0].Cell.Key+p.References[0].Cell.Key)
		}
		if differs := keys[0] != keys[1]; differs != want {
			t.Errorf("%s: another number of probes makes other cells: %v", learner, differs)
		}
	}
}
