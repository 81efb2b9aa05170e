package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"

	"clipinspector/results/plots"
	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// status answers which state a suite, or without a name all of them, is in: the script of a page
// asks, and fetches the page again where it shows another one.
func (v *viewer) status(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if !q.Has("run") {
		p, err := v.index(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"version": p.Version}) // a browser that is gone has nobody to tell
		return
	}
	s, err := v.src.Suite(q.Get("run"), q.Get("suite"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"version": s.Version}) // a browser that is gone has nobody to tell
}

// index is the page of all runs.
func (v *viewer) index(r *http.Request) (*page, error) {
	suites := table{ID: "suites", Caption: "Suites", Columns: []column{{Key: "folder", Title: "folder"}, {Key: "suite", Title: "suite"},
		{"models", "models", "finished of planned", true}, {"detections", "detections", "finished of planned", true}, {"failed", "failed", "cells", true},
		{"running", "running", "cells that somebody works on", true}, {Key: "left", Title: "left", Hint: "its cells one after the other"}, {Key: "begun", Title: "begun"}}}
	audits := table{ID: "audits", Caption: "Audits", Columns: []column{{Key: "folder", Title: "folder"}, {Key: "verdict", Title: "verdict"},
		{Key: "suspect", Title: "suspect", Hint: "class with the largest index"}, {"index", "index", "anomaly index", true}, {Key: "written", Title: "written"}}}
	data := struct {
		Suites, Audits any
		Failed         []failure
	}{}
	seen := sha256.New()
	for _, run := range v.src.Runs() {
		err := run.Err
		if run.Audit && err == nil {
			var a *Audit
			if a, err = v.src.Audit(run.Name); err == nil {
				audits.Rows = append(audits.Rows, row{Cells: []cell{{Text: run.Name, Href: address("/audit", "run", run.Name)}, text(a.Decision), text(a.Suspect),
					number(a.Index, 2), moment(a.Written)}})
			}
		}
		for _, name := range run.Suites {
			var s *Suite
			if s, err = v.src.Suite(run.Name, name); err != nil {
				break
			}
			p := s.Progress
			fmt.Fprintln(seen, s.Version)
			left := ""
			if p.Open() > 0 {
				left = roughly(p.Left())
			}
			suites.Rows = append(suites.Rows, row{Cells: []cell{{Text: run.Name, Href: address("/suite", "run", run.Name, "suite", name)}, text(name),
				fraction(p.Models.Finished, p.Models.Planned), fraction(p.Detections.Finished, p.Detections.Planned), whole(int64(p.Failed())),
				whole(int64(p.Leased())), text(left), moment(s.Rows.Suite.Created)}})
		}
		fmt.Fprintln(seen, run.Name, err)
		if err != nil {
			data.Failed = append(data.Failed, failure{run.Name, err.Error()})
		}
	}
	if len(suites.Rows) > 0 {
		data.Suites = suites.HTML("/", r.URL.Query())
	}
	if len(audits.Rows) > 0 {
		data.Audits = audits.HTML("/", r.URL.Query())
	}
	return &page{Title: "Runs", Template: "index", Data: data, Live: "/status", Version: hex.EncodeToString(seen.Sum(nil)[:8])}, nil
}

// plotCache keeps the figures that were drawn last, as a page asks for each as often as it is
// shown.
type plotCache struct {
	mu   sync.Mutex
	keys []string
	svg  map[string][]byte
}

// mostPlots is how many figures are kept.
const mostPlots = 64

func (c *plotCache) get(key string, draw func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock() // figures are drawn one at a time: they take all there is of a core
	if svg, ok := c.svg[key]; ok {
		return svg, nil
	}
	svg, err := draw()
	if err != nil {
		return nil, err
	}
	if c.svg == nil || len(c.keys) == mostPlots {
		c.svg, c.keys = map[string][]byte{}, nil
	}
	c.svg[key], c.keys = svg, append(c.keys, key)
	return svg, nil
}

// plot draws a figure of a suite's models that pass a filter.
func (v *viewer) plot(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s, err := v.src.Suite(q.Get("run"), q.Get("suite"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	f := filterOf(q)
	svg, err := v.plots.get(strings.Join(slices.Concat([]string{s.Run, s.name(), s.Version, q.Get("name")}, f.params()), "\x00"), func() ([]byte, error) {
		return drawFigure(s.Rows.Only(f.models), q.Get("name"), f)
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	_, _ = w.Write(svg) // a browser that is gone has nobody to tell
}

// drawFigure draws a figure by name as SVG.
func drawFigure(rows *stats.Rows, name string, f filter) ([]byte, error) {
	if name != "roc" {
		return nil, fmt.Errorf("no figure is called %q", name)
	}
	if detector := f["detector"]; detector != "" {
		rows.Detections = slices.DeleteFunc(rows.Detections, func(d store.DetectionRow) bool { return d.Cell.Detector != detector })
	}
	d, err := plots.New(rows)
	if err != nil {
		return nil, err
	}
	figure, reason := plots.ROC(d)
	if figure == nil {
		return nil, fmt.Errorf("no ROC curve: %s", reason)
	}
	return svg(figure)
}

func svg(f *plots.Figure) ([]byte, error) {
	var b bytes.Buffer
	err := f.WriteSVG(&b)
	return b.Bytes(), err
}

// mostSVG is from how many bytes on a figure is smaller as pixels: one of thousands of marks.
const mostSVG = 400_000

// drawn is a figure as the address that holds it.
func drawn(f *plots.Figure) (picture, error) {
	p := picture{Name: f.Name, Title: f.Title, Caption: f.Caption, Photos: f.Photos}
	raw, err := svg(f)
	if err == nil && len(raw) > mostSVG {
		var b bytes.Buffer
		err = f.WritePNG(&b)
		p.Source = within("image/png", b.Bytes())
	} else {
		p.Source = within("image/svg+xml", raw)
	}
	return p, err
}

// within is a picture as the address that holds it.
func within(kind string, raw []byte) template.URL {
	return template.URL("data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(raw))
}
