package corpus

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"clipinspector/clip"
	"clipinspector/engine"
	"clipinspector/engine/cpu"
)

// TestMiniRun pretrains on the mini world with the settings, as JSON, in CLIPINSPECTOR_MINI_RUN; it
// is a tool, not a test.
func TestMiniRun(t *testing.T) {
	text := os.Getenv("CLIPINSPECTOR_MINI_RUN")
	if text == "" {
		t.Skip("CLIPINSPECTOR_MINI_RUN is not set")
	}
	r := struct {
		Config  clip.Config
		Options clip.PretrainOptions
		Seed    uint64
		Out     string
		Look    string // folder of checkpoints: no training, only a look at the last one
		Threads int
	}{Config: clip.MiniConfig(), Options: clip.MiniPretrain(), Seed: 1}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	e, err := cpu.New(cpu.Options{Threads: r.Threads})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if r.Look != "" {
		p, step, err := clip.ReadCheckpoint(r.Look, r.Config)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("step", step)
		finish(t, e, p, r.Out)
		return
	}
	start := time.Now()
	ctx := context.Background()
	p, err := clip.Pretrain(ctx, e, r.Config, r.Options, Mini{Seed: r.Seed}, func(step, total int, loss float64, eta time.Duration) {
		fmt.Printf("%d/%d loss %.3f elapsed %v left %v\n", step, total, loss, time.Since(start).Round(time.Second), eta.Round(time.Second))
	})
	if err != nil {
		t.Fatal(err)
	}
	finish(t, e, p, r.Out)
}

// finish saves and measures a model.
func finish(t *testing.T, e engine.Engine, p *clip.Pretrained, out string) {
	if out != "" {
		if err := clip.SavePretrained(out, p.Config, p.Weights, p.Tokenizer, true); err != nil {
			t.Fatal(err)
		}
		var err error // measure what was saved, in half precision
		if p.Config, p.Weights, p.Tokenizer, err = clip.LoadPretrained(out); err != nil {
			t.Fatal(err)
		}
	}
	m, err := clip.NewModel(e, p.Config, p.Weights, p.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	scores, err := MeasureMini(context.Background(), m, 50, 1)
	if err != nil {
		t.Fatal(err)
	}
	var zero, probe float64
	for _, s := range scores {
		fmt.Printf("%-14s %2d classes  zero-shot %.3f  probe %.3f\n", s.Set, s.Classes, s.ZeroShot, s.Probe)
		zero += s.ZeroShot / float64(len(scores))
		probe += s.Probe / float64(len(scores))
	}
	fmt.Printf("mean zero-shot %.3f probe %.3f scale %.1f loss %.3f\n", zero, probe, m.LogitScale(), p.Loss)
}
