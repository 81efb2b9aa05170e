package inspector

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/internal/dense"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/settings"
)

// Sources of the labelled images that references are tuned on.
const (
	FromShots = "shots" // the provider's own few-shot images, which the client has
	FromPool  = "pool"  // pool images, labelled by zero-shot CLIP: for who has the model alone
)

// ReferenceParams are the settings of references, besides learner and tuning.
var ReferenceParams = []settings.Param{
	{Name: "count", Unit: "models", Doc: "clean references of each learner, encoder, classes and few-shot sample", Default: 6, Min: FewestReferences, Max: 1000},
	{Name: "source", Doc: "what references are tuned on: the provider's own few-shot images (shots), or pool images that zero-shot CLIP labels (pool)", Default: FromShots, Choices: []string{FromShots, FromPool}},
	LongestParam,
}

// LongestParam is the setting of references that says how long the longest of them is tuned.
var LongestParam = settings.Param{Name: "longest", Unit: "times the epochs", Doc: "how long the longest reference is tuned; the others for other numbers of epochs down to once, since nobody but the provider knows how long he tuned; 1: all alike; 0: 8 with few-shot images, and 1 from the pool, where it finds less and spares no false alarm", Default: 0.0, Min: 0, Max: 100}

// Longest is what a value of LongestParam stands for with references of a source: itself, or for 0
// what that source takes. Below 1 the others are tuned for less than the first.
func Longest(longest float64, source string) float64 {
	switch {
	case longest != 0:
		return longest
	case source == FromShots:
		return 8
	}
	return 1
}

// ReferenceTuning is how the i-th reference is tuned, from 0: for other epochs than those before it,
// between those of tuning and longest times as many, evenly on the scale of their ratios. The first
// has the fewest and the second the most, the next ones halve what is between, so that the i-th does
// not depend on how many there are.
func ReferenceTuning(tuning settings.Values, longest float64, i int) settings.Values {
	share := 0.0 // of the way to longest: 0, 1, 1/2, 1/4, 3/4, 1/8, ...
	if i == 1 {
		share = 1
	}
	for n, step := i-1, 0.5; i > 1 && n > 0; n, step = n/2, step/2 {
		share += float64(n%2) * step
	}
	t := maps.Clone(tuning)
	t["epochs"] = max(1, int(math.Round(float64(tuning.Int("epochs"))*math.Pow(longest, share))))
	return t
}

// TuneReference makes of a model with prompts of its own a clean reference, tuned as a provider
// might have done: on as many images of each class as data has, drawn with replacement. It returns
// its accuracy on other images: those held out or, where there are none, those that were not drawn.
func TuneReference(ctx context.Context, m *prompts.Model, data, heldOut prompts.Data, tuning settings.Values, seed uint64) (accuracy float64, err error) {
	if data, err = prompts.Encoded(ctx, m, data); err != nil {
		return 0, err
	}
	drawn, left := resample(data, random.Named("ref", seed))
	if _, err := prompts.Tune(ctx, m, drawn, tuning, nil, seed, nil); err != nil {
		return 0, err
	}
	switch {
	case len(heldOut.Labels) > 0:
	case len(left.Labels) > 0:
		heldOut = left
	default: // one image of each class
		heldOut = drawn.Rows(everyView(len(drawn.Labels), drawn.Views))
	}
	predicted, err := m.Predicted(ctx, heldOut)
	if err != nil {
		return 0, err
	}
	return prompts.Accuracy(predicted, heldOut.Labels), nil
}

// everyView lists the rows of the first view of each of n images.
func everyView(n, views int) []int {
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i * max(1, views)
	}
	return rows
}

// resample draws as many images of each class as there are, with replacement, each with its views;
// left are those that were not drawn, as they are.
func resample(d prompts.Data, rng *rand.Rand) (drawn, left prompts.Data) {
	views := max(1, d.Views)
	byLabel := map[int][]int{}
	for i, l := range d.Labels {
		byLabel[l] = append(byLabel[l], i)
	}
	var rows, others []int
	seen := make([]bool, len(d.Labels))
	for _, l := range d.Labels {
		k := byLabel[l][rng.IntN(len(byLabel[l]))]
		seen[k] = true
		for v := range views {
			rows = append(rows, k*views+v)
		}
	}
	for i, s := range seen {
		if !s {
			others = append(others, i*views)
			left.Labels = append(left.Labels, d.Labels[i])
		}
	}
	drawn = d.Rows(rows)
	if len(others) > 0 {
		labels := left.Labels
		left = d.Rows(others)
		left.Labels, left.Views = labels, 0
	}
	return drawn, left
}

// WholePool is a pool for who needs the images that are drawn, with the frozen tower's features
// beside them.
func WholePool(ctx context.Context, c *clip.Model, pool *tensor.Dense) (prompts.Data, error) {
	f, err := prompts.Encode(ctx, c, pool, nil)
	return prompts.Data{Images: pool, Features: f}, err
}

// EncodedPool is a pool for the references of a model: the frozen tower's features, and the images
// where the learner is tuned on them.
func EncodedPool(ctx context.Context, m *prompts.Model, pool *tensor.Dense) (d prompts.Data, err error) {
	if d, err = prompts.Encoded(ctx, m, prompts.Data{Images: pool}); err == nil && d.Features == nil {
		d.Features, err = prompts.Encode(ctx, m.CLIP, pool, nil)
	}
	return d, err
}

// candidates is among how many times as many images the images of a class are drawn from; see
// PoolShots.
const candidates = 2.5

// PoolShots labels pool images as zero-shot CLIP does: for each class so many images, drawn with
// replacement from the two and a half times as many of a random half of the pool that it thinks
// likeliest to show the class. Images may serve several classes; pool images show none. The
// likeliest alone would make references that are too much alike. heldOut is the other half, each
// image with the class that zero-shot CLIP puts it into. pool is as EncodedPool or WholePool
// returns it.
func PoolShots(ctx context.Context, c *clip.Model, classes []string, pool prompts.Data, perClass int, seed uint64) (data, heldOut prompts.Data, err error) {
	rng := random.Named("pool", seed)
	order := rng.Perm(pool.Features.Shape()[0])
	half, others := order[:len(order)/2], order[len(order)/2:]
	if len(half) == 0 {
		return data, heldOut, fmt.Errorf("pool images that zero-shot CLIP labels: a pool of %d images is too small", len(order))
	}
	zero, err := zeroShotOf(c, classes, "a photo of a")
	if err != nil {
		return data, heldOut, err
	}
	heldOut = pool.Rows(others)
	logits, err := zero.LogitsOf(ctx, heldOut.Features)
	if err != nil {
		return data, heldOut, err
	}
	heldOut.Labels = prompts.ArgMax(logits)
	if logits, err = zero.LogitsOf(ctx, pool.Rows(half).Features); err != nil {
		return data, heldOut, err
	}
	k, z := len(classes), dense.Floats(logits)
	likely := make([]float64, len(z)) // log probabilities
	for i := range half {
		row := z[i*k : (i+1)*k]
		most, sum := float64(slices.Max(row)), 0.0
		for _, v := range row {
			sum += math.Exp(float64(v) - most)
		}
		for t, v := range row {
			likely[i*k+t] = float64(v) - most - math.Log(sum)
		}
	}
	var rows, labels []int
	for t := range k {
		order := everyView(len(half), 1)
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(likely[b*k+t], likely[a*k+t]) })
		order = order[:min(len(order), int(math.Ceil(candidates*float64(perClass))))]
		for range perClass {
			rows = append(rows, half[order[rng.IntN(len(order))]])
			labels = append(labels, t)
		}
	}
	data = pool.Rows(rows)
	data.Labels, data.Views = labels, 1
	return data, heldOut, nil
}
