package inspector_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/computetest"
	"clipinspector/prompts"
	"clipinspector/settings"
)

// sourced is an inspection that looks for sources, with labelled images of six classes.
func sourced(t *testing.T, m *prompts.Model, given map[string]any) (*inspector.Detector, inspector.Input) {
	t.Helper()
	d, err := inspector.Find("separation")
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(d.Params, given)
	if err != nil {
		t.Fatal(err)
	}
	images := cliptest.Images(90, plantedSize, 1)
	return d, inspector.Input{Model: m, Pool: cliptest.Images(120, plantedSize, 2), Seed: 1, Settings: s, Labelled: prompts.Data{Images: images, Labels: byColour(images)}}
}

// Looking for sources takes a trial for each pair of classes, as declared; goes on where it was
// stopped; changes no other figure than p; and is refused without labelled images.
func TestEachSourceClassTakesABriefInversion(t *testing.T) {
	c := cliptest.Tiny(t, computetest.CPU(t, 2), plantedSize)
	m := untuned(t, c, "coop", cliptest.Classes)
	given := map[string]any{"optimise": 36, "measure": 12, "batch": 12, "trial": 8, "trial-batch": 4, "source-images": 8, "source-batch": 4}
	for _, many := range []int{0, 3} {
		given["many"], given["source-classes"] = many, false
		d, in := sourced(t, m, given)
		plain := inspect(t, d, withReferences(t, d, in))
		if plain.SourceClasses != nil {
			t.Error("sources were looked for though nobody asked")
		}
		given["source-classes"] = true
		d, in = sourced(t, m, given)
		in = withReferences(t, d, in)
		last := 0
		in.Progress = func(done, total int) {
			if done < last || done > total {
				t.Errorf("progress went from %d to %d of %d", last, done, total)
			}
			last = done
		}
		want := inspect(t, d, in)
		if len(want.SourceClasses) != 6 || want.ImagePasses != plain.ImagePasses+6*5*8 {
			t.Errorf("sources %v, %d image passes, %d without them", want.SourceClasses, want.ImagePasses, plain.ImagePasses)
		}
		f := facts(m, in, 120)
		if f.Labelled = 90; d.Check(f) != nil || d.Cost(f).Passes != float64(want.ImagePasses) {
			t.Errorf("%v; %v image passes declared, %d counted", d.Check(f), d.Cost(f).Passes, want.ImagePasses)
		}
		for k, x := range want.Classes {
			if many == 0 && x.Loss != plain.Classes[k].Loss {
				t.Errorf("class %d has another loss where sources are looked for", k)
			}
		}
		last = 0
		ctx, stop := context.WithCancel(bg)
		in.Kept = &memory{saved: map[string][]byte{}, after: 14, stop: stop}
		if _, err := d.Inspect(ctx, in); !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped after fourteen inversions: %v", err)
		}
		last = 0
		if got := inspect(t, d, in); bits(got) != bits(want) {
			t.Error("what went on gives another report")
		}
		f.Labelled = 0
		if err := d.Check(f); err == nil || !strings.Contains(err.Error(), "--shots") {
			t.Errorf("without labelled images: %v", err)
		}
		f.Labelled, f.Settings["evidence"] = 90, "vectors"
		if d.Check(f) == nil {
			t.Error("sources are looked for by vectors")
		}
		f.Settings["evidence"] = "both"
		in.Progress, in.Kept, in.Labelled.Labels = nil, nil, in.Labelled.Labels[:1]
		if _, err := d.Inspect(bg, in); err == nil {
			t.Error("a class without labelled images is looked at")
		}
	}
}
