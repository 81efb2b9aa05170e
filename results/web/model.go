package web

import (
	"context"
	"fmt"
	"html/template"
	"image"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"

	"clipinspector/results/plots"
	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// modelPage is the page of one model.
type modelPage struct {
	ID, Title string
	Back      string
	Outcome   string // in one sentence
	Planted   []fact
	Message   string // of a failed model
	Pictures  []picture
	Explained []explanation
	Verdicts  template.HTML
	Figures   []picture
	Classes   template.HTML
	Details   template.HTML
	Settings  template.HTML
	Versions  []fact
	Command   string
	Notes     []string
}

func (v *viewer) model(r *http.Request) (*page, error) {
	q := r.URL.Query()
	s, err := v.src.Suite(q.Get("run"), q.Get("suite"))
	if err != nil {
		return nil, missing{err}
	}
	key := q.Get("key")
	i := slices.IndexFunc(s.Rows.Models, func(m store.ModelRow) bool { return len(key) >= 4 && strings.HasPrefix(m.Cell.Key, key) })
	if i < 0 {
		return nil, notFound("suite %s has no model whose key begins with %q", s.name(), key)
	}
	m, err := newModelPage(r.Context(), s, s.Rows.Models[i], served{s}, true)
	if err != nil {
		return nil, err
	}
	back := address("/suite", "run", s.Run, "suite", s.name())
	return &page{Title: m.Title, Template: "model", Data: m, Crumbs: []crumb{{"all runs", "/"}, {s.name(), back}, {m.Title, ""}}, Version: s.Version}, nil
}

// newModelPage fills the page of a model.
func newModelPage(ctx context.Context, s *Suite, m store.ModelRow, l links, figures bool) (*modelPage, error) {
	p := &modelPage{ID: "m-" + store.ShortKey(m.Cell.Key), Title: modelName(m), Message: cut(m.Message)}
	if m.State != store.Failed {
		p.Message = ""
	}
	if s.Command != nil {
		p.Command = s.Command(m)
	}
	rows := s.Rows.Only(func(x store.ModelRow) bool { return x.Cell.Key == m.Cell.Key })
	d, err := plots.New(rows)
	if err != nil {
		return nil, err
	}
	var c plots.Case
	if m.State == store.Finished {
		if cases, err := d.Cases([]string{m.Cell.Key}); err == nil && len(cases) > 0 {
			if s.Illustrate != nil {
				if err := s.Illustrate(ctx, cases); err != nil {
					return nil, err
				}
			}
			c = cases[0]
		}
	}
	name := func(class int) string {
		switch {
		case class < 0:
			return "none"
		case class < len(c.Classes):
			return c.Classes[class]
		}
		return fmt.Sprintf("class %d", class)
	}
	p.planted(m, name)
	p.verdicts(s, m, rows, name)
	if m.State != store.Finished {
		p.settings(s, m, rows)
		return p, nil
	}
	if err := p.pictures(m, c, name); err != nil {
		return nil, err
	}
	if err := p.explained(s, c, name); err != nil {
		return nil, err
	}
	if figures && len(c.Outcome) > 0 {
		index, _ := plots.Indices(d, []plots.Case{c})
		loss, _ := plots.Losses(d)
		for _, figure := range []*plots.Figure{index, loss} {
			if figure == nil {
				continue
			}
			x, err := drawn(figure)
			if err != nil {
				return nil, err
			}
			p.Figures = append(p.Figures, x)
		}
	}
	p.classes(s, m, rows, name)
	p.settings(s, m, rows)
	return p, nil
}

// planted says what was planted.
func (p *modelPage) planted(m store.ModelRow, name func(int) string) {
	r := m.Result
	add := func(name, value string) { p.Planted = append(p.Planted, fact{name, value}) }
	if m.State != store.Finished {
		add("state", string(m.State))
		return
	}
	if r.Backdoored {
		add("backdoor", m.Cell.Attack)
		if r.Target >= 0 {
			add("target class", name(r.Target))
		}
		firing := "fires"
		if !r.Firing() {
			firing = fmt.Sprintf("does not fire: below %g", store.FiringASR)
		}
		add("ASR", fmt.Sprintf("%s (%s)", number(r.ASR, 3).Text, firing))
		add("ASR on OOD images", number(r.ASROOD, 3).Text)
		add("trigger's PSNR, SSIM", fmt.Sprintf("%s dB, %s", number(r.PSNR, 1).Text, number(r.SSIM, 3).Text))
	} else {
		add("backdoor", "none")
	}
	add("ACC", number(r.ACC, 3).Text)
	add("classes", fmt.Sprint(r.Classes))
	add("made in", fmt.Sprintf("%.1f s", r.Seconds))
	add("file", r.Path)
	add("SHA-256", r.Hash)
}

// verdicts says what each detector said.
func (p *modelPage) verdicts(s *Suite, m store.ModelRow, rows *stats.Rows, name func(int) string) {
	all, of := s.swept().variants, s.swept().of
	t := table{ID: "verdicts", Caption: "What each detector said", Columns: []column{{Key: "detector", Title: "detector"},
		{Key: "verdict", Title: "verdict"}, {"index", "index", "anomaly index of the model", true}, {"k", "k", "its threshold", true},
		{Key: "suspect", Title: "suspect", Hint: "suspected target class"}, {"passes", "passes", "image passes", true}, {"seconds", "seconds", "", true}}}
	rightly, wrongly := []string{}, []string{}
	for _, d := range rows.Detections {
		said, is := verdictOf(m, d)
		v := all[of[d.Cell.Key]]
		switch is {
		case right:
			rightly = append(rightly, v.label)
		case wrong:
			wrongly = append(wrongly, v.label)
		}
		r := row{Cells: []cell{text(v.label), {Text: strings.ReplaceAll(said, "-", " "), Mark: is}}}
		if d.State != store.Finished {
			if d.State == store.Failed {
				p.Notes = append(p.Notes, v.label+" failed: "+cut(d.Message))
			}
			r.Cells = append(r.Cells, number(math.NaN(), 0), number(math.NaN(), 0), text("–"), number(math.NaN(), 0), number(math.NaN(), 0))
			t.Rows = append(t.Rows, r)
			continue
		}
		if d.Result.Unsure != "" {
			p.Notes = append(p.Notes, v.label+" cannot tell: "+d.Result.Unsure)
		}
		k := number(math.NaN(), 0)
		if x, ok := stats.Setting(d.Cell.Settings, "detector.k"); ok {
			k = setting(x)
		}
		suspect := text(name(d.Result.Suspect))
		if d.Result.Suspect >= 0 && d.Result.Backdoored && m.Result.Backdoored {
			suspect.Mark = wrong
			if d.Result.Suspect == m.Result.Target {
				suspect.Mark = right
			}
		}
		r.Cells = append(r.Cells, number(d.Result.Index, 2), k, suspect, whole(d.Result.ImagePasses), number(d.Result.Seconds, 2))
		t.Rows = append(t.Rows, r)
	}
	is := "It is clean."
	if m.Result.Backdoored {
		is = "It is backdoored."
	}
	if m.State == store.Finished && len(rows.Detections) > 0 {
		p.Outcome = is
		if len(rightly) > 0 {
			p.Outcome += " Right: " + strings.Join(rightly, "; ") + "."
		}
		if len(wrongly) > 0 {
			p.Outcome += " Wrong: " + strings.Join(wrongly, "; ") + "."
		}
	}
	if len(t.Rows) > 0 {
		t.ID = p.ID + "-verdicts"
		p.Verdicts = t.HTML("", nil)
	}
}

// pictures shows the planted trigger and what was recovered.
func (p *modelPage) pictures(m store.ModelRow, c plots.Case, name func(int) string) error {
	add := func(title, caption string, img image.Image) (err error) {
		p.Pictures, err = withPicture(p.Pictures, title, caption, img)
		return err
	}
	for _, x := range []struct {
		title, caption string
		img            image.Image
	}{
		{"test picture", "as it is", c.Picture},
		{"with the trigger", fmt.Sprintf("PSNR %s dB", number(m.Result.PSNR, 1).Text), c.Triggered},
		{"planted trigger", "at full contrast", c.Trigger},
	} {
		if err := add(x.title, x.caption, x.img); err != nil {
			return err
		}
	}
	for _, r := range c.Recovered {
		if err := add("recovered by "+r.Detector, fmt.Sprintf("for %s: index %s, ASR %s", name(r.Class), number(r.Index, 2).Text, number(r.ASR, 2).Text), r.Picture); err != nil {
			return err
		}
	}
	return nil
}

// classes lists what was found of every class: indices side by side, and all numbers of each
// detector.
func (p *modelPage) classes(s *Suite, m store.ModelRow, rows *stats.Rows, name func(int) string) {
	all, of := s.swept().shown(rows)
	found := make([]map[int]store.ClassScore, len(all))
	most := math.Inf(-1)
	for _, d := range rows.Detections {
		i := of[d.Cell.Key]
		found[i] = map[int]store.ClassScore{}
		for _, c := range d.Result.Classes {
			if found[i][c.Class] = c; c.Index > most && !math.IsInf(c.Index, 0) {
				most = c.Index
			}
		}
	}
	if len(all) == 0 {
		return
	}
	t := table{ID: p.ID + "-classes", Caption: "Anomaly index of every class", Columns: []column{{Key: "class", Title: "class"}, {"label", "label", "", true}}, Many: true}
	u := table{ID: p.ID + "-numbers", Caption: "All numbers of every class", Columns: slices.Clone(t.Columns), Many: true}
	for _, v := range all {
		t.Columns = append(t.Columns, column{v.label, v.label, "anomaly index", true})
		for _, what := range []string{"loss", "ASR", "score", "norm"} {
			u.Columns = append(u.Columns, column{v.label + " " + what, v.label + ": " + what, "", true})
		}
	}
	add := func(class int, title string) {
		x := row{Cells: []cell{text(title), {Text: fmt.Sprint(class), Value: float64(class)}}}
		if m.Result.Backdoored && class == m.Result.Target {
			x.Class = "target"
			x.Cells[0].Text += " (target)"
		}
		y := row{Class: x.Class, Cells: slices.Clone(x.Cells)}
		for i := range all {
			c, ok := found[i][class]
			if !ok {
				c = store.ClassScore{Index: math.NaN(), Loss: math.NaN(), ASR: math.NaN(), Score: math.NaN(), Norm: math.NaN()}
			}
			n := number(c.Index, 2)
			if c.Index > 0 && most > 0 {
				n.Bar = &bar{0, math.Min(1, c.Index/most), -1}
			}
			x.Cells = append(x.Cells, n)
			y.Cells = append(y.Cells, number(c.Loss, 3), number(c.ASR, 3), number(c.Score, 4), number(c.Norm, 4))
		}
		t.Rows, u.Rows = append(t.Rows, x), append(u.Rows, y)
	}
	if slices.ContainsFunc(found, func(f map[int]store.ClassScore) bool { _, ok := f[store.NoClass]; return ok }) {
		add(store.NoClass, "(image encoder)")
	}
	for class := range min(m.Result.Classes, mostClasses) {
		add(class, name(class))
	}
	p.Classes, p.Details = t.HTML("", nil), u.HTML("", nil)
}

// mostClasses bounds what a page shows of a store that claims to have more classes than there are
// datasets of.
const mostClasses = 20_000

// settings lists everything that decided the model and its detections, and by which program they
// were made.
func (p *modelPage) settings(s *Suite, m store.ModelRow, rows *stats.Rows) {
	t := table{ID: p.ID + "-settings", Caption: "Settings", Columns: []column{{Key: "of", Title: "of"}, {Key: "setting", Title: "setting"}, {Key: "value", Title: "value"}}}
	add := func(of string, settings map[string]any) {
		flat := stats.Flatten(settings)
		for _, path := range slices.Sorted(maps.Keys(flat)) {
			t.Rows = append(t.Rows, row{Cells: []cell{text(of), text(path), text(flat[path])}})
		}
	}
	add("model", m.Cell.Settings)
	all, of := s.swept().variants, s.swept().of
	for _, d := range rows.Detections {
		add(all[of[d.Cell.Key]].label, d.Cell.Settings)
	}
	p.Settings = t.HTML("", nil)
	p.Versions = append(p.Versions, fact{"model's key", m.Cell.Key})
	for _, name := range slices.Sorted(maps.Keys(m.Result.Versions)) {
		p.Versions = append(p.Versions, fact{name, m.Result.Versions[name]})
	}
}
