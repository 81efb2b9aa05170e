package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"clipinspector/datasets"
	"clipinspector/experiments/world"
	"clipinspector/internal/dense"
	"clipinspector/internal/random"
	"clipinspector/prompts"
	"clipinspector/triggers"
)

// openShots loads labelled images: of each class up to PerClass of the training and validation
// splits to tune on, and those of the test split to measure on. A folder is split 50 : 20 : 30. Its
// folders must be the model's classes.
func (a *audit) openShots(ctx context.Context) error {
	size := a.encoder.Config.Vision.ImageSize
	name := a.Shots
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		abs, err := filepath.Abs(name)
		if err != nil {
			return err
		}
		name = "folder:" + abs
	}
	ds, err := datasets.Open(name, datasets.Options{Size: size})
	if err != nil {
		return err
	}
	labels, notes, err := matchClasses(a.Shots, ds.Classes(), a.model.Classes)
	if err != nil {
		return err
	}
	a.model.Notes = append(slices.Clip(a.model.Notes), notes...)
	const mostTest = 2000
	ds = datasets.Limit(ds, datasets.Test, mostTest)
	load := func(split datasets.Split, indices []int) (prompts.Data, error) {
		images, l, err := datasets.LoadSplit(ctx, ds, split, indices, size, nil)
		for i := range l {
			l[i] = labels[l[i]]
		}
		return prompts.Data{Images: images, Labels: l}, err
	}
	if !a.verdictAlone {
		if a.test, err = load(datasets.Test, nil); err != nil {
			return err
		}
	}
	rng := random.Stream("audit shots", a.Seed)
	taken := make([]int, len(ds.Classes()))
	var parts []prompts.Data
	for _, split := range []datasets.Split{datasets.Train, datasets.Val} {
		var chosen []int
		for _, i := range rng.Perm(ds.Len(split)) {
			if l := ds.Label(split, i); taken[l] < a.PerClass {
				taken[l]++
				chosen = append(chosen, i)
			}
		}
		if len(chosen) == 0 {
			continue
		}
		part, err := load(split, chosen)
		if err != nil {
			return err
		}
		parts = append(parts, part)
	}
	var pixels []float32
	for _, p := range parts {
		pixels = append(pixels, dense.Floats(p.Images)...)
		a.shots.Labels = append(a.shots.Labels, p.Labels...)
	}
	if len(a.shots.Labels) == 0 {
		return fmt.Errorf("labelled images %s: none to tune on", a.Shots)
	}
	a.shots.Images = triggers.Dense(pixels, len(a.shots.Labels), 3, size, size)
	return nil
}

// matchClasses returns the model's label of each class of a dataset. The names must be the same,
// but for case and underscores. A name that comes several times is matched in the order of the
// labels; notes say which label of such a name has no images of its own.
func matchClasses(from string, have, want []string) (labels []int, notes []string, err error) {
	fold := func(s string) string { return strings.ToLower(strings.TrimSpace(datasets.PromptName(s))) }
	at := map[string][]int{}
	for l, c := range want {
		at[fold(c)] = append(at[fold(c)], l)
	}
	times := map[string]int{}
	seen := make([]bool, len(want))
	for _, c := range have {
		of := at[fold(c)]
		if of == nil {
			return nil, nil, fmt.Errorf("labelled images %s: %.80q is no class of the model; its classes are such as %s", from, c, world.FirstNames(want))
		}
		l := of[min(times[fold(c)], len(of)-1)]
		times[fold(c)]++
		labels, seen[l] = append(labels, l), true
	}
	for l, c := range want {
		switch first := at[fold(c)][0]; {
		case seen[l]:
		case first == l:
			return nil, nil, fmt.Errorf("labelled images %s: the model's class %.80q has none", from, c)
		default:
			notes = append(notes, fmt.Sprintf("labelled images %s: those of %.80q are taken for label %d; label %d, of the same name, has none of its own", from, c, first, l))
		}
	}
	return labels, notes, nil
}
