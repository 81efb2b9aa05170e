package web

import (
	"bytes"
	"fmt"
	"html/template"
	"image"
	"image/png"
	"slices"

	"clipinspector/results/plots"
	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// Explanation says which kind of trigger a class answers to, as an audit found out.
type Explanation struct {
	Class, Says string
	Unit        string // of the size
	Result      store.ExplanationResult
	Picture     []byte // PNG of the trigger, and of images without and with it; nil for none
}

// explanation is a part of a page: an explanation for people.
type explanation struct {
	Title    string
	Says     string
	Pictures []picture
	Wide     *picture
	Facts    []fact
	Families template.HTML
}

// newExplanation fills in what stores and reports have in common. unit is that of the size.
func newExplanation(id, title, says, unit string, r store.ExplanationResult) explanation {
	x := explanation{Title: title, Says: says}
	add := func(name, value string) { x.Facts = append(x.Facts, fact{name, value}) }
	add("recovered trigger", r.Strongest)
	add("its size", number(r.Size, 2).Text+" "+unit)
	add("its ASR", number(r.ASR, 2).Text+" on images that it was not fitted to; under zero-shot CLIP "+number(r.ZeroShot, 2).Text)
	add("its PSNR, SSIM", fmt.Sprintf("%s dB, %s", number(r.PSNR, 1).Text, number(r.SSIM, 3).Text))
	add("the same inversion elsewhere", fmt.Sprintf("ASR %s in another class at most, %s in zero-shot CLIP", number(r.Others, 2).Text, number(r.Untouched, 2).Text))
	t := table{ID: id, Caption: "Kinds of trigger that were tried", Columns: []column{{Key: "kind", Title: "kind"},
		{"lift", "lift", "by how much more typical triggers of the kind move images towards the class than in zero-shot CLIP", true},
		{"gain", "gain", "by how much farther ahead the class is than in zero-shot CLIP, with the trigger fitted at the kind's middle budget", true},
		{"asr", "ASR", "of that trigger, on images that it was not fitted to", true}}}
	for _, f := range r.Families {
		y := row{Cells: []cell{text(f.Kind), number(f.Lift, 2), number(f.Gain, 2), number(f.ASR, 2)}}
		if f.Kind == r.Said {
			y.Class = "target"
			y.Cells[0].Text += " (explains it)"
		}
		t.Rows = append(t.Rows, y)
	}
	x.Families = t.HTML("", nil)
	return x
}

// explained says which kind of trigger the suspects of a model answer to.
func (p *modelPage) explained(s *Suite, c plots.Case, name func(int) string) error {
	for i, e := range c.Explained {
		label := s.swept().variants[s.swept().of[e.Detection.Cell.Key]].label
		says := e.Says
		if says == "" {
			says = e.Result.Said
		}
		x := newExplanation(fmt.Sprintf("%s-kinds-%d", p.ID, i+1), fmt.Sprintf("%s, suspected by %s", name(e.Result.Class), label), says, e.Unit, e.Result)
		for _, shown := range []struct {
			title, caption string
			img            image.Image
		}{{"test picture", "as it is", e.Before}, {"with the recovered trigger", "a " + e.Result.Strongest, e.After}, {"recovered trigger", "at full contrast", e.Trigger}} {
			var err error
			if x.Pictures, err = withPicture(x.Pictures, shown.title, shown.caption, shown.img); err != nil {
				return err
			}
		}
		p.Explained = append(p.Explained, x)
	}
	return nil
}

// withPicture adds a picture to a list, if there is one.
func withPicture(list []picture, title, caption string, img image.Image) ([]picture, error) {
	if img == nil || img.Bounds().Empty() {
		return list, nil
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, err
	}
	return append(list, picture{Title: title, Caption: caption, Source: within("image/png", b.Bytes())}), nil
}

// saidTable has the kinds that models are said to answer to, by attack and verdict.
func saidTable(sum *stats.Summary, f filter, l links) table {
	t := table{ID: "kinds", Caption: "Attack, and kind of trigger that is said", Columns: []column{{Key: "attack", Title: "attack"}, {Key: "verdict", Title: "verdict"},
		{"models", "models", "explained", true}}}
	for _, x := range sum.Explanations[0].Said {
		t.Columns = append(t.Columns, column{x.Name, x.Name, "models whose suspect is said to answer to this", true})
	}
	t.Columns = append(t.Columns, column{"suspects", "suspects right", "suspect is the target class", true},
		column{"reached", "reached", fmt.Sprintf("explained by a trigger whose ASR is at least %g", store.FiringASR), true},
		column{"asr", "ASR", "of the recovered trigger, mean", true}, column{"zero", "ASR zero-shot", "of the same trigger under zero-shot CLIP, mean", true},
		column{"iou", "IoU", "of recovered patches with true ones, mean", true},
		column{"side", "side", "of those recovered patches, pixels, mean", true}, column{"true", "true side", "of the true patches, pixels, mean", true}, column{"seconds", "seconds", "a model, mean", true})
	for _, x := range sum.Explanations {
		at := l.filtered(filter{"set": f["set"], "attack": x.Attack, "learner": f["learner"], "seed": f["seed"]})
		r := row{Cells: []cell{{Text: x.Attack, Href: at}, text(x.Verdict), whole(int64(x.Models))}}
		for _, s := range x.Said {
			c := whole(int64(s.Value))
			c.Class = fmt.Sprint("count-", (4*s.Value+x.Models-1)/x.Models)
			r.Cells = append(r.Cells, c)
		}
		suspects := fraction(0, 0)
		if x.Backdoored {
			suspects = fraction(x.SuspectsRight, x.Models)
		}
		r.Cells = append(r.Cells, suspects, fraction(x.Reached, x.Models), number(float64(x.ASR), 2), number(float64(x.ZeroShot), 2),
			number(float64(x.IoU), 2), number(float64(x.Size), 1), number(float64(x.TrueSize), 1), number(float64(x.Seconds), 1))
		t.Rows = append(t.Rows, r)
	}
	return t
}

// saidOf lists, by model, the kinds that its suspects are said to answer to.
func saidOf(rows *stats.Rows) map[string][]string {
	model := map[string]string{}
	for _, d := range rows.Detections {
		model[d.Cell.Key] = d.Cell.ModelKey
	}
	out := map[string][]string{}
	for _, x := range rows.Explanations {
		if m := model[x.Cell.DetectionKey]; x.State == store.Finished && !slices.Contains(out[m], x.Result.Said) {
			out[m] = append(out[m], x.Result.Said)
		}
	}
	return out
}

// explained says which kind of trigger the classes that an audit looked at once more answer to.
func (p *auditPage) explained() {
	for i, e := range p.Audit.Explanations {
		title := e.Class
		if e.Class == p.Suspect {
			title += ", the suspect"
		}
		x := newExplanation(fmt.Sprintf("kinds-%d", i+1), title, e.Says, e.Unit, e.Result)
		if e.Picture != nil {
			x.Wide = &picture{Title: "What " + e.Class + " answers to", Photos: true, Source: within("image/png", e.Picture),
				Caption: "The recovered trigger alone, and images without and with it, with what the model takes each for."}
		}
		p.Explained = append(p.Explained, x)
	}
}
