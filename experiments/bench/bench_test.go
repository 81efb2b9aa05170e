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
	r, err := Run(e, Case{"tiny", c, 2}, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if r.FLOP <= 0 || r.Rate() <= 0 || r.Products <= 0 || r.Arena <= 0 {
		t.Errorf("%+v", r)
	}
	var b strings.Builder
	if _, err := Print(&b, e, []Case{{"tiny", c, 2}}, time.Millisecond); err != nil || !strings.Contains(b.String(), "tiny") {
		t.Errorf("%v\n%s", err, b.String())
	}
}
