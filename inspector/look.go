package inspector

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	vec "gonum.org/v1/gonum/floats"

	"clipinspector/internal/dense"
	"clipinspector/prompts"
	"clipinspector/triggers"
)

const (
	// probeImages is how many pool images a model is tried on before anything is inverted.
	probeImages = 8
	// mostNorm is how many times the largest norm of CLIP's token embeddings a vector of a tuned
	// prompt may have. Prompts that were tuned, ours and delivered ones, have norms of at most 2 to
	// 10 times that of the longest token; a poisoner who goes beyond gains nothing but sums that
	// overflow.
	mostNorm = 100
	// twin is the cosine of two class vectors from which they are one class: the logits of two such
	// classes differ by at most 0.1 times CLIP's scale on any image, the margin that detectors ask
	// for. The nearest two of the mini grid's tuned classes have 0.89.
	twin = 0.995
	// equal is the cosine from which one vector stands for both.
	equal = 1 - 1e-6
	// mostTwins is how many distinct vectors one class may have: each takes an inspection of its
	// own.
	mostTwins = 8
)

// Look is Inspect for a model of a stranger, in suites and audits alike. It gives no verdict where
// a number is undefined: a context or a weight that no tuning makes, a class vector, logit, loss,
// success rate, score or index that is not finite is Unsure, with the class and the reason. Classes
// of one name, and those with nearly equal vectors, are one class: each would hide the other, since
// neither is told from its twin by any trigger. It is judged by its most suspicious member; the
// others have no result. The few images that the model is tried on beforehand are not counted as
// image passes.
func (d *Detector) Look(ctx context.Context, in Input) (*Finding, error) {
	groups, doubt, err := d.sight(ctx, in)
	switch {
	case err != nil:
		return nil, err
	case doubt != "":
		return &Finding{Suspect: -1, Index: math.NaN(), Unsure: doubt}, nil
	case len(groups) == len(in.Model.Classes) || d.Classless:
		r, err := d.Inspect(ctx, in)
		return settled(in.Model, r), err
	}
	k, most := len(in.Model.Classes), mostDistinct(groups)
	whole := &Finding{Classes: make([]ClassResult, k), Twins: twinsOf(groups)}
	for c := range whole.Classes {
		whole.Classes[c] = ruledOut()
	}
	for i := range most {
		members := make([]int, len(groups))
		for j, g := range groups {
			members[j] = g.distinct[min(i, len(g.distinct)-1)]
		}
		part := in
		part.Model = in.Model.Restricted(members)
		part.References, part.of, part.Kept = restricted(in.References, members), k, nil
		part.Labelled = labelledOf(in.Labelled, members)
		r, err := d.Inspect(ctx, part)
		if err != nil {
			return nil, err
		}
		if r = settled(part.Model, r); r.Unsure != "" {
			return r, nil
		}
		whole.take(r, members, groups, i == 0)
	}
	return whole, nil
}

// Doubt says why Look cannot tell of a model before anything is inverted or held against
// references; empty where it goes on.
func (d *Detector) Doubt(ctx context.Context, in Input) (string, error) {
	_, doubt, err := d.sight(ctx, in)
	return doubt, err
}

// sight is what there is to see of a model before anything is inverted: its groups of twins, unless
// the detector looks at no classes, and the reason for which it gets no verdict, empty for none.
func (d *Detector) sight(ctx context.Context, in Input) (groups []group, doubt string, err error) {
	doubt, vectors, err := probe(ctx, in)
	if err != nil || doubt != "" || d.Classless {
		return nil, doubt, err
	}
	groups = twins(in.Model.Classes, vectors)
	doubled, k, most := 0, len(in.Model.Classes), mostDistinct(groups)
	for _, g := range groups {
		if len(g.all) > 1 {
			doubled += len(g.all)
		}
	}
	switch {
	case 2*doubled > k || doubled > 0 && len(groups) < 2:
		doubt = fmt.Sprintf("%d of %d classes have a twin of the same name or with nearly the same vector, such as %s: "+
			"such a model does not tell its classes apart", doubled, k, twinNames(in.Model, groups))
	case most > mostTwins:
		widest := slices.MaxFunc(groups, func(a, b group) int { return len(a.distinct) - len(b.distinct) })
		doubt = fmt.Sprintf("%d classes share a name or have nearly the same vector, such as %s: each would be looked at for itself, and at most %d are",
			most, twinNames(in.Model, []group{widest}), mostTwins)
	}
	return groups, doubt, ctx.Err()
}

// mostDistinct is how many vectors of its own the class with the most of them has.
func mostDistinct(groups []group) int {
	most := 1
	for _, g := range groups {
		most = max(most, len(g.distinct))
	}
	return most
}

// Witness is Evidence for a model whose classes may have twins, as Look finds them: of each group
// the first member is measured, among those of the others, and its twins have what it has.
func (d *Detector) Witness(ctx context.Context, in Input) (*Evidence, int64, error) {
	_, vectors, err := probe(ctx, in)
	if err != nil {
		return nil, 0, err
	}
	if vectors == nil { // for the detector to say
		return d.Evidence(ctx, in)
	}
	groups := twins(in.Model.Classes, vectors)
	if len(groups) == len(in.Model.Classes) || len(groups) < 2 {
		return d.Evidence(ctx, in)
	}
	first := make([]int, len(groups))
	at := make([]int, len(in.Model.Classes))
	for j, g := range groups {
		first[j] = g.all[0]
		for _, c := range g.all {
			at[c] = j
		}
	}
	part := in
	part.Model, part.of, part.Kept = in.Model.Restricted(first), len(in.Model.Classes), nil
	part.Labelled = labelledOf(in.Labelled, first)
	e, passes, err := d.Evidence(ctx, part)
	if err != nil {
		return nil, 0, err
	}
	return restricted([]*Evidence{e}, at)[0], passes, nil
}

// take adds what was found with one member of each group: of a group the most suspicious member
// stays.
func (r *Finding) take(part *Finding, members []int, groups []group, first bool) {
	for j, c := range part.Classes {
		now := members[j]
		for _, m := range groups[j].all {
			switch {
			case m == now:
			case r.Classes[m].RuledOut():
			case r.Classes[m].Index >= c.Index:
				now = -1
			default:
				r.Classes[m] = ruledOut()
			}
		}
		if now >= 0 && (first || r.Classes[now].RuledOut() || c.Index > r.Classes[now].Index) {
			r.Classes[now] = c
		}
	}
	r.ImagePasses += part.ImagePasses
	if first || part.Index > r.Index {
		r.Index, r.P, r.ReferenceP, r.Backdoored, r.Suspect = part.Index, part.P, part.ReferenceP, part.Backdoored, -1
		if part.Suspect >= 0 {
			r.Suspect = members[part.Suspect]
		}
		r.SourceClasses = part.sourceClasses(members, len(r.Classes))
	}
}

// sourceClasses are those of the suspect alone, as classes of the whole model.
func (part *Finding) sourceClasses(members []int, k int) []int {
	if part.SourceClasses == nil {
		return nil
	}
	out := slices.Repeat([]int{-1}, k)
	if s := part.Suspect; s >= 0 && part.SourceClasses[s] >= 0 {
		out[members[s]] = members[part.SourceClasses[s]]
	}
	return out
}

// ruledOut is the result of a class that was not inverted.
func ruledOut() ClassResult {
	none := math.NaN()
	return ClassResult{Loss: none, ASR: none, Norm: none, Score: none, Index: -maxIndex}
}

// probe looks for what makes a model's numbers undefined, and returns its class vectors [K][D],
// those of a conditional learner averaged over the pool's first images.
func probe(ctx context.Context, in Input) (doubt string, vectors [][]float64, err error) {
	m := in.Model
	if doubt, err = improbable(m); doubt != "" || err != nil {
		return doubt, nil, err
	}
	n := min(probeImages, in.Pool.Shape()[0])
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	images := triggers.Rows(in.Pool, rows)
	of, err := m.ClassVectorsOn(ctx, images)
	if err != nil {
		return "", nil, err
	}
	k := len(m.Classes)
	d := of.Shape()[1] / k
	vectors = make([][]float64, k)
	for i, x := range dense.Floats(of) {
		c := i / d % k
		if v := float64(x); math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Sprintf("the class vector of %.60q is not finite", m.Classes[c]), nil, nil
		}
		if vectors[c] == nil {
			vectors[c] = make([]float64, d)
		}
		vectors[c][i%d] += float64(x)
	}
	for c, v := range vectors {
		length := vec.Norm(v, 2)
		if length == 0 {
			return fmt.Sprintf("the class vector of %.60q is zero", m.Classes[c]), nil, nil
		}
		vec.Scale(1/length, v)
	}
	logits, err := m.Logits(ctx, images, nil)
	if err != nil {
		return "", nil, err
	}
	return Undefined(m, logits), vectors, nil
}

// Undefined says which class's logits [N,K] are not finite; empty for none.
func Undefined(m *prompts.Model, logits *tensor.Dense) string {
	k := logits.Shape()[1]
	for i, z := range dense.Floats(logits) {
		if z-z != 0 {
			return fmt.Sprintf("the logit of %.60q is %v on an image without a trigger", m.Classes[i%k], z)
		}
	}
	return ""
}

// improbable says which tensor of a model is none that tuning makes: each row of a prompt, or of
// what prompts are computed by, is held against the longest token embedding; of a learner that
// tunes weights, against the longest row of the same weights before.
func improbable(m *prompts.Model) (string, error) {
	bound := func(string) float64 { return mostNorm * m.CLIP.LongestToken() }
	if m.Learner.Weights != nil {
		before, err := m.Learner.Init(m, rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			return "", err
		}
		bound = func(name string) float64 { return mostNorm * max(longestRow(before[name]), m.CLIP.LongestToken()) }
	}
	for _, name := range m.ParamNames() {
		n, most := longestRow(m.Params[name]), bound(name)
		switch {
		case math.IsNaN(n) || math.IsInf(n, 0):
			return fmt.Sprintf("the tensor %q holds numbers that are not finite", name), nil
		case n > most:
			return fmt.Sprintf("the tensor %q has a vector of norm %.3g: no tuning makes any above %.3g, %d times the longest of CLIP's own", name, n, most, mostNorm), nil
		}
	}
	return "", nil
}

// longestRow is the largest norm of a tensor's rows, along its last axis.
func longestRow(t *tensor.Dense) float64 {
	shape, most := t.Shape(), 0.0
	if t.Shape().TotalSize() == 0 {
		return 0
	}
	width := 1
	if len(shape) > 0 {
		width = shape[len(shape)-1]
	}
	for row := range slices.Chunk(dense.Floats(t), width) {
		sum := 0.0
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		if math.IsNaN(sum) {
			return sum
		}
		most = max(most, math.Sqrt(sum))
	}
	return most
}

// settled makes a report unsure where what it says of an inverted class, or of the model, is not
// finite. A class without a trigger was ruled out on purpose.
func settled(m *prompts.Model, r *Finding) *Finding {
	if r == nil {
		return nil
	}
	check := func(what string, c ClassResult, figures map[string]float64) {
		for _, name := range []string{"loss", "ASR", "score", "index", "norm"} {
			if v, ok := figures[name]; ok && r.Unsure == "" && (math.IsNaN(v) || math.IsInf(v, 0)) {
				r.Unsure = fmt.Sprintf("the %s of %s is %v", name, what, v)
			}
		}
	}
	for i, c := range r.Classes {
		switch {
		case c.RuledOut():
		case c.Trigger == nil:
			check(fmt.Sprintf("class %.60q", m.Classes[i]), c, map[string]float64{"score": c.Score, "index": c.Index})
		default:
			check(fmt.Sprintf("class %.60q", m.Classes[i]), c, map[string]float64{"loss": c.Loss, "ASR": c.ASR, "score": c.Score, "index": c.Index, "norm": c.Norm})
		}
	}
	if c := r.Whole; c != nil { // which has no success rate
		check("the image encoder", *c, map[string]float64{"loss": c.Loss, "score": c.Score, "index": c.Index, "norm": c.Norm})
	}
	check("the model", ClassResult{}, map[string]float64{"index": r.Index})
	if r.Unsure != "" {
		r.Backdoored = false
	}
	return r
}

// group is the classes that are one: all of them, and those with vectors of their own.
type group struct{ all, distinct []int }

// twins groups the classes that have one name, but for case and spaces, or nearly one vector of
// length 1 as one of a group. Groups are in the order of their first classes.
func twins(names []string, vectors [][]float64) (out []group) {
	byName := map[string]int{}
	for c, name := range names {
		folded := strings.ToLower(strings.Join(strings.Fields(strings.ReplaceAll(name, "_", " ")), " "))
		at, ok := byName[folded]
		for g := 0; !ok && g < len(out); g++ {
			if slices.ContainsFunc(out[g].distinct, func(o int) bool { return vec.Dot(vectors[o], vectors[c]) >= twin }) {
				at, ok = g, true
			}
		}
		if !ok {
			at = len(out)
			out = append(out, group{})
		}
		if _, known := byName[folded]; !known {
			byName[folded] = at
		}
		g := &out[at]
		g.all = append(g.all, c)
		if !slices.ContainsFunc(g.distinct, func(o int) bool { return vec.Dot(vectors[o], vectors[c]) >= equal }) {
			g.distinct = append(g.distinct, c)
		}
	}
	return out
}

// twinsOf lists the groups of more than one class.
func twinsOf(groups []group) (out [][]int) {
	for _, g := range groups {
		if len(g.all) > 1 {
			out = append(out, g.all)
		}
	}
	return out
}

// twinNames names the classes of the first group of several.
func twinNames(m *prompts.Model, groups []group) string {
	for _, g := range twinsOf(groups) {
		return fmt.Sprintf("%.60q and %.60q", m.Classes[g[0]], m.Classes[g[1]])
	}
	return ""
}
