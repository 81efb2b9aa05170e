package cmd

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"image"
	"io"
	"os"
	"path/filepath"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/configs"
	"clipinspector/datasets"
	"clipinspector/engine/plain"
	"clipinspector/experiments"
	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/internal/files"
	"clipinspector/prompts"
	"clipinspector/results/plots"
	"clipinspector/results/store"
	"clipinspector/results/tables"
	"clipinspector/triggers"
)

// plotFolder is where the pictures of a suite lie below the output folder.
func plotFolder(suite string) string { return filepath.Join("plots", suite) }

// reportFile is the page of tables and pictures below the output folder.
const reportFile = "report.html"

// plotSuites draws every figure that applies to a suite, or without a name to each suite of the folder, into plotFolder below the
// output folder, and writes reportFile, which holds tables and pictures. It prints the files, and which figures do not apply
// and why. models names the models to show class by class; see plots.Data.Cases.
func plotSuites(ctx context.Context, w io.Writer, out, suite string, models []string) error {
	s, suites, err := openSuites(out, suite)
	if err != nil {
		return err
	}
	defer s.Close()
	var report []section
	for _, u := range suites {
		d, err := plots.Read(s, u.Name)
		if err != nil {
			return err
		}
		cases, err := d.Cases(models)
		if err != nil {
			return err
		}
		if err := addPictures(ctx, w, cases, out, u); err != nil {
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
		var table bytes.Buffer
		if err := tables.Render(&table, d.Summary, "markdown"); err != nil {
			return err
		}
		report = append(report, section{Suite: u.Name, Tables: table.String(), Omitted: omitted})
		for _, f := range figures {
			files, err := f.Write(folder)
			if err != nil {
				return err
			}
			var png bytes.Buffer
			if err := f.WritePNG(&png); err != nil {
				return err
			}
			last := &report[len(report)-1]
			last.Pictures = append(last.Pictures, embedded{f.Title, f.Caption,
				template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(png.Bytes()))})
			fmt.Fprintf(w, "%s (also %s): %s\n", files[0], filepath.Ext(files[1]), f.Title)
		}
		for _, o := range omitted {
			fmt.Fprintf(w, "not drawn: %s: %s\n", o.Name, o.Reason)
		}
	}
	path := filepath.Join(out, reportFile)
	if err := files.WriteAtomic(path, func(w io.Writer) error { return reportPage.Execute(w, report) }); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: tables and pictures in one file\n", path)
	return nil
}

// section is a suite in the report.
type section struct {
	Suite, Tables string
	Pictures      []embedded
	Omitted       []plots.Omitted
}

type embedded struct {
	Title, Caption string
	Source         template.URL // the PNG itself, so that the report is one file
}

var reportPage = template.Must(template.New("report").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>CLIP-Inspector</title>
<style>body{font:15px/1.5 sans-serif;max-width:75em;margin:2em auto;padding:0 1em}pre{overflow-x:auto;font-size:12px}img{max-width:100%}</style>
<h1>CLIP-Inspector</h1>
{{range .}}<h2>Suite {{.Suite}}</h2>
<pre>{{.Tables}}</pre>
{{range .Pictures}}<p><img src="{{.Source}}" alt="{{.Title}}. {{.Caption}}"></p>
{{end}}{{with .Omitted}}<p>Not drawn:</p><ul>{{range .}}<li>{{.Name}}: {{.Reason}}</li>{{end}}</ul>
{{end}}{{end}}</html>
`))

// addPictures fills in what the gallery shows of backdoored models, and the classes' names. What is not on the disk or has
// changed since, such as pictures that are no longer there, is left out.
func addPictures(ctx context.Context, w io.Writer, cases []plots.Case, out string, u store.Suite) error {
	world := world.New()
	path, _ := u.Settings["file"].(string)
	var sets []string
	if list, ok := u.Settings["set"].([]any); ok {
		for _, x := range list {
			if text, ok := x.(string); ok {
				sets = append(sets, text)
			}
		}
	}
	f, err := suite.Parse(path, []byte(u.YAML), sets)
	if path == configs.MiniPath {
		f, err = suite.ParseFS(configs.Calibrated, path, []byte(u.YAML), sets)
	}
	if err != nil {
		f = &suite.File{} // written by another version of this program: its data cannot be told
	}
	for i := range cases {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := &cases[i]
		c.Classes, err = readBelow(c.Model.Result.Path, func() ([]string, error) { return prompts.StoredClasses(filepath.Join(out, c.Model.Result.Path)) })
		if err != nil { // costs the names alone
			fmt.Fprintf(w, "without class names: model %s: %v\n", store.ShortKey(c.Model.Cell.Key), err)
		}
		set := sameData(world, f, c.Model.Cell.Settings)
		if !c.Model.Result.Backdoored {
			continue
		}
		trigger, err := readBelow(c.Model.Result.Path, func() (triggers.Trigger, error) { return experiments.Planted(out, c.Model.Result) })
		if err != nil { // costs this picture alone
			fmt.Fprintf(w, "not drawn: the trigger of model %s: %v\n", store.ShortKey(c.Model.Cell.Key), err)
		}
		if trigger == nil {
			continue
		}
		c.Trigger = triggers.Draw(trigger)
		for j := range c.Recovered {
			r := &c.Recovered[j]
			got, err := readBelow(r.Path, func() (triggers.Trigger, error) {
				all, err := experiments.Recovered(out, r.Path, r.Hash)
				if err != nil || c.Model.Result.Target >= len(all) {
					return nil, err
				}
				return all[c.Model.Result.Target], nil
			})
			if err != nil {
				fmt.Fprintf(w, "not drawn: the trigger that %s recovered of model %s: %v\n", r.Detector, store.ShortKey(c.Model.Cell.Key), err)
			}
			if got != nil {
				r.Picture = triggers.Draw(got)
			}
		}
		if set == nil {
			continue
		}
		// A picture of a class that is not the target.
		at := -1
		for k, label := range datasets.Labels(set, datasets.Test, nil) {
			if label != c.Model.Result.Target {
				at = k
				break
			}
		}
		if at < 0 {
			continue
		}
		pixels, _, err := datasets.LoadSplit(ctx, set.Dataset, datasets.Test, []int{at}, trigger.Size(), nil)
		if err != nil {
			return err
		}
		changed, err := prompts.Triggered(ctx, plain.New[float32](), pixels, trigger)
		if err != nil {
			return err
		}
		c.Picture, c.Triggered = picture(pixels), picture(changed)
	}
	return nil
}

// sameData opens the dataset of a model as its suite names it; nil where it is not at hand or not the same any more.
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
