package web

import (
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"clipinspector/results/stats"
	"clipinspector/results/store"
	"clipinspector/results/tables"
)

// links say where things are: on this server, or in the file.
type links interface {
	base() string          // the page's own path, for links that sort; empty in a file
	id(name string) string // of a table
	model(key string) string
	filtered(f filter) string
	picture(name string, f filter) (template.URL, error)
}

// served are the links of a suite's pages on a server.
type served struct{ s *Suite }

func (l served) base() string { return "/suite" }

func (l served) id(name string) string { return name }

func (l served) model(key string) string {
	return address("/model", "run", l.s.Run, "suite", l.s.name(), "key", store.ShortKey(key))
}

func (l served) filtered(f filter) string {
	return address("/suite", append([]string{"run", l.s.Run, "suite", l.s.name()}, f.params()...)...) + "#models"
}

func (l served) picture(name string, f filter) (template.URL, error) {
	return template.URL(address("/plot.svg", append([]string{"run", l.s.Run, "suite", l.s.name(), "name", name, "v", l.s.Version}, f.params()...)...)), nil
}

// overview is the page of a suite.
type overview struct {
	*Suite
	Name      string
	Head      []fact
	Progress  *progress // nil once all is finished
	Warnings  []string
	Choices   []choice
	Base      string // address of the unfiltered page
	Shown     string // how many models the figures are of
	Detectors template.HTML
	Legend    string
	Pictures  []picture // beside the detectors
	Figures   []picture // all others
	Matrices  []template.HTML
	Attacks   template.HTML
	Repairs   template.HTML
	Said      template.HTML // kinds of trigger
	Models    template.HTML
	YAML      string
	File      bool
	Pages     []*modelPage // of the models, in a file
	Omitted   string
}

// CompareHref is the page that compares the suite.
func (o *overview) CompareHref() string { return address("/compare", "a", suiteID(o.Suite)) }

type fact struct{ Name, Value string }

type picture struct {
	Name, Title, Caption string
	Source               template.URL
	Photos               bool // whether its colours must stay
}

func (v *viewer) suite(r *http.Request) (*page, error) {
	q := r.URL.Query()
	s, err := v.src.Suite(q.Get("run"), q.Get("suite"))
	if err != nil {
		return nil, missing{err}
	}
	o, err := newOverview(s, served{s}, q)
	if err != nil {
		return nil, err
	}
	p := &page{Title: s.name(), Template: "overview", Data: o, Crumbs: []crumb{{"all runs", "/"}, {s.name(), ""}}, Version: s.Version}
	if s.Progress.Open() > 0 {
		p.Live = address("/status", "run", s.Run, "suite", s.name())
	}
	return p, nil
}

// newOverview fills the page of a suite with the models that the parameters ask for, in the order
// that they ask for.
func newOverview(s *Suite, l links, q url.Values) (*overview, error) {
	f := filterOf(q)
	all := s.Rows
	shown := all.Only(f.models)
	o := &overview{Suite: s, Name: s.name(), Head: head(s), Choices: f.choices(all), YAML: cut(all.Suite.YAML)}
	if l.base() != "" {
		o.Base = address("/suite", "run", s.Run, "suite", s.name())
	}
	if s.Progress.Open() > 0 {
		o.Progress = newProgress(s)
	}
	finished := 0
	for _, m := range shown.Models {
		finished += count(m.State == store.Finished)
	}
	switch n := len(all.Models); {
	case finished == n:
		o.Shown = fmt.Sprintf("Figures are of all %d models.", n)
	case finished == len(shown.Models):
		o.Shown = fmt.Sprintf("Figures are of %d of %d models.", finished, n)
	default:
		o.Shown = fmt.Sprintf("Figures are of %d of %d models; %d are not finished.", finished, n, len(shown.Models)-finished)
	}
	open := 0
	for _, d := range shown.Detections {
		open += count(d.State != store.Finished)
	}
	if open > 0 {
		o.Shown = fmt.Sprintf("%s; %d of %d detections are not finished.", strings.TrimSuffix(o.Shown, "."), open, len(shown.Detections))
	}
	if len(shown.Models) > 0 {
		if err := o.figures(s, shown, f, l, q); err != nil {
			return nil, err
		}
	}
	models := modelTable(s, shown, f, l)
	models.ID = l.id(models.ID)
	o.Models = models.HTML(l.base(), q)
	return o, nil
}

// figures fills in what is measured over models.
func (o *overview) figures(s *Suite, shown *stats.Rows, f filter, l links, q url.Values) error {
	ofModels, ofDetections := shown.Swept()
	by := slices.Concat(ofDetections, ofModels)
	sum, err := shown.Summarise(by)
	if err != nil {
		return err
	}
	o.Warnings = tables.Warnings(sum)
	o.Legend = tables.Legend(sum)
	t := detectorTable(sum, f)
	t.ID = l.id(t.ID)
	o.Detectors = t.HTML(l.base(), q)
	keys := map[string][]string{}
	for _, m := range shown.Models {
		at := m.Cell.Dataset + "\x00" + m.Cell.Attack
		keys[at] = append(keys[at], m.Cell.Key)
	}
	for i, d := range sum.Detectors {
		if d.Figures.Models > 0 && (f["detector"] == "" || f["detector"] == d.Name) {
			m := matrix(i, d, f, l, keys)
			m.ID = l.id(m.ID)
			o.Matrices = append(o.Matrices, m.HTML(l.base(), q))
		}
	}
	t = attackTable(sum)
	t.ID = l.id(t.ID)
	o.Attacks = t.HTML(l.base(), q)
	if len(sum.Explanations) > 0 {
		t = saidTable(sum, f, l)
		t.ID = l.id(t.ID)
		o.Said = t.HTML(l.base(), q)
	}
	if len(sum.Repairs) > 0 {
		t = repairTable(sum)
		t.ID = l.id(t.ID)
		o.Repairs = t.HTML(l.base(), q)
	}
	if len(by) == 0 && slices.ContainsFunc(sum.Detectors, func(d stats.DetectorFigures) bool {
		return d.AUROC.Defined() && (f["detector"] == "" || f["detector"] == d.Name)
	}) {
		src, err := l.picture("roc", f)
		if err != nil {
			return err
		}
		if src != "" {
			o.Pictures = append(o.Pictures, picture{Name: "roc", Title: "ROC of the detectors", Source: src,
				Caption: "Share of the backdoored models that are flagged against that of the clean ones, at every threshold. The mark is the threshold in use."})
		}
	}
	return nil
}

// head are the facts by which a reader knows what he looks at.
func head(s *Suite) []fact {
	u := s.Rows.Suite
	out := []fact{{"folder", s.Run}, {"begun", u.Created.Local().Format("2006-01-02 15:04")}}
	if file, ok := u.Settings["file"].(string); ok {
		command := "clip-inspector run " + ShellWord(file)
		if sets, ok := u.Settings["set"].([]any); ok {
			for _, x := range sets {
				command += " --set " + ShellWord(fmt.Sprint(x))
			}
		}
		out = append(out, fact{"command", command})
	}
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(u.Versions)) {
		v := u.Versions[name]
		if name == "vcs.revision" {
			v = short(v)
		}
		versions = append(versions, name+" "+v)
	}
	if len(versions) > 0 {
		out = append(out, fact{"versions", strings.Join(versions, " · ")})
	}
	return out
}

// ShellWord is a text as one word of a command line of a shell.
func ShellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./=,:+@", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// progress says how far a suite has come.
type progress struct {
	Share    float64 // of the cells, in [0,1]
	Text     string
	Kinds    []kindProgress
	Workers  []string
	Failures []failure
	More     int // failures that are not listed
}

type kindProgress struct {
	Name string
	store.Counts
}

type failure struct{ Cell, Message string }

// mostFailures is how many failures a page lists.
const mostFailures = 50

func newProgress(s *Suite) *progress {
	p := &progress{}
	done, planned := 0, 0
	for _, k := range []kindProgress{{"models", s.Progress.Models}, {"clean references", s.Progress.References}, {"detections", s.Progress.Detections},
		{"explanations", s.Progress.Explanations}, {"repairs", s.Progress.Repairs}} {
		if k.Planned > 0 {
			p.Kinds = append(p.Kinds, k)
			done, planned = done+k.Finished, planned+k.Planned
		}
	}
	p.Share = float64(done) / float64(max(1, planned))
	working := map[string]int{}
	named := map[string]string{}
	for _, m := range s.Rows.Models {
		named[m.Cell.Key] = modelName(m)
	}
	for _, d := range s.Rows.Detections {
		named[d.Cell.Key] = d.Cell.Detector + " on " + named[d.Cell.ModelKey]
	}
	for _, x := range s.Rows.Explanations {
		named[x.Cell.Key] = named[x.Cell.DetectionKey]
	}
	for _, x := range s.Rows.Repairs {
		named[x.Cell.Key] = named[x.Cell.DetectionKey]
	}
	for _, l := range s.Leases {
		what := named[l.Key]
		if what == "" {
			what = store.ShortKey(l.Key)
		}
		p.Workers = append(p.Workers, fmt.Sprintf("%s: %s %s", workerName(l.Worker), l.Kind, what))
		working[l.Worker]++
	}
	slices.Sort(p.Workers)
	p.Text = fmt.Sprintf("%d of %d cells finished", done, planned)
	about := "about"
	for _, k := range p.Kinds {
		if k.Finished == 0 && k.Pending > k.Blocked {
			about = "at least" // nobody knows yet how long one of these takes
		}
	}
	switch left := s.Progress.Left(); {
	case len(working) == 0 && s.Progress.Done():
		p.Text += "; the rest failed or waits for what failed: the same command tries it again"
	case len(working) == 0:
		p.Text += "; nobody works on it now: the same command goes on"
	case left > 0:
		p.Text += fmt.Sprintf("; %s %s left with %s at work", about, roughly(left/time.Duration(len(working))), counted(len(working), "worker"))
	default:
		p.Text += fmt.Sprintf("; %s at work", counted(len(working), "worker"))
	}
	add := func(state store.State, cell, message string) {
		if state != store.Failed {
			return
		}
		if len(p.Failures) == mostFailures {
			p.More++
			return
		}
		p.Failures = append(p.Failures, failure{cell, cut(message)})
	}
	for _, m := range s.Rows.Models {
		add(m.State, modelName(m), m.Message)
	}
	for _, x := range s.Rows.References {
		add(x.State, fmt.Sprintf("clean reference: %s, %s, seed %d", x.Cell.Dataset, x.Cell.Learner, x.Cell.Seed), x.Message)
	}
	for _, d := range s.Rows.Detections {
		add(d.State, named[d.Cell.Key], d.Message)
	}
	for _, x := range s.Rows.Explanations {
		add(x.State, "explanation after "+named[x.Cell.DetectionKey], x.Message)
	}
	for _, x := range s.Rows.Repairs {
		add(x.State, "repair after "+named[x.Cell.DetectionKey], x.Message)
	}
	return p
}

// workerName is a worker for people: host and process, and which of the process's workers.
func workerName(name string) string {
	if parts := strings.Split(name, "/"); len(parts) == 4 {
		return fmt.Sprintf("%s, process %s, worker %s", parts[0], parts[1], parts[3])
	}
	return name
}

// longest is how much of a text a page shows that may be of any length, in bytes.
const longest = 20_000

// cut is a text cut where it gets too long.
func cut(s string) string {
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + " ..."
}

func counted(n int, what string) string {
	if n == 1 {
		return "one " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func modelName(m store.ModelRow) string {
	c := m.Cell
	return fmt.Sprintf("%s, %s, %s, seed %d", c.Dataset, c.Attack, c.Learner, c.Seed)
}

func lastStep(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// pictures is the page of all figures of a suite.
func (v *viewer) pictures(r *http.Request) (*page, error) {
	q := r.URL.Query()
	s, err := v.src.Suite(q.Get("run"), q.Get("suite"))
	if err != nil {
		return nil, missing{err}
	}
	o := &overview{Name: s.name()}
	if o.Figures, err = figures(r.Context(), s); err != nil {
		return nil, err
	}
	back := address("/suite", "run", s.Run, "suite", s.name())
	return &page{Title: "Figures of " + s.name(), Template: "pictures", Data: o, Crumbs: []crumb{{"all runs", "/"}, {s.name(), back}, {"figures", ""}}}, nil
}

// roughly is a duration as far as it matters.
func roughly(d time.Duration) string {
	switch {
	case d >= time.Hour:
		return d.Round(time.Minute).String()
	case d > 0:
		return d.Round(time.Second).String()
	}
	return ""
}
