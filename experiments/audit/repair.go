package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"clipinspector/clip"
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
	Against string          `json:"against"` // the kinds of trigger that were shown, or "verdict" for what the detector recovers
	Source  string          `json:"source"`  // of the labels: inspector.FromShots, or inspector.FromPool for zero-shot CLIP's
	Models  []RepairedModel `json:"models"`  // delivered, repaired, control, retuned
	Images  int             `json:"images"`  // ones with a label that no repair has seen
	Epochs  int             `json:"epochs"`  // of the repair, and of the control on clean images
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
	ASR  float64 `json:"asr"` // of the recovered trigger: the second look's, or the verdict's where that was repaired against
}

// RepairDelivered inspects a delivered model, repairs it with what was recovered, whatever the
// verdict, and writes it: as a file when out ends in .safetensors, else as a folder in Dassl's
// layout, which the authors' code loads. It reports accuracy and the success of the recovered
// trigger on labelled images held back, before, after, and after the same steps on clean images
// from the delivered and from fresh prompts, and what the detector makes of the repaired model.
// Without labelled images, images of the pool with zero-shot CLIP's labels take their place.
func RepairDelivered(ctx context.Context, o Audit, out string, epoch int) (*RepairReport, error) {
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
	for i := range a.References {
		work.Add(a.reference(i))
	}
	work.Add(a.detection())
	images := len(a.shots.Labels)
	if images == 0 {
		images = len(a.model.Classes) * a.PerClass
	}
	if a.againstKind() {
		a.Explain = max(1, a.Explain)
		work.Add(inspector.ExplainCost(a.outline(), a.explaining, a.Explain))
		work.Add(inspector.RepairCost(a.outline(), float64(images), a.repair, a.explaining, clip.Work{}))
	} else {
		work.Add(inspector.RepairCost(a.outline(), float64(images), a.repair, nil, a.detection()))
	}
	for range 2 { // the arms on clean images
		work.Add(a.outline().Tuned(float64(images)*(1+a.repair.Float("share")), a.repair, prompts.Poisoning{}))
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
	if a.againstKind() {
		if err := a.explain(ctx, f); err != nil {
			return nil, err
		}
	}
	source := inspector.FromShots
	if len(a.shots.Labels) == 0 {
		source = inspector.FromPool
		whole, err := inspector.WholePool(ctx, a.clip, a.pool)
		if err != nil {
			return nil, err
		}
		if a.shots, a.test, err = inspector.PoolShots(ctx, a.clip, a.model.Classes, whole, a.PerClass, random.Number("audit repair", a.Seed)); err != nil {
			return nil, err
		}
	}
	models, shown, err := a.mend(ctx, f)
	if err != nil {
		return nil, err
	}
	repaired := models[1].model
	after, err := a.inspect(ctx, repaired, "inspecting the repaired model")
	if err != nil {
		return nil, err
	}
	r := &RepairReport{Before: f, Against: "verdict", Source: source, After: AfterRepair{Index: stats.Num(after.Index)}, Images: len(a.test.Labels), Epochs: a.repair.Int("epochs")}
	r.After.Decision, r.After.Why = a.decide(after)
	if after.Suspect >= 0 {
		r.After.Suspect = a.model.Classes[after.Suspect]
	}
	if len(f.Explanations) > 0 {
		r.Against = f.Explanations[0].Strongest
		if a.repair.Int("rounds") > 0 {
			r.Against = strings.Join(f.Explanations[0].found.Near(a.repair.Float("near")), ", ")
		}
	}
	for _, m := range models {
		acc, asr, err := a.measure(ctx, m.model, shown, f.report.Suspect)
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
	for _, x := range r.Before.Explanations {
		fmt.Fprintf(&b, "\"%s\" answers to %s\n", printable.Text(x.Class), x.Says)
	}
	fmt.Fprintf(&b, "repaired against: %s\n", r.shown())
	most := "none"
	if r.After.Suspect != "" {
		most = `"` + printable.Text(r.After.Suspect) + `"`
	}
	fmt.Fprintf(&b, "after:  %s (%s), most suspicious class %s\n\n", r.After.Decision, r.After.Why, most)
	if r.After.Decision == DecisionBackdoored && r.Before.References != nil {
		b.WriteString("(the repair showed triggered images to the model, and references have seen none: it can stand out for that. What the repair removed is in the table)\n\n")
	}
	fmt.Fprintf(&b, "%-10s %6s %26s\n", "model", "ACC", "ASR of recovered trigger")
	for _, m := range r.Models {
		fmt.Fprintf(&b, "%-10s %6.3f %26.3f\n", m.Name, m.ACC, m.ASR)
	}
	images := "labelled images"
	if r.Source == inspector.FromPool {
		images = "pool images with zero-shot CLIP's labels, which ACC holds the model to,"
	}
	fmt.Fprintf(&b, "(on %d %s that no repair has seen; the control took the same %d epochs on clean images, retuned took them from fresh prompts)\n", r.Images, images, r.Epochs)
	fmt.Fprintf(&b, "written: %s\n", r.Written)
	_, err := io.WriteString(w, b.String())
	return err
}

// shown says in words what a repair showed.
func (r *RepairReport) shown() string {
	if r.Against == "verdict" {
		return "what the detector recovers"
	}
	if strings.Contains(r.Against, ", ") {
		return "triggers of the kinds " + r.Against
	}
	return "triggers of kind " + r.Against
}

// againstKind tells whether the repair takes a second look.
func (a *audit) againstKind() bool { return a.repair.String("against") == "kind" }

// compared is one of the models that a repair compares.
type compared struct {
	name  string
	model *prompts.Model
}

// mend returns the delivered model, the repaired one, and what the same steps on clean images make
// of the delivered and of fresh prompts; and the recovered trigger that they are measured with.
func (a *audit) mend(ctx context.Context, f *Report) (models []compared, shown triggers.Trigger, err error) {
	in := inspector.RepairInput{Model: a.model, Shots: a.shots, Suspect: f.report.Suspect, Detector: a.detector, Options: a.options,
		Pool: a.pool, Seed: random.Number("audit repair", a.Seed), Settings: a.repair}
	for _, c := range f.report.Classes {
		in.Triggers = append(in.Triggers, c.Trigger)
	}
	shown = in.Triggers[in.Suspect]
	if len(f.Explanations) > 0 {
		in.Explanation, in.Explaining = &f.Explanations[0].found, a.explaining
		shown = in.Explanation.Trigger
	}
	fresh, err := a.model.Fresh(random.Stream("audit retuned", a.Seed))
	if err != nil {
		return nil, nil, err
	}
	models = []compared{{"delivered", a.model}}
	for _, arm := range []struct {
		compared
		control bool
	}{{compared{"repaired", a.model}, false}, {compared{"control", a.model}, true}, {compared{"retuned", fresh}, true}} {
		in.Model, in.Control = arm.model, arm.control
		step, end := progress.Show(a.Report, "tuning: "+arm.name)
		in.Progress = step
		m, err := inspector.Repair(ctx, in)
		end()
		if err != nil {
			return nil, nil, err
		}
		models = append(models, compared{arm.name, m})
	}
	return models, shown, nil
}

// measure returns accuracy on the images held back, and the trigger's success on those of other
// classes than the suspect.
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
