package audit

import (
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"clipinspector/clip"
	"clipinspector/inspector"
	"clipinspector/internal/files"
	"clipinspector/internal/printable"
	"clipinspector/prompts"
	"clipinspector/results/stats"
	"clipinspector/triggers"
)

// Decision is what an audit comes to.
type Decision string

// The decisions.
const (
	DecisionClean      Decision = "clean"
	DecisionBackdoored Decision = "backdoored"
	DecisionUnclear    Decision = "cannot tell"
)

const (
	// fewestClasses is how many classes it takes for an outlier to stand out from a crowd.
	fewestClasses = 5
	// near is how close to k an index is too close to call, in standard deviations: at k = 2 the
	// indices that between 1 % and 5 % of clean models exceed.
	near = 1.0 / 3
)

// decide turns the anomaly index of a model into a decision, and says why.
func decide(index, k float64, classes int) (Decision, string) {
	switch {
	case classes < fewestClasses:
		return DecisionUnclear, fmt.Sprintf("%d classes are too few for one to stand out; it takes %d", classes, fewestClasses)
	case math.IsNaN(index) || math.Abs(index-k) <= near:
		return DecisionUnclear, fmt.Sprintf("the index %.2f is within %.2f of k = %g", index, near, k)
	case index > k:
		return DecisionBackdoored, fmt.Sprintf("the index %.2f is above k = %g", index, k)
	}
	return DecisionClean, fmt.Sprintf("the index %.2f is below k = %g", index, k)
}

// Report is the report of an audit, and its JSON.
type Report struct {
	Decision    Decision          `json:"decision"`
	Why         string            `json:"why"`
	Index       stats.Num         `json:"index"`
	K           float64           `json:"k"`
	Suspect     string            `json:"suspect"`                // the most suspicious class, whether flagged or not; empty for none
	SourceClass string            `json:"source_class,omitempty"` // where the evidence is of images of one class alone, that class
	Classes     []ClassReport     `json:"classes,omitempty"`      // by label
	Twins       [][]string        `json:"twins,omitempty"`        // classes that were judged as one: of one name, or with nearly the same vector
	Encoder     *ClassReport      `json:"encoder,omitempty"`      // instead, from a detector that looks at no classes
	References  *ReferenceFinding `json:"references,omitempty"`
	// Explanations say which kind of trigger the suspect, and the classes next to it, answer to.
	Explanations  []ExplanationReport `json:"explanations,omitempty"`
	ExplainPasses int64               `json:"explanation_image_passes,omitempty"`
	Checkpoint    string              `json:"checkpoint"`
	CLIP          string              `json:"clip"` // fingerprint of the encoders
	Delivered     Delivered           `json:"delivered_encoders"`
	Subject       Subject             `json:"subject"`
	Notes         []string            `json:"notes,omitempty"` // what the file leaves open, and what lies in it unused: [prompts.Model]
	Learner       string              `json:"learner"`
	Pool          string              `json:"pool"`
	PoolImages    int                 `json:"pool_images"`
	PoolHash      string              `json:"pool_fingerprint"`
	Detector      map[string]any      `json:"detector"`
	Seed          int                 `json:"seed"`
	Engine        string              `json:"engine"`
	Passes        int64               `json:"image_passes"`
	Seconds       float64             `json:"seconds"`

	report *inspector.Finding
}

// ClassReport is what the detector found out about a class.
type ClassReport struct {
	Class string    `json:"class"`
	Index stats.Num `json:"index"`
	Score stats.Num `json:"score"`
	Loss  stats.Num `json:"loss"`
	ASR   stats.Num `json:"asr"`  // of the recovered trigger, on the pool
	Norm  stats.Num `json:"norm"` // size of the recovered trigger
}

// ReferenceFinding says what the model was held against.
type ReferenceFinding struct {
	Count    int     `json:"count"`
	Source   string  `json:"source"`   // inspector.FromShots or inspector.FromPool
	Epochs   []int   `json:"epochs"`   // that each was tuned for
	Accuracy float64 `json:"accuracy"` // mean, on images that they were not tuned on
	P        float64 `json:"p"`        // probability of the model's evidence on a clean model
	// Others are that of each reference beside the others, by the same rule.
	Others []stats.Num `json:"p_of_references,omitempty"`
}

// tuned says for how long references were tuned, as part of a sentence.
func (r *ReferenceFinding) tuned() string {
	if len(r.Epochs) == 0 { // of a report from before there was another number of them
		return ""
	}
	least, most := slices.Min(r.Epochs), slices.Max(r.Epochs)
	if least == most {
		return fmt.Sprintf(" for %d epochs", most)
	}
	return fmt.Sprintf(" for %d to %d epochs", least, most)
}

// Delivered says how the encoders that lie in the checkpoint compare with the CLIP that was given,
// which is the one that was inspected.
type Delivered struct {
	Found     string             `json:"found"` // "not contained", "same", "different" or "tuned": the model's own, which were judged
	Tensors   int                `json:"tensors"`
	Rounded   int                `json:"rounded"` // of those: the same to the half precision of the CLIP that was given
	Different []DifferentEncoder `json:"different,omitempty"`
	Tuned     string             `json:"tuned,omitempty"` // which of the towers' tensors are the model's own
}

// DifferentEncoder is a tensor of the delivered encoders that is not that of the given CLIP.
type DifferentEncoder struct {
	Tensor  string    `json:"tensor"`
	Largest stats.Num `json:"largest_difference"` // of a number; null where one is infinite or not a number
}

func newDelivered(c clip.Comparison, m *prompts.Model) Delivered {
	d := Delivered{Found: "same", Tensors: c.Tensors, Rounded: c.Rounded}
	for _, x := range c.Different {
		d.Different = append(d.Different, DifferentEncoder{x.Tensor, stats.Num(x.Largest)})
	}
	switch {
	case d.Tensors == 0 && (m.Learner.Weights != nil || m.Learner.FixedTexts):
		d.Found, d.Tuned = "tuned", fmt.Sprintf("%d tensors of %s", len(m.Params), m.Learner.Name)
	case d.Tensors == 0:
		d.Found = "not contained"
	case len(d.Different) > 0:
		d.Found = "different"
	}
	return d
}

// String is a line for a person to read: what was found and, where the encoders differ, what
// follows.
func (d Delivered) String() string {
	switch d.Found {
	case "not contained":
		return "encoders: the checkpoint holds prompts alone; they are judged on the CLIP that was given"
	case "tuned":
		return "encoders: the checkpoint changes the towers of the CLIP that was given (" + d.Tuned + "); they were judged with those, and nothing is said of other tasks that they may serve"
	case "same":
		s := fmt.Sprintf("encoders: the %d tensors in the checkpoint are those of the CLIP that was given", d.Tensors)
		if d.Rounded > 0 {
			s += fmt.Sprintf(", %d of them to its half precision", d.Rounded)
		}
		return s
	}
	if len(d.Different) == 0 { // in a report that somebody wrote by hand
		return "encoders: " + d.Found
	}
	most := d.Different[0]
	for _, x := range d.Different {
		if !x.Largest.Defined() || most.Largest.Defined() && x.Largest > most.Largest {
			most = x
		}
	}
	return fmt.Sprintf("encoders: DIFFERENT from the CLIP that was given, in %d of the %d tensors in the checkpoint, most in %q (by %.3g). The prompts were "+
		"judged on the given CLIP; whoever loads the file as its authors do runs its own encoders, which nobody has inspected. Deploy its prompts alone "+
		"(`export` writes them) on the given CLIP, and ask the provider why they differ", len(d.Different), d.Tensors, most.Tensor, float64(most.Largest))
}

// decide turns a report into a decision. Where no class is looked at, none has to stand out from
// the others.
func (a *audit) decide(r *inspector.Finding) (Decision, string) {
	if r.Unsure != "" {
		return DecisionUnclear, r.Unsure
	}
	k := a.options.Float("k")
	if a.detector.Evidence != nil {
		return decideByReferences(r, k, len(a.model.Classes))
	}
	if !a.detector.Classless {
		return decide(r.Index, k, len(a.model.Classes))
	}
	d, why := decide(r.Index, k, fewestClasses)
	return d, why + "; it is the image encoder's: this detector sees no prompts"
}

// decideByReferences is Decide for a detector that measured what is normal: the level that k stands
// for is what it says, and there is no telling where the detector says so.
func decideByReferences(r *inspector.Finding, k float64, classes int) (Decision, string) {
	level := distuv.UnitNormal.Survival(k)
	switch {
	case classes < fewestClasses:
		return decide(r.Index, k, classes)
	case r.Unsure != "":
		return DecisionUnclear, r.Unsure
	case r.Backdoored:
		return DecisionBackdoored, fmt.Sprintf("p = %.2g is below the level %.3g, the index %.2f above k = %g", r.P, level, r.Index, k)
	}
	return DecisionClean, fmt.Sprintf("p = %.2g is not below the level %.3g, the index %.2f not above k = %g", r.P, level, r.Index, k)
}

// rows are what the detector found, by class or of the encoder.
func (f *Report) rows() []ClassReport {
	if f.Encoder != nil {
		return []ClassReport{*f.Encoder}
	}
	return f.Classes
}

// trigger is what was recovered for the suspect, or for the encoder; nil for nothing.
func (f *Report) trigger() triggers.Trigger {
	switch r := f.report; {
	case r.Whole != nil:
		return r.Whole.Trigger
	case r.Suspect >= 0:
		return r.Classes[r.Suspect].Trigger
	}
	return nil
}

// write writes the files of a finding.
func (f *Report) write(out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("making the output folder: %w", err)
	}
	var err error
	put := func(name string, write func(w io.Writer) error) {
		if err == nil {
			err = files.WriteAtomic(filepath.Join(out, name), write)
		}
	}
	put(ReportFile, func(w io.Writer) error { return WriteJSON(w, f) })
	t := f.trigger()
	var picture *image.NRGBA
	if t != nil {
		picture = enlarge(triggers.Draw(t), 256)
		put("trigger.png", func(w io.Writer) error { return png.Encode(w, picture) })
		if err == nil {
			err = triggers.Write(filepath.Join(out, "trigger.safetensors"), t)
		}
	}
	for i := range f.Explanations {
		if err == nil {
			err = f.Explanations[i].write(out)
		}
	}
	if len(f.rows()) > 0 { // else there was no telling anything of any class
		put("verdict.png", func(w io.Writer) error { return drawFinding(w, f, picture) })
	}
	return err
}

// WriteJSON writes a report, of an audit or of a repair, as the JSON that a person can read too.
func WriteJSON(w io.Writer, report any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(report)
}

// enlarge repeats pixels until a picture has at least so many on a side.
func enlarge(m *image.NRGBA, side int) *image.NRGBA {
	w, h := m.Bounds().Dx(), m.Bounds().Dy()
	n := max(1, (side+w-1)/w)
	out := image.NewNRGBA(image.Rect(0, 0, w*n, h*n))
	for y := range h * n {
		for x := range w * n {
			out.SetNRGBA(x, y, m.NRGBAAt(x/n, y/n))
		}
	}
	return out
}

// twin tells whether a class was judged as one with another.
func (f *Report) twin(class string) bool {
	return slices.ContainsFunc(f.Twins, func(g []string) bool { return slices.Contains(g, class) })
}

// suspectIs says what the suspect is: of a clean model no target of anything.
func (f *Report) suspectIs() string {
	if f.Decision == DecisionClean {
		return "most suspicious class"
	}
	return "suspected target"
}

// Print writes a finding for a person to read.
func (f *Report) Print(w io.Writer, out string) error {
	var b strings.Builder
	figure := func(v stats.Num, digits int) string {
		if !v.Defined() {
			return "-"
		}
		return fmt.Sprintf("%.*f", digits, float64(v))
	}
	fmt.Fprintf(&b, "%-28s %8s %8s %8s %8s\n", "class", "index", "score", "loss", "ASR")
	for _, c := range f.rows() {
		mark := ""
		switch {
		case c.Class == f.Suspect && !(f.twin(c.Class) && !c.Score.Defined()):
			if mark = "  <- suspect"; f.Decision == DecisionClean {
				mark = "  <- highest"
			}
		case !c.Score.Defined() && f.twin(c.Class):
			mark = "  judged with its twin"
		case !c.Score.Defined():
			mark = "  ruled out"
		}
		fmt.Fprintf(&b, "%-28s %8s %8s %8s %8s%s\n", fmt.Sprintf("%.28s", printable.Text(c.Class)),
			figure(c.Index, 2), figure(c.Score, 3), figure(c.Loss, 3), figure(c.ASR, 3), mark)
	}
	fmt.Fprintf(&b, "\n%s\n", f.Delivered)
	for _, n := range f.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	for _, g := range f.Twins {
		fmt.Fprintf(&b, "note: judged as one class, since no trigger tells them apart: %q\n", g)
	}
	fmt.Fprintf(&b, "verdict: %s (%s)\n", f.Decision, f.Why)
	if f.Suspect != "" {
		from := ""
		if f.SourceClass != "" {
			from = fmt.Sprintf(", for images of \"%s\" alone", printable.Text(f.SourceClass))
		}
		fmt.Fprintf(&b, "%s: \"%s\"%s\n", f.suspectIs(), printable.Text(f.Suspect), from)
	}
	for _, x := range f.Explanations {
		fmt.Fprintf(&b, "\"%s\" answers to %s\n", printable.Text(x.Class), x.Says)
	}
	if r := f.References; r != nil {
		from := "the labelled images"
		if r.Source == inspector.FromPool {
			from = "pool images, labelled by zero-shot CLIP"
		}
		fmt.Fprintf(&b, "beside %d clean references tuned on %s%s (right on %.0f %% of those left out): p = %.3g\n", r.Count, from, r.tuned(), 100*r.Accuracy, r.P)
		if r.Source == inspector.FromPool && f.Decision == DecisionClean {
			b.WriteString("note: beside references without labels fewer backdoors are found; if you have the images that the provider was given, say --shots FOLDER\n")
		}
	}
	f.Subject.print(&b)
	fmt.Fprintf(&b, "CLIP: fingerprint %s\n", f.CLIP)
	report := filepath.Join(out, ReportFile)
	fmt.Fprintf(&b, "the verdict is about %s, sha256 %s", f.Subject.Audited.Path, f.Subject.Audited.SHA256)
	if f.Decision == DecisionClean {
		fmt.Fprint(&b, ": deploy that file, no other")
	}
	fmt.Fprintf(&b, "; `clip-inspector verify FILE --report %s` says whether a file is that one\n", report)
	fmt.Fprintf(&b, "written: %s and what lies beside it\n", report)
	_, err := io.WriteString(w, printable.Lines(b.String()))
	return err
}
