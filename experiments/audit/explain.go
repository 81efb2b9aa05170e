package audit

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"io"
	"path/filepath"
	"slices"

	"clipinspector/inspector"
	"clipinspector/internal/dense"
	"clipinspector/internal/files"
	"clipinspector/internal/printable"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/results/plots"
	"clipinspector/results/stats"
	"clipinspector/triggers"
)

// ExplanationReport says which kind of trigger a class answers to, as [inspector.Explanation] does.
type ExplanationReport struct {
	Class     string         `json:"class"`
	Kind      string         `json:"kind"` // patch, blend, perturbation, warp, wave or none
	Says      string         `json:"says"`
	Strongest string         `json:"strongest"` // kind of the recovered trigger, whether it explains the class or not
	Families  []FamilyReport `json:"families"`
	Size      stats.Num      `json:"size"`
	Unit      string         `json:"unit"`
	Place     string         `json:"place,omitempty"` // of a patch, in which ninth of the image
	Anywhere  bool           `json:"anywhere,omitempty"`
	ASR       stats.Num      `json:"asr"` // of the recovered trigger, on pool images that it was not fitted to
	ZeroShot  stats.Num      `json:"zero_shot_asr"`
	Others    stats.Num      `json:"other_classes_asr"`       // the same inversion, aimed at other classes: the largest
	Untouched stats.Num      `json:"zero_shot_inversion_asr"` // the same inversion on zero-shot CLIP
	PSNR      stats.Num      `json:"psnr"`
	SSIM      stats.Num      `json:"ssim"`
	Picture   string         `json:"picture"`
	Trigger   string         `json:"trigger"` // file

	found    inspector.Explanation
	examples []example
}

// FamilyReport is what speaks for one kind of trigger.
type FamilyReport struct {
	Kind     string    `json:"kind"`
	Evidence stats.Num `json:"evidence"` // twice the lift plus the gain
	Lift     stats.Num `json:"lift"`
	Gain     stats.Num `json:"gain"`
	ASR      stats.Num `json:"asr"`
}

// example is a pool image before and after, and what the model says of both.
type example struct {
	before, after *image.NRGBA
	was, is       string
}

// exampleImages is how many of them a picture shows.
const exampleImages = 3

// explained lists the classes that are looked at once more: the suspect and those with the next
// highest indices.
func (a *audit) explained(r *inspector.Finding) []int {
	if r.Suspect < 0 || r.Unsure != "" {
		return nil
	}
	classes := make([]int, 0, len(r.Classes))
	for c, x := range r.Classes {
		if x.Trigger != nil {
			classes = append(classes, c)
		}
	}
	slices.SortStableFunc(classes, func(i, j int) int {
		switch x, y := r.Classes[i].Index, r.Classes[j].Index; {
		case i == r.Suspect || j != r.Suspect && x > y:
			return -1
		case j == r.Suspect || x < y:
			return 1
		}
		return 0
	})
	return classes[:min(len(classes), a.Explain)]
}

// explain takes the second look.
func (a *audit) explain(ctx context.Context, f *Report) error {
	classes := a.explained(f.report)
	if len(classes) == 0 {
		return nil
	}
	a.line("which kind of trigger: a second look at %d of %d classes", len(classes), len(a.model.Classes))
	in := inspector.Input{Model: a.model, Pool: a.pool, Seed: random.Number("explain", a.Seed)}
	found, passes, err := inspector.Explain(ctx, in, a.explaining, classes...)
	if err != nil {
		return err
	}
	f.ExplainPasses = passes
	for i, x := range found {
		r := ExplanationReport{Class: a.model.Classes[x.Class], Kind: x.Kind, Says: f.says(x, a.model.Classes[x.Class]), Strongest: x.Strongest, Size: stats.Num(x.Size),
			Unit: inspector.SizeUnit(x.Strongest), Place: x.Place(), Anywhere: x.Anywhere, ASR: stats.Num(x.ASR), ZeroShot: stats.Num(x.ZeroShot),
			Others: stats.Num(x.Others), Untouched: stats.Num(x.Untouched), PSNR: stats.Num(x.PSNR), SSIM: stats.Num(x.SSIM),
			Picture: fmt.Sprintf("explained-%d.png", i+1), Trigger: fmt.Sprintf("explained-%d.safetensors", i+1), found: x}
		for _, y := range x.Families {
			r.Families = append(r.Families, FamilyReport{y.Kind, stats.Num(y.Evidence()), stats.Num(y.Lift), stats.Num(y.Gain), stats.Num(y.ASR)})
		}
		if r.examples, err = a.examples(ctx, x.Trigger); err != nil {
			return err
		}
		f.Explanations = append(f.Explanations, r)
	}
	return nil
}

// says is what the second look at a class says. It is taken on pool images: where the verdict goes
// by the images of one class alone, a trigger for these may escape it.
func (f *Report) says(x inspector.Explanation, class string) string {
	if f.SourceClass == "" || class != f.Suspect || x.Kind != inspector.KindNone {
		return x.String()
	}
	return fmt.Sprintf("%s; they were tried on pool images, and the verdict is about images of \"%s\" alone", x, printable.Text(f.SourceClass))
}

// examples shows the pool's first images without and with a trigger to the model.
func (a *audit) examples(ctx context.Context, t triggers.Trigger) (out []example, err error) {
	n := min(exampleImages, a.pool.Shape()[0])
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	before := triggers.Rows(a.pool, rows)
	after, err := prompts.Triggered(ctx, a.engine, before, t)
	if err != nil {
		return nil, err
	}
	was, err := a.model.Logits(ctx, before, nil)
	if err != nil {
		return nil, err
	}
	is, err := a.model.Logits(ctx, after, nil)
	if err != nil {
		return nil, err
	}
	size := a.pool.Shape()[2]
	for i := range n {
		each := 3 * size * size
		out = append(out, example{picture(dense.Floats(before)[i*each:(i+1)*each], size), picture(dense.Floats(after)[i*each:(i+1)*each], size),
			a.model.Classes[prompts.ArgMax(was)[i]], a.model.Classes[prompts.ArgMax(is)[i]]})
	}
	return out, nil
}

// picture is the picture of pixels [3,S,S] in [0,1].
func picture(pixels []float32, size int) *image.NRGBA {
	out := image.NewNRGBA(image.Rect(0, 0, size, size))
	for i := range size * size {
		at := func(c int) uint8 { return uint8(255*min(1, max(0, pixels[c*size*size+i])) + 0.5) }
		out.SetNRGBA(i%size, i/size, color.NRGBA{at(0), at(1), at(2), 255})
	}
	return out
}

// write writes picture and trigger of an explanation.
func (r *ExplanationReport) write(out string) error {
	if err := files.WriteAtomic(filepath.Join(out, r.Picture), r.draw); err != nil {
		return err
	}
	return triggers.Write(filepath.Join(out, r.Trigger), r.found.Trigger)
}

// draw draws the trigger alone and, of some pool images, how they look without and with it and what
// the model takes them for, as PNG.
func (r *ExplanationReport) draw(w io.Writer) error {
	x := plots.Explanation{Title: fmt.Sprintf("What %.40q answers to", printable.Text(r.Class)), Trigger: triggers.Draw(r.found.Trigger), Kind: "trigger: " + r.Strongest,
		Caption: printable.Text(r.Says) + ". Pool images without the trigger above, with it below, and what the model takes each for."}
	for _, e := range r.examples {
		x.Examples = append(x.Examples, plots.Example{Before: e.before, After: e.after, Was: printable.Text(e.was), Is: printable.Text(e.is)})
	}
	return x.Figure().WritePNG(w)
}
