package mini

import (
	"context"
	"testing"

	"clipinspector/clip"
	"clipinspector/engine/cpu"
	"clipinspector/internal/corpus"
)

func TestTheFolderIsWhatIsEmbedded(t *testing.T) {
	c, w, tok, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	dc, dw, dtok, err := clip.LoadPretrained(".")
	if err != nil {
		t.Fatal(err)
	}
	if c != dc || w.Fingerprint() != dw.Fingerprint() || tok.Size() != dtok.Size() {
		t.Error("LoadPretrained reads another model")
	}
	if len(weights) > 8<<20 {
		t.Errorf("the weights take %d bytes; at most 8 MiB", len(weights))
	}
}

// The figures are in docs/mini-clip.md; this guards against weights and world drifting apart, and
// against sets that are solved.
func TestTheEncoderKnowsTheWorld(t *testing.T) {
	if testing.Short() {
		t.Skip("encodes thousands of pictures")
	}
	c, w, tok, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	e, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	m, err := clip.NewModel(e, c, w, tok)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	scores, err := corpus.MeasureMini(context.Background(), m, 50, 1)
	if err != nil {
		t.Fatal(err)
	}
	var probe float64
	for _, s := range scores {
		t.Logf("%-14s zero-shot %.3f, probe %.3f", s.Set, s.ZeroShot, s.Probe)
		probe += s.Probe / float64(len(scores))
		if s.ZeroShot == 1 || s.Probe == 1 {
			t.Errorf("%s is solved outright", s.Set)
		}
	}
	t.Logf("mean probe accuracy %.3f", probe)
	if probe < 0.9 { // 0.914 on mini world 3
		t.Errorf("mean probe accuracy %.3f", probe)
	}
}
