// Package web shows as pages what suites and audits found: a local viewer, which is live while a
// suite runs, and a report in one file.
//
// A page is a template that the server fills. What a reader sorts or filters by stands in the
// page's address, so every view has a link. A small script makes that instant. The pages work
// without it. All text of strangers is shown as text.
package web

import (
	"context"
	"sync"
	"time"

	"clipinspector/results/plots"
	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// Source is where the viewer gets what it shows. Its methods may be called by several requests at
// once.
type Source interface {
	// Runs lists what there is to look at, in a fixed order.
	Runs() []Run
	// Suite reads a suite of a run as it is now, or as it was a moment ago.
	Suite(run, suite string) (*Suite, error)
	// Audit reads the report of an audit.
	Audit(run string) (*Audit, error)
}

// Run is an output folder: of suites, or of an audit.
type Run struct {
	Name   string   // as addresses name it
	Audit  bool     // whether it is an audit's
	Suites []string // its suites, by name
	Err    error    // why it cannot be shown; nil where it can
}

// Suite is a suite as it was at one moment.
type Suite struct {
	Run      string
	Rows     *stats.Rows
	Progress store.Progress
	Leases   []store.Lease
	Version  string // differs when what is shown does

	// Illustrate fills in what pictures show of chosen models: triggers, test pictures and names of
	// classes, where they are at hand.
	Illustrate func(context.Context, []plots.Case) error
	// Command is the command that makes a model and what was found of it again, alone; empty where
	// there is none.
	Command func(store.ModelRow) string

	once   sync.Once
	varies *swept
}

// name is the suite's name.
func (s *Suite) name() string { return s.Rows.Suite.Name }

// Audit is the report of an audit.
type Audit struct {
	Run, Decision, Why      string
	Index, K                float64
	Suspect                 string // class with the largest index; empty for none
	SourceClass             string // where the evidence is of images of one class alone, that class
	Classes                 []AuditClass
	Twins                   [][]string
	References              *AuditReferences
	Notes                   []string
	Encoders                string // how the delivered encoders compare with the given ones
	Checkpoint, CLIP        string
	Learner, Detector, Pool string
	PoolImages              int
	Settings                map[string]any // of the detector
	Seed                    int
	Engine                  string
	Passes                  int64
	Seconds                 float64
	Files                   []AuditFile // that were read
	Audited                 AuditFile   // the audited model
	Others                  []string    // models beside it, which nobody looked at
	Written                 time.Time
	Trigger                 []byte // PNG of the recovered trigger; nil for none
	Explanations            []Explanation
}

// AuditClass is what an audit found of one class, or of the encoder.
type AuditClass struct {
	Name                          string
	Index, Score, Loss, ASR, Norm float64
}

// AuditReferences says what the model was held against.
type AuditReferences struct {
	Count    int
	Source   string
	Accuracy float64
	P        float64
	Others   []float64 // that of each reference beside the others; none where it is not known
}

// AuditFile is a file and its SHA-256.
type AuditFile struct{ Path, SHA256 string }
