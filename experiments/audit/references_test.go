package audit

import (
	"context"
	"fmt"
	"testing"

	"clipinspector/inspector"
)

// References, with their tuning, take at most four times the work of the verdict alone: fewer of
// them are made, and if even three take longer, the long ones are tuned for less.
func TestReferencesFitIntoFiveTimesTheVerdict(t *testing.T) {
	given, _ := auditWorld(t)
	counted := func(change func(*Audit)) (a *audit, share float64) {
		o := given
		change(&o)
		a, err := o.open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.close)
		if err := a.countReferences(); err != nil {
			t.Fatal(err)
		}
		for i := range a.References {
			share += a.reference(i).FLOP / a.detection().FLOP
		}
		return a, share
	}
	tuning := func(epochs int, more ...string) func(*Audit) {
		return func(o *Audit) {
			o.Sets = append(o.Sets[:len(o.Sets):len(o.Sets)], append(more, fmt.Sprintf("tuning.epochs=%d", epochs))...)
		}
	}

	shortened := 0
	for epochs := 1; epochs <= 200; epochs += 3 {
		a, share := counted(tuning(epochs))
		switch {
		case a.longest < 4 || a.longest > 8 || a.References < inspector.FewestReferences || a.References > 8:
			t.Errorf("%d epochs: %d references, the longest %v times that", epochs, a.References, a.longest)
		case share > 4 && (a.References > inspector.FewestReferences || a.longest > 4):
			t.Errorf("%d epochs: %d references, the longest %v times that, take %.1f times the verdict", epochs, a.References, a.longest, share)
		case a.longest < 8:
			shortened++
			if a.References > inspector.FewestReferences && share+a.reference(a.References).FLOP/a.detection().FLOP <= 4 {
				t.Errorf("%d epochs: one reference more would have fitted", epochs)
			}
		}
	}
	if shortened == 0 {
		t.Error("no tuning is so long that the long references are tuned for less")
	}
	if a, _ := counted(tuning(1)); a.References <= inspector.FewestReferences || a.longest != 8 {
		t.Errorf("one epoch: %d references, the longest %v times that", a.References, a.longest)
	}
	if a, _ := counted(tuning(200, "references.longest=7")); a.References != 3 || a.longest != 7 {
		t.Errorf("asked for 7: %d references, the longest %v times the epochs", a.References, a.longest)
	}
	if a, _ := counted(func(o *Audit) { o.References = 5 }); a.References != 5 || a.tuningOf(1).Int("epochs") != 16 {
		t.Errorf("asked for 5: %d references, the longest of %d epochs", a.References, a.tuningOf(1).Int("epochs"))
	}
	if a, _ := counted(func(o *Audit) { tuning(200)(o); o.Shots = "" }); a.tuningOf(1).Int("epochs") != 200 {
		t.Errorf("from the pool the longest reference has %d epochs in place of 200", a.tuningOf(1).Int("epochs"))
	}
}
