// Package inspector answers whether a prompt-tuned CLIP is backdoored. It holds the detectors
// CLIP-Inspector (ci) and separation, the interface Detector that other detectors implement as well
// (package baselines), and the inversion loop that all of them share.
//
// A detector sees the delivered model, a pool of unlabelled images, clean references and a seed,
// and nothing else.
package inspector

import (
	"context"
	"math"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/internal/registry"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// Detector is a way to find backdoors by reconstructing triggers: for every class, for some, or one
// for the model as a whole.
type Detector struct {
	Name   string
	Doc    string // one line, with the paper
	Params []settings.Param
	// Content is the SHA-256 of the file that a detector outside this program comes from, which
	// detections' identities hold; empty for this program's own.
	Content string
	// Shared tells that the rounds of the authors' budget are all classes' together, not each
	// one's.
	Shared bool
	// Classless tells that it looks at the model as a whole, at no classes, and names no suspect.
	Classless bool
	// Inspect gives the verdict on one model; who has the model from a stranger calls Look. The
	// same input gives the same report to the bit, and permuting the model's classes permutes the
	// class results, up to the rounding of the products.
	Inspect func(ctx context.Context, in Input) (*Finding, error)
	// Check refuses settings, a pool or a model that Inspect could not work with. It is asked when
	// a suite is planned, so that nothing is computed in vain.
	Check func(f Facts) error
	// Cost is the work of Inspect: image passes as the report counts them, and operations. Where it
	// depends on what is found, as with early stopping, it is an upper bound.
	Cost func(f Facts) clip.Work
	// Objective is the loss of one image that aims at a class, of its logits under the model and
	// under zero-shot CLIP; nil where the loss that a report gives is no mean of such.
	Objective func(s settings.Values, logits, zeroShot []float32, target int) float64
	// Evidence measures one clean reference as Inspect will measure the delivered model, with the
	// same seed and settings, and counts image passes; nil for a detector that needs no references.
	// It leaves source and accuracy to who made the reference.
	Evidence func(ctx context.Context, in Input) (*Evidence, int64, error)
	// EvidenceCost is the work of Evidence.
	EvidenceCost func(f Facts) clip.Work
	// Idle names those of the settings that decide nothing about a model of these facts: they are
	// no part of the detection's identity. Nil where there are none.
	Idle func(f Facts) []string
	// Rule names those of the settings that decide nothing but how measured classes are judged;
	// nil, or a nil function, where there are none. Judge then judges a report anew from what it has
	// measured, as Inspect under these settings and with these references would: another rule,
	// threshold or null takes no inversion. That is the losses, ASRs, norms and scores of its
	// classes, or of a detector that needs references its Evidence.
	Rule  func(s settings.Values) []string
	Judge func(s settings.Values, references []*Evidence, r *Finding) error
}

// Judging names those of the settings s that decide nothing but how measured classes are judged.
func (d *Detector) Judging(s settings.Values) []string {
	if d.Rule == nil {
		return nil
	}
	return d.Rule(s)
}

// Input is what a detector may look at.
type Input struct {
	Model    *prompts.Model
	Pool     *tensor.Dense // [N,3,S,S] in [0,1], unlabelled
	Seed     uint64
	Settings settings.Values
	// References are what Evidence measured of clean models of the same learner, encoder and
	// classes; none for a detector that needs none. One that does says that it cannot tell without
	// them.
	References []*Evidence
	// Labelled are images of every class with their labels, for a detector whose settings ask for
	// them; no features.
	Labelled prompts.Data
	// Only, where it is not nil, are classes whose triggers alone are asked for, and no verdict. A
	// detector may look at all classes all the same.
	Only     []int
	Progress func(done, total int) // classes inverted so far, or steps taken; may be nil

	// Kept, where it is not nil, keeps each class as it is finished, of inversions without a
	// controller: an inspection that was stopped goes on from there. It is this input's alone.
	Kept Kept

	of int // classes of the model that Model is a part of; 0 where it is none
}

// ClassResult is what a detector found out about one class as the target. Of a class that it ruled
// out without an inversion there is no trigger, and all numbers but the index are NaN. A detector
// that recovers no triggers gives the score, and NaN for what it does not measure.
type ClassResult struct {
	Loss    float64          // reconstruction loss on the measuring images, the detector's own objective
	ASR     float64          // share of the measuring images that the recovered trigger sends to the class
	Norm    float64          // size of the recovered trigger as the detector measures it
	Score   float64          // what outliers are sought in; lower is more suspicious
	Index   float64          // anomaly index of the class
	Reached bool             // whether the inversion reached its own ASR bound
	Trigger triggers.Trigger // the recovered trigger
}

// RuledOut tells whether the detector did not look at the class any further.
func (c ClassResult) RuledOut() bool { return c.Trigger == nil && math.IsNaN(c.Score) }

// Finding is a verdict on one model.
type Finding struct {
	Classes       []ClassResult // by class; none from a detector that looks at no classes
	Whole         *ClassResult  // what such a detector found out about the model as a whole; nil from the others
	Index         float64       // the model's anomaly index, that of the suspect
	Suspect       int           // the most suspicious class, whether flagged or not; -1 for none
	Backdoored    bool          // Index > k, unless the detector cannot tell
	P             float64       // of a detector with references: how probable such evidence is on a clean model; Index is its normal quantile
	ReferenceP    []float64     // that of each reference beside the others
	SourceClasses []int         // of a detector that was asked for them, by class: the class whose images alone reach it most suspiciously, -1 where those of all classes do; else nil
	Unsure        string        // why the detector cannot tell; empty where it can
	Twins         [][]int       // classes that were judged as one; see Look
	Evidence      *Evidence     // of a detector with references: what it measured of the model; nil where classes were judged as one
	ImagePasses   int64         // images that went through the model, with or without a backward pass
}

var detectors = registry.New("detector", func(d *Detector) string { return d.Name })

// Register makes a detector known by its name, from an init function. It panics when the name is
// taken.
func Register(d *Detector) { detectors.Add(d) }

// All returns all registered detectors, sorted by name.
func All() []*Detector { return detectors.All() }

// Find returns the detector of a name, or an error that lists the names there are.
func Find(name string) (*Detector, error) { return detectors.Find(name) }

// K is the fixed threshold of the anomaly index, in standard deviations (the paper's k = 2).
const K = 2.0

// Threshold is the declaration of k that detectors share.
var Threshold = settings.Param{Name: "k", Unit: "standard deviations", Doc: "a model whose anomaly index is above k is called backdoored (paper: 2)", Default: K, Min: 0, Max: 100}

// Judge completes a report from the scores of its classes, of which there is one at least: each
// class's index by the named rule (see Indices), then the verdict at threshold k.
func (r *Finding) Judge(rule string, k float64) {
	for c, v := range Indices(rule, r.scores()) {
		r.Classes[c].Index = v
	}
	r.Verdict(k)
}

// scores are those of the classes.
func (r *Finding) scores() []float64 {
	out := make([]float64, len(r.Classes))
	for c := range out {
		out[c] = r.Classes[c].Score
	}
	return out
}

// Verdict is the end of Judge, for a detector with indices of its own: suspect, model index and
// flag.
func (r *Finding) Verdict(k float64) {
	r.Suspect = 0
	for c := range r.Classes {
		if r.Classes[c].Index > r.Classes[r.Suspect].Index {
			r.Suspect = c
		}
	}
	r.Index = r.Classes[r.Suspect].Index
	r.Backdoored = r.Index > k
}
