package bench

import (
	"strings"
	"testing"
	"time"

	"clipinspector/clip"
	"clipinspector/engine/cpu"
)

func TestPrintMeasuresATower(t *testing.T) {
	e, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c := clip.ViTB32()
	c.Vision.Width, c.Vision.MLP, c.Vision.Heads, c.Vision.Layers, c.Vision.ImageSize = 64, 128, 2, 2, 64
	r, err := Run(e, Case{Name: "tiny", Config: c, Batch: 2}, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if r.FLOP <= 0 || r.Rate() <= 0 || r.Products <= 0 || r.Limit <= 0 || r.Arena <= 0 {
		t.Errorf("%+v", r)
	}
	var b strings.Builder
	if _, err := Print(&b, e, []Case{{Name: "tiny", Config: c, Batch: 2}, {Name: "texts", Config: c, Batch: 2, Tokens: 9}}, time.Millisecond); err != nil || !strings.Contains(b.String(), "texts") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestInversionCountsWhatCIDoes(t *testing.T) {
	e, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	c := small()
	r, err := Invert(t.Context(), e, c, 3, 40)
	if err != nil {
		t.Fatal(err)
	}
	// 36 images in one step of 32 that is optimised, 4 measured for each class and once without a
	// trigger.
	if want := int64(3*32 + 3*4 + 4); r.Passes != want {
		t.Errorf("%d image passes, want %d", r.Passes, want)
	}
	forward, back, err := towerFLOP(e, c)
	if err != nil || forward <= 0 || back < 0.8*forward {
		t.Errorf("forward %v, back %v: %v", forward, back, err)
	}
	p, err := MeasurePeaks(e, 64, 1000, time.Millisecond)
	if err != nil || p.Product <= 0 || p.Copy <= 0 {
		t.Errorf("%+v %v", p, err)
	}
}
