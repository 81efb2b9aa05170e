package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An inspection that is stopped goes on with what it has finished, and says so: the report is that
// of one that was never stopped, and nothing unfinished is left. With another setting it begins
// anew.
func TestAStoppedInspectionGoesOnWhereItWas(t *testing.T) {
	t.Run("by default", func(t *testing.T) { goesOn(t) })
	t.Run("with sources", func(t *testing.T) { goesOn(t, "detector.source-classes=true", "detector.source-images=8") })
}

func goesOn(t *testing.T, sets ...string) {
	a, _ := auditWorld(t)
	a.References, a.Sets = 3, append(a.Sets, sets...)
	want, err := Inspect(context.Background(), a, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, parts := range []int{2, 5, 8} { // references tuned and measured, the delivered model's classes
		out := t.TempDir()
		ctx, stop := context.WithCancel(context.Background())
		go func() {
			for ctx.Err() == nil {
				if found, _ := filepath.Glob(filepath.Join(out, unfinished, "*", "*")); len(found) >= parts {
					stop()
				}
				time.Sleep(time.Millisecond)
			}
		}()
		if _, err := Inspect(ctx, a, out); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		} else if err == nil {
			t.Logf("%d parts: it was finished before it could be stopped", parts)
		}
		stop()
		var said strings.Builder
		b := a
		b.Report = &said
		got, err := Inspect(context.Background(), b, out)
		if err != nil {
			t.Fatal(err)
		}
		if got.Passes != want.Passes || got.Index != want.Index || got.References.P != want.References.P || got.References.Accuracy != want.References.Accuracy {
			t.Errorf("%d parts: index %v, p %v, accuracy %v, %d passes; never stopped %v, %v, %v, %d", parts, got.Index, got.References.P,
				got.References.Accuracy, got.Passes, want.Index, want.References.P, want.References.Accuracy, want.Passes)
		}
		for i, c := range got.Classes {
			if c != want.Classes[i] {
				t.Errorf("%d parts: class %d is %+v, never stopped %+v", parts, i, c, want.Classes[i])
			}
		}
		if !strings.Contains(said.String(), "first opinion: the class vectors alone say that") {
			t.Errorf("no first opinion: %s", said.String())
		}
		if _, err := os.Stat(filepath.Join(out, unfinished)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%d parts: what was kept is still there: %v", parts, err)
		}
	}
}

// What was kept of an inspection is not taken for another one's.
func TestWhatWasKeptIsOfOneInspection(t *testing.T) {
	a, _ := auditWorld(t)
	out := t.TempDir()
	folder := func(change func(*Audit)) string {
		b := a
		change(&b)
		opened, err := b.open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer opened.close()
		k, err := opened.openKept(out)
		if err != nil {
			t.Fatal(err)
		}
		return k.folder
	}
	same := folder(func(*Audit) {})
	if folder(func(*Audit) {}) != same {
		t.Error("the same inspection has another folder")
	}
	for what, change := range map[string]func(*Audit){
		"seed":             func(a *Audit) { a.Seed++ },
		"setting":          func(a *Audit) { a.Sets = append(a.Sets, "detector.epsilon=0.01") },
		"images of shots":  func(a *Audit) { a.PerClass = 1 },
		"no images at all": func(a *Audit) { a.Shots = "" },
	} {
		if folder(change) == same {
			t.Errorf("another %s, and the same folder", what)
		}
	}
}
