package audit

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/engine/plain"
	"clipinspector/experiments/world"
	"clipinspector/internal/experimentstest"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// A model goes into Dassl's layout and comes back as the same bytes; its trigger goes along.
func TestConvert(t *testing.T) {
	encoder := experimentstest.TinyCLIP(t)
	e, err := world.OpenEncoder(encoder)
	if err != nil {
		t.Fatal(err)
	}
	c, err := e.On(plain.New[float32]())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Free()
	l, err := prompts.FindLearner("cocoop")
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(l.Params, map[string]any{"context": 3})
	if err != nil {
		t.Fatal(err)
	}
	m, err := prompts.New(c, l, s, []string{"river", "sea lake"}, rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	trigger := triggers.Additive{Delta: triggers.Dense(make([]float32, 3*16*16), 3, 16, 16)}
	if err := m.Write(in("model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if err := triggers.Write(in("trigger.safetensors"), trigger); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("classes.txt"), []byte("river\nsea_lake\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Convert(&out, Conversion{Checkpoint: in("model.safetensors"), CLIP: encoder, To: in("delivered"), Epoch: 9,
		Trigger: in("trigger.safetensors"), Target: "sea lake"}); err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(in("delivered"), "prompt_learner", "model.pth.tar-9"); strings.TrimSpace(out.String()) != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	if _, err := prompts.ReadTrigger(filepath.Join(in("delivered"), "trigger", "model.pth.tar-9")); err != nil {
		t.Error(err)
	}
	back := Conversion{Checkpoint: in("delivered"), Classes: in("classes.txt"), CLIP: encoder, To: in("back.safetensors")}
	if err := Convert(&out, back); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(in("model.safetensors"))
	b, _ := os.ReadFile(in("back.safetensors"))
	if len(a) == 0 || !bytes.Equal(a, b) {
		t.Error("another model came back")
	}
	for want, x := range map[string]Conversion{
		"does not name its classes": {Checkpoint: in("delivered"), CLIP: encoder, To: in("x.safetensors")},
		"no class of the model":     {Checkpoint: in("model.safetensors"), CLIP: encoder, To: in("x"), Trigger: in("trigger.safetensors"), Target: "lake"},
		"holds prompts":             {Checkpoint: in("model.safetensors"), CLIP: encoder, To: in("x.safetensors"), Trigger: in("trigger.safetensors")},
		"was tuned for the CLIP":    {Checkpoint: in("model.safetensors"), CLIP: "builtin:mini", To: in("x.safetensors")},
	} {
		if err := Convert(&out, x); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error that says %q", x, err, want)
		}
	}
}
