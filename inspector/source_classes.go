package inspector

import (
	"context"
	"errors"
	"fmt"
	"slices"

	vec "gonum.org/v1/gonum/floats"

	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// A trigger may work on images of one class alone, its source class (Tang et al., USENIX Security 2021).
// A perturbation of all pool images knows nothing of it. So each class is also reached from the
// labelled images of every other one, and what of that reach is the pair's own is held against the
// references as the reach of single classes is.

// CheckSourceClasses is CheckPool, and refuses to look for source classes without labelled images,
// or where the reach is left out.
func CheckSourceClasses(f Facts) error {
	if LooksForSourceClasses(f.Settings) && f.Settings.String("evidence") == "vectors" {
		return errors.New("source-classes=true looks at how nearly classes are reached, which evidence=vectors leaves out: leave one of them out")
	}
	if LooksForSourceClasses(f.Settings) && f.Labelled == 0 {
		return errors.New("source-classes=true looks at labelled images of every class, and there are none: " +
			"give them (inspect --shots FOLDER; in a suite references.source=shots), or leave source-classes out")
	}
	return CheckPool(f)
}

// fromSourceClasses returns how nearly a brief inversion on the labelled images of class s reaches
// class t, [K][K] with 0 where both are one, and how many images went through the model. It is nil
// where nobody asks for it.
func (inv Inversion) fromSourceClasses(ctx context.Context, in Input) (from [][]float64, passes int64, err error) {
	if !LooksForSourceClasses(in.Settings) {
		return nil, 0, nil
	}
	k := len(in.Model.Classes)
	n, images := in.Settings.Int("source-images"), make([][]int, k)
	for i, l := range in.Labelled.Labels {
		if l >= 0 && l < k {
			images[l] = append(images[l], i*max(1, in.Labelled.Views))
		}
	}
	for s := range k {
		if len(images[s]) == 0 {
			return nil, 0, fmt.Errorf("source-classes: there is no labelled image of class %d", s)
		}
		part, i := in, inv
		part.Pool = triggers.Rows(in.Labelled.Images, images[s])
		part.Progress = in.progress(k+s*(k-1), (k-1-s)*(k-1)+in.finalists())
		if in.Kept != nil {
			part.Kept = keptOf{in.Kept, fmt.Sprintf("source-class-%d-", s)}
		}
		i.Targets = without(everyView(k, 1), s)
		i = i.brief(n, min(in.Settings.Int("source-batch"), len(images[s]), n))
		rows := everyView(len(images[s]), 1)
		outcomes, more, err := i.Run(ctx, part, rows, rows)
		if err != nil {
			return nil, 0, err
		}
		from = append(from, slices.Insert(reached(outcomes), s, 0))
		passes += more
	}
	return from, passes, nil
}

// LooksForSourceClasses tells whether settings of a detector ask for labelled images.
func LooksForSourceClasses(s settings.Values) bool {
	on, _ := s["source-classes"].(bool) // other detectors have no such setting
	return on
}

// idleOfSourceClasses names the settings that decide nothing where nobody looks for source classes.
func idleOfSourceClasses(f Facts) []string {
	if LooksForSourceClasses(f.Settings) {
		return nil
	}
	return []string{"source-classes", "source-images", "source-batch"}
}

// sourcePasses is how many images go through the model to look for source classes.
func sourcePasses(f Facts) float64 {
	n := f.Settings.Int("source-images")
	batch := min(f.Settings.Int("source-batch"), n)
	return float64(pairs(f.Settings, len(f.Model.Classes)) * (n / batch * batch))
}

// pairs is how many pairs of a source and a target are looked at; 0 where nobody asks for it.
func pairs(s settings.Values, k int) int {
	if !LooksForSourceClasses(s) {
		return 0
	}
	return k * (k - 1)
}

// labelledOf are the labels as those of some of the classes alone, -1 for images of the others.
func labelledOf(d prompts.Data, classes []int) prompts.Data {
	labels := make([]int, len(d.Labels))
	for i, l := range d.Labels {
		labels[i] = slices.Index(classes, l)
	}
	d.Labels = labels
	return d
}

// interactions returns what of the reach of each class t from each other class s neither explains
// alone, by s and then t:
//
//	d_st = b_st - mean over s of b_st,   e_st = d_st - mean over t of d_st
//
// A class that is reached easily, from everywhere, is no news: all images have told it.
func interactions(from [][]float64) []float64 {
	k := len(from)
	n := float64(k - 1)
	target := make([]float64, k)
	for s, row := range from {
		for t, b := range row {
			if t != s {
				target[t] += b / n
			}
		}
	}
	var out []float64
	for s, row := range from {
		d, mean := make([]float64, 0, k-1), 0.0
		for t, b := range row {
			if t != s {
				d = append(d, b-target[t])
				mean += (b - target[t]) / n
			}
		}
		vec.AddConst(-mean, d)
		out = append(out, d...)
	}
	return out
}

// tailsOfPairs returns the probability of the reach of each target t from each source s on clean
// models like the references, [K][K]; 1 where both are one.
func tailsOfPairs(model *Evidence, references []*Evidence, s settings.Values) ([][]float64, error) {
	k := len(model.From)
	of := make([][]float64, len(references))
	for i, e := range references {
		if len(e.From) != k {
			return nil, fmt.Errorf("a reference was looked at from %d classes' images, the model from those of %d", len(e.From), k)
		}
		of[i] = interactions(e.From)
	}
	tails := newNull(of, s.Float("prior"), s.Float("spread")).tails(interactions(model.From), false)
	p := make([][]float64, k)
	for source := range p {
		p[source] = slices.Insert(slices.Clone(tails[source*(k-1):(source+1)*(k-1)]), source, 1)
	}
	return p, nil
}

// joined returns the probability of each class's evidence, from all images (p) or from those of one
// class alone (pairs), and that class, -1 where all images say more.
func joined(p []float64, pairs [][]float64) (out []float64, sources []int) {
	out, sources = slices.Clone(p), make([]int, len(p))
	for t := range out {
		least := 0
		for s := range pairs {
			if pairs[s][t] < pairs[least][t] {
				least = s
			}
		}
		sources[t] = -1
		if from := ofClasses(pairs[least][t], len(p)-1); from < p[t] {
			out[t], sources[t] = from, least
		}
		out[t] = ofClasses(out[t], 2)
	}
	return out, sources
}

// keptOf keeps what belongs to a part of an inspection under names of its own.
type keptOf struct {
	Kept
	prefix string
}

func (k keptOf) Load(name string) ([]byte, error)    { return k.Kept.Load(k.prefix + name) }
func (k keptOf) Save(name string, data []byte) error { return k.Kept.Save(k.prefix+name, data) }
