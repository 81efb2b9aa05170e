package experiments

import (
	"clipinspector/inspector"
	"clipinspector/triggers"
)

// decide turns a report into a decision. Where no class is looked at, none has to stand out from the others.
func (a *audit) decide(r *inspector.Report) (Decision, string) {
	k := a.options.Float("k")
	if !a.detector.Classless {
		return Decide(r.Index, k, len(a.model.Classes))
	}
	d, why := Decide(r.Index, k, fewestClasses)
	return d, why + "; it is the image encoder's: this detector sees no prompts"
}

// rows are what the detector found, by class or of the encoder.
func (f *Finding) rows() []ClassFinding {
	if f.Encoder != nil {
		return []ClassFinding{*f.Encoder}
	}
	return f.Classes
}

// trigger is what was recovered for the suspect, or for the encoder; nil for nothing.
func (f *Finding) trigger() triggers.Trigger {
	switch r := f.report; {
	case r.Whole != nil:
		return r.Whole.Trigger
	case r.Suspect >= 0:
		return r.Classes[r.Suspect].Trigger
	}
	return nil
}
