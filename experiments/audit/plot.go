package audit

import (
	"fmt"
	"image"
	"io"

	"clipinspector/internal/printable"
	"clipinspector/results/plots"
)

// drawFinding draws the index of every class, or of the encoder, the suspect's of a model that is
// not clean hatched, the threshold k, and the recovered trigger, as PNG.
func drawFinding(w io.Writer, f *Report, trigger *image.NRGBA) error {
	v := plots.Verdict{Title: "Verdict: " + string(f.Decision), Caption: fmt.Sprintf("Anomaly index %.2f, by %s.", float64(f.Index), f.Detector["name"]),
		K: f.K, Suspect: -1}
	if f.Suspect != "" && f.Decision != DecisionClean {
		v.Suspect = f.report.Suspect
		v.Caption += fmt.Sprintf(" Suspected target: %.40q.", printable.Text(f.Suspect))
	}
	for _, c := range f.rows() {
		v.Names, v.Index = append(v.Names, c.Class), append(v.Index, float64(c.Index))
	}
	if trigger != nil {
		v.Trigger = trigger
	}
	return v.Figure().WritePNG(w)
}
