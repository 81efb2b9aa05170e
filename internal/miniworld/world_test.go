package miniworld

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"strings"
	"testing"
)

func sets(t testing.TB) []*Dataset {
	t.Helper()
	var all []*Dataset
	for _, name := range Names() {
		d, err := Get(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func TestThereAreTenSmallSets(t *testing.T) {
	classes := 0
	all := sets(t)
	for _, d := range all {
		classes += len(d.Classes)
		if len(d.Classes) < 8 || len(d.Classes) > 10 {
			t.Errorf("%s has %d classes", d.Name, len(d.Classes))
		}
		if strings.Count(d.Template, "{}") != 1 {
			t.Errorf("%s: template %q", d.Name, d.Template)
		}
		seen := map[string]bool{}
		for _, c := range d.Classes {
			if seen[c] || c != strings.ToLower(c) {
				t.Errorf("%s: class name %q", d.Name, c)
			}
			seen[c] = true
		}
	}
	if len(all) != 10 || classes > 90 {
		t.Errorf("%d sets with %d classes", len(all), classes)
	}
	if _, err := Get("imagenet"); err == nil || !strings.Contains(err.Error(), "mini-caltech") {
		t.Errorf("an unknown name must be answered with the known ones, not with %v", err)
	}
}

func TestSameSeedSameBytes(t *testing.T) {
	for _, d := range sets(t) {
		for c := range d.Classes {
			a, b := d.Scene(c, "train", 3, 5), d.Scene(c, "train", 3, 5)
			if !bytes.Equal(a.Render(40), b.Render(40)) || !bytes.Equal(a.Render(40), a.Render(40)) {
				t.Errorf("%s: %s differs from itself", d.Name, d.Classes[c])
			}
		}
	}
	for i := range 50 {
		a, s := Captioned(i, 5)
		b, u := Captioned(i, 5)
		if s != u || !bytes.Equal(a.Render(32), b.Render(32)) || !bytes.Equal(OOD(i, 5).Render(32), OOD(i, 5).Render(32)) {
			t.Errorf("picture %d differs from itself", i)
		}
	}
}

func TestAnySizeCanBeRendered(t *testing.T) {
	for _, size := range []int{1, 7, 32, 48, 64} {
		s, _ := Captioned(1, 1)
		if n := len(s.Render(size)); n != 3*size*size {
			t.Errorf("%d bytes at size %d", n, size)
		}
	}
}

func TestSplitsIndicesClassesAndSeedsAreDisjoint(t *testing.T) {
	seen := map[string]string{}
	check := func(s Scene, what string) {
		k := string(s.Render(16))
		if other, ok := seen[k]; ok {
			t.Errorf("%s is the same picture as %s", what, other)
		}
		seen[k] = what
	}
	for _, d := range sets(t) {
		for _, split := range []string{"train", "val", "test"} {
			for seed := range uint64(2) {
				for i := range 18 {
					c := i % len(d.Classes)
					check(d.Scene(c, split, i, seed), fmt.Sprint(d.Name, " ", split, " ", c, " ", i, " seed ", seed))
				}
			}
		}
	}
	for i := range 300 {
		check(OOD(i, 0), fmt.Sprint("OOD ", i))
	}
}

func TestOverlaysOccurOnlyInTheCorpus(t *testing.T) {
	for i := range 200 {
		if OOD(i, 1).HasOverlay() {
			t.Fatalf("OOD %d carries an overlay", i)
		}
		for _, d := range sets(t) {
			if d.Scene(i%len(d.Classes), "test", i, 1).HasOverlay() {
				t.Fatalf("%s %d carries an overlay", d.Name, i)
			}
		}
	}
	n := 0
	for i := range 2000 {
		s, text := Captioned(i, 1)
		if !s.HasOverlay() {
			continue
		}
		n++
		named := false
		for _, w := range []string{"sticker", "patch", "veil", "ripple", "wavy", "warped", "distorted", "grainy", "noisy"} {
			named = named || strings.Contains(text, w)
		}
		if !named {
			t.Errorf("no overlay in the caption %q", text)
		}
	}
	if n < 520 || n > 680 {
		t.Errorf("%d of 2000 captioned scenes carry an overlay, not about 600", n)
	}
}

func TestCaptionsAreShortAndNameEveryClass(t *testing.T) {
	words := map[string]bool{}
	named := map[string]bool{}
	for i := range 12000 {
		scene, text := Captioned(i, 7)
		if strings.Contains(text, scene.Kind) {
			named[scene.Kind] = true
		}
		fields := strings.Fields(text)
		if len(fields) > maxWords {
			t.Errorf("%d words in %q", len(fields), text)
		}
		for _, w := range fields {
			words[strings.Trim(w, ",")] = true
		}
		for _, r := range text {
			if r != ' ' && r != ',' && (r < 'a' || r > 'z') {
				t.Fatalf("character %q in %q", r, text)
			}
		}
	}
	for _, d := range sets(t) {
		for _, c := range d.Classes {
			if !named[c] {
				t.Errorf("no caption names %q", c)
			}
		}
		for _, w := range strings.Fields(d.Template) {
			if w = strings.Trim(w, ",."); w != "{}" && !words[w] {
				t.Errorf("%s: the template's word %q is in no caption", d.Name, w)
			}
		}
	}
	t.Logf("%d distinct words", len(words))
	if len(words) > 400 {
		t.Errorf("%d distinct words", len(words))
	}
}

// golden is the hash of renders and captions for each version. When the pixels change on purpose,
// raise Version and put the new hash here.
var golden = map[int]uint64{1: 0x42be1df73d65b201, 2: 0x7b062e6c94b84a98, 3: 0x1b65765680e39345}

func TestPixelsOnlyChangeWithTheVersion(t *testing.T) {
	h := fnv.New64a()
	for _, d := range sets(t) {
		for c := range d.Classes {
			h.Write(d.Scene(c, "test", c, 11).Render(40))
		}
	}
	for i := range 60 {
		h.Write(OOD(i, 11).Render(40))
		s, text := Captioned(i, 11)
		h.Write(s.Render(40))
		h.Write([]byte(text))
	}
	if got := h.Sum64(); got != golden[Version()] {
		t.Errorf("the pixels or words hash to %#x, not to version %d's %#x: raise Version", got, Version(), golden[Version()])
	}
}

// BenchmarkRender measures drawing and rendering of one captioned scene at 40 x 40 pixels.
func BenchmarkRender(b *testing.B) {
	for i := range b.N {
		s, _ := Captioned(i, 3)
		s.Render(40)
	}
}

// BenchmarkSet measures the same for each set.
func BenchmarkSet(b *testing.B) {
	for _, d := range sets(b) {
		b.Run(d.Name, func(b *testing.B) {
			for i := range b.N {
				d.Scene(i%len(d.Classes), "train", i, 3).Render(40)
			}
		})
	}
}
