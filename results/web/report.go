package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"net/url"

	"clipinspector/results/plots"
	"clipinspector/results/store"
)

// mostPages is how many models have a page of their own in a report, and mostFigures how many of
// those have their figures: a file that is mailed must not grow without bounds.
const (
	mostPages   = 1000
	mostFigures = 100
)

// inFile are the links within a report.
type inFile struct {
	prefix string // of what the suite's tables are called, where there are several suites
	pages  bool
}

func (inFile) base() string { return "" }

func (l inFile) id(name string) string { return l.prefix + name }

func (l inFile) model(key string) string {
	if !l.pages {
		return ""
	}
	return "#m-" + store.ShortKey(key)
}

func (inFile) filtered(f filter) string {
	q := url.Values{}
	for name, v := range f {
		if v != "" {
			q.Set(name, v)
		}
	}
	return "#?" + q.Encode()
}

func (inFile) picture(string, filter) (template.URL, error) { return "", nil }

// Report writes the pages of suites as one file that needs nothing else.
func Report(ctx context.Context, w io.Writer, suites []*Suite) error {
	var all []*overview
	title := "Report"
	for i, s := range suites {
		prefix := ""
		if len(suites) > 1 {
			prefix = fmt.Sprintf("s%d-", i+1)
		}
		o, err := reportOf(ctx, s, prefix)
		if err != nil {
			return err
		}
		all = append(all, o)
		title = "Report of " + s.name()
	}
	return writeFile(w, &page{Title: title, Template: "report", Data: all})
}

// ReportAudit writes the page of an audit as one file that needs nothing else.
func ReportAudit(w io.Writer, a *Audit) error {
	p, err := newAuditPage(a)
	if err != nil {
		return err
	}
	return writeFile(w, &page{Title: "Audit: " + a.Decision, Template: "audit", Data: p})
}

// writeFile writes a page with its style and script. It runs no other script, and loads nothing.
func writeFile(w io.Writer, p *page) error {
	p.File, p.Style, p.Script = true, template.CSS(stylesheet()), template.JS(static("viewer.js"))
	sum := sha256.Sum256([]byte(p.Script))
	p.Policy = fmt.Sprintf("default-src 'none'; script-src 'sha256-%s'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
		base64.StdEncoding.EncodeToString(sum[:]))
	text, err := p.render()
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func reportOf(ctx context.Context, s *Suite, prefix string) (*overview, error) {
	l := inFile{prefix, len(s.Rows.Models) <= mostPages}
	o, err := newOverview(s, l, nil)
	if err != nil {
		return nil, err
	}
	o.File = true
	all, err := figures(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if f.Name == "roc" {
			o.Pictures = append(o.Pictures, f)
		} else {
			o.Figures = append(o.Figures, f)
		}
	}
	if !l.pages {
		o.Omitted = fmt.Sprintf("The suite has %d models: their own pages are in the viewer, clip-inspector view.", len(s.Rows.Models))
		return o, nil
	}
	for _, m := range s.Rows.Models {
		page, err := newModelPage(ctx, s, m, l, len(s.Rows.Models) <= mostFigures)
		if err != nil {
			return nil, err
		}
		o.Pages = append(o.Pages, page)
	}
	return o, nil
}

// figures are all figures that apply to a suite.
func figures(ctx context.Context, s *Suite) (out []picture, err error) {
	d, err := plots.New(s.Rows)
	if err != nil {
		return nil, err
	}
	cases, err := d.Cases(nil)
	if err != nil {
		return nil, err
	}
	if s.Illustrate != nil {
		if err := s.Illustrate(ctx, cases); err != nil {
			return nil, err
		}
	}
	all, _ := plots.Figures(d, cases)
	for _, f := range all {
		p, err := drawn(f)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
