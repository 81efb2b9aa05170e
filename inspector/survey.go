package inspector

import (
	"cmp"
	"context"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/internal/dense"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/triggers"
)

// surveyed are drawn members of a family, and by how much each moves each class [member][class].
type surveyed struct {
	family
	members [][]*tensor.Dense
	lifts   [][]float64
}

// best are the best quarter of the members for a class, best first.
func (f *surveyed) best(c int) (members [][]*tensor.Dense) {
	for _, i := range f.order(c) {
		members = append(members, f.members[i])
	}
	return members
}

func (f *surveyed) order(c int) []int {
	order := make([]int, len(f.members))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(f.lifts[b][c], f.lifts[a][c]) })
	return order[:(len(order)+3)/4]
}

// lift is the mean lift of a class over the best quarter of the members, in logits.
func (f *surveyed) lift(c int) (mean float64) {
	best := f.order(c)
	for _, i := range best {
		mean += f.lifts[i][c] / float64(len(best))
	}
	return mean
}

// spread is the share of the members that move a class at least half as much as the best quarter
// does.
func (f *surveyed) spread(c int) float64 {
	n, half := 0, f.lift(c)/2
	for _, l := range f.lifts {
		if l[c] >= half {
			n++
		}
	}
	return float64(n) / float64(len(f.lifts))
}

// survey draws members of a family and measures by how much more, in logits, each moves images
// towards each class in the model than in zero-shot CLIP.
func (e *explainer) survey(ctx context.Context, f family) (*surveyed, error) {
	v := &surveyed{family: f}
	rng := random.Stream("explain", f.kind, e.Seed)
	images := triggers.Rows(e.Pool, e.optimise[:min(len(e.optimise), e.s.Int("images"))])
	n := images.Shape()[0]
	all := slices.Clone(dense.Floats(images))
	for range e.s.Int("draws") {
		drawn := f.draw(e.size, e.Pool, rng)
		v.members = append(v.members, drawn)
		with, err := prompts.Triggered(ctx, e.Model.CLIP.Engine(), images, f.trigger(drawn, e.size))
		if err != nil {
			return nil, err
		}
		all = append(all, dense.Floats(with)...)
	}
	model, zero, err := e.answers(ctx, triggers.Dense(all, n*(1+len(v.members)), 3, e.size, e.size))
	if err != nil {
		return nil, err
	}
	k := len(e.Model.Classes)
	each := n * k
	e.unit = 0
	for i := range n {
		row := model[i*k : (i+1)*k]
		for _, z := range row {
			e.unit += float64(slices.Max(row)-z) / float64(each)
		}
	}
	for d := range v.members {
		of := make([]float64, k)
		moved := make([]float32, k)
		for i := range n {
			at := (d+1)*each + i*k
			for j := range k {
				moved[j] = model[at+j] - model[i*k+j] - (zero[at+j] - zero[i*k+j])
			}
			for c := range k {
				of[c] -= gap(moved, c) / float64(n)
			}
		}
		v.lifts = append(v.lifts, of)
	}
	return v, nil
}
