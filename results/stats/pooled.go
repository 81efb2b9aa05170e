package stats

import (
	"slices"
	"strings"

	"clipinspector/results/store"
)

// pooledSettings are the settings that a row of a table pools though they might be told apart:
// path, as Summarise takes it, and values, ascending. Among cells of one dataset that is every
// setting with several values. Among those of several it is not what comes with a dataset: its own
// facts, and the pictures that its pools leave out.
func pooledSettings(cells []variant, dataset func(i int) string) Object[[]any] {
	within, across := make([]variant, len(cells)), cells
	for i, c := range cells {
		within[i] = variant{c.group + "\x00" + dataset(i), c.settings}
	}
	var out Object[[]any]
	for _, x := range findSwept(across) {
		if top, _, _ := strings.Cut(x.path, "."); !slices.Contains([]string{"dataset", "seed", "size", "ood", "pool"}, top) {
			out = append(out, Entry[[]any]{x.path, x.values})
		}
	}
	for _, x := range findSwept(within) {
		if _, known := out.Get(x.path); !known && x.path != "seed" && x.path != "size" { // seeds are there to be pooled; a size is its encoder's
			out = append(out, Entry[[]any]{x.path, x.values})
		}
	}
	return out
}

// pooledModels are the settings that models of one attack have different values of.
func pooledModels(models []store.ModelRow) Object[[]any] {
	cells := make([]variant, len(models))
	for i, m := range models {
		cells[i] = variant{m.Cell.Attack, m.Cell.Settings}
	}
	return pooledSettings(cells, func(i int) string { return models[i].Cell.Dataset })
}

// pooledDetections are those that detections by one detector have, on models of the given datasets.
func pooledDetections(detections []store.DetectionRow, datasets []string) Object[[]any] {
	cells := make([]variant, len(detections))
	for i, d := range detections {
		cells[i] = variant{"", d.Cell.Settings}
	}
	return pooledSettings(cells, func(i int) string { return datasets[i] })
}

// join adds the entries of names that o does not have, and the values that it lacks.
func join(o, more Object[[]any]) Object[[]any] {
	for _, e := range more {
		i := slices.IndexFunc(o, func(have Entry[[]any]) bool { return have.Name == e.Name })
		if i < 0 {
			o = append(o, Entry[[]any]{e.Name, slices.Clone(e.Value)})
			continue
		}
		for _, v := range e.Value {
			if !slices.ContainsFunc(o[i].Value, func(have any) bool { return ValueText(have) == ValueText(v) }) {
				o[i].Value = append(o[i].Value, v)
			}
		}
		slices.SortFunc(o[i].Value, compareValues)
	}
	return o
}
