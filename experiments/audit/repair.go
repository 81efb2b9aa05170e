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
	"clipinspector/triggers"
)

// RepairDelivered inspects a delivered model, repairs it with what was recovered, whatever the verdict, and writes it: as a file
// when out ends in .safetensors, else as a folder in Dassl's layout, which the authors' code loads. It prints accuracy and
// the success of the recovered trigger on labelled images held back, before, after, and after the same steps on clean images,
// and what the detector makes of the repaired model.
func RepairDelivered(ctx context.Context, o Audit, out string, epoch int, w io.Writer) error {
	if o.Shots == "" {
		return errors.New("a repair needs labelled images: name them by --shots")
	}
	a, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer a.close()
	if a.detector.Classless {
		return fmt.Errorf("--detector %s recovers no class's trigger to repair with: name another", a.detector.Name)
	}
	dassl := !strings.HasSuffix(out, ".safetensors")
	if l := a.model.Learner; dassl && !l.HasDassl() {
		return fmt.Errorf("--out %s: Dassl's layout has no place for a model of %s: name a file *.safetensors", out, l.Name)
	}
	if err := files.Writable(filepath.Dir(out)); err != nil {
		return fmt.Errorf("--out %s: %w", out, err)
	}
	if err := a.countReferences(); err != nil {
		return err
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
		return err
	}
	if err := a.makeReferences(ctx); err != nil {
		return err
	}
	f, err := a.find(ctx)
	if err != nil {
		return err
	}
	if f.report.Unsure != "" && f.report.Suspect < 0 {
		return fmt.Errorf("cannot tell: %s: there is nothing to repair", f.report.Unsure)
	}
	if f.report.Suspect < 0 {
		return errors.New("the detector ruled out every class: there is no trigger to repair with")
	}
	fmt.Fprintf(w, "%s\n", f.Delivered)
	for _, n := range f.Notes {
		fmt.Fprintf(w, "note: %s\n", printable.Text(n))
	}
	fmt.Fprintf(w, "before: %s (%s), %s \"%s\"\n", f.Decision, f.Why, f.suspectIs(), printable.Text(f.Suspect))
	repaired, control, err := a.mend(ctx, f)
	if err != nil {
		return err
	}
	after, err := a.inspect(ctx, repaired, "inspecting the repaired model")
	if err != nil {
		return err
	}
	decision, why := a.decide(after)
	most := "none"
	if after.Suspect >= 0 {
		most = `"` + printable.Text(a.model.Classes[after.Suspect]) + `"`
	}
	fmt.Fprintf(w, "after:  %s (%s), most suspicious class %s\n\n", decision, why, most)
	fmt.Fprintf(w, "%-10s %6s %26s\n", "model", "ACC", "ASR of recovered trigger")
	suspect := f.report.Suspect
	for _, m := range []struct {
		name  string
		model *prompts.Model
	}{{"delivered", a.model}, {"repaired", repaired}, {"control", control}} {
		acc, asr, err := a.measure(ctx, m.model, f.report.Classes[suspect].Trigger, suspect)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%-10s %6.3f %26.3f\n", m.name, acc, asr)
	}
	fmt.Fprintf(w, "(on %d labelled images that no repair has seen; the control took the same %d epochs on clean images)\n",
		len(a.test.Labels), a.repair.Int("epochs"))
	if dassl {
		out, err = repaired.WriteDassl(out, epoch, nil, -1)
	} else {
		err = repaired.Write(out)
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "written: %s\n", out)
	}
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
