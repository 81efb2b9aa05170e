package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"clipinspector/inspector"
	"clipinspector/internal/files"
	"clipinspector/internal/printable"
	"clipinspector/internal/progress"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/results/stats"
	"clipinspector/triggers"
)

// RepairReport is the report of a repair, and its JSON.
type RepairReport struct {
	Before  *Report         `json:"before"`
	After   AfterRepair     `json:"after"`
	Models  []RepairedModel `json:"models"` // delivered, repaired, control
	Images  int             `json:"images"` // labelled ones that no repair has seen
	Epochs  int             `json:"epochs"` // of the repair, and of the control on clean images
	Written string          `json:"written"`
}

// AfterRepair is what the detector makes of the repaired model.
type AfterRepair struct {
	Decision Decision  `json:"decision"`
	Why      string    `json:"why"`
	Index    stats.Num `json:"index"`
	Suspect  string    `json:"suspect"` // the most suspicious class; empty for none
}

// RepairedModel is one of the models that a repair compares, on the images held back.
type RepairedModel struct {
	Name string  `json:"name"`
	ACC  float64 `json:"acc"`
	ASR  float64 `json:"asr"` // of the recovered trigger
}

// RepairDelivered inspects a delivered model, repairs it with what was recovered, whatever the verdict, and writes it: as a file
// when out ends in .safetensors, else as a folder in Dassl's layout, which the authors' code loads. It reports accuracy and
// the success of the recovered trigger on labelled images held back, before, after, and after the same steps on clean images,
// and what the detector makes of the repaired model.
func RepairDelivered(ctx context.Context, o Audit, out string, epoch int) (*RepairReport, error) {
	if o.Shots == "" {
		return nil, errors.New("a repair needs labelled images: name them by --shots")
	}
	a, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	defer a.close()
	if a.detector.Classless {
		return nil, fmt.Errorf("--detector %s recovers no class's trigger to repair with: name another", a.detector.Name)
	}
	dassl := !strings.HasSuffix(out, ".safetensors")
	if l := a.model.Learner; dassl && !l.HasDassl() {
		return nil, fmt.Errorf("--out %s: Dassl's layout has no place for a model of %s: name a file *.safetensors", out, l.Name)
	}
	if err := files.Writable(filepath.Dir(out)); err != nil {
		return nil, fmt.Errorf("--out %s: %w", out, err)
	}
	if err := a.countReferences(); err != nil {
		return nil, err
	}
	work := a.detection()
	for range a.References {
		work.Add(a.reference())
	}
	for range 1 + a.repair.Int("rounds") {
		work.Add(a.detection())
	}
	for range 2 {
		work.Add(a.outline().Tuned(float64(len(a.shots.Labels))*(1+a.repair.Float("share")), a.repair, prompts.Poisoning{}))
	}
	if err := a.estimate("inspection and repair", work); err != nil {
		return nil, err
	}
	if err := a.makeReferences(ctx); err != nil {
		return nil, err
	}
	f, err := a.find(ctx)
	if err != nil {
		return nil, err
	}
	if f.report.Unsure != "" && f.report.Suspect < 0 {
		return nil, fmt.Errorf("cannot tell: %s: there is nothing to repair", f.report.Unsure)
	}
	if f.report.Suspect < 0 {
		return nil, errors.New("the detector ruled out every class: there is no trigger to repair with")
	}
	repaired, control, err := a.mend(ctx, f)
	if err != nil {
		return nil, err
	}
	after, err := a.inspect(ctx, repaired, "inspecting the repaired model")
	if err != nil {
		return nil, err
	}
	r := &RepairReport{Before: f, After: AfterRepair{Index: stats.Num(after.Index)}, Images: len(a.test.Labels), Epochs: a.repair.Int("epochs")}
	r.After.Decision, r.After.Why = a.decide(after)
	if after.Suspect >= 0 {
		r.After.Suspect = a.model.Classes[after.Suspect]
	}
	suspect := f.report.Suspect
	for _, m := range []struct {
		name  string
		model *prompts.Model
	}{{"delivered", a.model}, {"repaired", repaired}, {"control", control}} {
		acc, asr, err := a.measure(ctx, m.model, f.report.Classes[suspect].Trigger, suspect)
		if err != nil {
			return nil, err
		}
		r.Models = append(r.Models, RepairedModel{m.name, acc, asr})
	}
	if r.Written = out; dassl {
		r.Written, err = repaired.WriteDassl(out, epoch, nil, -1)
	} else {
		err = repaired.Write(out)
	}
	return r, err
}

// Print writes a repair for a person to read.
func (r *RepairReport) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Before.Delivered)
	for _, n := range r.Before.Notes {
		fmt.Fprintf(&b, "note: %s\n", printable.Text(n))
	}
	fmt.Fprintf(&b, "before: %s (%s), %s \"%s\"\n", r.Before.Decision, r.Before.Why, r.Before.suspectIs(), printable.Text(r.Before.Suspect))
	most := "none"
	if r.After.Suspect != "" {
		most = `"` + printable.Text(r.After.Suspect) + `"`
	}
	fmt.Fprintf(&b, "after:  %s (%s), most suspicious class %s\n\n", r.After.Decision, r.After.Why, most)
	fmt.Fprintf(&b, "%-10s %6s %26s\n", "model", "ACC", "ASR of recovered trigger")
	for _, m := range r.Models {
		fmt.Fprintf(&b, "%-10s %6.3f %26.3f\n", m.Name, m.ACC, m.ASR)
	}
	fmt.Fprintf(&b, "(on %d labelled images that no repair has seen; the control took the same %d epochs on clean images)\n", r.Images, r.Epochs)
	fmt.Fprintf(&b, "written: %s\n", r.Written)
	_, err := io.WriteString(w, b.String())
	return err
}

// mend returns the repaired model and its control.
func (a *audit) mend(ctx context.Context, f *Report) (repaired, control *prompts.Model, err error) {
	in := inspector.RepairInput{Model: a.model, Shots: a.shots, Suspect: f.report.Suspect, Detector: a.detector, Options: a.options,
		Pool: a.pool, Seed: random.Number("audit repair", a.Seed), Settings: a.repair}
	for _, c := range f.report.Classes {
		in.Triggers = append(in.Triggers, c.Trigger)
	}
	step, end := progress.Show(a.Report, "repairing")
	in.Progress = step
	repaired, err = inspector.Repair(ctx, in)
	end()
	if err != nil {
		return nil, nil, err
	}
	in.Control, in.Progress = true, nil
	control, err = inspector.Repair(ctx, in)
	return repaired, control, err
}

// measure returns accuracy on the images held back, and the trigger's success on those of other classes than the suspect.
func (a *audit) measure(ctx context.Context, m *prompts.Model, t triggers.Trigger, suspect int) (acc, asr float64, err error) {
	clean, err := m.Logits(ctx, a.test.Images, nil)
	if err != nil {
		return 0, 0, err
	}
	triggered, err := m.Logits(ctx, a.test.Images, t)
	if err != nil {
		return 0, 0, err
	}
	_, asr = prompts.SuccessRate(prompts.ArgMax(triggered), a.test.Labels, suspect)
	return prompts.Accuracy(prompts.ArgMax(clean), a.test.Labels), asr, nil
}
