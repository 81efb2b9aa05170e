package suite

import (
	"fmt"
	"slices"

	"clipinspector/attacks"
	"clipinspector/settings"
)

// One cuts a suite file down to a single model, which no detector looks at: the given dataset,
// attack and seed with the file's other settings. An attack that the file does not list has its
// default settings.
func One(f *File, dataset, attack string, seed int) (*File, error) {
	if len(f.Suites) != 1 {
		return nil, fmt.Errorf("%s sweeps over %d combinations: one model needs one", f.Path, len(f.Suites))
	}
	u := f.Suites[0]
	d := DatasetSpec{Name: dataset}
	if i := slices.IndexFunc(u.Datasets, func(x DatasetSpec) bool { return x.Name == dataset }); i >= 0 {
		d = u.Datasets[i]
	}
	var a Choice
	if i := slices.IndexFunc(u.Attacks, func(x Choice) bool { return x.Name == attack }); i >= 0 {
		a = u.Attacks[i]
	} else {
		known, err := attacks.Find(attack)
		if err != nil {
			return nil, err
		}
		a.Name, a.Content = attack, known.Content
		if a.Settings, err = settings.Resolve(known.Params, nil); err != nil {
			return nil, err
		}
	}
	u.Name = fmt.Sprintf("%s-%s-%d", dataset, attack, seed)
	u.Datasets, u.Attacks, u.Seeds, u.Detectors = []DatasetSpec{d}, []Choice{a}, []int{seed}, nil
	return &File{Path: f.Path, Text: f.Text, Extends: f.Extends, Sets: f.Sets, Name: u.Name, Suites: []Suite{u}}, nil
}
