package cmd

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"gorgonia.org/tensor"

	"clipinspector/configs"
	"clipinspector/datasets"
	"clipinspector/engine/plain"
	"clipinspector/experiments"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/inspector"
	"clipinspector/prompts"
	"clipinspector/results/plots"
	"clipinspector/results/store"
	"clipinspector/triggers"
)

// plotFolder is where the pictures of a suite lie below the output folder.
func plotFolder(suite string) string { return filepath.Join("plots", suite) }

// plotSuites draws every figure that applies to a suite, or without a name to each suite of the
// folder, into plotFolder below the output folder. It prints the files, and which figures do not
// apply and why. models names the models to show class by class; see plots.Data.Cases.
func plotSuites(ctx context.Context, w io.Writer, out, suite string, models []string) error {
	s, suites, err := openSuites(out, suite)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, u := range suites {
		d, err := plots.Read(s, u.Name)
		if err != nil {
			return err
		}
		cases, err := d.Cases(models)
		if err != nil {
			return err
		}
		if err := newIllustrator(w, out, u).fill(ctx, cases); err != nil {
			return err
		}
		folder := filepath.Join(out, plotFolder(u.Name))
		if err := experiments.NoLinks(out, plotFolder(u.Name)); err != nil {
			return err
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return fmt.Errorf("drawing suite %s: %w", u.Name, err)
		}
		figures, omitted := plots.Figures(d, cases)
		for _, f := range figures {
			files, err := f.Write(folder)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s (also %s): %s\n", files[0], filepath.Ext(files[1]), f.Title)
		}
		for _, o := range omitted {
			fmt.Fprintf(w, "not drawn: %s: %s\n", o.Name, o.Reason)
		}
	}
	return nil
}

// illustrator fills in what pictures show of a suite's models, from the run's folder and from the
// datasets that it names.
type illustrator struct {
	out   string
	mu    sync.Mutex // pages are filled by several requests at once
	world *world.World
	file  *suite.File // empty where it was written by another version of this program: its data cannot be told
	say   io.Writer   // what could not be drawn, and why
	sets  map[string]*world.Set
}

func newIllustrator(say io.Writer, out string, u store.Suite) *illustrator {
	f, err := suiteOf(u)
	if err != nil {
		f = &suite.File{}
	}
	return &illustrator{out: out, world: world.New(), file: f, say: say, sets: map[string]*world.Set{}}
}

// suiteOf reads the suite file that a suite was planned from, as the store keeps it.
func suiteOf(u store.Suite) (*suite.File, error) {
	path, _ := u.Settings["file"].(string)
	var sets []string
	if list, ok := u.Settings["set"].([]any); ok {
		for _, x := range list {
			if text, ok := x.(string); ok {
				sets = append(sets, text)
			}
		}
	}
	if path == configs.MiniPath {
		return suite.ParseFS(configs.Suites, path, []byte(u.YAML), sets)
	}
	return suite.Parse(path, []byte(u.YAML), sets)
}

// fill fills in what the gallery shows of models, and the classes' names. What is not on the disk
// or has changed since, such as pictures that are no longer there, is left out.
func (p *illustrator) fill(ctx context.Context, cases []plots.Case) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, out := p.say, p.out
	for i := range cases {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := &cases[i]
		var err error
		c.Classes, err = readBelow(c.Model.Result.Path, func() ([]string, error) { return prompts.StoredClasses(filepath.Join(out, c.Model.Result.Path)) })
		if err != nil { // costs the names alone
			fmt.Fprintf(w, "without class names: model %s: %v\n", store.ShortKey(c.Model.Cell.Key), err)
		}
		for j := range c.Recovered {
			r := &c.Recovered[j]
			got, err := readBelow(r.Path, func() (triggers.Trigger, error) {
				all, err := experiments.Recovered(out, r.Path, r.Hash)
				if err != nil || r.Class >= len(all) {
					return nil, err
				}
				return all[r.Class], nil
			})
			if err != nil {
				fmt.Fprintf(w, "not drawn: the trigger that %s recovered of model %s: %v\n", r.Detector, store.ShortKey(c.Model.Cell.Key), err)
			}
			if got != nil {
				r.Picture = triggers.Draw(got)
			}
		}
		avoid := []int{}
		var planted triggers.Trigger
		if c.Model.Result.Backdoored {
			avoid = append(avoid, c.Model.Result.Target)
			planted, err = readBelow(c.Model.Result.Path, func() (triggers.Trigger, error) { return experiments.Planted(out, c.Model.Result) })
			if err != nil { // costs this picture alone
				fmt.Fprintf(w, "not drawn: the trigger of model %s: %v\n", store.ShortKey(c.Model.Cell.Key), err)
			}
		}
		explaining := make([]triggers.Trigger, len(c.Explained))
		for j := range c.Explained {
			x := &c.Explained[j]
			avoid = append(avoid, x.Result.Class)
			explaining[j], err = readBelow(x.Result.Path, func() (triggers.Trigger, error) { return experiments.Explained(out, x.Result) })
			if err != nil {
				fmt.Fprintf(w, "not drawn: the trigger that explains model %s: %v\n", store.ShortKey(c.Model.Cell.Key), err)
			}
			x.Says, x.Unit = says(x.Result, explaining[j]), inspector.SizeUnit(x.Result.Strongest)
		}
		show := func(t triggers.Trigger) (trigger, before, after image.Image, err error) {
			if t == nil {
				return nil, nil, nil, nil
			}
			pixels, err := p.testPicture(ctx, c.Model.Cell, t.Size(), avoid)
			if err != nil || pixels == nil {
				return triggers.Draw(t), nil, nil, err
			}
			changed, err := prompts.Triggered(ctx, plain.New[float32](), pixels, t)
			if err != nil {
				return nil, nil, nil, err
			}
			return triggers.Draw(t), picture(pixels), picture(changed), nil
		}
		if c.Trigger, c.Picture, c.Triggered, err = show(planted); err != nil {
			return err
		}
		for j, t := range explaining {
			x := &c.Explained[j]
			if x.Trigger, x.Before, x.After, err = show(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// says is what an explanation says in words. Without the trigger it does not say where a patch
// lies.
func says(r store.ExplanationResult, t triggers.Trigger) string {
	return inspector.Explanation{Class: r.Class, Kind: r.Said, Strongest: r.Strongest, Size: r.Size, ASR: r.ASR, Anywhere: r.Anywhere, Trigger: t}.String()
}

// testPicture is a test picture [1,3,S,S] of the model's dataset, of none of the given classes; nil
// where none is at hand.
func (p *illustrator) testPicture(ctx context.Context, c store.ModelCell, size int, avoid []int) (*tensor.Dense, error) {
	set := p.data(c)
	if set == nil {
		return nil, nil
	}
	at := slices.IndexFunc(datasets.Labels(set, datasets.Test, nil), func(label int) bool { return !slices.Contains(avoid, label) })
	if at < 0 {
		return nil, nil
	}
	pixels, _, err := datasets.LoadSplit(ctx, set.Dataset, datasets.Test, []int{at}, size, nil)
	return pixels, err
}

// data opens the dataset of a model as its suite names it; nil where it is not at hand or not the
// same any more.
func (p *illustrator) data(c store.ModelCell) *world.Set {
	own, _ := c.Settings["dataset"].(map[string]any)
	key := fmt.Sprint(own["fingerprint"])
	if s, ok := p.sets[key]; ok {
		return s
	}
	p.sets[key] = sameData(p.world, p.file, c.Settings)
	return p.sets[key]
}

// sameData is data, without what was opened before.
func sameData(w *world.World, f *suite.File, model map[string]any) *world.Set {
	own, _ := model["dataset"].(map[string]any)
	size, _ := model["size"].(int)
	for i := range f.Suites {
		for _, spec := range f.Suites[i].Datasets {
			if size <= 0 || own["name"] != spec.Name && !strings.HasPrefix(fmt.Sprint(own["name"]), "folder:") {
				continue
			}
			if s, err := w.Dataset(&f.Suites[i], spec, size); err == nil && s.ID == own["name"] && s.Fingerprint() == own["fingerprint"] {
				return s
			}
		}
	}
	return nil
}

// readBelow reads from a file that the store names; nothing where it is absent.
func readBelow[T any](path string, read func() (T, error)) (found T, err error) {
	if !filepath.IsLocal(path) {
		return found, fmt.Errorf("the store names the file %q, which is not below the output folder", path)
	}
	t, err := read()
	if errors.Is(err, os.ErrNotExist) {
		return found, nil
	}
	return t, err
}

// picture turns one image [1,3,S,S] in [0,1] into pixels.
func picture(t *tensor.Dense) image.Image {
	return datasets.FromCHW(t.Data().([]float32), t.Shape()[3], t.Shape()[2]).NRGBA()
}
