package experiments

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"clipinspector/datasets"
	"clipinspector/experiments/world"
	"clipinspector/results/store"
)

// leftOut says of each dataset and pool of a plan which files it does not use, one line each, in
// the order of the plan.
func (p *Plan) leftOut() []string {
	var out []string
	add := func(what string, x any) {
		for _, note := range datasets.LeftOut(x) {
			if line := what + ": " + note; !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
	}
	for _, m := range p.Models {
		add("dataset "+m.Set.ResultName(), m.Set.Dataset)
		add("pool "+m.ood.ResultName(), m.ood.Pool)
	}
	for _, d := range p.Detections {
		add("pool "+d.Pool.ResultName(), d.Pool.Pool)
	}
	return out
}

// settings are the file's, and which files of the data no cell uses.
func (p *Plan) settings() map[string]any {
	m := p.File.Settings()
	if notes := p.leftOut(); len(notes) > 0 {
		m["left-out"] = notes
	}
	if p.shard.Of > 0 {
		m[shardSetting] = map[string]any{"of": p.shard.Of, "models": p.whole}
		m[store.PartialSetting] = fmt.Sprintf("partial: shard %s, %d of %d models", p.shard, len(p.Models), p.whole)
	}
	return m
}

// replaced says, one line for each dataset, which models of the suite in the store are of other
// pictures than the plan's: of the same name, with another fingerprint. They are kept, and not
// mixed with those of the plan.
func (p *Plan) replaced(rows []store.ModelRow) []string {
	var out, done []string
	for _, m := range p.Models {
		if slices.Contains(done, m.Dataset.Name) || !datasets.OnDisk(m.Set.Dataset) {
			continue
		}
		done = append(done, m.Dataset.Name)
		n := 0
		for _, row := range rows {
			was, _ := row.Cell.Settings["dataset"].(map[string]any)
			base, _, folder := strings.Cut(m.Set.ResultName(), "#")
			same := was["name"] == m.Dataset.Name || folder && strings.HasPrefix(row.Cell.Dataset, base+"#")
			if same && p.models[row.Cell.Key] == nil && was["fingerprint"] != m.Set.Fingerprint() {
				n++
			}
		}
		if n > 0 {
			out = append(out, fmt.Sprintf("dataset %s: %d models in the store are of other pictures, or of a version that knew pictures by name and size"+
				" alone: they are made anew from what is there now", m.Set.ResultName(), n))
		}
	}
	return out
}

// verify decodes every picture on the disk that an unfinished cell will read, once, and returns one
// error that lists all which cannot be read.
func (p *Plan) verify(w *world.World, results *store.Store) error {
	models, err := results.Models(p.File.Name)
	if err != nil {
		return err
	}
	detections, err := results.Detections(p.File.Name)
	if err != nil {
		return err
	}
	var seen []string
	var broken []error
	look := func(key, what string, x any, get func(i int) (*datasets.RGB, error), indices []int) error {
		if !datasets.OnDisk(x) || slices.Contains(seen, key) {
			return nil
		}
		seen = append(seen, key)
		bad, err := datasets.Unreadable(w.Context(), get, indices, w.Steps("looking at", what))
		for _, e := range bad {
			if !slices.ContainsFunc(broken, func(b error) bool { return b.Error() == e.Error() }) {
				broken = append(broken, e)
			}
		}
		return err
	}
	of := func(pool *world.Pool) error {
		return look("pool "+pool.Fingerprint, "pool "+pool.ResultName(), pool.Pool, pool.Image, pool.Indices)
	}
	for _, row := range models {
		job := p.models[row.Cell.Key]
		if row.State == store.Finished || job == nil {
			continue
		}
		s := job.Set
		train, _, err := datasets.FewShot(s.Dataset, job.Suite.Shots, job.Seed)
		if err != nil {
			return err
		}
		get := func(split datasets.Split) func(i int) (*datasets.RGB, error) {
			return func(i int) (*datasets.RGB, error) { return s.Image(split, i) }
		}
		err = errors.Join(
			look(fmt.Sprint("shots ", s.Key, job.Suite.Shots, job.Seed), "shots of "+s.ResultName(), s.Dataset, get(datasets.Train), train),
			look("test "+s.Key, "test pictures of "+s.ResultName(), s.Dataset, get(datasets.Test), datasets.All(s.Len(datasets.Test))),
			of(job.ood))
		if err != nil {
			return err
		}
	}
	for _, row := range detections {
		if job := p.detections[row.Cell.Key]; job != nil && row.State != store.Finished {
			if err := of(job.Pool); err != nil {
				return err
			}
		}
	}
	if err := datasets.Joined(broken); err != nil {
		return fmt.Errorf("suite %s: %w\n(take them away or replace them; nothing was computed)", p.File.Name, err)
	}
	return nil
}
